"""Empirical-Bayes robust PCA: exact recovery, an objective that never rises, and what it promises of new rows."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import pyro_ricvae as rv
from pyro_ricvae.diagnostics import affine_bound
from pyro_ricvae.estimators import EmpiricalBayesRobustPCA, principal_component_pursuit
from pyro_ricvae.estimators.marginal import fit_marginal

Array = NDArray[np.float64]


def planted(shape: tuple[int, int], rank: int, share: float, seed: int = 0) -> tuple[Array, Array]:
    """Return a low-rank matrix of entries about 1, and errors uniform to 8 in a share of the cells."""
    rng = np.random.default_rng(seed)
    low_rank = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1])) / rank**0.5
    return low_rank, np.where(rng.random(shape) < share, rng.uniform(-8, 8, size=shape), 0.0)


def relative(found: Array, truth: Array) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("shape", [(80, 30), (40, 40), (30, 60)])
@pytest.mark.parametrize("center", ["learned", None])
def test_a_planted_decomposition_is_recovered_where_the_pursuit_fails(shape: tuple[int, int], center: Any) -> None:
    low_rank, sparse = planted(shape, 3, 0.25)
    shift = np.linspace(-3, 3, shape[1]) if center else np.zeros(shape[1])
    model = EmpiricalBayesRobustPCA(center=center)
    cleaned = model.fit_clean(low_rank + sparse + shift)
    assert relative(cleaned - shift, low_rank) < 1e-6
    np.testing.assert_allclose(model.sparse_, sparse, atol=1e-4)
    assert len(model.components_) == 3
    np.testing.assert_allclose(model.components_ @ model.components_.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(low_rank @ model.components_.T @ model.components_, low_rank, atol=1e-4)
    assert relative(principal_component_pursuit(low_rank + sparse)[0], low_rank) > 0.05


@pytest.mark.parametrize("center", ["learned", None])
@pytest.mark.parametrize("floor", ["auto", 0.05])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_objective_never_rises(center: Any, floor: Any, noise: float) -> None:
    low_rank, sparse = planted((50, 20), 3, 0.2)
    x = low_rank + sparse + noise * np.random.default_rng(1).normal(size=low_rank.shape) + 1
    model = EmpiricalBayesRobustPCA(center=center, floor=floor).fit(x)
    assert model.n_iter_ > 10
    assert np.diff(model.objective_).max() < 1e-7
    if floor != "auto":
        assert model.floor_ == pytest.approx(floor)
        assert model.objective_[0] - model.objective_[-1] > 0.5


def test_the_objective_is_minus_the_log_marginal_likelihood() -> None:
    low_rank, sparse = planted((20, 6), 2, 0.1)
    found = fit_marginal(low_rank + sparse, 6, 0.1, learn_center=True, max_iter=300)
    rows = zip(low_rank + sparse, found.variances, strict=True)
    logs = [multivariate_normal(found.b, np.diag(v) + found.W @ found.W.T).logpdf(row) for row, v in rows]
    h = -2 * np.mean(logs) - 6 * math.log(2 * math.pi)
    assert found.objectives[-1] == pytest.approx(h, rel=1e-9)
    model = EmpiricalBayesRobustPCA(floor=0.1).fit(low_rank + sparse)
    assert model.objective_[-1] == pytest.approx(-np.mean(logs), abs=1e-6)
    assert model.score_samples(low_rank + sparse).mean() >= np.mean(logs) - 1e-6
    assert (found.variances >= 0.01).all()


def test_an_automatic_floor_is_the_noise_and_nothing_without_any() -> None:
    low_rank, sparse = planted((150, 30), 3, 0.2)
    noise = np.random.default_rng(1).normal(size=low_rank.shape)
    for scale in (0.05, 0.2):
        model = EmpiricalBayesRobustPCA().fit(low_rank + sparse + scale * noise)
        assert 0.8 * scale < model.floor_ < 1.3 * scale
        left, values, right = np.linalg.svd(low_rank + scale * noise, full_matrices=False)
        oracle = (left[:, :3] * values[:3]) @ right[:3]  # without errors, at the true rank
        assert relative(model.low_rank_, low_rank) < 2 * relative(oracle, low_rank)
    assert EmpiricalBayesRobustPCA().fit(low_rank + sparse).floor_ < 1e-4


def test_new_rows_are_cleaned_to_the_truth() -> None:
    low_rank, sparse = planted((120, 40), 3, 0.2)
    x = low_rank + sparse
    model = EmpiricalBayesRobustPCA().fit(x[:90])
    assert relative(model.clean(x[90:]), low_rank[90:]) < 1e-3
    np.testing.assert_allclose(model.clean(x[:90]), model.low_rank_, atol=1e-4)
    scores = model.cell_scores(x[90:])
    np.testing.assert_allclose(scores, np.abs(x[90:] - model.clean(x[90:])))
    assert np.median(scores[sparse[90:] != 0]) > 1000 * np.median(scores[sparse[90:] == 0])
    worse = x[90:].copy()
    worse[0] += np.random.default_rng(0).normal(size=40)
    assert model.score_samples(worse)[0] < model.score_samples(x[90:])[0] - 10
    W = model.components_.T * (model.singular_values_ / 90**0.5)
    bound = affine_bound(x[90:], W, model.center_, model.floor_)
    np.testing.assert_allclose(model.score_samples(x[90:]), -(bound.h + 40 * math.log(2 * math.pi)) / 2, rtol=1e-6)


def test_scaling_the_data_scales_the_results() -> None:
    low_rank, sparse = planted((40, 20), 2, 0.1)
    x = low_rank + sparse
    model = EmpiricalBayesRobustPCA().fit(x)
    for exponent in (-600, 300):  # whose squares are out of range
        scaled = EmpiricalBayesRobustPCA().fit(np.ldexp(x, exponent))
        np.testing.assert_array_equal(scaled.low_rank_, np.ldexp(model.low_rank_, exponent))
        assert scaled.floor_ == math.ldexp(model.floor_, exponent)
        moved = model.score_samples(x[:3]) - 20 * exponent * math.log(2)
        np.testing.assert_allclose(scaled.score_samples(np.ldexp(x[:3], exponent)), moved, rtol=1e-6)


def test_samples_have_the_covariance_of_the_model() -> None:
    low_rank, sparse = planted((60, 8), 2, 0.05)
    model = EmpiricalBayesRobustPCA(random_state=0).fit(low_rank + sparse + 3)
    drawn = model.sample(50_000)
    W = model.components_.T * (model.singular_values_ / 60**0.5)
    np.testing.assert_allclose(np.cov(drawn.T), W @ W.T, atol=0.03 * np.abs(W @ W.T).max())
    np.testing.assert_allclose(drawn.mean(axis=0), model.center_, atol=0.03)
    np.testing.assert_array_equal(model.sample(3), model.sample(3))


def test_images_and_coefficients_come_back_in_their_shapes(tmp_path: Path) -> None:
    low_rank, sparse = planted((50, 12), 2, 0.1)
    images = (low_rank + sparse).reshape(50, 3, 4)
    model = EmpiricalBayesRobustPCA(n_latent=4, max_iter=300).fit(images)
    assert model.low_rank_.shape == model.sparse_.shape == images.shape
    z = model.transform(images[:5])
    assert z.shape == (5, len(model.components_))
    np.testing.assert_allclose(model.inverse_transform(z), model.clean(images[:5]))
    assert model.cell_scores(images[:5]).shape == (5, 3, 4)
    model.save(tmp_path / "model")
    loaded = rv.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.clean(images), model.clean(images))
    assert (loaded.floor_, loaded.n_iter_, loaded.get_params()) == (model.floor_, model.n_iter_, model.get_params())


def test_rows_of_noise_alone_have_no_component() -> None:
    x = np.random.default_rng(0).normal(size=(200, 6))
    model = EmpiricalBayesRobustPCA(n_latent=1, floor=20.0).fit(x)
    assert model.components_.shape[1] == 6
    np.testing.assert_allclose(model.clean(x[:2]), np.tile(model.center_, (2, 1)), atol=0.2)


def test_too_few_steps_are_said() -> None:
    low_rank, sparse = planted((20, 10), 2, 0.1)
    with pytest.warns(ConvergenceWarning, match="actual one that falls after 3 steps: raise max_iter") as log:
        EmpiricalBayesRobustPCA(max_iter=3).fit(low_rank + sparse)
    assert log[0].filename == __file__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_latent": 0}, "n_latent to be a whole number >= 1"),
        ({"floor": -1.0}, "floor to be a positive and finite number"),
        ({"center": "median"}, "Expected center to be \"learned\" or None, actual 'median'"),
        ({"max_iter": 0}, "max_iter to be a whole number >= 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmpiricalBayesRobustPCA(**arguments).fit(np.eye(4))


def test_wrong_rows_are_refused(tmp_path: Path) -> None:
    model = EmpiricalBayesRobustPCA()
    with pytest.raises(NotFittedError):
        model.clean(np.eye(4))
    with pytest.raises(ValueError, match="equal rows"):
        model.fit(np.ones((4, 3)))
    low_rank, sparse = planted((30, 8), 2, 0.1)
    model.fit(low_rank + sparse)
    with pytest.raises(ValueError, match="coefficients a row, actual 8"):
        model.inverse_transform(np.ones((2, 8)))
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="Expected no prior, which a EmpiricalBayesRobustPCA has not"):
        rv.load(tmp_path / "model", prior=rv.priors.StandardNormal(2))
