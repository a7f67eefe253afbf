"""An iC-VAE with an affine decoder whose encoder has a free posterior for each row: the encoder of Proposition 1."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyro_ricvae.guides import AmortizedNormal
from pyro_ricvae.inference import RecyclingELBO
from pyro_ricvae.likelihoods import IndexConditionedNormal
from pyro_ricvae.models import VAE
from pyro_ricvae.networks import MLPDecoder
from pyro_ricvae.priors import StandardNormal

_STEP_SIZE = 0.02
_FALL = 0.7  # of the steps, in which the floor falls


class FreeEncoder(nn.Module):
    """Moments that are parameters, whatever the rows: for the rows of a training set, all at once and in one order."""

    def __init__(self, loc: Tensor) -> None:
        super().__init__()
        self.loc = nn.Parameter(loc)
        self.log_scale = nn.Parameter(torch.full_like(loc, -1.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moments for rows of shape (..., n, d)."""
        shape = (*x.shape[:-1], self.loc.shape[1])
        return self.loc.expand(shape), self.log_scale.exp().expand(shape)


def clean(rows: NDArray[Any], n_latent: int, steps: int, floors: tuple[float, float], seed: int) -> NDArray[Any]:
    """Return the means of the decoder at the posterior means, by Adam on the objective (8') of all rows at once.

    Weights and means start at the principal components, the floor falls geometrically.
    """
    torch.manual_seed(seed)
    x = torch.as_tensor(rows, dtype=torch.float32)
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    root = len(x) ** 0.5
    decoder = MLPDecoder(n_latent, x.shape[1], ())
    with torch.no_grad():
        decoder.loc.weight.copy_((right[:n_latent].T * values[:n_latent]) / root)
        decoder.loc.bias.zero_()
    encoder = FreeEncoder(left[:, :n_latent] * root)
    likelihood = IndexConditionedNormal(floors[0])
    model, guide = VAE(decoder, likelihood, StandardNormal(n_latent)), AmortizedNormal(encoder)
    objective = RecyclingELBO()(model, guide)
    optimiser = torch.optim.Adam([*model.parameters(), *guide.parameters()], lr=_STEP_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _STEP_SIZE, total_steps=steps, pct_start=0.05)
    for step in range(steps):
        likelihood.floor.fill_(floors[0] * (floors[1] / floors[0]) ** min(1.0, step / (_FALL * steps)))
        optimiser.zero_grad()
        objective(x).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return np.asarray(decoder.loc(encoder.loc), dtype=np.float64)
