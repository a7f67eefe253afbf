"""What the tests compare with: pairs to try, and the recycling objective written by hand in plain torch."""

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyro_ricvae as rv

KINDS = ("index_conditioned", "fixed", "learned")
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Returns(nn.Module):
    """An encoder, decoder, likelihood or prior that returns what it is told."""

    n_outputs = 1
    normalised = True
    support = dist.constraints.real

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, *_: Any) -> Any:
        return self.value


class OwnEncoder(pyro.nn.PyroModule):
    """A user's encoder: a PyroModule with one scale for all rows, kept positive by Pyro."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Linear(5, 2)
        self.scale = pyro.nn.PyroParam(torch.full((2,), 0.5), dist.constraints.positive)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc = self.loc(x)
        return loc, self.scale.expand_as(loc)


def make_likelihood(kind: str) -> Any:
    return {
        "index_conditioned": lambda: rv.likelihoods.IndexConditionedNormal(floor=0.5),
        "fixed": lambda: rv.likelihoods.FixedNormal(scale=0.7),
        "learned": rv.likelihoods.LearnedNormal,
    }[kind]()


def make_pair(
    kind: str = "index_conditioned",
    *,
    n_features: int = 5,
    n_latent: int = 2,
    size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Any, Any]:
    likelihood = make_likelihood(kind)
    decoder = rv.networks.MLPDecoder(n_latent, n_features, (8,), n_outputs=likelihood.n_outputs)
    encoder = rv.networks.MLPEncoder(n_features, n_latent, (8,))
    model = rv.models.VAE(decoder, likelihood, rv.priors.StandardNormal(n_latent), size=size)
    guide = rv.guides.AmortizedNormal(encoder, size=size)
    return model.to(dtype), guide.to(dtype)


def gradients(*modules: nn.Module) -> dict[str, Tensor]:
    """Return every parameter's gradient, by a name that is unique, and clear it."""
    found = {}
    for number, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{name} got no gradient"
            found[f"{number}.{name}"] = parameter.grad.clone()
            parameter.grad = None
    return found


def noise(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return the next standard normal numbers, as a reparameterised normal draws them."""
    return torch.normal(torch.zeros(shape, dtype=dtype), torch.ones(shape, dtype=dtype))


def log_penalty(residuals: Any, floor: Any) -> Any:
    """Return the log penalty (8') of residuals, in float64: 0 at 0."""
    r = np.abs(np.asarray(residuals, dtype=np.float64))
    return np.where(r > floor, 0.5 + np.log(np.maximum(r, floor) / floor), 0.5 * (r / floor) ** 2)


def cells_by_hand(kind: str, likelihood: Any, output: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return -log p of every cell (with 8'), and the location and scale (with 7') that a cell is drawn with."""
    if kind == "index_conditioned":
        r, floor = x - output, likelihood.floor
        above = r.abs() > floor
        safe = torch.where(above, r, torch.ones_like(r))  # keeps log's gradient finite where it is not taken
        below = 0.5 * (r**2 / floor**2 + torch.log(floor**2))
        cells = torch.where(above, 0.5 * (1 + torch.log(safe**2)), below)
        return cells + HALF_LOG_TWO_PI, output, torch.where(above, r.abs(), floor)
    loc, scale = (output, likelihood.scale.expand_as(output)) if kind == "fixed" else output
    return 0.5 * ((x - loc) / scale) ** 2 + torch.log(scale) + HALF_LOG_TWO_PI, loc, scale


def loss_by_hand(
    kind: str,
    model: Any,
    guide: Any,
    x: Tensor,
    *,
    passes: int = 1,
    recycle: str = "sample",
    detach: bool = False,
    kl_weight: float = 1.0,
    size: int | None = None,
) -> tuple[Tensor, float]:
    """Return the recycling loss of a pair, row by row, and the sum of the absolute values of its terms."""
    total, absolute = x.new_zeros(x.shape[:-1]), 0.0
    scale_up = 1.0 if size is None else size / x.shape[-2]
    for k in range(passes):
        loc_z, scale_z = guide.encoder(x)
        z = loc_z + scale_z * noise(loc_z.shape, x.dtype)
        kl = kl_weight * (0.5 * (scale_z**2 + loc_z**2 - 1) - torch.log(scale_z))
        cells, loc_x, scale_x = cells_by_hand(kind, model.likelihood, model.decoder(z), x)
        total = total + scale_up * (kl.sum(-1) + cells.sum(-1))
        absolute += scale_up * (kl.abs().sum() + cells.abs().sum()).item()
        if k + 1 < passes:
            x = loc_x if recycle == "mean" else loc_x + scale_x * noise(loc_x.shape, x.dtype)
            x = x.detach() if detach else x
    return total, absolute
