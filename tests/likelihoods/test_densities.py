"""The likelihoods beyond the first three: densities against SciPy, gradients by differences, and what each is for."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import constraints

from pyro_ricvae import likelihoods, models, priors
from pyro_ricvae._core.distributions import mean_of

LOC, SCALE = 0.4, 0.3
SHAPE = 0.7  # of the inverse gamma
RESIDUALS = [0.0, 1e-3, -0.2, 0.3, 1.5, -4.0, 50.0]


def _shared() -> likelihoods.SharedNormal:
    likelihood = likelihoods.SharedNormal()
    likelihood.variance.fill_(SCALE**2)
    return likelihood.eval()


def _mixture(x: float) -> float:
    return float(0.8 * stats.norm.pdf(x, LOC, SCALE) + 0.2 * stats.norm.pdf(x, LOC, 5 * SCALE))


CASES: dict[str, tuple[Callable[[], Any], Callable[[float], float]]] = {
    "shared_normal": (_shared, lambda x: stats.norm.logpdf(x, LOC, SCALE)),
    "student_t": (lambda: likelihoods.StudentT(SCALE, df=3.5), lambda x: stats.t.logpdf(x, 3.5, LOC, SCALE)),
    "student_t, learned": (
        lambda: likelihoods.StudentT(SCALE, 3.5, learn_scale=True),
        lambda x: stats.t.logpdf(x, 3.5, LOC, SCALE),
    ),
    "laplace": (lambda: likelihoods.Laplace(SCALE), lambda x: stats.laplace.logpdf(x, LOC, SCALE)),
    "laplace, learned": (
        lambda: likelihoods.Laplace(SCALE, learn_scale=True),
        lambda x: stats.laplace.logpdf(x, LOC, SCALE),
    ),
    "contaminated_normal": (
        lambda: likelihoods.ContaminatedNormal(SCALE, share=0.2, ratio=5.0),
        lambda x: math.log(_mixture(x)),
    ),
    "contaminated_normal, learned": (
        lambda: likelihoods.ContaminatedNormal(SCALE, share=0.2, ratio=5.0, learn_scale=True),
        lambda x: math.log(_mixture(x)),
    ),
    "inverse_gamma": (
        lambda: likelihoods.InverseGammaNormal(SCALE, shape=SHAPE),
        lambda x: stats.t.logpdf(x, 2 * SHAPE, LOC, SCALE / math.sqrt(2 * SHAPE)),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("residual", RESIDUALS)
def test_the_log_density_is_that_of_scipy_and_its_gradient_that_of_differences(name: str, residual: float) -> None:
    make, log_density = CASES[name]
    likelihood = make().double()
    x = torch.tensor([[LOC + residual]], dtype=torch.float64)
    loc = torch.full((1, 1), LOC, dtype=torch.float64, requires_grad=True)
    log_prob = likelihood(loc, x).log_prob(x)
    assert log_prob.item() == pytest.approx(log_density(x.item()), rel=1e-6)  # constants are rounded to float32
    (gradient,) = torch.autograd.grad(log_prob.sum(), loc)
    step = 1e-6
    differences = -(log_density(x.item() + step) - log_density(x.item() - step)) / (2 * step)
    if residual or not name.startswith("laplace"):  # which has a kink at 0
        assert gradient.item() == pytest.approx(differences, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_density(name: str) -> None:
    distribution = CASES[name][0]()(torch.full((1, 1), LOC), torch.full((1, 1), LOC))
    draws = distribution.rsample((4000,)).detach().flatten().double()
    inside = draws[(draws - LOC).abs() < 50].sort().values
    grid = torch.linspace(-50, 50, 200_001, dtype=torch.float64) + LOC
    density = CASES[name][0]()(torch.full((200_001, 1), LOC), grid.float().unsqueeze(-1)).log_prob(
        grid.float().unsqueeze(-1)
    )
    cumulative = torch.cumulative_trapezoid(density.detach().double().exp().squeeze(-1), grid)
    found = np.interp(inside, grid[1:], cumulative / cumulative[-1])
    assert stats.kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"inverse_gamma"}))  # too heavy tails for a quadrature
def test_a_normalised_density_integrates_to_one(name: str) -> None:
    likelihood = CASES[name][0]().double()
    assert likelihood.normalised

    def density(x: float) -> float:
        row = torch.full((1, 1), x, dtype=torch.float64)
        return float(likelihood(torch.full_like(row, LOC), row).log_prob(row).exp().detach())

    total = sum(
        integrate.quad(density, a, b)[0]
        for a, b in ((-np.inf, LOC - 1), (LOC - 1, LOC), (LOC, LOC + 1), (LOC + 1, np.inf))
    )
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_contract(name: str, lead: tuple[int, ...]) -> None:
    likelihood = CASES[name][0]()
    assert likelihoods.as_likelihood(likelihood) is likelihood
    x = torch.randn(*lead, 4, 5)
    distribution = likelihood(torch.zeros_like(x, dtype=torch.bfloat16), x)
    assert (distribution.batch_shape, distribution.event_shape) == ((*lead, 4, 5), ())
    assert distribution.log_prob(x).dtype == torch.float32
    assert distribution.has_rsample
    assert (likelihood.n_outputs, likelihood.support) == (1, constraints.real)
    assert torch.equal(mean_of(distribution, "It"), torch.zeros_like(x))


def test_the_contaminated_normal_knows_its_moments_and_its_outliers() -> None:
    likelihood = likelihoods.ContaminatedNormal(SCALE, share=0.2, ratio=5.0)
    x = torch.tensor([[LOC, LOC + 5.0]])
    cells = likelihood(torch.full_like(x, LOC), x)
    draws = cells.rsample((200_000,))
    torch.testing.assert_close(draws.mean(0), cells.mean, atol=0.01, rtol=0)
    torch.testing.assert_close(draws.var(0), cells.variance, rtol=0.03, atol=0)
    by_bayes = [0.2 * stats.norm.pdf(v, LOC, 5 * SCALE) / _mixture(v) for v in x.flatten().tolist()]
    np.testing.assert_allclose(cells.outlier_probability(x).flatten(), by_bayes, rtol=1e-4)


def test_gradients_go_through_the_draws_of_the_contaminated_normal() -> None:
    loc = torch.zeros(1, 50, requires_grad=True)
    likelihood = likelihoods.ContaminatedNormal(SCALE, learn_scale=True)
    draws = likelihood(loc, loc.detach()).rsample()
    draws.sum().backward()
    assert torch.equal(loc.grad, torch.ones_like(loc))
    assert likelihood.log_scale.grad != 0


@pytest.mark.parametrize("cls", [likelihoods.StudentT, likelihoods.Laplace, likelihoods.ContaminatedNormal])
def test_a_learned_scale_comes_to_its_maximum_likelihood(cls: Any) -> None:
    likelihood = cls(1.0, learn_scale=True)
    fixed = cls(0.2)
    x = torch.zeros(1, 5000)
    rows = fixed(torch.zeros_like(x), x).rsample()
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (-likelihood(torch.zeros_like(rows), rows).log_prob(rows).sum() / 5000).backward()
        optimizer.step()
    assert likelihood.current_scale().item() == pytest.approx(0.2, rel=0.05)
    if cls is likelihoods.ContaminatedNormal:
        assert likelihood.logit_share.sigmoid().item() == pytest.approx(0.1, abs=0.02)


def test_a_learned_scale_stays_above_a_hundredth_of_its_start() -> None:
    likelihood = likelihoods.StudentT(0.5, learn_scale=True)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.5)
    zeros = torch.zeros(4, 3)
    for _ in range(100):  # residuals of zero: without a bound the density has no maximum
        optimizer.zero_grad()
        (-likelihood(zeros, zeros).log_prob(zeros).sum()).backward()
        optimizer.step()
    assert 0.005 <= likelihood.current_scale().item() < 0.006


def test_the_shared_variance_is_the_one_that_fits_the_batch_best() -> None:
    likelihood = likelihoods.SharedNormal()
    x, loc = torch.randn(50, 4), torch.zeros(50, 4, requires_grad=True)
    at = likelihood(loc, x)
    best = at.log_prob(x).sum()
    for factor in (0.99, 1.01):
        other = dist.Normal(loc, factor * at.scale).to_event(1).log_prob(x).sum()
        assert other < best
    assert at.scale[0, 0].item() == pytest.approx(x.square().mean().sqrt().item(), rel=1e-6)
    # By the envelope theorem the gradient is that at a fixed scale.
    (gradient,) = torch.autograd.grad(best, loc)
    torch.testing.assert_close(gradient, (x / x.square().mean()).detach(), rtol=1e-4, atol=1e-5)


def test_the_shared_variance_keeps_a_running_average_for_evaluation() -> None:
    likelihood = likelihoods.SharedNormal()
    zeros = torch.zeros(10, 3)
    for value in (1.0, 2.0, 3.0):
        likelihood(zeros, torch.full_like(zeros, value))
    assert likelihood.variance.item() == pytest.approx((1 + 4 + 9) / 3, rel=1e-6)
    likelihood(zeros, zeros.clone())
    assert likelihood.variance.item() == pytest.approx((1 + 4 + 9) / 4, rel=1e-6)
    likelihood(zeros, zeros if False else zeros.clone())
    likelihood.eval()
    kept = likelihood.variance.clone()
    assert likelihood(zeros, torch.full_like(zeros, 9.0)).scale[0, 0] == kept.sqrt()
    assert likelihood.variance == kept
    other = likelihoods.SharedNormal()
    other.load_state_dict(likelihood.state_dict())
    assert other.variance == kept


def test_rows_to_come_leave_the_running_average_alone() -> None:
    likelihood = likelihoods.SharedNormal()
    model = models.VAE(torch.nn.Linear(2, 3), likelihood, priors.StandardNormal(2))
    model.decode(torch.randn(4, 2))
    assert likelihood.n_batches == 0


def test_an_inverse_gamma_variance_integrated_out() -> None:
    """The density is the integral over the variance, here by quadrature in log v."""
    shape, floor = SHAPE, SCALE
    likelihood = likelihoods.InverseGammaNormal(floor, shape).double()
    for residual in (0.0, 0.1, 1.0, 10.0):

        def integrand(log_v: float, residual: float = residual) -> float:
            v = math.exp(log_v)
            return float(
                stats.norm.pdf(residual, 0, math.sqrt(v)) * stats.invgamma.pdf(v, shape, scale=floor**2 / 2) * v
            )

        expected, _ = integrate.quad(integrand, -40, 40, limit=400, points=[-4, 0, 4])
        x = torch.tensor([[residual]], dtype=torch.float64)
        assert likelihood(torch.zeros_like(x), x).log_prob(x).exp().item() == pytest.approx(expected, rel=1e-5)


def test_the_marginal_tends_to_the_log_penalty_and_the_mode_of_the_variance_does_not() -> None:
    """As the shape tends to 0 the gradient tends to r / (r² + s0²), which far out is that of (8'), 1 / r."""
    floor, r = 0.01, 2.0
    loc = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    x = torch.full((1, 1), r, dtype=torch.float64)
    slopes = []
    for shape in (1.0, 0.1, 0.01, 1e-4):
        log_prob = likelihoods.InverseGammaNormal(floor, shape).double()(loc, x).log_prob(x)
        slopes.append(torch.autograd.grad(log_prob.sum(), loc)[0].item())
    assert slopes == sorted(slopes, reverse=True)
    assert slopes[-1] == pytest.approx(1 / r, rel=1e-3)
    # The variance that maximises N(x | v) IG(v | a, b) is (r² + 2 b) / (2 a + 3): a third of r², not r².
    a, b = 1e-4, floor**2 / 2
    log_v = np.linspace(-10, 10, 200_001)
    v = np.exp(log_v)
    best = v[np.argmax(-0.5 * (log_v + r**2 / v) - (a + 1) * log_v - b / v)]
    assert best == pytest.approx((r**2 + 2 * b) / (2 * a + 3), rel=1e-3)


def test_bernoulli_is_a_cross_entropy_and_says_what_it_takes() -> None:
    probs = torch.tensor([[0.1, 0.5, 0.9]])
    ones = torch.tensor([[0.0, 1.0, 1.0]])
    likelihood = likelihoods.Bernoulli()
    expected = stats.bernoulli.logpmf(ones.int().numpy(), probs.numpy()).sum()
    assert likelihood(probs, ones).log_prob(ones).sum().item() == pytest.approx(expected, rel=1e-5)
    grey = torch.tensor([[0.3, 0.6, 0.9]])
    by_hand = (grey * probs.log() + (1 - grey) * (1 - probs).log()).sum().item()
    assert likelihood(probs, grey).log_prob(grey).sum().item() == pytest.approx(by_hand, rel=1e-5)
    assert likelihood.support is constraints.unit_interval
    assert likelihood.recycle == "mean"
    assert not likelihood(probs, grey).has_rsample
    assert torch.equal(mean_of(likelihood(probs, grey), "It"), probs)


def test_values_outside_the_support_are_an_error_of_the_site() -> None:
    model = models.VAE(
        torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sigmoid()),
        likelihoods.Bernoulli(),
        priors.StandardNormal(2),
    )
    model(torch.tensor([[0.0, 0.5, 1.0]]))
    message = "expected values in the support of Bernoulli, Interval(lower_bound=0.0, upper_bound=1.0), actual 2 of 3"
    with pytest.raises(ValueError, match=re.escape(message)):
        model(torch.tensor([[-0.5, 0.5, 1.5]]))
    with pyro.validation_enabled(False):
        model(torch.tensor([[-0.5, 0.5, 1.5]]))


