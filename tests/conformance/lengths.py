"""Batches of many lengths, and models that compute with the length or branch on it."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import no_guide, normal_guide, setup

_LENGTHS = (4, 5, 9, 4, 10, 3, 12, 5, 1, 2)


def _by(model: Any, *, each: bool = False, columns: tuple[int, ...] = (), **others: Any) -> Setup:
    """Return a setup with batches of some lengths in turn, or of another length at each step."""
    rows = torch.randn(40, *columns)
    lengths = range(3, 30) if each else _LENGTHS
    return setup(model, normal_guide("mean"), lambda step: ((rows[: lengths[step % len(lengths)]],), {}), **others)


def _mean(x: Tensor, scale: Any = 0.5) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mean, scale), obs=x)


def length_of_its_own() -> Setup:
    """Another length at each step, in a vectorised plate."""
    return _by(_mean, each=True)


def length_of_its_own_in_a_loop() -> Setup:
    """Another length at each step, in a loop over the rows."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        for i in pyro.plate("rows", len(x)):
            pyro.sample(f"x_{i}", dist.Normal(mean, 0.5), obs=x[i])

    return _by(model, each=True)


def length_in_numbers() -> Setup:
    """Numbers computed of the length: its logarithm, its root, its share of all rows, as a tensor."""

    def model(x: Tensor) -> None:
        rows = len(x)
        shift = math.log(rows) + 1 / rows + rows**0.5 + torch.tensor(rows / 40) + torch.full((), float(rows))
        _mean(x - 0.1 * shift)

    return _by(model)


def length_in_branches() -> Setup:
    """Branches on the length: more than six rows, an even number, one."""

    def model(x: Tensor) -> None:
        shift = 0.5 if len(x) > 6 else 0.0
        shift += 0.25 if len(x) % 2 == 0 else 0.0
        _mean(x - shift, 2.0 if len(x) == 1 else 0.5)

    return _by(model)


def length_in_names() -> Setup:
    """A parameter for each length, named by it."""

    def model(x: Tensor) -> None:
        shift = pyro.param(f"shift_{len(x)}", torch.tensor(0.1))
        _mean(x - shift)

    return _by(model)


def length_halved() -> Setup:
    """Batches cut into halves, and padded to a multiple of four."""

    def model(x: Tensor) -> None:
        half = len(x) // 2
        padded = torch.nn.functional.pad(x, (0, -len(x) % 4)).reshape(-1, 4).sum(-1)
        _mean(torch.cat([x[:half].flip(0), x[half:]]) + 0.1 * padded.mean())

    return _by(model)


def length_as_scale() -> Setup:
    """A plate of all rows with the batch as its subsample, its size a number of the user's that changes."""
    size = 40

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", size, subsample=torch.arange(len(x))):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    def before(step: int) -> None:
        nonlocal size
        size = 40 if step < 12 else 400

    return _by(model, before=before)


def length_remembered() -> Setup:
    """The model keeps the lengths it has seen."""
    seen: list[int] = []

    def model(x: Tensor) -> None:
        seen.append(len(x))
        _mean(x)

    return _by(model, state=lambda: seen)


def length_of_a_tensor() -> Setup:
    """A plate whose size is the value of a tensor argument."""

    def model(rows: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.1))
        with pyro.plate("rows", int(rows)):
            pyro.sample("x", dist.Normal(loc, 0.5), obs=torch.ones(int(rows)))

    return setup(model, no_guide, lambda step: ((torch.tensor(_LENGTHS[step % len(_LENGTHS)]),), {}))


def length_of_parameters() -> Setup:
    """Parameters of the guide cut to the length of the batch."""

    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(x: Tensor) -> None:
        locs = pyro.param("locs", torch.zeros(40))
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(locs[: len(x)], 0.4))

    made = _by(model)
    made.guide = guide
    return made


def length_and_columns() -> Setup:
    """A number of columns that equals the number of rows at times."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        weights = torch.linspace(0.5, 1.0, x.shape[1])
        with pyro.plate("columns", x.shape[1], dim=-1), pyro.plate("rows", x.shape[0], dim=-2):
            pyro.sample("x", dist.Normal(mean * weights, 0.5), obs=x)

    return _by(model, columns=(4,))


def length_in_loss() -> Setup:
    """A loss of the user's that divides by the length."""

    def loss(model: Any, guide: Any, x: Tensor) -> Any:
        return elbo.differentiable_loss(model, guide, x) / len(x)

    elbo = Trace_ELBO()
    return _by(_mean, loss=loss)
