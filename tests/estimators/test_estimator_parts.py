"""Every likelihood and prior through the estimator: trained, recycled, cleaned with, saved and loaded."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Independent, Normal, constraints

import pyro_ricvae as rv
from pyro_ricvae.estimators.registry import LIKELIHOODS, takes
from pyro_ricvae.inference import Recipe
from pyro_ricvae.likelihoods import FromFunction, StudentT

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")

RECIPE = Recipe(batch_size=50, learning_rate=2e-2, warmup_steps=10)
SETTINGS: dict[str, Any] = {"n_latent": 2, "hidden": (16,), "random_state": 0, "device": "cpu", "recipe": RECIPE}
TINY = SETTINGS | {"epochs": 3}


def _dirty() -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Return two factors in 12 columns, the same with one gross error in each second row, and where."""
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 12)) + 0.05 * rng.normal(size=(200, 12))
    wrong = np.arange(12) == rng.integers(12, size=(200, 1))
    wrong[::2] = False
    return clean, clean + 6 * wrong * rng.choice([-1, 1], clean.shape), wrong


CLEAN, DIRTY, WRONG = _dirty()
BLACK_AND_WHITE = (CLEAN > 0).astype(np.float32)


def _data(name: str) -> NDArray[Any]:
    return BLACK_AND_WHITE if name == "bernoulli" else DIRTY


@pytest.fixture(scope="module")
def fitted() -> dict[str, rv.RiCVAE]:
    return {name: rv.RiCVAE(likelihood=name, epochs=60, **SETTINGS).fit(_data(name)) for name in LIKELIHOODS}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_likelihood_trains_recycles_and_scores(name: str, fitted: dict[str, rv.RiCVAE]) -> None:
    est, x = fitted[name], _data(name)
    assert {entry["passes"] for entry in est.history_} == {1, 2}
    assert all(np.isfinite(entry["loss"]) for entry in est.history_)
    single = [entry["loss"] for entry in est.history_ if entry["passes"] == 1]
    assert single[-1] < single[0]
    assert est.settings_["likelihood"] == name
    assert isinstance(est.model_.likelihood, LIKELIHOODS[name])
    assert np.isfinite(est.clean(x, passes=3)).all()
    assert (est.cell_scores(x) >= 0).all()
    assert np.isfinite(est.score_samples(x)).all()
    assert np.isfinite(est.sample(10, passes=3)).all()
    assert est.settings_["kl"] == "closed form"


@pytest.mark.parametrize("name", sorted(LIKELIHOODS.keys() - {"bernoulli", "fixed_normal", "learned_normal"}))
def test_every_likelihood_cleans(name: str, fitted: dict[str, rv.RiCVAE]) -> None:
    """The robust ones take most of a gross error away; a shared variance some of it."""
    error = np.abs(fitted[name].clean(DIRTY) - CLEAN)[WRONG].mean()
    assert error < (2.0 if name == "shared_normal" else 1.0)
    scores = fitted[name].cell_scores(DIRTY)
    assert np.median(scores[WRONG]) > np.quantile(scores[~WRONG], 0.9)


def test_bernoulli_gives_probabilities(fitted: dict[str, rv.RiCVAE]) -> None:
    est = fitted["bernoulli"]
    cleaned = est.clean(BLACK_AND_WHITE)
    assert ((cleaned > 0) & (cleaned < 1)).all()
    assert ((cleaned > 0.5) == (BLACK_AND_WHITE > 0.5)).mean() > 0.9
    assert est.settings_["scaling"] == "none"
    images = (255 * BLACK_AND_WHITE.reshape(200, 3, 4)).astype(np.uint8)
    assert rv.RiCVAE(likelihood="bernoulli", **TINY).fit(images).settings_["scaling"] == "range"