def test_probabilities_outside_the_unit_interval_are_an_error_of_the_site() -> None:
    model = models.VAE(torch.nn.Linear(2, 3), likelihoods.Bernoulli(), priors.StandardNormal(2))
    with pytest.raises(ValueError, match="Site 'x': expected from the decoder what Bernoulli accepts"):
        model(torch.tensor([[0.0, 0.5, 1.0]]).expand(100, 3))


def _cauchy(loc: torch.Tensor, x: torch.Tensor) -> Any:
    return dist.Cauchy(loc, 0.1)


def test_a_function_is_a_likelihood_once_it_says_what_the_contract_asks() -> None:
    decoder, prior = torch.nn.Linear(2, 3), priors.StandardNormal(2)
    with pytest.raises(ValueError, match="with no n_outputs, no normalised, no support: give an object, derive"):
        models.VAE(decoder, _cauchy, prior)
    model = models.VAE(decoder, likelihoods.FromFunction(_cauchy, normalised=True), prior)
    x = torch.randn(4, 3)
    assert model.decode(torch.randn(4, 2), x).log_prob(x).shape == (4,)

    def tailed(loc: torch.Tensor, x: torch.Tensor) -> Any:
        return dist.Cauchy(loc, 0.1)

    tailed.n_outputs, tailed.normalised, tailed.support = 1, True, constraints.real  # type: ignore[attr-defined]
    wrapped = models.VAE(decoder, tailed, prior).likelihood
    assert isinstance(wrapped, likelihoods.FromFunction)
    assert (wrapped.n_outputs, wrapped.normalised, wrapped.recycle) == (1, True, "sample")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.nn.Identity(), "no n_outputs, no normalised, no support"),
        (likelihoods.StudentT, "give an object"),
        (lambda loc, x: loc, "no n_outputs, no normalised, no support"),
        ("student_t", "no n_outputs"),
        (None, "no n_outputs"),
    ],
)
def test_what_is_no_likelihood_is_an_error_that_says_what_is_missing(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.VAE(torch.nn.Linear(2, 3), wrong, priors.StandardNormal(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: likelihoods.FromFunction(3, normalised=True), "Expected function to be a callable"),  # type: ignore[arg-type]
        (lambda: likelihoods.FromFunction(_cauchy, normalised=1), "normalised=1"),  # type: ignore[arg-type]
        (lambda: likelihoods.FromFunction(_cauchy, normalised=True, recycle="mode"), "'mode'"),  # type: ignore[arg-type]
        (lambda: likelihoods.StudentT(1.0, df=0.0), "Expected df to be a positive and finite number"),
        (lambda: likelihoods.StudentT(-1.0), "Expected scale to be a positive and finite number"),
        (lambda: likelihoods.Laplace(math.inf), "Expected scale"),
        (lambda: likelihoods.ContaminatedNormal(1.0, share=1.0), "Expected share to lie between 0 and 1, actual 1.0"),
        (lambda: likelihoods.ContaminatedNormal(1.0, share=0.0), "Expected share"),
        (lambda: likelihoods.ContaminatedNormal(1.0, ratio=-1.0), "Expected ratio"),
        (lambda: likelihoods.InverseGammaNormal(0.0), "Expected floor"),
        (lambda: likelihoods.InverseGammaNormal(1.0, shape=-0.1), "Expected shape"),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_draws_without_a_variance_are_not_recycled() -> None:
    assert likelihoods.StudentT(1.0, df=4.0).recycle == "sample"
    assert likelihoods.StudentT(1.0, df=1.5).recycle == "mean"
    assert likelihoods.InverseGammaNormal(1.0).recycle == "mean"
