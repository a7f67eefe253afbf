"""Posterior predictive checks, of right and of wrong models."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from experiments import heavy_tails
from experiments.linear_gaussian import LinearGaussian
from pyro_ricvae import likelihoods
from pyro_ricvae.diagnostics.replicates import pit
from pyro_ricvae.diagnostics.replicates.ppc import PosteriorPredictiveCheck, ppc
from pyro_ricvae.diagnostics.replicates.replicate import replicate, replicate_scale
from pyro_ricvae.plots import replicates as ppc_plots
from pyro_ricvae.plots import save


@pytest.fixture
def exact() -> LinearGaussian:
    torch.manual_seed(0)
    return LinearGaussian(n_features=6, n_latent=2, scale=0.5, seed=0)


def _check(exact: LinearGaussian, x: Tensor, **arguments: object) -> PosteriorPredictiveCheck:
    return ppc(exact.model, exact.guide(), x, **arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_right_model_rings_rarely_and_the_wrong_one_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pit, "_MAX_ROWS", 20)  # for time: not what is looked at here
    outcome = CliRunner().invoke(heavy_tails.main, ["--out", str(tmp_path), "--seeds", "2"], catch_exceptions=False)
    written = (tmp_path / "heavy-tails.md").read_text()
    assert outcome.output.strip() == written.strip()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in written.splitlines()]
    assert lines[0] == ["noise", "model", "rings", "missed", "PIT below 0.05", "seconds"]
    assert len(lines) == 6
    for noise, likelihood, rings, missed, _, _ in lines[2:]:  # over 20 seeds: 1, 20, 20 and 0
        if noise == likelihood:
            assert rings in ("0 of 2", "1 of 2")
        else:
            assert rings == "2 of 2"
            assert "kurtosis 2" in missed


def test_the_check_is_that_of_replicates_drawn_at_once(exact: LinearGaussian, monkeypatch: pytest.MonkeyPatch) -> None:
    x = exact.sample(30, seed=1)
    replicated = replicate(exact.model, exact.guide(), x, 4000)
    module = sys.modules[ppc.__module__]  # the package gives its name to the function
    monkeypatch.setattr(module, "_CELLS_AT_ONCE", 7 * x.numel())  # 571 chunks and a shorter one
    found = _check(exact, x, statistics=["mean", "maximum"], n_draws=4000)
    assert found.n_draws == 4000
    assert found.observed == pytest.approx({"mean": float(x.mean()), "maximum": float(x.max())})
    for name, values in {"mean": replicated.mean((1, 2)), "maximum": replicated.amax((1, 2))}.items():
        assert found.replicated[name].mean() == pytest.approx(float(values.mean()), abs=0.02)
        assert found.replicated[name].std() == pytest.approx(float(values.std()), rel=0.06)
    expected = (replicated < x).float().mean(0)
    np.testing.assert_allclose(found.pit.values, expected, atol=0.05)


def test_a_tail_probability_counts_both_sides_and_is_never_zero() -> None:
    values = np.arange(99.0)  # with the observed value a hundred
    nothing = pit.PIT(np.zeros((1, 1), np.float32), np.zeros(20), np.zeros((2, 20)), 1.0)
    for observed, expected in ((-1.0, 0.02), (0.0, 0.04), (49.0, 1.0), (98.0, 0.04), (1000.0, 0.02), (3.5, 0.1)):
        found = PosteriorPredictiveCheck({"a": observed}, {"a": values}, nothing, None, 1)
        assert found.tail_probabilities["a"] == pytest.approx(expected)
        assert found.missed == ({"a": "above" if observed > 50 else "below"} if expected < 0.05 else {})
        two = PosteriorPredictiveCheck({"a": observed, "b": 49.0}, {"a": values, "b": values}, nothing, None, 1)
        assert two.alarm == (expected < 0.025)
    ties = PosteriorPredictiveCheck({"a": 0.0}, {"a": np.zeros(99)}, nothing, None, 1)
    assert ties.tail_probabilities["a"] == 1.0


def test_dirty_cells_are_left_out_by_the_mask(exact: LinearGaussian) -> None:
    x = exact.sample(300, seed=1)
    dirty = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.01
    soiled = torch.where(dirty, x + 2.5, x)
    assert _check(exact, soiled).alarm
    found = _check(exact, soiled, mask=~dirty, statistics=["maximum", "outlying", "kurtosis"])
    assert not found.alarm
    assert found.n_cells == int((~dirty).sum())
    assert np.array_equal(np.isnan(found.pit.values), dirty.numpy())


def test_a_function_of_the_user_gives_one_number_or_several(exact: LinearGaussian) -> None:
    x = exact.sample(200, seed=1)
    x[:, 3] *= 3
    functions = {"least": lambda x, mask: x.amin((-2, -1)), "spread": lambda x, mask: x.std(-2)}
    found = _check(exact, x, statistics=functions)
    assert list(found.observed) == ["least", *(f"spread[{j}]" for j in range(6))]
    np.testing.assert_allclose([found.observed[f"spread[{j}]"] for j in range(6)], x.std(0), rtol=1e-6)
    assert found.missed["spread[3]"] == "above"


def test_a_profile_likelihood_is_replicated_with_one_scale_a_feature(exact: LinearGaussian) -> None:
    exact.model.likelihood = likelihoods.IndexConditionedNormal(0.01)
    train, x = exact.sample(2000, seed=1), exact.sample(300, seed=2)
    found = _check(exact, x, reference=train)
    assert found.scale is not None
    np.testing.assert_allclose(found.scale, replicate_scale(exact.model, exact.guide(), train), rtol=0.1)
    np.testing.assert_allclose(found.scale, exact.scale, rtol=0.15)
    assert not found.alarm
    assert "one scale a feature, 1.4826 times the median absolute residual" in found.summary()
    heavy = exact.decode(torch.randn(300, 2)) + 0.5 * torch.distributions.StudentT(2.0).sample((300, 6))
    assert _check(exact, heavy, reference=train).alarm  # replicated with its own residuals it could not ring
    with pytest.raises(ValueError, match="actual 'row': a row's own scales are its own residuals"):
        _check(exact, x, scale="row")


def test_an_encoded_row_lies_nearer_to_its_middle_and_the_test_knows() -> None:
    exact = LinearGaussian(n_features=3, n_latent=2, scale=0.3, seed=0)  # two latents take up most of three cells
    guide, probabilities = exact.guide(), []

    def draw(rows: Tensor, k: int) -> Tensor:
        return exact.model.decode(guide.encode(rows).sample((k,))).sample()

    torch.manual_seed(0)
    with torch.no_grad():
        for seed in range(40):
            x = exact.sample(40, seed)
            found = pit.uniformity(draw, x, torch.ones_like(x, dtype=torch.bool), x)
            assert found.histogram[[0, -1]].mean() < 0.03  # a flat histogram has 0.05
            probabilities.append(found.tail_probability)
    assert np.mean(probabilities) == pytest.approx(0.5, abs=0.15)  # three standard errors
    assert np.mean(np.array(probabilities) <= 0.1) < 0.25


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (slice(8, 12), "too many cells in the middle of theirs, too few at both ends"),
        ([0, 19], "too many cells at both ends of theirs, too few in the middle"),
        ([18, 19], "too many cells at the upper end of theirs, too few at the lower end"),
        ([0, 1], "too many cells at the lower end of theirs, too few at the upper end"),
    ],
)
def test_the_words_say_where_there_are_too_many_cells(places: object, words: str) -> None:
    expected = np.random.default_rng(0).dirichlet(np.full(20, 100.0), size=99)
    histogram = np.full(20, 0.05)
    histogram[places] += 0.1  # type: ignore[call-overload]
    histogram /= histogram.sum()
    values = np.full((2, 2), 0.5, np.float32)
    assert words in pit.PIT(values, histogram, expected, 0.01).words()
    assert "as they should" in pit.PIT(values, histogram, expected, 0.06).words()


def test_discrete_values_have_flat_ranks() -> None:
    def draw(rows: Tensor, k: int) -> Tensor:
        return torch.bernoulli(torch.full((k, *rows.shape), 0.3))

    torch.manual_seed(0)
    probabilities = []
    for _ in range(10):
        x = draw(torch.zeros(200, 20), 1)[0]
        mask = torch.ones_like(x, dtype=torch.bool)
        found = pit.uniformity(draw, x, mask, x)
        np.testing.assert_allclose(found.histogram, 0.05, atol=0.02)
        probabilities.append(found.tail_probability)
    assert np.mean(probabilities) == pytest.approx(0.5, abs=0.25)
    assert pit.uniformity(draw, torch.bernoulli(torch.full_like(x, 0.4)), mask, x).tail_probability == 0.01


def test_the_words_and_the_table_say_what_is_missed(exact: LinearGaussian) -> None:
    found = _check(exact, exact.sample(300, seed=1))
    assert found.summary().startswith("500 replicates, 1800 cells.\nNo statistic is missed: mean, variance, sparsity")
    heavy = exact.decode(torch.randn(300, 2)) + 0.3 * torch.distributions.StudentT(2.0).sample((300, 6))
    found = _check(exact, heavy)
    assert "Missed: kurtosis of the data" in found.summary()
    assert "lies above what the model produces" in found.summary()
    assert "Missed: the shape of the predictive distributions" in found.summary()
    table = found.to_table()
    assert table.loc["kurtosis", "missed"] == "above"
    assert table.loc["kurtosis", "observed"] > table.loc["kurtosis", "97.5 %"]
    assert list(table.index) == list(found.observed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"statistics": ["skew"]}, "Expected statistics out of"),
        ({"statistics": ["autocorrelation"]}, "Expected event_shape to be"),
        ({"event_shape": (2, 2)}, r"Expected event_shape to have 6 cells, .* actual \(2, 2\)"),
        ({"mask": torch.ones(4, 5, dtype=torch.bool)}, r"Expected mask .* actual torch.bool of shape \(4, 5\)"),
        ({"mask": torch.ones(5, 6)}, "Expected mask to be of bool .* actual torch.float32"),
        ({"mask": torch.zeros(5, 6, dtype=torch.bool)}, "at least two cells count, actual 0"),
        ({"n_draws": 0}, "Expected n_draws to be a whole number >= 1, actual 0"),
        ({"n_draws": 239}, "Expected n_draws >= 240 for 6 statistics, actual 239"),
        ({"scale": "cell"}, "Expected scale to be 'feature', actual 'cell'"),
        ({"statistics": {"rows": lambda x, mask: x.sum(-2).sum()}}, "Expected the statistic 'rows' to return numbers"),
        ({"statistics": {"bad": lambda x, mask: x.mean((-2, -1)) * torch.nan}}, "with 1 NaN"),
    ],
)
def test_wrong_input_is_an_error(exact: LinearGaussian, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _check(exact, exact.sample(5, seed=1), **arguments)


def test_rows_are_checked(exact: LinearGaussian) -> None:
    with pytest.raises(ValueError, match=r"Expected x of shape \(n, d\), actual \(2, 5, 6\)"):
        _check(exact, exact.sample(5, seed=1).expand(2, 5, 6))
    with pytest.raises(ValueError, match="Expected finite values in x"):
        _check(exact, torch.full((5, 6), torch.nan))


def test_the_pictures_are_drawn(exact: LinearGaussian, tmp_path: Path) -> None:
    x = exact.sample(20, seed=1)
    found = _check(exact, x, event_shape=(2, 3), n_draws=400)
    replicated = replicate(exact.model, exact.guide(), x, 5)
    save(ppc_plots.statistics(found), tmp_path / "statistics.png")
    save(ppc_plots.pit_histogram(found), tmp_path / "pit.png")
    save(ppc_plots.replicated_images(x, replicated, (2, 3), n=4), tmp_path / "replicates.png")
    save(ppc_plots.densities(x, replicated), tmp_path / "densities.png")
    assert all(path.stat().st_size > 5000 for path in tmp_path.iterdir() if path.stem != "replicates")
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(ValueError, match=r"Expected images, .* actual \(6,\)"):
        ppc_plots.replicated_images(x, replicated, (6,))
    with pytest.raises(ValueError, match=r"Expected replicates of shape \(S, 20, 6\), actual \(5, 19, 6\)"):
        ppc_plots.densities(x, replicated[:, 1:])


def test_cells_that_do_not_count_do_not_widen_the_replicates(exact: LinearGaussian) -> None:
    model, guide = exact.model, exact.guide()
    model.likelihood = likelihoods.IndexConditionedNormal(0.01)
    torch.nn.init.zeros_(model.decoder.weight)  # so that residuals do not depend on what is encoded
    x, mask = model.decoder.bias.detach() + torch.randn(1000, 6), torch.ones(1000, 6, dtype=torch.bool)
    x[:700, 0], mask[:700, 0] = 50.0, False
    assert replicate_scale(model, guide, x)[0] > 50
    torch.testing.assert_close(replicate_scale(model, guide, x, mask=mask), torch.ones(6), rtol=0.2, atol=0)
    nothing = replicate_scale(model, guide, x, mask=torch.zeros_like(mask))
    torch.testing.assert_close(nothing, torch.full((6,), 0.01))