def test_values_outside_the_support_are_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"Site 'x': expected values in the support of Bernoulli, .* from -"):
        rv.RiCVAE(likelihood="bernoulli", **TINY).fit(DIRTY)
    late = np.vstack([np.full((300, 4), 0.5), np.random.default_rng(0).random((300, 4)), [[0.5, 2.0, 0.5, 0.5]]])
    with pytest.raises(ValueError, match=r"actual 1 of 2404 outside it, .* to 2: scale the data to it, or take"):
        rv.RiCVAE(likelihood="bernoulli", scaling="none", **TINY).fit(late)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_likelihood_is_saved_and_loaded(name: str, fitted: dict[str, rv.RiCVAE], tmp_path: Path) -> None:
    fitted[name].save(tmp_path)
    loaded, x = rv.load(tmp_path, device="cpu"), _data(name)
    assert np.array_equal(loaded.clean(x), fitted[name].clean(x))
    assert np.array_equal(loaded.score_samples(x), fitted[name].score_samples(x))
    assert loaded.settings_ == fitted[name].settings_


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if takes(name, "learn_scale")])
def test_a_scale_is_learned_unless_it_is_given(name: str, fitted: dict[str, rv.RiCVAE], tmp_path: Path) -> None:
    learned = fitted[name]
    assert learned.settings_["learn_scale"]
    likelihood: Any = learned.model_.likelihood
    assert likelihood.current_scale() < 0.5 * learned.settings_["floor_start"]
    given = rv.RiCVAE(likelihood=name, floor=0.3, **TINY).fit(DIRTY)
    assert not given.settings_["learn_scale"]
    assert given.model_.likelihood.current_scale() == torch.tensor(0.3)
    given.save(tmp_path)
    assert rv.load(tmp_path, device="cpu").model_.likelihood.current_scale() == torch.tensor(0.3)


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if takes(name, "floor")])
def test_a_floor_moves_from_its_start_to_its_end(name: str) -> None:
    est = rv.RiCVAE(likelihood=name, floor=(0.8, 0.2), **TINY).fit(DIRTY)
    assert est.model_.likelihood.floor == torch.tensor(0.2)


@pytest.mark.parametrize("name", ["shared_normal", "learned_normal", "bernoulli"])
def test_a_floor_for_what_has_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"Expected floor='auto' with a likelihood that has no floor, actual 0.3"):
        rv.RiCVAE(likelihood=name, floor=0.3, **TINY).fit(BLACK_AND_WHITE)


def test_what_is_recycled_is_a_mean_where_draws_will_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    recycled = {}
    from pyro_ricvae.inference.training import trainer

    class Spy(trainer.RecyclingELBO):
        def __init__(self, passes: int, **arguments: Any) -> None:
            recycled["by"] = arguments["recycle"]
            super().__init__(passes, **arguments)

    monkeypatch.setattr(trainer, "RecyclingELBO", Spy)
    for name in LIKELIHOODS:
        rv.RiCVAE(likelihood=name, **TINY).fit(_data(name))
        assert recycled["by"] == LIKELIHOODS[name].recycle
    assert LIKELIHOODS["bernoulli"].recycle == LIKELIHOODS["inverse_gamma"].recycle == "mean"


def asymmetric(output: Tensor, x: Tensor) -> Any:
    """A user's own likelihood."""
    return dist.AsymmetricLaplace(output, 0.2, 1.5)


def test_a_function_of_the_users_trains_recycles_and_cleans(tmp_path: Path) -> None:
    likelihood = FromFunction(asymmetric, normalised=True)
    est = rv.RiCVAE(likelihood=likelihood, epochs=60, **SETTINGS).fit(DIRTY)
    assert np.abs(est.clean(DIRTY) - CLEAN)[WRONG].mean() < 1.5
    est.save(tmp_path)
    with pytest.raises(ValueError, match=re.escape("load(folder, likelihood=...)")):
        rv.load(tmp_path)
    loaded = rv.load(tmp_path, likelihood=FromFunction(asymmetric, normalised=True), device="cpu")
    assert np.array_equal(loaded.clean(DIRTY), est.clean(DIRTY))


def test_a_user_s_support_between_0_and_1_gets_a_sigmoid() -> None:
    def beta(mean: Tensor, x: Tensor) -> Any:
        return dist.Beta(1 + 20 * mean, 21 - 20 * mean)

    likelihood = FromFunction(beta, normalised=True, support=constraints.unit_interval)
    est = rv.RiCVAE(likelihood=likelihood, epochs=20, **SETTINGS).fit(0.1 + 0.8 * BLACK_AND_WHITE)
    assert est.model_.decoder.sigmoid
    assert est.settings_["scaling"] == "none"


