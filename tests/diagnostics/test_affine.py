"""The affine bound against searches over lambda, the objective against quadrature, Proposition 1 with its constants."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.diagnostics import affine_bound, affine_objective, affine_posterior, degeneracy, excess_fits
from pyro_ricvae.diagnostics.affine import GAP, AffinePosterior, expected_penalty

Array = NDArray[np.float64]


def problem(seed: int, n: int = 20) -> tuple[Array, Array, Array, float]:
    """Return rows, a decoder of any number of latents, and a floor: half of the rows have sparse gross errors."""
    rng = np.random.default_rng(seed)
    d, k = int(rng.integers(1, 8)), int(rng.integers(1, 12))
    W, b = rng.uniform(0.1, 2) * rng.normal(size=(d, k)), rng.normal(size=d)
    x = rng.normal(size=(n, k)) @ W.T + b + 0.05 * rng.normal(size=(n, d))
    x[::2] += 5 * rng.normal(size=x[::2].shape) * (rng.random(x[::2].shape) < 0.3)
    return x, W, b, 10 ** rng.uniform(-3, 0)


def test_h_is_the_marginal_likelihood_and_the_posterior_is_bayes() -> None:
    x, W, b, _ = problem(3)
    variances = np.random.default_rng(0).uniform(0.1, 2, size=x.shape)
    found = affine_posterior(x, W, b, variances)
    for i, row in enumerate(x):
        psi = np.diag(variances[i]) + W @ W.T
        log_p = multivariate_normal(b, psi).logpdf(row)
        assert found.h[i] == pytest.approx(-2 * log_p - len(b) * math.log(2 * math.pi), rel=1e-9)
        gain = W.T @ np.linalg.inv(psi)
        np.testing.assert_allclose(found.loc[i], gain @ (row - b), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.covariance[i], np.eye(W.shape[1]) - gain @ W, rtol=1e-6, atol=1e-8)


def value(log_variances: Array, residual: Array, W: Array) -> tuple[float, Array]:
    """Return the function of lambda whose infimum is h (12), and its gradient in log lambda."""
    inverse = np.linalg.inv(np.diag(np.exp(log_variances)) + W @ W.T)
    gradient = np.exp(log_variances) * (np.diag(inverse) - (inverse @ residual) ** 2)
    return float(residual @ inverse @ residual - np.linalg.slogdet(inverse)[1]), gradient


@pytest.mark.parametrize("seed", range(6))
def test_the_bound_is_the_least_that_searches_from_many_starts_find(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d, floor = 4, 0.05
    W, b = rng.normal(size=(d, 1 + seed % 3)), rng.normal(size=d)
    x = rng.normal(size=(4, W.shape[1])) @ W.T + b + 0.05 * rng.normal(size=(4, d))
    x[0, 0] += 6
    x[1, 1:3] -= 4
    found = affine_bound(x, W, b, floor)
    assert (found.variances >= floor**2).all()
    np.testing.assert_array_equal(found.h, affine_posterior(x, W, b, found.variances).h)
    bounds = [(2 * math.log(floor), 8.0)] * d
    for i, row in enumerate(x):
        starts = [rng.uniform(2 * math.log(floor), 4, size=d) for _ in range(25)]
        searched = (minimize(value, s, (row - b, W), jac=True, bounds=bounds, method="L-BFGS-B").fun for s in starts)
        assert found.h[i] == pytest.approx(min(searched), abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_where_the_bound_is_found_no_small_step_lowers_it(seed: int) -> None:
    x, W, b, floor = problem(seed)
    found = affine_bound(x, W, b, floor)
    for factor in (1.02, 1 / 1.02):
        for j in range(x.shape[1]):
            moved = found.variances.copy()
            moved[:, j] = np.maximum(moved[:, j] * factor, floor**2)
            assert (affine_posterior(x, W, b, moved).h >= found.h - 1e-6).all()


def penalty(r: float, floor: float) -> float:
    return 1 + math.log(r * r) if abs(r) > floor else (r / floor) ** 2 + math.log(floor**2)


@pytest.mark.parametrize("floor", [1e-4, 0.1, 1.0])
@pytest.mark.parametrize(("mean", "scale"), [(0, 1), (3, 1), (0.3, 1e-3), (0.1, 0.01), (20, 1), (0.05, 0.2), (40, 2)])
def test_the_expected_penalty_is_an_integral(mean: float, scale: float, floor: float) -> None:
    low, high = mean - 12 * scale, mean + 12 * scale
    kinks = [point for point in (-floor, 0, floor, mean) if low < point < high]
    expected, _ = quad(
        lambda r: penalty(r, floor) * norm.pdf(r, mean, scale), low, high, points=kinks, limit=500, epsabs=1e-11
    )
    found = expected_penalty(np.array([float(mean)]), np.array([float(scale)]), floor)[0]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_expected_penalty_of_a_number_is_its_penalty() -> None:
    means = np.array([0.0, 0.05, -0.1, 2.0])
    expected = [penalty(mean, 0.1) for mean in means]
    np.testing.assert_allclose(expected_penalty(means, np.zeros(4), 0.1), expected)
    assert expected_penalty(np.zeros(1), np.zeros(1), 0.0)[0] == -math.inf
    assert expected_penalty(np.ones(1), np.zeros(1), 0.0)[0] == 1


class Moments(nn.Module):
    """An encoder that returns the given moments."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.loc, self.scale = loc, scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*x.shape[:-1], self.loc.shape[-1])
        return self.loc.expand(shape), self.scale.expand(shape)


