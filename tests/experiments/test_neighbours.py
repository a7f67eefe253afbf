"""Robust autoencoders of others: their formulas against other computations of them."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from torch import Tensor

from experiments.paper.neighbours import BetaDivergence, By, FixedOutliers
from experiments.paper.robust_deep_autoencoder import Norm, RobustDeepAutoencoder, shrunk
from pyro_ricvae import RiCVAE
from pyro_ricvae.testing import check_likelihood


def rows(*lead: int) -> tuple[Tensor, Tensor]:
    """Return locations and rows of 6 cells in float64."""
    return torch.randn(*lead, 6, dtype=torch.float64), torch.randn(*lead, 6, dtype=torch.float64)


@pytest.mark.parametrize(
    "likelihood",
    [
        BetaDivergence(0.3, 0.5),
        BetaDivergence(0.3, 0.5, by="cell"),
        FixedOutliers(),
        FixedOutliers(0.6, 0.3, torch.linspace(0.5, 2, 5)),
        FixedOutliers(learn_scale=False),
    ],
)
def test_they_meet_the_contract(likelihood: BetaDivergence | FixedOutliers) -> None:
    check_likelihood(likelihood)


@pytest.mark.parametrize("lead", [(4,), (3, 4)])
def test_a_row_has_the_published_beta_cross_entropy(lead: tuple[int, ...]) -> None:
    (loc, x), beta, scale = rows(*lead), 0.2, 0.7
    found = BetaDivergence(beta, scale).double()(loc, x).log_prob(x).sum(-1)
    squares = (x - loc).square().sum(-1).numpy()
    power = (2 * np.pi * scale**2) ** (-beta * 6 / 2) * np.exp(-beta / (2 * scale**2) * squares)
    np.testing.assert_allclose(found.numpy(), (beta + 1) / beta * (power - 1), rtol=1e-6)


def test_by_cell_it_is_that_of_a_row_of_one_cell() -> None:
    loc, x = rows(4)
    by_cell = BetaDivergence(0.2, 0.7, by="cell").double()(loc, x).log_prob(x)
    by_row = BetaDivergence(0.2, 0.7).double()(loc.unsqueeze(-1), x.unsqueeze(-1)).log_prob(x.unsqueeze(-1))
    torch.testing.assert_close(by_cell, by_row.squeeze(-1))


def test_the_left_out_term_of_the_beta_cross_entropy_does_not_depend_on_the_location() -> None:
    def left_out(loc: float) -> float:
        return float(integrate.quad(lambda v: stats.norm.pdf(v, loc, 0.7) ** 1.2, -20, 20, points=[loc])[0])

    assert left_out(0.0) == pytest.approx(left_out(3.0), rel=1e-6)
    assert left_out(0.0) == pytest.approx((2 * math.pi * 0.49) ** -0.1 / 1.2**0.5, rel=1e-6)


@pytest.mark.parametrize("by", ["row", "cell"])
def test_without_beta_it_is_the_normal_log_likelihood(by: By) -> None:
    loc, x = rows(4)
    found = BetaDivergence(1e-7, 0.7, by=by).double()(loc, x).log_prob(x).sum(-1)
    np.testing.assert_allclose(found.numpy(), stats.norm.logpdf(x, loc, 0.7).sum(-1), rtol=1e-4)


def test_the_gradient_of_an_improbable_row_vanishes() -> None:
    loc, x = torch.zeros(2, 6, requires_grad=True), torch.ones(2, 6)
    x[1, 0] = 100
    BetaDivergence(0.2, 1.0)(loc, x).log_prob(x).sum().backward()
    assert loc.grad is not None
    assert (loc.grad[0] > 0.1).all()
    assert (loc.grad[1] == 0).all()


def test_fixed_outliers_are_the_mixture_of_two_normals() -> None:
    (loc, x), deviation = rows(4), torch.linspace(0.5, 2, 6, dtype=torch.float64)
    likelihood = FixedOutliers(0.9, 0.3, deviation).double()
    clean = 0.9 * stats.norm.pdf(x, loc, deviation)
    outlier = 0.1 * stats.norm.pdf(x, 0.3, 2 * deviation)
    cells = likelihood(loc, x)
    np.testing.assert_allclose(cells.log_prob(x).detach(), np.log(clean + outlier), rtol=1e-6)
    found = likelihood.dirt_probability(cells, x).detach()
    np.testing.assert_allclose(found, outlier / (clean + outlier), rtol=1e-6)
    assert (cells.mean == loc).all()


def test_summing_the_weight_out_is_its_coordinate_ascent() -> None:
    """The bound at the best pi, found by search, is the mixture's log-density, and has its gradient."""
    x, share = torch.tensor([1.5]), 0.95
    locs = torch.tensor([0.2], requires_grad=True)
    likelihood = FixedOutliers(share, 0.1, 0.8, learn_scale=False)
    mixture = likelihood(locs, x).log_prob(x).sum()
    clean, outlier = stats.norm.logpdf(1.5, 0.2, 0.8), stats.norm.logpdf(1.5, 0.1, 1.6)

    def bound(pi: float) -> float:
        kl = pi * math.log(pi / share) + (1 - pi) * math.log((1 - pi) / (1 - share))
        return float(pi * clean + (1 - pi) * outlier - kl)

    best = optimize.minimize_scalar(lambda pi: -bound(pi), bounds=(1e-9, 1 - 1e-9), options={"xatol": 1e-10})
    assert mixture.item() == pytest.approx(-best.fun, rel=1e-5)
    assert likelihood.dirt_probability(likelihood(locs, x), x).item() == pytest.approx(1 - best.x, rel=1e-3)
    (gradient,) = torch.autograd.grad(mixture, locs)
    assert gradient.item() == pytest.approx(best.x * (1.5 - 0.2) / 0.64, rel=1e-3)  # of the bound, pi held