def test_a_likelihood_without_draws_is_refused_before_training_and_trains_by_its_mean() -> None:
    def poisson(rate: Tensor, x: Tensor) -> Any:
        return dist.Poisson(rate.exp(), validate_args=False)

    arguments: dict[str, Any] = {"normalised": True, "support": constraints.nonnegative}
    counts = np.random.default_rng(0).poisson(3.0, size=(100, 4)).astype(np.float32)
    settings = TINY | {"scaling": "none"}
    with pytest.raises(ValueError, match=r"Site 'x' cannot be recycled: FromFunction has no .* recycle = 'mean' in"):
        rv.RiCVAE(likelihood=FromFunction(poisson, **arguments), **settings).fit(counts)
    for other in ({"train_passes": 1}, {"likelihood": FromFunction(poisson, recycle="mean", **arguments)}):
        est = rv.RiCVAE(**{"likelihood": FromFunction(poisson, **arguments)} | settings | other).fit(counts)
        assert np.isfinite(est.clean(counts)).all()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda loc, x: Independent(Normal(loc, 1.0), 1), "of pyro.distributions"),
        (lambda loc, x: dist.Normal(loc, torch.ones(7)), r"fails on decoder output \(\d+, 12\)"),
    ],
)
def test_what_a_likelihood_may_do_wrong(function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"Site 'x': .*{message}"):
        rv.RiCVAE(likelihood=FromFunction(function, normalised=True), **TINY).fit(DIRTY)


class Scaled(nn.Module):
    """A user's own prior, with parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(2))

    def forward(self) -> Any:
        return dist.Normal(torch.zeros(2), self.log_scale.exp()).to_event(1)


@pytest.mark.parametrize(
    ("prior", "kl"),
    [
        ("gaussian_mixture", "Monte Carlo"),
        (dist.Laplace(torch.zeros(2), 1.0).to_event(1), "closed form"),
        (dist.StudentT(5.0, torch.zeros(2), 1.0).to_event(1), "Monte Carlo"),
        (Scaled(), "closed form"),
    ],
)
def test_every_prior_trains_recycles_and_cleans(prior: Any, kl: str, tmp_path: Path) -> None:
    est = rv.RiCVAE(prior=prior, epochs=60, **SETTINGS).fit(DIRTY)
    assert est.settings_["kl"] == kl
    assert {entry["passes"] for entry in est.history_} == {1, 2}
    assert np.abs(est.clean(DIRTY) - CLEAN)[WRONG].mean() < 1.0
    assert np.isfinite(est.sample(10)).all()
    assert np.isfinite(est.score_samples(DIRTY)).all()
    est.save(tmp_path)
    loaded = rv.load(tmp_path, device="cpu", **({} if isinstance(prior, str) else {"prior": prior}))
    assert np.array_equal(loaded.clean(DIRTY), est.clean(DIRTY))


def test_a_likelihood_given_as_an_object_keeps_its_own_settings() -> None:
    est = rv.RiCVAE(likelihood=StudentT(0.2, df=2.5), **TINY).fit(DIRTY)
    assert est.model_.likelihood.df == 2.5
    assert est.settings_["likelihood"] == "pyro_ricvae.likelihoods.student_t.StudentT"


def test_a_fitted_model_is_not_moved_by_a_look_at_other_rows(tmp_path: Path) -> None:
    est = rv.RiCVAE(likelihood="shared_normal", **TINY).fit(DIRTY)
    est.save(tmp_path)
    for each in (est, rv.load(tmp_path, device="cpu")):
        before = each.score_samples(DIRTY)
        rv.inference.RecyclingELBO()(each.model_, each.guide_)(each.standardise(20 * DIRTY))
        assert not each.model_.training
        assert np.array_equal(each.score_samples(DIRTY), before)


def test_data_in_a_support_of_the_users_are_left_there() -> None:
    def gamma(mean: Tensor, x: Tensor) -> Any:
        return dist.Gamma(4.0, 4.0 / (mean.abs() + 0.1))

    likelihood = FromFunction(gamma, normalised=True, support=constraints.positive)
    positive = np.random.default_rng(0).gamma(4.0, 1.0, size=(60, 4))
    assert rv.RiCVAE(likelihood=likelihood, **TINY).fit(positive).settings_["scaling"] == "none"
