"""Lists, dictionaries, objects and special tensors as arguments, which change from call to call."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import in_turn, line, normal_guide, observe_rows, same, setup


def list_of_tensors() -> Setup:
    """A list of tensors, of changing length."""

    def model(xs: list[Tensor]) -> None:
        observe_rows(torch.cat(xs))

    xs = [torch.randn(2) for _ in range(4)]
    return in_turn(model, (xs[:3],), (xs[:2],), (xs,), (xs[1:],))


def dictionary_argument() -> Setup:
    """A dictionary as argument, its order and keys change."""

    def model(data: dict[str, Tensor]) -> None:
        observe_rows(data["x"] + data.get("shift", torch.tensor(0.0)), len(next(iter(data))) / 2)

    x, shift = torch.randn(4), torch.tensor(0.5)
    return in_turn(model, ({"x": x, "shift": shift},), ({"shift": shift, "x": x},), ({"x": x},))


def string_switch() -> Setup:
    """A string that switches between parts of the model."""

    def model(x: Tensor, kind: str = "normal") -> None:
        if kind == "normal":
            observe_rows(x)
        else:
            mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
            with pyro.plate("rows", len(x)):
                pyro.sample("x", dist.Laplace(mean, 0.5), obs=x)

    x = torch.randn(5)
    return in_turn(model, (x,), (x, "laplace"), (x, "normal"))


def tuples_and_none() -> Setup:
    """Tuples, named tuples and None within each other."""

    class Batch(NamedTuple):
        x: Tensor
        weights: Tensor | None = None

    def model(batch: Batch, more: Any) -> None:
        scale = 0.5 if batch.weights is None else batch.weights
        observe_rows(batch.x, scale if more is None else scale * more[0][1])

    x = torch.randn(4)
    return in_turn(model, (Batch(x), None), (Batch(x, torch.ones(4)), None), (Batch(x), ((1, 0.7), "any")))


def dataclass_argument() -> Setup:
    """An object that holds tensors and numbers, the same in all calls, its parts replaced by the user."""

    @dataclass
    class Batch:
        x: Tensor
        scale: float

    batch = Batch(torch.randn(4), 0.5)

    def before(step: int) -> None:
        if step == 7:
            batch.x = torch.randn(6)
        if step == 12:
            batch.scale = 0.9

    return setup(lambda batch: observe_rows(batch.x, batch.scale), normal_guide("mean"), same(batch), before=before)


def dataclass_new_each_time() -> Setup:
    """A new object that holds tensors at each step."""

    @dataclass
    class Batch:
        x: Tensor

    return setup(lambda batch: observe_rows(batch.x), normal_guide("mean"), lambda step: ((Batch(torch.randn(4)),), {}))


def tensor_changed_in_place() -> Setup:
    """One tensor that the user fills anew before each step (a pinned buffer)."""
    x = torch.randn(5)
    return setup(observe_rows, normal_guide("mean"), same(x), before=lambda step: x.normal_().add_(step))  # type: ignore[arg-type]


def tensor_resized_in_place() -> Setup:
    """One tensor that gets another length in place (`set_`, `resize_`)."""
    x = torch.randn(5)

    def before(step: int) -> None:
        if step in (8, 13):
            x.resize_(step).fill_(0.3)

    return setup(observe_rows, normal_guide("mean"), same(x), before=before)


def argument_written_by_model() -> Setup:
    """A tensor that the model writes into: its argument counts calls."""
    calls = torch.zeros(())

    def model(x: Tensor, calls: Tensor) -> None:
        calls.add_(1.0)
        observe_rows(x - 0.01 * calls)

    return setup(model, normal_guide("mean"), same(torch.randn(5), calls), watched=[calls])


def argument_requires_gradient() -> Setup:
    """An argument that requires a gradient, which accumulates in it."""
    x = torch.randn(5, requires_grad=True)

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(mean * x, 0.5), obs=torch.ones(len(x)))

    return setup(model, normal_guide("mean"), same(x), state=lambda: None if x.grad is None else x.grad.tolist())


def same_tensor_twice() -> Setup:
    """One tensor for two arguments in some calls, two tensors in others."""
    x, y = line(6)

    def model(x: Tensor, y: Tensor) -> None:
        observe_rows(x + y if x is y else x - y)

    return in_turn(model, (x, x), (x, y), (y, y))


def tensor_of_one_number() -> Setup:
    """Tensors without dimensions as arguments, and a boolean tensor that becomes another."""

    def model(x: Tensor, weight: Tensor, flags: Tensor) -> None:
        observe_rows(torch.where(flags, x, weight))

    x, flags = torch.randn(4), torch.tensor([True, False, True, True])
    return setup(model, normal_guide("mean"), lambda step: ((x, torch.tensor(0.1 * step), flags.roll(step // 9)), {}))