def test_the_objective_is_twice_the_packages_loss() -> None:
    rng = np.random.default_rng(0)
    W, b, floor = rng.normal(size=(5, 2)), rng.normal(size=5), 0.1
    x, loc, scale = rng.normal(size=(3, 5)), rng.normal(size=(3, 2)), rng.uniform(0.2, 0.8, size=(3, 2))
    moments = AffinePosterior(np.zeros(3), np.ones((3, 5)), loc, scale[:, :, None] ** 2 * np.eye(2))
    found = affine_objective(x, W, b, moments, floor).sum()

    decoder = rv.networks.MLPDecoder(2, 5, (), center=b).double()
    decoder.loc.weight.data = torch.as_tensor(W)
    decoder.loc.bias.data.zero_()
    model = rv.models.VAE(decoder, rv.likelihoods.IndexConditionedNormal(floor), rv.priors.StandardNormal(2)).double()
    guide = rv.guides.AmortizedNormal(Moments(torch.as_tensor(loc), torch.as_tensor(scale)))
    elbo = rv.inference.RecyclingELBO(num_particles=40_000, vectorize_particles=True)
    loss = elbo.loss(model, guide, torch.as_tensor(x))
    assert 2 * loss - x.size * math.log(2 * math.pi) == pytest.approx(found, abs=0.15)


@pytest.mark.parametrize("seed", range(30))
def test_proposition_1_with_its_constants(seed: int) -> None:
    """0 <= h - objective <= d (log 2 + gamma), for any number of latents; the left side at any lambda."""
    x, W, b, floor = problem(seed)
    found = affine_bound(x, W, b, floor)
    gap = found.h - affine_objective(x, W, b, found, floor)
    assert gap.min() > -1e-5
    assert gap.max() < GAP * x.shape[1] + 1e-5
    paper = affine_objective(x, W, b, found, 0.0) - x.shape[1] + W.shape[1]  # (8) as it stands there
    assert (paper + x.shape[1] - W.shape[1] <= found.h + 1e-6).all()
    variances = np.random.default_rng(seed).uniform(floor**2, 4 + floor**2, size=x.shape)
    anywhere = affine_posterior(x, W, b, variances)
    assert (affine_objective(x, W, b, anywhere, floor) <= anywhere.h + 1e-5).all()


def test_the_gap_is_reached_by_residuals_with_mean_0() -> None:
    W, b = np.array([[1.0]]), np.zeros(1)
    found = affine_posterior(np.zeros((1, 1)), W, b, np.full((1, 1), 1e-12))
    loose = found.h - affine_objective(np.zeros((1, 1)), W, b, found, 0.0)
    assert loose[0] == pytest.approx(GAP, abs=1e-3)
    assert pytest.approx(1.2704, abs=1e-4) == GAP


def test_without_constants_the_proposition_fails_with_more_latents_than_features() -> None:
    x, W, b = np.ones((1, 2)), np.zeros((2, 5)), np.zeros(2)
    found = affine_bound(x, W, b, 0.1)
    paper = affine_objective(x, W, b, found, 0.0) - 2 + 5
    assert paper[0] - found.h[0] == pytest.approx(3)  # kappa - d