def test_the_log_variance_is_bounded_as_in_the_authors_code() -> None:
    likelihood = FixedOutliers(0.95, 0.0, 2.0)
    for value, expected in ((-50.0, 2 * math.exp(-1.5)), (0.0, 2.0), (50.0, 2 * math.exp(1.5))):
        torch.nn.init.constant_(likelihood.log_variance, value)
        assert likelihood(torch.zeros(1, 1)).scale.item() == pytest.approx(expected)
    assert likelihood(torch.zeros(1, 1)).width.item() == 4.0


def test_draws_are_of_both_components() -> None:
    draws = FixedOutliers(0.7, 5.0, 0.1, learn_scale=False)(torch.zeros(1, 1)).rsample(torch.Size((20_000,)))
    outlying = draws > 2
    assert float(outlying.double().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(draws[outlying].std()) == pytest.approx(0.2, rel=0.05)
    assert float(draws[~outlying].std()) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("arguments", [(0.0, 1.0), (0.5, -1.0), (math.inf, 1.0)])
def test_beta_and_scale_are_positive(arguments: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="positive and finite, actual"):
        BetaDivergence(*arguments)


def test_other_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="'row' or 'cell', actual 'column'"):
        BetaDivergence(0.5, 1.0, by="column")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="between 0 and 1, actual 1"):
        FixedOutliers(1.0)
    with pytest.raises(ValueError, match="deviation"):
        FixedOutliers(deviation=torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("norm", ["l1", "l21"])
def test_the_proximal_step_has_the_least_sum(norm: Norm) -> None:
    given, threshold = torch.randn(1, 3, dtype=torch.float64), 0.6

    def objective(flat: np.ndarray) -> float:
        size = np.abs(flat).sum() if norm == "l1" else np.linalg.norm(flat)
        return float(0.5 * np.square(flat - given.numpy().ravel()).sum() + threshold * size)

    found = shrunk(given, threshold, norm).numpy().ravel()
    searched = optimize.minimize(objective, given.numpy().ravel(), method="Nelder-Mead", options={"xatol": 1e-7})
    assert objective(found) <= searched.fun + 1e-7
    np.testing.assert_allclose(found, searched.x, atol=1e-3)


def test_rows_of_zeros_stay() -> None:
    for norm in ("l1", "l21"):
        assert (shrunk(torch.zeros(2, 3), 0.5, norm) == 0).all()


def low_rank_with_errors() -> tuple[Tensor, Tensor]:
    clean = torch.randn(200, 2) @ torch.randn(2, 10)
    is_wrong = torch.rand(200, 10) < 0.1
    return torch.where(is_wrong, clean + 10, clean), is_wrong


def test_the_robust_deep_autoencoder_finds_sparse_errors() -> None:
    x, is_wrong = low_rank_with_errors()
    low, sparse = RobustDeepAutoencoder(0.5, 2, (16,), 150).fit(x, seed=0)
    assert low.shape == sparse.shape == x.shape
    assert (sparse[is_wrong] > 5).double().mean() > 0.9
    assert (sparse[~is_wrong].abs() < 5).double().mean() > 0.9
    assert sparse.equal(shrunk(x - low, 0.5, "l1"))


def test_it_leaves_random_numbers_alone_and_repeats_itself() -> None:
    x, _ = low_rank_with_errors()
    before = torch.get_rng_state()
    one, two = (RobustDeepAutoencoder(0.5, 2, (4,), 3, norm="l21").fit(x, seed=1)[0] for _ in range(2))
    assert one.equal(two)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("likelihood", [BetaDivergence(0.3, 0.5, by="cell"), FixedOutliers()])
def test_an_estimator_takes_them(likelihood: BetaDivergence | FixedOutliers) -> None:
    x = low_rank_with_errors()[0].numpy()
    est = RiCVAE(2, hidden=(8,), epochs=3, likelihood=likelihood, train_passes=1, random_state=0, verbose=False)
    assert np.isfinite(est.fit(x).clean(x, passes=2)).all()
