"""Statistics of data sets, each against a brute-force computation."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ricvae.diagnostics.replicates import statistics
from pyro_ricvae.diagnostics.replicates.statistics import Autocorrelation, Outlying, Sparsity

S, N, SHAPE = 3, 7, (4, 3)
D = 12


def _random(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(S, N, D, generator=rng) + torch.arange(D)
    return x, torch.rand(N, D, generator=rng) > 0.3


def _columns(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    return [x[mask[:, j], j] for j in range(x.shape[1])]


def _mean(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    return float(np.mean(x[mask]))


def _variance(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    return float(np.mean(np.concatenate([(column - column.mean()) ** 2 for column in _columns(x, mask)])))


def _maximum(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    return float(max(x[mask]))


def _kurtosis(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    columns = [column for column in _columns(x, mask) if len(column) and column.var() > 0]
    return float(np.mean(np.concatenate([((column - column.mean()) / column.std()) ** 4 for column in columns])))


def _autocorrelation(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    products, squares = [], []
    for row, counts in zip(x, mask, strict=True):
        u, counts = (row - row[counts].mean()).reshape(SHAPE), counts.reshape(SHAPE)
        squares += list(u[counts] ** 2)
        for i, j in itertools.product(*map(range, SHAPE)):
            for k, m in ((i + 1, j), (i, j + 1)):
                if k < SHAPE[0] and m < SHAPE[1] and counts[i, j] and counts[k, m]:
                    products.append(u[i, j] * u[k, m])
    return float(np.mean(products) / np.mean(squares))


BRUTE_FORCE = {
    "mean": (statistics.mean, _mean),
    "variance": (statistics.variance, _variance),
    "maximum": (statistics.maximum, _maximum),
    "kurtosis": (statistics.kurtosis, _kurtosis),
    "autocorrelation": (Autocorrelation(SHAPE), _autocorrelation),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", BRUTE_FORCE)
def test_each_is_its_formula_for_every_draw(name: str, masked: bool) -> None:
    x, mask = _random()
    mask = mask if masked else torch.ones_like(mask)
    function, brute_force = BRUTE_FORCE[name]
    expected = [brute_force(draw.double().numpy(), mask.numpy()) for draw in x]
    np.testing.assert_allclose(function(x, mask), expected, rtol=1e-9)
    np.testing.assert_allclose(function(x[0], mask), expected[0], rtol=1e-9)
    np.testing.assert_allclose(function(x[:, None], mask)[:, 0], expected, rtol=1e-9)


@pytest.mark.parametrize("name", statistics.NAMES)
def test_cells_that_do_not_count_make_no_difference(name: str) -> None:
    x, mask = _random()
    dirty = x.masked_fill(~mask, 1e6)
    clean, soiled = (statistics.choose([name], rows[0], mask, SHAPE)[name](rows, mask) for rows in (x, dirty))
    torch.testing.assert_close(clean, soiled)


def test_the_kurtosis_leaves_out_columns_without_spread() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 7.0
    mask = torch.ones_like(x, dtype=torch.bool)
    torch.testing.assert_close(statistics.kurtosis(x, mask), statistics.kurtosis(x[:, [0, 2]], mask[:, :2]))
    assert statistics.kurtosis(torch.ones(4, 2), torch.ones(4, 2) > 0) == 0


def test_zero_is_the_most_frequent_value_or_else_the_median() -> None:
    x = torch.tensor([[3.0, 3.0, 3.0, 4.0], [0.5, 9.0, 9.0, 20.0]])
    mask = torch.ones_like(x, dtype=torch.bool)
    sparsity = Sparsity.of(x, mask)
    assert sparsity.zero == 3.0
    assert sparsity.tolerance == pytest.approx(0.1482602218505602)  # distances from the median, 3: 0 0 0 1 2.5 6 6 17
    assert sparsity(x, mask) == pytest.approx(3 / 8)
    mask[0, :2] = False
    assert Sparsity.of(x, mask).zero == 9.0
    values = torch.linspace(-1, 3, 101).reshape(-1, 1)  # none is repeated
    sparsity = Sparsity.of(values, values > -9)
    assert sparsity.zero == pytest.approx(1.0)
    assert sparsity(values, values > -9) == pytest.approx(7 / 101)  # 3.7 steps to either side


def test_outlying_cells_are_counted_by_the_ruler_of_the_first_data() -> None:
    x, mask = _random()
    outlying = Outlying.of(x[0], mask, k=2.0)
    for j, column in enumerate(_columns(x[0].double().numpy(), mask.numpy())):
        centre = np.sort(column)[(len(column) - 1) // 2]  # torch's median is the lower of two
        distances = np.sort(np.abs(column - centre))
        assert outlying.centre[j] == pytest.approx(centre)
        assert outlying.scale[j] == pytest.approx(1.482602218505602 * distances[(len(column) - 1) // 2])
    far = [
        sum(
            abs(float(draw[i, j]) - float(outlying.centre[j])) > 2 * float(outlying.scale[j]) for i, j in mask.nonzero()
        )
        for draw in x
    ]
    assert outlying(x, mask).tolist() == far
    assert max(far) > 0
    assert outlying(10 * x, mask).min() > max(far)  # a ruler of their own would count as many as before


def test_a_column_without_a_robust_spread_is_measured_by_its_standard_deviation_or_that_of_all() -> None:
    x = torch.tensor([[0.0, 5.0, 1.0], [0.0, 5.0, 2.0], [0.0, 5.0, 3.0], [8.0, 5.0, 4.0]])
    outlying = Outlying.of(x, torch.ones_like(x, dtype=torch.bool))
    np.testing.assert_allclose(outlying.scale, [np.std([0, 0, 0, 8]), np.std(x.numpy()), 1.482602218505602], rtol=1e-6)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 2] = False
    assert Outlying.of(x, mask)(x, mask).isfinite()


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_autocorrelation_tells_smooth_from_noise_from_a_chequerboard(channels: tuple[int, ...]) -> None:
    shape = (16, 16, *channels)
    ramp = torch.linspace(0, 1, 16)[:, None] + torch.linspace(0, 1, 16)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    values = []
    for image in (ramp, board.float(), noise):
        row = (image[..., None].expand(shape) if channels else image).reshape(1, -1)
        values.append(float(Autocorrelation(shape)(row, torch.ones_like(row) > 0)))
    assert values[0] > 0.9
    assert values[1] == pytest.approx(-1)
    assert abs(values[2]) < 0.2
    flat = torch.ones(2, 256 * (channels or (1,))[0])
    assert Autocorrelation(shape)(flat, flat > 0) == 0


def test_the_default_is_what_the_rows_have() -> None:
    x, mask = _random()
    assert tuple(statistics.choose(None, x[0], mask)) == statistics.NAMES[:-1]
    assert tuple(statistics.choose(None, x[0], mask, (D,))) == statistics.NAMES[:-1]
    assert tuple(statistics.choose(None, x[0], mask, SHAPE)) == statistics.NAMES
    assert list(statistics.choose("mean", x[0], mask)) == ["mean"]


@pytest.mark.parametrize(
    ("asked", "shape", "words"),
    [
        (["mean", "skew"], None, r"Expected statistics out of mean, .*, actual \['skew'\]"),
        ([], None, "actual none"),
        (["autocorrelation"], None, "Expected event_shape to be .* actual None"),
        (["autocorrelation"], (D,), r"actual \(12,\)"),
        ({"mean": 3}, None, r"Expected a function .* actual neither for \['mean'\]"),
    ],
)
def test_statistics_that_there_are_not_are_an_error(asked: object, shape: tuple[int, ...] | None, words: str) -> None:
    x, mask = _random()
    with pytest.raises(ValueError, match=words):
        statistics.choose(asked, x[0], mask, shape)  # type: ignore[arg-type]


def test_names_and_functions_go_together_in_a_mapping() -> None:
    x, mask = torch.randn(5, 4), torch.ones(5, 4, dtype=torch.bool)
    chosen = statistics.choose({"tails": "kurtosis", "own": lambda x, mask: x.amax((-2, -1))}, x, mask)
    assert list(chosen) == ["tails", "own"]
    assert chosen["tails"](x, mask) == statistics.kurtosis(x, mask)
