"""What the estimator does and what its results mean; test_estimator_input.py has what goes in."""

import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pyro
import pytest
import torch
from numpy.typing import NDArray
from reference import log_penalty
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pyro_ricvae as rv
from pyro_ricvae.data.rows import as_rows
from pyro_ricvae.diagnostics import row_scores
from pyro_ricvae.estimators import automatic_epochs, automatic_floor, automatic_hidden, automatic_n_latent
from pyro_ricvae.estimators.ricvae import RiCVAE
from pyro_ricvae.estimators.settings import choose_settings
from pyro_ricvae.inference import Recipe
from pyro_ricvae.pair import Switch

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")

TINY: dict[str, Any] = {"n_latent": 2, "hidden": (4,), "epochs": 3, "random_state": 0, "device": "cpu"}
X = np.random.default_rng(0).normal(size=(30, 5))  # nothing to learn: for what does not depend on it
IMAGES = np.random.default_rng(1).random((30, 4, 3))
METHODS = ["clean", "cell_scores", "score_samples", "transform", "inverse_transform"]


class Case(NamedTuple):
    clean: NDArray[Any]
    dirty: NDArray[Any]
    wrong: NDArray[np.bool_]
    est: RiCVAE

    def error(self, rows: NDArray[Any]) -> float:
        """Return the mean squared error on the wrong cells, in units of each feature's variance."""
        scaled = (rows - self.clean) / self.clean.std(0).clip(self.clean.std() / 10)
        return float((scaled[self.wrong] ** 2).mean())


def _fit(x: Any, **arguments: Any) -> RiCVAE:
    recipe = Recipe(batch_size=50, learning_rate=2e-2, warmup_steps=10)
    arguments = {"likelihood": "index_conditioned", **arguments}
    return RiCVAE(hidden=(16,), epochs=40, recipe=recipe, random_state=0, device="cpu", **arguments).fit(x)


@pytest.fixture(scope="module")
def table() -> Case:
    """Two factors in 20 columns of very different scales, one gross error a row, and each twentieth row replaced."""
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 20)) * np.geomspace(0.01, 100, 20) + np.arange(20)
    wrong = np.arange(20) == rng.integers(20, size=(200, 1))
    wrong[::20] = False
    gross = clean.std(0) * rng.choice([-1, 1], clean.shape) * rng.uniform(4, 8, clean.shape)
    dirty = clean + wrong * gross
    dirty[::20] = clean.mean(0) + 1.5 * clean.std(0) * rng.normal(size=(10, 20))
    return Case(clean, dirty, wrong, _fit(dirty, n_latent=2))


@pytest.fixture(scope="module")
def images() -> Case:
    """8-bit images of three strokes, each third with a white square."""
    rng = np.random.default_rng(0)
    strokes = np.zeros((3, 8, 8))
    strokes[0, 1:7, 2] = strokes[1, 2, 1:7] = strokes[2, range(1, 7), range(1, 7)] = 255
    clean = np.einsum("nk,khw->nhw", rng.random((200, 3)), strokes).clip(0, 255)
    wrong = np.zeros(clean.shape, dtype=bool)
    for i, (row, column) in enumerate(rng.integers(7, size=(67, 2))):
        wrong[3 * i, row : row + 2, column : column + 2] = True
    dirty = np.where(wrong, 255, clean).round().astype(np.uint8)
    return Case(clean, dirty, wrong, _fit(dirty, n_latent=3))


@pytest.fixture(scope="module")
def tiny() -> RiCVAE:
    return RiCVAE(**TINY).fit(X)


def _residuals(est: RiCVAE, x: NDArray[Any], passes: int) -> tuple[NDArray[Any], float, Any]:
    """Return |x - E[x | z]| in standardised units, the floor, and q(z | .), step by step."""
    standardised = encoded = torch.as_tensor(est.scaling_.standardise(x))
    with torch.no_grad():
        for _ in range(passes - 1):
            encoded = est.model_.decode(est.guide_.encode(encoded).mean).mean
        posterior = est.guide_.encode(encoded)
        residuals = (standardised - est.model_.decode(posterior.mean).mean).abs()
    return residuals.double().numpy(), est.model_.likelihood.floor.item(), posterior.base_dist


