"""Random numbers, clocks and counters that a model uses beside its sites, and warnings it gives."""

import itertools
import random
import time
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import normal_guide, observe_mean, same, setup


def random_module() -> Setup:
    """A model that draws from Python's `random`."""

    def model(x: Tensor) -> None:
        observe_mean(x, random.gauss(0.0, 0.1))

    return setup(model, normal_guide("mean"), same(torch.randn(6)))


def random_own_generator() -> Setup:
    """A model that draws by a random.Random and a numpy Generator of its own."""
    own, other = random.Random(3), np.random.default_rng(4)

    def model(x: Tensor) -> None:
        observe_mean(x, own.random(), float(other.uniform(0.4, 0.6)))

    return setup(model, normal_guide("mean"), same(torch.randn(6)), state=lambda: own.getstate())


def random_numpy() -> Setup:
    """A model that draws rows by numpy's global generator."""

    def model(x: Tensor) -> None:
        rows = np.random.permutation(len(x))[:4]  # noqa: NPY002  # as users do
        observe_mean(x[torch.as_tensor(rows)])

    return setup(model, normal_guide("mean"), same(torch.randn(12)))


def random_torch() -> Setup:
    """A model that adds noise by torch.randn_like, and drops rows by torch.randperm."""

    def model(x: Tensor) -> None:
        observe_mean(x[torch.randperm(len(x))[:5]] + 0.1 * torch.randn(5))

    return setup(model, normal_guide("mean"), same(torch.randn(12)))


def random_torch_generator() -> Setup:
    """A model that draws by a torch.Generator of its own."""
    generator = torch.Generator().manual_seed(7)

    def model(x: Tensor) -> None:
        observe_mean(x + 0.1 * torch.randn(len(x), generator=generator))

    return setup(model, normal_guide("mean"), same(torch.randn(6)), state=lambda: generator.get_state().tolist())


def seed_set_in_model() -> Setup:
    """A model that sets torch's seed in each call (common random numbers)."""

    def model(x: Tensor) -> None:
        torch.manual_seed(5)
        observe_mean(x + torch.randn(len(x)))

    return setup(model, normal_guide("mean"), same(torch.randn(6)))


def clock() -> Setup:
    """A model that reads the clock, and keeps only whether time has passed."""
    passed: list[bool] = []

    def model(x: Tensor) -> None:
        began = time.perf_counter()
        observe_mean(x)
        passed.append(time.perf_counter() >= began)

    return setup(model, normal_guide("mean"), same(torch.randn(6)), state=lambda: passed)


def counter_of_itertools() -> Setup:
    """A model that counts by itertools.count, and observes every third time."""
    counter = itertools.count()

    def model(x: Tensor) -> None:
        if next(counter) % 3:
            observe_mean(x)
        else:
            pyro.sample("mean", dist.Normal(0.0, 1.0))

    return setup(model, normal_guide("mean"), same(torch.randn(6)))


def warning_at_each_step() -> Setup:
    """A model that warns in each call."""

    def model(x: Tensor) -> None:
        warnings.warn("the prior is wide", UserWarning, stacklevel=1)
        observe_mean(x)

    return setup(model, normal_guide("mean"), same(torch.randn(6)))


def warning_of_pyro() -> Setup:
    """A guide with a site that the model lacks: Pyro warns in each call."""

    def guide(x: Tensor) -> None:
        normal_guide("mean", "other")()

    return setup(observe_mean, guide, same(torch.randn(6)))
