"""The aggregate posterior against the prior, and active units."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from reference import Returns
from torch import Tensor

from experiments.linear_gaussian import LinearGaussian
from pyro_ricvae import models
from pyro_ricvae.diagnostics.guide.aggregate import AggregateTest, active_units, aggregate_posterior_test


@pytest.fixture
def exact() -> LinearGaussian:
    return LinearGaussian(n_features=6, n_latent=2, scale=0.5, seed=0)


def test_rows_of_the_model_under_the_exact_guide_fill_the_prior(exact: LinearGaussian) -> None:
    for seed in (0, 1):
        found = aggregate_posterior_test(exact.model, exact.guide(), exact.sample(1001, seed=seed), random_state=9)
        assert found.n_tested == 2 * 501
        assert found.accuracy == pytest.approx(0.5, abs=0.05)
        assert not found.alarm


@pytest.mark.parametrize("what", ["a shifted guide", "rows in two clusters", "a mixture for a prior"])
def test_what_does_not_fill_the_prior_is_found(exact: LinearGaussian, what: str) -> None:
    guide, x = exact.guide(), exact.sample(1000, seed=1)
    if what == "a shifted guide":
        guide = exact.guide(shift=1.5)
    elif what == "rows in two clusters":
        x = x[(exact.to_mean @ (x - exact.bias).T)[1].abs() > 0.6]
    else:
        exact.model.prior = Returns(dist.Normal(torch.tensor([0.0, 1.0]), 1.0).to_event(1))
    found = aggregate_posterior_test(exact.model, guide, x, random_state=0)
    assert found.accuracy > 0.55
    assert found.p_value < 1e-3
    assert found.alarm
    assert "do not fill the prior" in found.summary()


def test_a_seed_gives_the_same_and_leaves_the_generator(exact: LinearGaussian) -> None:
    x, guide = exact.sample(200, seed=1), exact.guide()
    state = torch.get_rng_state()
    first, second = (aggregate_posterior_test(exact.model, guide, x, random_state=3) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    without = [aggregate_posterior_test(exact.model, exact.guide(), x) for _ in range(3)]
    assert len({found.accuracy for found in without}) > 1


def test_the_words() -> None:
    assert not AggregateTest(0.52, 0.01, 200).alarm
    assert "52.0% of 200 draws rightly" in AggregateTest(0.52, 0.2, 200).summary()
    assert "no difference was found" in AggregateTest(0.52, 0.2, 200).summary()


def test_active_units(exact: LinearGaussian) -> None:
    guide = exact.guide()
    with torch.no_grad():
        guide.encoder.affine.weight[1] *= 0.05
    x = exact.sample(500, seed=1)
    means = guide.encode(x).mean
    for batch_size in (7, 1024):
        found = active_units(guide, x, batch_size=batch_size)
        torch.testing.assert_close(found.variances, means.var(0))
        assert found.variances[0] > 0.5
        assert found.variances[1] < 0.01
        assert found.n_active == 1


@pytest.mark.parametrize("x", [torch.zeros(99, 6), torch.zeros(2, 200, 6)])
def test_too_few_rows_to_test(exact: LinearGaussian, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"Expected x of shape \(n, d\) with n >= 100"):
        aggregate_posterior_test(exact.model, exact.guide(), x)


@pytest.mark.parametrize("x", [torch.zeros(1, 6), torch.zeros(2, 20, 6)])
def test_too_few_rows_to_vary(exact: LinearGaussian, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"Expected x of shape \(n, d\) with n >= 2"):
        active_units(exact.guide(), x)


def test_a_prior_of_pyro_parameters_stays_its_own(exact: LinearGaussian) -> None:
    class Learned(pyro.nn.PyroModule):
        def __init__(self, loc: float) -> None:
            super().__init__()
            self.loc = pyro.nn.PyroParam(torch.full((2,), loc))

        def forward(self) -> object:
            return pyro.distributions.Normal(self.loc, 1.0).to_event(1)

    x, guide = exact.sample(200, seed=1), exact.guide()
    for loc in (0.0, 50.0):
        model = models.VAE(exact.model.decoder, exact.model.likelihood, Learned(loc))
        aggregate_posterior_test(model, guide, x, random_state=0)
        assert model.prior.loc.tolist() == [loc, loc]
    assert not dict(pyro.get_param_store().items())