def test_h_falls_with_the_floor_as_the_count_says() -> None:
    """Equation (10): a row's excess of exact cells over collapsed directions is its slope in log floor squared."""
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(6, 2)), rng.normal(size=6)
    x = rng.normal(size=(3, 2)) @ W.T + b
    x[1, :2] += 5.0  # four exact cells, two of them paid for
    x[2] += 3 * rng.normal(size=6)  # as many exact cells as latents
    ends = [affine_bound(x, W, b, floor) for floor in (1e-3, 1e-4)]
    slopes = (ends[0].h - ends[1].h) / (2 * math.log(10))
    np.testing.assert_allclose(slopes, [4, 2, 0], atol=0.05)
    residuals = x - b - ends[1].loc @ W.T
    values = np.linalg.svd(ends[1].covariance, compute_uv=False)
    np.testing.assert_array_equal(excess_fits(residuals, values, 1e-5), [4, 2, 0])


def test_memorising_pays_as_the_threshold_says() -> None:
    """The bound at a decoder through k + 1 rows against that of the planted one, on either side of the threshold."""
    rng = np.random.default_rng(0)
    n, d, k, floor = 12, 8, 2, 1e-4
    for noise in (1e-3, 0.5):
        W = rng.normal(size=(d, k))
        x = rng.normal(size=(n, k)) @ W.T + noise * rng.normal(size=(n, d))
        found = degeneracy(x, k, floor)
        assert (found.n_memorised, found.n_excess) == (3, 18)
        honest = affine_bound(x, W, np.zeros(d), floor).h.sum()
        memorised = affine_bound(x, 10 * (x[1 : k + 1] - x[0]).T, x[0], floor).h.sum()
        assert (memorised < honest) == (noise > found.threshold)


def test_degeneracy_says_what_it_counts() -> None:
    x = np.random.default_rng(0).normal(size=(200, 50))
    with_floor, without, small = degeneracy(x, 5, 0.01), degeneracy(x, 5, 0.0), degeneracy(x[:10], 5, 0.01)
    assert (with_floor.unbounded, with_floor.at_risk, without.unbounded, small.at_risk) == (False, False, True, True)
    assert "unbounded below" in str(without)
    assert "6 of 10 rows can be memorised" in str(small)
    assert "fewer latents, more rows or a larger floor" in str(small)
    spread = math.exp(np.log(np.maximum(np.abs(x - np.median(x, axis=0)), 0.01)).mean())
    assert with_floor.spread == pytest.approx(spread)
    assert with_floor.threshold == pytest.approx(spread * (0.01 / spread) ** (6 / 200))
    black = degeneracy(np.where(x > 1, x, 0.0), 5, 0.01)
    assert black.repeated == pytest.approx((x <= 1).mean())
    assert "pay without any latent" in str(black)
    assert degeneracy(x, 70, 0.01).n_excess == 50  # at most d - 1 latents' worth


def test_wrong_arguments_are_refused() -> None:
    x, W, b, _ = problem(1)
    found = affine_bound(x, W, b, 0.1)
    calls: list[tuple[Any, tuple[Any, ...], str]] = [
        (affine_bound, (x, W, b, 0.0), "floor to be a positive and finite number"),
        (affine_bound, (x, W.T[:, :-1], b, 0.1), r"shapes \(n, d\), \(d, k\) and \(d,\), actual"),
        (affine_bound, (x[0], W, b, 0.1), r"shapes \(n, d\)"),
        (affine_bound, (np.full_like(x, math.nan), W, b, 0.1), "finite x, W and b"),
        (affine_objective, (x, W, b, found, -1.0), "floor to be a finite number >= 0"),
        (degeneracy, (x, 0, 0.1), "n_latent to be a whole number >= 1"),
        (degeneracy, (x[0], 1, 0.1), r"shape \(n, d\), actual"),
        (excess_fits, (x, x[:-1], 0.1), r"shapes \(n, d\) and \(n, k\)"),
        (excess_fits, (x, x, 0.0), "tolerance to be a positive"),
    ]
    for function, arguments, message in calls:
        with pytest.raises(ValueError, match=message):
            function(*arguments)
