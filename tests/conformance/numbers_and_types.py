"""Numbers and types that look equal and are not, iterators, and distributions of the user's own."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import line, no_guide, normal_guide, positive, same, setup

DATA = torch.linspace(-1.0, 2.0, 6)


def _mean(x: Tensor, shift: Any = 0.0) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mean + shift, 0.5), obs=x)


def _by(model: Any, *calls: tuple[Any, ...], **others: Any) -> Setup:
    return setup(model, normal_guide("mean"), lambda step: (calls[step % len(calls)], {}), **others)


def minus_zero() -> Setup:
    """0.0 and -0.0 as argument, of which the model reads the sign."""
    return _by(lambda x, zero: _mean(x, math.copysign(0.5, zero)), (DATA, 0.0), (DATA, -0.0), (DATA, 0.0))


def minus_zero_attribute() -> Setup:
    """An attribute that becomes -0.0 at step 8, and nan at step 14, where it is not used."""
    settings = {"zero": 0.0}

    def before(step: int) -> None:
        settings["zero"] = 0.0 if step < 8 else -0.0 if step < 14 else math.nan

    return _by(lambda x: _mean(x, math.copysign(0.5, settings["zero"])), (DATA,), before=before)


def nan_as_argument() -> Setup:
    """nan as argument, in the place of a missing number."""
    return _by(lambda x, shift: _mean(x, 0.0 if math.isnan(shift) else shift), (DATA, math.nan), (DATA, 0.5))


def large_integers() -> Setup:
    """Integers beyond 64 bits, and True among integers, as arguments."""
    return _by(
        lambda x, n: _mean(x, (n % 3) * 0.1 + (n is True)), (DATA, 2**70), (DATA, True), (DATA, 1), (DATA, 2**70)
    )


def numpy_scalars() -> Setup:
    """Scalars of NumPy as arguments, float32 and float64, which round otherwise."""
    calls = [(DATA, kind(0.1)) for kind in (np.float32, np.float64, float)]
    return _by(lambda x, shift: _mean(x, float(shift)), *calls)


def ranges_and_slices() -> Setup:
    """A range, a slice, a torch.Size, a dtype and a device as arguments."""

    def model(x: Tensor, rows: Any, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> None:
        part = x[rows] if isinstance(rows, slice) else x[list(rows)]
        _mean(part.to(device, dtype).float(), float(len(shape)))

    cpu = torch.device("cpu")
    calls = [(DATA, range(3), DATA.shape, torch.float16, cpu), (DATA, slice(0, 4), torch.Size([]), torch.float32, cpu)]
    return _by(model, *calls)


def function_as_argument() -> Setup:
    """A function as argument, a new lambda at each step, which holds another number at some."""
    return setup(
        lambda x, link: _mean(x, link(torch.tensor(0.3))),
        normal_guide("mean"),
        lambda step: ((DATA, lambda x, power=1 + step // 6: x**power), {}),
    )


def network_as_argument() -> Setup:
    """A network as argument, another one at some steps."""
    networks = [torch.nn.Linear(1, 1) for _ in range(2)]

    def model(network: torch.nn.Module, x: Tensor) -> None:
        pyro.module("network", network, update_module_params=True)
        _mean(x, network(x[:, None])[:, 0])

    return setup(model, normal_guide("mean"), lambda step: ((networks[step // 8 % 2], DATA), {}), watched=networks)


def iterator_as_argument() -> Setup:
    """An iterator as argument, from which the model takes its batch."""
    batches = iter([DATA[: 3 + row % 3] + row for row in range(40)])
    return setup(lambda rows: _mean(next(rows)), _guide_without_arguments, same(batches))


def _guide_without_arguments(rows: Iterator[Tensor]) -> None:
    normal_guide("mean")()


def parameter_as_argument() -> Setup:
    """An nn.Parameter as argument, which is in no store: it collects gradients."""
    weight = torch.nn.Parameter(torch.tensor(0.5))

    def model(x: Tensor, weight: Tensor) -> None:
        pyro.param("unused", torch.tensor(0.0))
        _mean(x, weight)

    def grad() -> Any:
        return None if weight.grad is None else weight.grad.item()

    return _by(model, (DATA, weight), watched=[weight], state=grad)


def data_as_global() -> Setup:
    """Data that the model reads as a global variable, with no arguments."""

    def model() -> None:
        _mean(DATA)

    return _by(model, ())


def closure_data_changed() -> Setup:
    """Data in a closure, written in place by the user at step 8, and replaced at step 14."""
    data = torch.zeros(5)

    def model() -> None:
        _mean(data)

    def before(step: int) -> None:
        nonlocal data
        if step == 8:
            data[2] = 3.0
        if step == 14:
            data = torch.ones(7)

    return _by(model, (), before=before)


class _Quartic(TorchDistribution):
    """A density of the user's own, which counts how often it is asked, and checks nothing."""

    arg_constraints = {"loc": dist.constraints.real}  # noqa: RUF012
    support = dist.constraints.real
    asked = 0

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        type(self).asked += 1
        return -((value - self.loc) ** 4)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return _Quartic(self.loc.expand(batch_shape))


def own_distribution() -> Setup:
    """A density of the user's own, which counts how often it is asked."""
    _Quartic.asked = 0

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.1))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", _Quartic(loc.expand(len(x))), obs=x)

    return setup(model, no_guide, same(DATA), state=lambda: _Quartic.asked)


class _Link(dist.transforms.Transform):
    """A transform of the user's own, with a number that changes."""

    domain = codomain = dist.constraints.real
    bijective = True
    sign = +1
    factor = 2.0

    def _call(self, x: Tensor) -> Tensor:
        return self.factor * x

    def _inverse(self, y: Tensor) -> Tensor:
        return y / self.factor

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.full_like(x, math.log(self.factor))


def own_transform() -> Setup:
    """A transform of the user's own, whose factor changes at step 8."""
    link = _Link()

    def before(step: int) -> None:
        link.factor = 2.0 if step < 8 else 3.0

    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(0.5), constraint=positive)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.TransformedDistribution(dist.Normal(0.1, scale), [link]), obs=x)

    return setup(model, no_guide, same(DATA), before=before)


def scale_as_tensor() -> Setup:
    """`poutine.scale` by a tensor of the user's, changed in place at some steps."""
    weight = torch.tensor(1.0)

    def before(step: int) -> None:
        if step % 6 == 5:
            weight.mul_(0.5)

    x, y = line(6)

    def model() -> None:
        with pyro.poutine.scale(scale=weight):
            slope = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(slope * x, 0.3), obs=y)

    return _by(model, (), before=before, watched=[weight])
