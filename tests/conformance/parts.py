"""Pieces that the cases share."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.distributions import constraints

from conformance.harness import Call, Setup

positive = constraints.positive


def adam(lr: float = 0.02) -> PyroOptim:
    """Return Pyro's Adam."""
    return pyro.optim.Adam({"lr": lr})


def same(*args: Any, **kwargs: Any) -> Callable[[int], Call]:
    """Give every step the same arguments."""
    return lambda step: (args, kwargs)


def batches(*tensors: Tensor, size: int = 8) -> Callable[[int], Call]:
    """Give each step a mini-batch, in turn; the last of an epoch may be a shorter one."""
    rows = len(tensors[0])
    starts = range(0, rows, size)

    def call(step: int) -> Call:
        start = starts[step % len(starts)]
        return tuple(tensor[start : start + size] for tensor in tensors), {}

    return call


def line(rows: int = 20) -> tuple[Tensor, Tensor]:
    """Return points near a line."""
    x = torch.linspace(-1.0, 1.0, rows)
    return x, 2.0 * x + 0.3 + 0.1 * torch.randn(rows)


def binary(rows: int = 16, columns: int = 6) -> Tensor:
    """Return tiny binary pictures."""
    return torch.bernoulli(torch.full((rows, columns), 0.4))


def perceptron(n_in: int, n_out: int, n_hidden: int = 5) -> nn.Sequential:
    """Return a tiny network."""
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.Softplus(), nn.Linear(n_hidden, n_out))


def no_guide(*args: Any, **kwargs: Any) -> None:
    """The guide of a model without latents."""


def normal_guide(*names: str, shape: tuple[int, ...] = (), scale: float = 0.3) -> Callable[..., None]:
    """Return a mean-field guide of unconstrained sites, with parameters of its own."""

    def guide(*args: Any, **kwargs: Any) -> None:
        for name in names:
            loc = pyro.param(f"{name}_loc", torch.zeros(shape))
            spread = pyro.param(f"{name}_scale", torch.full(shape, scale), constraint=positive)
            pyro.sample(name, dist.Normal(loc, spread).to_event(len(shape)))

    return guide


def setup(model: Any, guide: Any, call: Callable[[int], Call], **others: Any) -> Setup:
    """Return a setup with Adam and ELBO, unless others are given."""
    return Setup(model, guide, **{"optim": adam(), "loss": Trace_ELBO(), "call": call, **others})


def observe_rows(x: Tensor, scale: Any = 0.5) -> None:
    """Observe rows of any number of columns, with a latent mean."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mean.expand(x.shape), scale).to_event(x.dim() - 1), obs=x)


def in_turn(model: Any, *calls: tuple[Any, ...], **others: Any) -> Setup:
    """Return a setup whose steps take these arguments in turn."""
    return setup(model, normal_guide("mean"), lambda step: (calls[step % len(calls)], {}), **others)


def observe_mean(x: Tensor, shift: Any = 0.0, scale: Any = 0.5) -> Tensor:
    """Observe rows of numbers, with a latent mean, which is returned."""
    mean: Tensor = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mean + shift, scale), obs=x)
    return mean


class VAE(nn.Module):
    """The VAE of many cases: functions as model and guide, and `pyro.module`."""

    def __init__(self, n_columns: int = 6, n_latent: int = 2) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.encoder = perceptron(n_columns, 2 * n_latent)
        self.decoder = perceptron(n_latent, n_columns)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), self.n_latent), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