@pytest.mark.parametrize("name", ["table", "images"])
@pytest.mark.parametrize("passes", [1, 2])
def test_dirty_cells_are_found_and_cleaned(name: str, passes: int, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(name)
    cleaned = case.est.clean(case.dirty, passes=passes)
    medians = np.broadcast_to(np.median(case.dirty, axis=0), case.dirty.shape)
    assert case.error(cleaned) < 0.03 * case.error(case.dirty)
    assert case.error(cleaned) < 0.5 * case.error(medians)
    belongs = np.arange(len(case.dirty)) % 20 > 0 if name == "table" else slice(None)
    cells = case.est.cell_scores(case.dirty, passes=passes)
    assert average_precision_score(case.wrong[belongs].ravel(), cells[belongs].ravel()) > 0.9


def test_rows_that_do_not_belong_score_low(table: Case, images: Case) -> None:
    replaced = np.arange(200) % 20 == 0
    assert roc_auc_score(~replaced, table.est.score_samples(table.dirty)) > 0.95
    dirty = images.wrong.any(axis=(1, 2))
    assert roc_auc_score(~dirty, images.est.score_samples(images.dirty)) > 0.95


def test_training_has_a_phase_of_single_passes_and_one_of_recycled_ones() -> None:
    def phases(**arguments: Any) -> set[tuple[str, int]]:
        return {(entry["phase"], entry["passes"]) for entry in RiCVAE(**TINY | arguments).fit(X).history_}

    assert phases(train_passes=3) == {("single passes", 1), ("recycling", 3)}
    assert phases(train_passes=1) == {("single passes", 1)}


@pytest.mark.parametrize("name", ["table", "images"])
def test_passes_repeat_each_other_and_override_test_passes(name: str, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(name)
    twice = case.est.clean(case.dirty, passes=2)
    spread = case.clean.std()
    np.testing.assert_allclose(twice, case.est.clean(case.est.clean(case.dirty)), rtol=1e-4, atol=1e-5 * spread)
    assert np.abs(twice - case.est.clean(case.dirty)).max() > 1e-3 * spread
    other = clone(case.est)
    other.__dict__ |= {name: value for name, value in vars(case.est).items() if name.endswith("_")}
    other.set_params(test_passes=2)
    np.testing.assert_array_equal(other.clean(case.dirty), twice)
    np.testing.assert_array_equal(other.clean(case.dirty, passes=1), case.est.clean(case.dirty))
    once = case.est.sample(5, passes=1)
    np.testing.assert_allclose(other.sample(5), case.est.clean(once), rtol=1e-4, atol=1e-5 * spread)
    with pytest.raises(ValueError, match="Expected passes to be a whole number >= 1, actual 0"):
        other.clean(case.dirty, passes=0)


@pytest.mark.parametrize("passes", [1, 2])
def test_scores_are_the_losses_written_out(table: Case, passes: int) -> None:
    residuals, floor, posterior = _residuals(table.est, table.dirty, passes)
    cells = log_penalty(residuals, floor)
    np.testing.assert_allclose(table.est.cell_scores(table.dirty, passes), cells, rtol=1e-4, atol=1e-5)
    mean, variance = posterior.loc.double().numpy(), posterior.scale.double().numpy() ** 2
    kl = 0.5 * (variance + mean**2 - 1 - np.log(variance)).sum(1)
    reconstruction = (cells + np.log(floor) + 0.5 * np.log(2 * np.pi)).sum(1)
    x = table.est.standardise(table.dirty)
    own = row_scores(table.est.model_, table.est.guide_, x, passes)
    np.testing.assert_allclose(own, -(reconstruction + kl), rtol=1e-4)
    center, automatic = x.median(0).values, automatic_floor(x, x.median(0).values, 0.0, images=False)[1]
    far = log_penalty(residuals, automatic).sum(1) + log_penalty(x - center, 2.5 * automatic).sum(1)
    scores = table.est.score_samples(table.dirty, passes)
    assert scores.shape == (200,)
    np.testing.assert_allclose(scores, -(far + kl), rtol=1e-4)


@pytest.mark.parametrize("name", ["table", "images"])
def test_latents_there_and_back_are_one_pass(name: str, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(name)
    z = case.est.transform(case.dirty)
    assert (z.shape, z.dtype) == ((200, case.est.settings_["n_latent"]), case.est.clean(case.dirty).dtype)
    back = case.est.inverse_transform(z)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back.astype(case.est.clean(case.dirty).dtype), case.est.clean(case.dirty))
    with pytest.raises(ValueError, match=rf"Expected {z.shape[1]} latents a row, actual {z.shape[1] + 1}"):
        case.est.inverse_transform(np.zeros((4, z.shape[1] + 1)))
    with pytest.raises(ValueError, match="1 NaN"):
        case.est.inverse_transform(np.where(np.arange(z.size).reshape(z.shape) == 3, np.nan, z))


def test_samples_are_like_the_data_and_reproducible(table: Case, images: Case) -> None:
    rows = table.est.sample(500)
    assert rows.shape == (500, 20)
    np.testing.assert_array_equal(table.est.sample(500), rows)
    np.testing.assert_allclose(rows.std(0) / table.clean.std(0), 1, atol=0.5)  # of scales from 0.01 to 100
    assert images.est.sample(3).shape == (3, 8, 8)
    other = RiCVAE(**TINY | {"random_state": 1}).fit(X)
    before = other.sample(4)
    other.random_state = 2
    assert np.abs(other.sample(4) - before).min() > 0
    with pytest.raises(ValueError, match="Expected n to be a whole number >= 1, actual 0"):
        images.est.sample(0)


def test_the_random_state_decides_every_bit() -> None:
    def bits(random_state: Any) -> list[bytes]:
        est = RiCVAE(**TINY | {"random_state": random_state}).fit(X)
        tensors = [*est.model_.state_dict().values(), *est.guide_.state_dict().values()]
        return [*(tensor.numpy().tobytes() for tensor in tensors), est.clean(X).tobytes(), est.sample(9).tobytes()]

    first = bits(3)
    torch.manual_seed(99)
    assert bits(3) == first
    assert bits(np.int64(3)) == first
    assert bits(4) != first
    assert bits(np.random.RandomState(3)) == bits(np.random.RandomState(3))
    assert bits(None) != bits(None)


def test_nothing_else_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_devices(_: int) -> None:
        raise AssertionError("all CUDA devices were seeded")

    x, torch_state, numpy_state = X.copy(), torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", other_devices)
    est = RiCVAE(**TINY).fit(x)
    for method in METHODS[:-1]:
        getattr(est, method)(x)
    est.inverse_transform(est.transform(x))
    est.sample(3, passes=2)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert repr(np.random.get_state()) == numpy_state  # noqa: NPY002
    assert torch.get_num_threads() == threads
    assert dict(pyro.get_param_store().items()) == {}
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("data", [X, IMAGES], ids=["table", "images"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("factor", [2.0**20, 2.0**-20])
def test_a_power_of_two_changes_nothing_but_the_units(data: NDArray[Any], dtype: Any, factor: float) -> None:
    x = data.astype(dtype)
    est, scaled = RiCVAE(**TINY).fit(x), RiCVAE(**TINY).fit(x * dtype(factor))
    assert scaled.settings_ == est.settings_
    for passes in (1, 2):
        cleaned = scaled.clean(x * dtype(factor), passes)
        np.testing.assert_array_equal(cleaned, est.clean(x, passes) * dtype(factor))
        assert cleaned.dtype == dtype
    np.testing.assert_array_equal(scaled.sample(9), est.sample(9) * factor)
    for method in ("cell_scores", "score_samples", "transform"):
        np.testing.assert_array_equal(getattr(scaled, method)(x * dtype(factor)), getattr(est, method)(x))


def test_units_hardly_matter(table: Case) -> None:
    x = table.dirty.astype(np.float32) * np.float32(1e-6)
    scaled = _fit(x, n_latent=2)
    for name, value in table.est.settings_.items():
        assert scaled.settings_[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name
    off = (scaled.clean(x) / 1e-6 - table.est.clean(table.dirty)) / table.est.scaling_.scale
    assert np.sqrt((off**2).mean()) < 0.01  # training makes much of a rounding


def test_auto_is_by_size() -> None:
    est = RiCVAE(recipe=Recipe(batch_size=2))
    x = np.arange(180.0).reshape(18, 10) % 97
    settings = choose_settings(est, as_rows(x))[0].to_json()
    assert settings["n_latent"] == automatic_n_latent(18, 10) == 2
    assert settings["hidden"] == list(automatic_hidden(18, 10, images=False))
    assert settings["epochs"] == automatic_epochs(18, 2, images=False) == 300
    assert (settings["scaling"], settings["device"]) == ("robust", "cuda" if torch.cuda.is_available() else "cpu")
    assert RiCVAE(**TINY).fit(x.astype(np.uint8)).settings_["scaling"] == "range"
    assert RiCVAE(**TINY).fit(x > 40).settings_["scaling"] == "robust"  # a table of yes and no
    assert np.array_equal(est.set_params(**TINY).fit_transform(x), est.transform(x))
    assert RiCVAE(**TINY).fit(x.reshape(18, 5, 2)).settings_["scaling"] == "range"


def test_the_default_likelihood_says_what_it_is_and_why(tiny: RiCVAE) -> None:
    x = np.arange(180.0).reshape(18, 10) % 97
    for rows, broadening in ((x, 1.0), (x.reshape(18, 5, 2), 1.5)):
        est = RiCVAE(**TINY).fit(rows)
        assert isinstance(est.model_.likelihood, rv.likelihoods.SpikeAndSlab)
        assert (est.settings_["likelihood"], est.settings_["spike"]["takeover"]) == ("spike_and_slab", 0.1)
        assert est.model_.likelihood.schedule["mixed"] == Switch(0.1)
        assert est.model_.likelihood.broadening == broadening
        assert "for the first 10%, and after that while" in est.settings_["likelihood_reason"]
        named = RiCVAE(likelihood="spike_and_slab", **TINY).fit(rows)
        np.testing.assert_array_equal(named.clean(rows), est.clean(rows))
        assert named.settings_ == est.settings_ | {"likelihood_reason": "as given"}
    other = RiCVAE(likelihood="student_t", **TINY).fit(x).settings_
    assert (other["spike"], other["likelihood_reason"]) == ({}, "as given")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 2),
        ({"train_passes": 3}, 2),
        ({"train_passes": 1}, 1),
        ({"likelihood": "index_conditioned"}, 1),
        ({"likelihood": rv.likelihoods.SpikeAndSlab(0.2)}, 2),
        ({"test_passes": 3}, 3),
    ],
)
def test_passes_at_test_time_are_by_what_they_do(arguments: dict[str, Any], expected: int) -> None:
    x = np.arange(180.0).reshape(18, 10) % 97
    est = RiCVAE(**TINY | arguments).fit(x)
    assert est.settings_["test_passes"] == expected
    np.testing.assert_array_equal(est.clean(x), est.clean(x, passes=expected))
    np.testing.assert_array_equal(est.cell_probabilities(x), est.cell_probabilities(x, passes=expected))
    assert est.contamination_ == pytest.approx(est.cell_probabilities(x).mean(), rel=1e-4)
    with pytest.raises(ValueError, match="Expected passes to be a whole number >= 1, actual 'two'"):
        est.clean(x, passes="two")  # type: ignore[arg-type]


def test_scikit_learns_conventions_hold(tiny: RiCVAE) -> None:
    likelihood = rv.likelihoods.LearnedNormal()
    given = {"n_latent": "nonsense", "hidden": [8], "likelihood": likelihood, "recipe": Recipe(), "floor": -1}
    est = RiCVAE(**given)  # no work, and no checks, before fit
    assert all(est.get_params()[name] is value for name, value in given.items())
    assert set(vars(est)) == set(est.get_params())
    assert type(clone(est).likelihood) is type(likelihood)
    assert clone(tiny).get_params() == tiny.get_params()
    assert est.set_params(n_latent=3, epochs=2) is est
    assert (est.n_latent, est.epochs) == (3, 2)
    assert repr(RiCVAE(3, epochs=9)) == "RiCVAE(epochs=9, n_latent=3)"
    with pytest.raises(ValueError, match="Invalid parameter 'latents'"):
        est.set_params(latents=3)
    for method in METHODS:
        with pytest.raises(NotFittedError):
            getattr(RiCVAE(), method)(X)
    with pytest.raises(NotFittedError):
        RiCVAE().sample(3)


def test_fit_returns_itself_and_starts_afresh(tiny: RiCVAE) -> None:
    est = RiCVAE(**TINY)
    assert est.fit(IMAGES, y=None) is est
    assert (est.n_features_in_, est.event_shape_) == (12, (4, 3))
    est.fit(X)
    assert (est.n_features_in_, est.event_shape_) == (5, (5,))
    np.testing.assert_array_equal(est.clean(X), tiny.clean(X))


def test_it_works_in_a_pipeline(tiny: RiCVAE) -> None:
    pipeline = make_pipeline(StandardScaler(), RiCVAE(**TINY)).fit(10 * X)
    assert pipeline.transform(10 * X).shape == (30, 2)
    np.testing.assert_allclose(pipeline.score_samples(10 * X), tiny.score_samples(X), rtol=1e-2)


def test_what_is_not_used_is_not_imported() -> None:
    code = """
import sys, pyro_ricvae as rv
heavy = {'click', 'matplotlib', 'pandas', 'PIL', 'pooch', 'safetensors', 'scipy', 'sklearn'}
assert not (heavy | {'torch', 'pyro'}) & set(sys.modules)
rv.models, rv.guides, rv.networks, rv.likelihoods, rv.priors, rv.inference, rv.pair
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
