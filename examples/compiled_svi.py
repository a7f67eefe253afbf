"""Pyro's SVI and the same with a compiled step, on two models that have nothing to do with this package.

A hierarchical regression and the variational autoencoder of Pyro's tutorial, each trained for as many steps by
`pyro.infer.SVI` and by `pyro_ricvae.inference.CompiledSVI`. Printed are the losses at the end and the time of a step.

    python examples/compiled_svi.py
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pyro_ricvae.inference import CompiledSVI

N_GROUPS = 20


def hierarchical_regression() -> tuple[Any, Any, tuple[Tensor, ...]]:
    """Return a regression whose slopes differ by group around a common one, its guide, and data."""

    def model(group: Tensor, x: Tensor, y: Tensor) -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
        spread = pyro.sample("spread", dist.HalfNormal(1.0))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("groups", N_GROUPS):
            slopes = pyro.sample("slopes", dist.Normal(slope, spread))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal(slopes[group] * x, noise), obs=y)

    group = torch.randint(N_GROUPS, (1000,))
    x = torch.randn(1000)
    y = (1.5 + 0.5 * torch.randn(N_GROUPS))[group] * x + 0.3 * torch.randn(1000)
    return model, AutoNormal(model), (group, x, y)


class DigitVAE(nn.Module):
    """The variational autoencoder of Pyro's tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 200), nn.Softplus(), nn.Linear(200, 20))
        self.decoder = nn.Sequential(nn.Linear(10, 200), nn.Softplus(), nn.Linear(200, 64), nn.Sigmoid())

    def model(self, x: Tensor) -> None:
        """Sample latents and pixels."""
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(x.shape[0], 10), 1.0).to_event(1))
            pyro.sample("x", dist.ContinuousBernoulli(self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """Sample latents, given pixels."""
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x).chunk(2, dim=-1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def digit_vae() -> tuple[Any, Any, tuple[Tensor, ...]]:
    """Return the autoencoder and a batch of digits."""
    vae = DigitVAE()
    return vae.model, vae.guide, (torch.tensor(load_digits().data[:256] / 16, dtype=torch.float32),)


def train(svi: SVI | CompiledSVI, data: tuple[Tensor, ...], steps: int) -> tuple[float, float, float]:
    """Return the mean loss of the last tenth of the steps, the median time of a step and that of the first."""
    losses, seconds = [], []
    for _ in range(steps):
        began = time.perf_counter()
        losses.append(svi.step(*data))
        seconds.append(time.perf_counter() - began)
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last), sorted(seconds)[steps // 2], seconds[0]


def main() -> None:
    """Train both models both ways."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    makers: dict[str, Callable[[], tuple[Any, Any, tuple[Tensor, ...]]]] = {
        "hierarchical regression": hierarchical_regression,
        "variational autoencoder": digit_vae,
    }
    print(f"{'':26}{'':14}{'loss':>12}{'a step':>12}{'the first':>12}")
    for name, make in makers.items():
        for engine in (SVI, CompiledSVI):
            pyro.set_rng_seed(options.seed)
            pyro.clear_param_store()
            model, guide, data = make()
            svi = engine(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
            loss, median, first = train(svi, data, options.steps)
            print(f"{name:26}{engine.__name__:14}{loss:12.1f}{1e3 * median:9.2f} ms{first:10.1f} s")


if __name__ == "__main__":
    main()
