"""What goes into the estimator: containers, arguments, and data that are hard or wrong."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from numpy.typing import NDArray
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_ricvae.estimators import automatic_floor
from pyro_ricvae.estimators.ricvae import RiCVAE
from pyro_ricvae.inference import Recipe
from pyro_ricvae.likelihoods import FixedNormal, IndexConditionedNormal, LearnedNormal
from pyro_ricvae.priors import StandardNormal

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")

TINY: dict[str, Any] = {"n_latent": 2, "hidden": (4,), "epochs": 2, "random_state": 0, "device": "cpu"}
X = np.random.default_rng(0).normal(size=(30, 5))
WHOLE = np.random.default_rng(1).integers(-100, 100, size=(30, 6))  # exact in every type there is
FRAME = pd.DataFrame(X, columns=["a", "b", "c", "d", "e"], index=[f"row {i}" for i in range(30)])


class StudentT(PyroModule):
    """A user's own likelihood, with a parameter that is learned."""

    n_outputs = 1
    normalised = True
    support = dist.constraints.real

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, decoder_output: Tensor, x: Tensor) -> Any:
        return dist.StudentT(3.0, decoder_output, self.log_scale.exp())


class ShiftedNormal(PyroModule):
    """A user's own prior, with a parameter that is learned."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(shape))

    def forward(self) -> Any:
        return dist.Normal(self.loc, 1.0).to_event(len(self.loc.shape))


@cache
def _fitted(shape: tuple[int, ...]) -> RiCVAE:
    return RiCVAE(**TINY, scaling="robust").fit(WHOLE.reshape(shape).astype(float))


def _without_training(monkeypatch: pytest.MonkeyPatch, x: Any, match: str, error: Any = ValueError, **kw: Any) -> None:
    """Expect an error before training starts, and nothing left behind."""

    def train(*_: Any, **__: Any) -> None:
        raise AssertionError("training started")

    monkeypatch.setattr("pyro_ricvae.estimators.ricvae.Trainer", train)
    est = RiCVAE(**TINY | kw)
    with pytest.raises(error, match=match):
        est.fit(x)
    assert set(vars(est)) == set(est.get_params())


@pytest.mark.parametrize(
    ("container", "kind", "dtype"),
    [
        (lambda x: x.astype(np.float64), np.ndarray, np.float64),
        (lambda x: x.astype(np.float32), np.ndarray, np.float32),
        (lambda x: x, np.ndarray, np.float64),
        (lambda x: x.astype(np.int8), np.ndarray, np.float32),
        (lambda x: x.tolist(), np.ndarray, np.float64),
        (lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True), Tensor, torch.float32),
        (lambda x: torch.tensor(x).half(), Tensor, torch.float16),
        (lambda x: torch.tensor(x).bfloat16(), Tensor, torch.bfloat16),
        (lambda x: torch.tensor(x).int(), Tensor, torch.float64),
    ],
)
@pytest.mark.parametrize("shape", [(30, 6), (30, 2, 3), (15, 2, 2, 3)])
def test_results_come_in_the_container_and_shape_of_the_data(
    container: Callable[[Any], Any], kind: type, dtype: Any, shape: tuple[int, ...]
) -> None:
    floats, x = WHOLE.reshape(shape).astype(float), container(WHOLE.reshape(shape))
    est = RiCVAE(**TINY, scaling="robust").fit(x)
    assert (est.event_shape_, est.n_features_in_) == (shape[1:], np.prod(shape[1:]))
    for method in ("clean", "cell_scores"):
        result = getattr(est, method)(x)
        assert (type(result), result.dtype, tuple(result.shape)) == (kind, dtype, shape)
        expected = getattr(_fitted(shape), method)(floats)
        tolerance = 1e-2 if dtype in (torch.float16, torch.bfloat16) else 1e-6
        result = result.double().numpy() if isinstance(result, Tensor) else result
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    assert est.sample(2).shape == (2, *shape[1:])


def test_a_memmap_is_read_and_not_written(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    result = RiCVAE(**TINY).fit(x).clean(x)
    np.testing.assert_array_equal(result, RiCVAE(**TINY).fit(X).clean(X))


def test_frames_keep_their_names_and_index() -> None:
    frame = FRAME.assign(b=FRAME["b"].round().astype(int), c=(FRAME["c"] * 9).round().astype("Int64"))
    before = frame.copy()
    est = RiCVAE(**TINY).fit(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert est.feature_names_in_.tolist() == ["a", "b", "c", "d", "e"]
    for result in (est.clean(frame), est.cell_scores(frame)):
        assert isinstance(result, pd.DataFrame)
        assert (result.dtypes == np.float64).all()
        pd.testing.assert_index_equal(result.index, frame.index)
        pd.testing.assert_index_equal(result.columns, frame.columns)
    np.testing.assert_array_equal(est.clean(frame.to_numpy(dtype=float)), est.clean(frame))
    assert not hasattr(est.fit(X), "feature_names_in_")


def test_other_rows_than_those_of_fit_are_refused() -> None:
    est = RiCVAE(**TINY).fit(FRAME)
    images = RiCVAE(**TINY).fit(WHOLE.reshape(30, 2, 3))
    for method in ("clean", "cell_scores", "score_samples", "transform"):
        with pytest.raises(ValueError, match=r"columns of fit, in their order, actual 'c' in the place of 'b'"):
            getattr(est, method)(FRAME[["a", "c", "b", "d", "e"]])
        with pytest.raises(ValueError, match=r"rows of shape \(5,\), as in fit, actual \(4,\)"):
            getattr(est, method)(FRAME.drop(columns="b"))
        with pytest.raises(ValueError, match=r"rows of shape \(2, 3\), as in fit, actual \(3, 2\)"):
            getattr(images, method)(WHOLE.reshape(30, 3, 2))
        with pytest.raises(ValueError, match="1 NaN, the first in row 2, column 'd'"):
            getattr(est, method)(FRAME.mask((FRAME.index == "row 2")[:, None] & (FRAME.columns == "d")))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"likelihood": "normal"}, r"likelihood to be one of \('auto', 'index_conditioned', .* actual 'normal'"),
        (
            {"likelihood": LearnedNormal},
            r"torch.nn.Module or a function .* actual <class .* give an object",
        ),
        (
            {"likelihood": nn.Identity()},
            r"the contract of .* actual Identity\(\) with no n_outputs, no norm",
        ),
        ({"prior": "normal"}, r"prior to be one of \('standard_normal', 'gaussian_mixture'\) or .* actual 'normal'"),
        ({"prior": nn.Linear(2, 2)}, r"whose forward\(\) returns one, actual Linear"),
        ({"prior": StandardNormal(3)}, r"event shape \(n_latent,\), actual \(3,\) and n_latent=2"),
        ({"prior": ShiftedNormal(2, 2)}, r"event shape \(n_latent,\), actual \(2, 2\)"),
        ({"floor": 1, "likelihood": "learned_normal"}, "floor='auto' with a likelihood that has no floor, actual 1"),
        ({"floor": 1, "likelihood": FixedNormal(1.0)}, "floor='auto' with a likelihood that has no floor, actual 1"),
        ({"floor": (3, 2, 1)}, r"floor to be 'auto', a number, or \(start, end\), actual \(3, 2, 1\)"),
        ({"floor": -0.1}, "floor to be a positive and finite number .* actual -0.1"),
        ({"floor": (0.3, 0)}, "floor to be a positive and finite number .* actual 0"),
        ({"floor": "small"}, "floor to be a positive and finite number .* actual 'small'"),
        ({"hidden": "64"}, r"hidden to be 'auto' or a sequence such as \(256, 128\), actual '64'"),
        ({"hidden": 64}, "hidden to be a sequence of whole numbers >= 1, actual 64"),
        ({"n_latent": 0}, "n_latent to be a whole number >= 1, actual 0"),
        ({"epochs": 0}, "epochs to be a whole number >= 1, actual 0"),
        ({"train_passes": 1.5}, "train_passes to be a whole number >= 1, actual 1.5"),
        ({"test_passes": 0}, "test_passes to be a whole number >= 1, actual 0"),
        ({"device": "cuda:7"}, "a device of this machine, actual 'cuda:7'"),
        ({"device": "nonsense"}, "a device of this machine, actual 'nonsense' .*: use 'cpu' or 'auto'"),
        ({"device": None}, "a device of this machine, actual None"),
        ({"device": "meta"}, "a device of this machine, actual 'meta'"),
        ({"recipe": "plain"}, "recipe to be a pyro_ricvae.inference.Recipe, actual 'plain'"),
        ({"scaling": "standard"}, "scaling to be 'auto', 'range', 'robust' or 'none', actual 'standard'"),
        ({"random_state": "seed"}, "'seed' cannot be used to seed"),
    ],
)
def test_wrong_arguments_are_refused_before_training(
    arguments: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_training(monkeypatch, X, match, **arguments)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (FRAME.assign(c="red"), "real numbers, actual column 'c' .* which holds 'red'"),
        (X.astype(str), "real numbers, actual an array of type <U32"),
        (X[:0], r"at least one row and one feature, actual shape \(0, 5\)"),
        (X[:, 0], r"rows of features.* actual shape \(30,\): .*reshape\(-1, 1\)"),
        (X[:1], "two rows or more to learn from, actual 1"),
        (np.where(X[3, 4] == X, np.inf, X), "finite values, actual 1 infinite ones, the first in row 3, column 4"),
        (np.where(X > 2, np.nan, X), rf"no missing values, actual {(X > 2).sum()} NaN, the first in row"),
        (np.ones((9, 3)), "data that vary, actual 9 equal rows"),
    ],
)
def test_wrong_data_are_refused_before_training(x: Any, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_training(monkeypatch, x, match, error=(TypeError, ValueError))


@pytest.mark.parametrize(("scaling", "ends"), [("none", (0, 1e30)), ("range", (-1.7e308, 1.7e308))])
def test_scales_beyond_float_are_refused(scaling: str, ends: tuple[float, float], monkeypatch: Any) -> None:
    x = np.resize(ends, (10, 3))
    _without_training(monkeypatch, x, f"scaling='{scaling}' brings near 1, actual ones from", scaling=scaling)


def test_floors_of_named_likelihoods() -> None:
    def floor(**arguments: Any) -> tuple[float, Any, Any]:
        est = RiCVAE(**TINY | arguments).fit(X)
        likelihood = est.model_.likelihood
        last = likelihood.floor if hasattr(likelihood, "floor") else likelihood.scale
        return est.settings_["floor_start"], est.settings_["floor_end"], pytest.approx(last.item())

    assert floor(floor=0.3) == (0.3, 0.3, 0.3)
    assert floor(floor=(0.8, 0.2), epochs=9) == (0.8, 0.2, 0.2)
    assert floor(floor=0.3, likelihood="fixed_normal") == (0.3, 0.3, 0.3)
    x = torch.as_tensor((X - np.median(X, 0)) / (1.4826 * np.median(np.abs(X - np.median(X, 0)), 0))).float()
    start, end = automatic_floor(x, x.median(0).values, step=0.0, images=False)
    assert floor()[:2] == pytest.approx((start, end), rel=1e-3)
    learned = RiCVAE(**TINY, likelihood="learned_normal").fit(X)
    assert (learned.settings_["floor_start"], learned.model_.decoder.log_scale is None) == (None, False)


def test_objects_as_likelihood_keep_their_own_floor_unless_told() -> None:
    given = IndexConditionedNormal(0.7)
    assert RiCVAE(**TINY, likelihood=given).fit(X).model_.likelihood.floor.item() == pytest.approx(0.7)
    told = RiCVAE(**TINY | {"epochs": 9}, likelihood=given, floor=(0.5, 0.25)).fit(X)
    assert told.model_.likelihood.floor.item() == pytest.approx(0.25)
    assert given.floor.item() == pytest.approx(0.7)
    fixed = RiCVAE(**TINY, likelihood=FixedNormal(0.5)).fit(X)
    off = (X - fixed.clean(X)) / fixed.scaling_.scale
    np.testing.assert_allclose(fixed.cell_scores(X), 0.5 * (off / 0.5) ** 2, rtol=1e-3, atol=1e-5)


def test_objects_of_the_users_are_copied_trained_and_kept_out_of_the_store() -> None:
    likelihood, prior = StudentT(), ShiftedNormal(3)
    est = RiCVAE(**TINY | {"n_latent": "auto"}, likelihood=likelihood, prior=prior, recipe=Recipe(warmup_steps=0))
    est.fit(X)
    assert est.transform(X).shape == (30, est.settings_["n_latent"]) == (30, 3)
    for given, fitted in ((likelihood.log_scale, est.model_.likelihood.log_scale), (prior.loc, est.model_.prior.loc)):
        assert (given == 0).all()
        assert given.grad is None
        assert (fitted != 0).all()
    assert np.isfinite(est.clean(X)).all()
    assert est.cell_scores(X).min() >= 0
    assert est.sample(4).shape == (4, 5)
    assert dict(pyro.get_param_store().items()) == {}


@pytest.mark.parametrize(
    ("recipe", "affine", "centred", "bound"),
    [
        (Recipe(), True, True, 4.0),
        (Recipe(affine_path=False), False, True, 4.0),
        (Recipe(center=False), True, False, 4.0),
        (Recipe(clip=None), True, True, None),
        (Recipe(clip=3.0), True, True, 3.0),
        (Recipe.plain(), False, False, None),
    ],
)
def test_the_parts_of_the_recipe_reach_the_networks(recipe: Recipe, affine: bool, centred: bool, bound: Any) -> None:
    est = RiCVAE(**TINY | {"hidden": (6, 4)}, recipe=recipe, scaling="none").fit(X + 5)
    encoder, decoder = est.guide_.encoder, est.model_.decoder
    assert (encoder.affine is None) == (decoder.affine is None) == (not affine)
    expected = np.sort(X, axis=0)[14] + 5 if centred else np.zeros(5)  # the lower median
    np.testing.assert_allclose([encoder.center.numpy(), decoder.center.numpy()], [expected, expected], rtol=1e-6)
    assert encoder.bound == bound
    assert [[layer.out_features for layer in net.deep[::2]] for net in (encoder, decoder)] == [[6, 4], [4, 6]]
    images = RiCVAE(**TINY, recipe=recipe).fit(WHOLE.reshape(30, 2, 3))
    assert images.guide_.encoder.bound == (None if bound is None else 1.0)  # of their range
    assert [entry["passes"] for entry in images.history_] == ([2, 2] if recipe == Recipe.plain() else [1, 2])


HARD = {
    "a constant column": X * (np.arange(5) != 2),
    "a column without a median absolute deviation": np.where(np.arange(5) == 2, X > 1.5, X),
    "one feature": X[:, :1],
    "two rows, fewer than a batch": X[:2],
    "a pixel that is always black": X.reshape(25, 2, 3) * np.array([[0, 1, 1], [1, 1, 1]]),
    "booleans": X > 0,
    "tiny": X * 1e-300,
    "huge": X * 1e300,
}


@pytest.mark.parametrize("x", HARD.values(), ids=HARD)
@pytest.mark.parametrize("likelihood", ["index_conditioned", "learned_normal"])
def test_hard_data_give_finite_results(x: NDArray[Any], likelihood: str) -> None:
    est = RiCVAE(**TINY, likelihood=likelihood).fit(x)
    results = [est.clean(x), est.cell_scores(x), est.score_samples(x), est.transform(x), est.sample(9)]
    assert all(np.isfinite(result).all() for result in results)
    assert results[0].shape == results[1].shape == x.shape


@pytest.mark.parametrize("likelihood", ["index_conditioned", "fixed_normal", "learned_normal"])
@pytest.mark.parametrize("wild", [1e10, 1e30, -1e300])
def test_a_wild_cell_is_found_and_cleaned(likelihood: str, wild: float) -> None:
    x = X.copy()
    x[3, 4] = wild
    est = RiCVAE(**TINY, likelihood=likelihood).fit(x)
    for fitted in (est, RiCVAE(**TINY, likelihood=likelihood).fit(X)):
        cells = fitted.cell_scores(x)
        assert np.isfinite(cells).all()
        assert cells.argmax() == 3 * 5 + 4
        assert fitted.score_samples(x).argmin() == 3
        assert np.abs(fitted.clean(x)).max() < 20
