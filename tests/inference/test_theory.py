"""What the mathematics promises of the loss: how it scales, and Proposition 1's bound in the affine case."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from reference import HALF_LOG_TWO_PI, gradients, make_pair
from scipy.optimize import minimize
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.inference import RecyclingELBO


class Rescaled(nn.Module):
    """A network between rows that are `factor` times as large: its input, or its output, is divided or multiplied."""

    def __init__(self, network: nn.Module, *, divide: float = 1.0, multiply: float = 1.0) -> None:
        super().__init__()
        self.network, self.divide, self.multiply = network, divide, multiply

    def forward(self, rows: Tensor) -> Any:
        output = self.network(rows / self.divide)
        return output if isinstance(output, tuple) else self.multiply * output


@pytest.mark.parametrize("size", [None, 50])
@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("factor", [2.0**20, 1e-6, 300.0])
def test_scaling_the_data_shifts_the_loss_and_nothing_else(factor: float, passes: int, size: int | None) -> None:
    model, guide = make_pair("index_conditioned", size=size, dtype=torch.float64)
    x = torch.randn(6, 5, dtype=torch.float64)
    elbo = RecyclingELBO(passes=passes)
    torch.manual_seed(1)
    expected = elbo(model, guide)(x)
    expected.backward()
    expected_gradients = gradients(model.decoder, guide.encoder)

    scaled_model = rv.models.VAE(
        Rescaled(model.decoder, multiply=factor),
        rv.likelihoods.IndexConditionedNormal(floor=1.0).double(),
        model.prior,
        size=size,
    )
    scaled_model.likelihood.floor.copy_(factor * model.likelihood.floor)
    scaled_guide = rv.guides.AmortizedNormal(Rescaled(guide.encoder, divide=factor), size=size)
    torch.manual_seed(1)
    actual = elbo(scaled_model, scaled_guide)(factor * x)
    actual.backward()

    rows = size or x.shape[0]
    assert actual.item() - expected.item() == pytest.approx(rows * passes * 5 * math.log(factor), rel=1e-9)
    for name, gradient in gradients(model.decoder, guide.encoder).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-7, atol=1e-9)


class AffinePosterior(nn.Module):
    """An encoder that returns the given location and scale for every row."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.loc, self.scale = loc, scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*x.shape[:-1], len(self.loc))
        return self.loc.expand(shape), self.scale.expand(shape)


def bound_at(log_variances: np.ndarray, residual: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the function of lambda whose infimum is h_i (equation 12), and its gradient in log lambda."""
    inverse = np.linalg.inv(np.diag(np.exp(log_variances)) + weight @ weight.T)
    value = residual @ inverse @ residual - np.linalg.slogdet(inverse)[1]
    return float(value), np.exp(log_variances) * (np.diag(inverse) - (inverse @ residual) ** 2)


@pytest.mark.parametrize("seed", range(8))
def test_affine_loss_is_below_its_bound(seed: int) -> None:
    """Proposition 1: 2 loss_i - d log 2 pi <= h_i at the exact linear-Gaussian posterior, and sharper, with d - kappa.

    One latent unit, so that the exact posterior is a diagonal one, and the expectation is a sum over a grid.
    """
    generator = np.random.default_rng(seed)
    d, floor = 6, 0.1
    W, b = generator.normal(size=(d, 1)), generator.normal(size=d)
    x = W[:, 0] * generator.normal() + b + 0.05 * generator.normal(size=d)
    x[: seed % 3] += 5 * generator.normal(size=seed % 3)  # sparse gross errors
    starts = [np.log(np.maximum((x - b) ** 2, floor**2)), np.zeros(d)]
    bounds = [(2 * math.log(floor), 10.0)] * d
    found = min(
        (minimize(bound_at, start, (x - b, W), jac=True, bounds=bounds, method="L-BFGS-B") for start in starts),
        key=lambda result: result.fun,
    )
    precision = np.exp(-found.x)
    variance = 1 / (1 + (W[:, 0] ** 2 * precision).sum())
    loc = variance * (W[:, 0] * precision * (x - b)).sum()

    decoder = rv.networks.MLPDecoder(1, d, (), center=b).double()
    decoder.loc.weight.data = torch.as_tensor(W)
    decoder.loc.bias.data.zero_()
    encoder = AffinePosterior(torch.tensor([loc]), torch.tensor([variance**0.5]))
    model = rv.models.VAE(decoder, rv.likelihoods.IndexConditionedNormal(floor), rv.priors.StandardNormal(1)).double()
    elbo = RecyclingELBO(num_particles=20_000, vectorize_particles=True)
    loss = elbo.loss(model, rv.guides.AmortizedNormal(encoder), torch.as_tensor(x)[None])
    assert 2 * loss - d * 2 * HALF_LOG_TWO_PI <= found.fun

    # The same loss as the paper writes it, by quadrature: tr S + |mu|^2 - log|S| and the expected cells ...
    nodes, weights = hermegauss(200)
    z = loc + variance**0.5 * nodes
    residuals = x - b - np.outer(z, W[:, 0])
    cells = np.where(np.abs(residuals) > floor, 1 + np.log(residuals**2), (residuals / floor) ** 2 + math.log(floor**2))
    expected = (weights / weights.sum()) @ cells.sum(1)
    assert 2 * loss - d * 2 * HALF_LOG_TWO_PI == pytest.approx(
        variance + loc**2 - 1 - math.log(variance) + expected, abs=0.1
    )
    # ... and without a floor, where each cell's 1 is left out too.
    paper = variance + loc**2 - math.log(variance) + (weights / weights.sum()) @ np.log(residuals**2).sum(1)
    assert paper + d - 1 <= found.fun + 1e-6
