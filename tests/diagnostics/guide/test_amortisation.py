"""The amortisation gap, on a linear-Gaussian model, where it is a KL in closed form."""

import copy
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from reference import make_pair

from experiments.linear_gaussian import LinearGaussian
from pyro_ricvae.diagnostics.guide import amortisation
from pyro_ricvae.diagnostics.guide.amortisation import amortisation_gap


@pytest.fixture
def exact() -> LinearGaussian:
    return LinearGaussian(n_features=12, n_latent=4, scale=0.5, seed=0)


def test_an_exact_guide_gains_nothing(exact: LinearGaussian) -> None:
    gap = amortisation_gap(exact.model, exact.guide(), exact.sample(50, seed=1), steps=50)
    assert gap.shape == (50,)
    np.testing.assert_allclose(gap, 0, atol=0.01)  # 0.002 seen, by rounding


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.0), (1.0, 1.5), (2.0, -0.5)])
def test_a_wrong_guide_gains_its_kl_to_the_posterior(exact: LinearGaussian, scale: float, shift: float) -> None:
    gap = amortisation_gap(exact.model, exact.guide(scale, shift), exact.sample(100, seed=1))
    kl = 4 * (0.5 * (scale**2 + shift**2 - 1) - math.log(scale))
    assert gap.mean() == pytest.approx(kl, rel=0.02)
    np.testing.assert_allclose(gap, kl, rtol=0.25)  # row by row, with noise: 15% at most seen


def test_what_a_normal_cannot_reach_is_not_in_it() -> None:
    """The best normal with independent units, for a posterior that is correlated, gains nothing."""
    exact = LinearGaussian(n_features=12, n_latent=2, scale=0.5, seed=0)
    rotation = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    with torch.no_grad():
        exact.model.decoder.weight.copy_(exact.weights @ rotation)
    x = exact.sample(50, seed=1)
    precision = rotation.T @ torch.diag(exact.posterior_scale**-2) @ rotation
    posterior = dist.MultivariateNormal((x - exact.bias) @ exact.to_mean.T @ rotation, precision_matrix=precision)

    def gain(scale: torch.Tensor) -> float:
        guide = exact.guide()
        guide.encode = lambda rows: dist.Normal(posterior.mean, scale.expand(50, 2)).to_event(1)  # type: ignore
        return float(amortisation_gap(exact.model, guide, x).mean())

    best = precision.diagonal().rsqrt()
    assert precision[0, 1].abs() > 0.1 * precision.diagonal().min()
    assert gain(best) == pytest.approx(0, abs=0.005)
    assert gain(0.5 * best) == pytest.approx(2 * (0.5 * (0.25 - 1) - math.log(0.5)), rel=0.05)


@pytest.mark.parametrize("kind", ["index_conditioned", "learned"])
def test_other_likelihoods_gain_and_nothing_changes(kind: str) -> None:
    model, guide = make_pair(kind)
    x = torch.randn(30, 5)
    before = [copy.deepcopy(module.state_dict()) for module in (model, guide)]
    gap = amortisation_gap(model, guide, x)
    assert gap.mean() > 0.01
    assert not gap.requires_grad
    for module, state in zip((model, guide), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
        assert all(parameter.grad is None for parameter in module.parameters())
        assert all(each.training for each in module.modules())


def test_rows_keep_their_order_in_chunks(exact: LinearGaussian, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows differ in how wrong the guide is for them, by the sign of the first feature."""
    x = exact.sample(8, seed=1)
    guide = exact.guide()
    right = guide.encode

    def wrong(rows: torch.Tensor) -> dist.TorchDistribution:
        base = right(rows).base_dist
        return dist.Normal(base.loc + 2 * (rows[:, :1] > 0) * base.scale, base.scale).to_event(1)

    guide.encode = wrong  # type: ignore[method-assign]
    for batch_size, cells in ((3, 2**22), (1024, 12 * 500)):
        monkeypatch.setattr(amortisation, "_CELLS_AT_ONCE", cells)  # the second: a row at once
        gap = amortisation_gap(exact.model, guide, x, steps=40, batch_size=batch_size)
        assert torch.equal(gap > 1, x[:, 0] > 0)
    assert (x[:, 0] > 0).unique().numel() == 2


def test_wrong_input(exact: LinearGaussian) -> None:
    x = exact.sample(3, seed=1)
    for name in ("steps", "n_particles", "n_draws", "batch_size"):
        with pytest.raises(ValueError, match=f"Expected {name} to be a whole number >= 1, actual 0"):
            amortisation_gap(exact.model, exact.guide(), x, **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected learning_rate to be a positive and finite number"):
        amortisation_gap(exact.model, exact.guide(), x, learning_rate=0)
    guide = exact.guide()
    guide.encode = lambda rows: dist.Laplace(torch.zeros(3, 4), 1.0).to_event(1)  # type: ignore
    with pytest.raises(ValueError, match="Expected a guide that is normal and independent over the latent units"):
        amortisation_gap(exact.model, guide, x)
