"""Numbers that the user changes while training, wherever Python code may read them from."""

import dataclasses
import functools
import itertools
import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from conformance.harness import Setup
from conformance.parts import same, setup

TEMPERATURE = 1.0


def _slow(step: int) -> float:
    """Return the temperature of many tutorials."""
    return max(0.5, math.exp(-1e-4 * step))


def _gates(temperature: Any) -> Tensor:
    """Return Gumbel-softmax gates of a model."""
    relaxed = dist.RelaxedBernoulli(torch.as_tensor(temperature), probs=torch.tensor([0.3, 0.6]))
    gates: Tensor = pyro.sample("gates", relaxed.to_event(1))
    return gates


def _observe(gates: Tensor, x: Tensor) -> None:
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(gates.sum(-1), 0.5), obs=x)


def _gates_guide(temperature: Any) -> None:
    probs = pyro.param("probs", torch.tensor([0.4, 0.5]), constraint=dist.constraints.unit_interval)
    pyro.sample("gates", dist.RelaxedBernoulli(torch.as_tensor(temperature), probs=probs).to_event(1))


class _Gumbel(nn.Module):
    """A model with its temperature as attribute."""

    shared = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0

    def model(self, x: Tensor) -> None:
        _observe(_gates(self.temperature), x)

    def guide(self, x: Tensor) -> None:
        _gates_guide(self.temperature)


def temperature_attribute() -> Setup:
    """Temperature as attribute of a module, which falls slowly at each step."""
    gumbel = _Gumbel()

    def before(step: int) -> None:
        gumbel.temperature = _slow(step)

    return setup(gumbel.model, gumbel.guide, same(torch.randn(5)), before=before)


def temperature_attribute_seldom() -> Setup:
    """Temperature as attribute of a module, which falls every fifth step."""
    gumbel = _Gumbel()

    def before(step: int) -> None:
        gumbel.temperature = 0.9 ** (step // 5)

    return setup(gumbel.model, gumbel.guide, same(torch.randn(5)), before=before)


def temperature_attribute_once() -> Setup:
    """Temperature as attribute of a module, which falls once, by very little."""
    gumbel = _Gumbel()

    def before(step: int) -> None:
        gumbel.temperature = 1.0 if step < 13 else 1.0 - 1e-6

    return setup(gumbel.model, gumbel.guide, same(torch.randn(5)), before=before)


def temperature_class_attribute() -> Setup:
    """Temperature as attribute of a class, which falls at each step."""

    class Gumbel(_Gumbel):
        def model(self, x: Tensor) -> None:
            _observe(_gates(self.shared), x)

        def guide(self, x: Tensor) -> None:
            _gates_guide(type(self).shared)

    gumbel = Gumbel()

    def before(step: int) -> None:
        Gumbel.shared = _slow(step)

    return setup(gumbel.model, gumbel.guide, same(torch.randn(5)), before=before)


def temperature_property() -> Setup:
    """Temperature as property, which computes it from a counter of epochs."""

    class Gumbel(_Gumbel):
        epoch = 0

        @property
        def current(self) -> float:
            return 0.95**self.epoch

        def model(self, x: Tensor) -> None:
            _observe(_gates(self.current), x)

        def guide(self, x: Tensor) -> None:
            _gates_guide(self.current)

    gumbel = Gumbel()

    def before(step: int) -> None:
        gumbel.epoch = step // 4

    return setup(gumbel.model, gumbel.guide, same(torch.randn(5)), before=before)


def temperature_tensor_attribute() -> Setup:
    """Temperature as tensor attribute, filled in place before each step."""
    gumbel = _Gumbel()
    gumbel.temperature = torch.tensor(1.0)  # type: ignore[assignment]

    def before(step: int) -> None:
        gumbel.temperature.fill_(_slow(step))  # type: ignore[attr-defined]

    return setup(gumbel.model, gumbel.guide, same(torch.randn(5)), before=before)


def temperature_global() -> Setup:
    """Temperature as global variable, which falls at each step."""

    def model(x: Tensor) -> None:
        _observe(_gates(TEMPERATURE), x)

    def guide(x: Tensor) -> None:
        _gates_guide(TEMPERATURE)

    def before(step: int) -> None:
        global TEMPERATURE
        TEMPERATURE = _slow(step)

    return setup(model, guide, same(torch.randn(5)), before=before)


def temperature_closure() -> Setup:
    """Temperature as variable of an enclosing function, which falls every third step."""
    temperature = 1.0

    def model(x: Tensor) -> None:
        _observe(_gates(temperature), x)

    def guide(x: Tensor) -> None:
        _gates_guide(temperature)

    def before(step: int) -> None:
        nonlocal temperature
        temperature = _slow(1000 * (step // 3))

    return setup(model, guide, same(torch.randn(5)), before=before)


def temperature_dictionary() -> Setup:
    """Temperature in a dictionary of settings within a dictionary."""
    settings: dict[str, Any] = {"gumbel": {"temperature": 1.0}, "seed": 1}

    def model(x: Tensor) -> None:
        _observe(_gates(settings["gumbel"]["temperature"]), x)

    def guide(x: Tensor) -> None:
        _gates_guide(settings["gumbel"]["temperature"])

    def before(step: int) -> None:
        settings["gumbel"]["temperature"] = _slow(step)

    return setup(model, guide, same(torch.randn(5)), before=before)


def temperature_dataclass() -> Setup:
    """Temperature in a frozen dataclass, replaced every fourth step."""

    @dataclasses.dataclass(frozen=True)
    class Settings:
        temperature: float = 1.0
        other: str = "none"

    settings = Settings()

    def model(x: Tensor) -> None:
        _observe(_gates(settings.temperature), x)

    def guide(x: Tensor) -> None:
        _gates_guide(settings.temperature)

    def before(step: int) -> None:
        nonlocal settings
        if step % 4 == 0:
            settings = dataclasses.replace(settings, temperature=_slow(1000 * step))

    return setup(model, guide, same(torch.randn(5)), before=before)


def temperature_default_argument() -> Setup:
    """Temperature as default argument, changed in the function's __defaults__."""

    def model(x: Tensor, temperature: float = 1.0) -> None:
        _observe(_gates(temperature), x)

    def guide(x: Tensor, *, temperature: float = 1.0) -> None:
        _gates_guide(temperature)

    def before(step: int) -> None:
        if step == 11:
            model.__defaults__ = (0.7,)
            guide.__kwdefaults__["temperature"] = 0.7

    return setup(model, guide, same(torch.randn(5)), before=before)


def temperature_callable_object() -> Setup:
    """Temperature in an object, not a module, that is model by its __call__."""

    class Model:
        def __init__(self) -> None:
            self.temperature = 1.0

        def __call__(self, x: Tensor) -> None:
            _observe(_gates(self.temperature), x)

    model = Model()

    def before(step: int) -> None:
        model.temperature = _slow(step)

    return setup(model, lambda x: _gates_guide(model.temperature), same(torch.randn(5)), before=before)


def temperature_partial() -> Setup:
    """Temperature in a functools.partial, whose keyword the user changes."""

    def model(x: Tensor, temperature: float) -> None:
        _observe(_gates(temperature), x)

    model_ = functools.partial(model, temperature=1.0)

    def before(step: int) -> None:
        model_.keywords["temperature"] = _slow(2000 * (step // 6))

    return setup(model_, lambda x: _gates_guide(0.7), same(torch.randn(5)), before=before)


def temperature_argument() -> Setup:
    """Temperature as float argument, which falls at each step."""

    def model(x: Tensor, temperature: float) -> None:
        _observe(_gates(temperature), x)

    def guide(x: Tensor, temperature: float) -> None:
        _gates_guide(temperature)

    x = torch.randn(5)
    return setup(model, guide, lambda step: ((x,), {"temperature": _slow(step)}))


def temperature_generator() -> Setup:
    """Temperature drawn by the model from a generator."""
    schedule = (0.97**step for step in itertools.count())

    def model(x: Tensor) -> None:
        _observe(_gates(next(schedule)), x)

    return setup(model, lambda x: _gates_guide(0.7), same(torch.randn(5)))


def temperature_straight_through() -> Setup:
    """Straight-through gates, whose gradient Pyro writes in Python; the temperature falls every fifth step."""
    gumbel = _Gumbel()

    def guide(x: Tensor) -> None:
        probs = pyro.param("probs", torch.tensor([0.4, 0.5]), constraint=dist.constraints.unit_interval)
        gates = dist.RelaxedBernoulliStraightThrough(torch.tensor(gumbel.temperature), probs=probs)
        pyro.sample("gates", gates.to_event(1))

    def model(x: Tensor) -> None:
        gates = dist.RelaxedBernoulliStraightThrough(torch.tensor(gumbel.temperature), probs=torch.tensor([0.3, 0.6]))
        _observe(pyro.sample("gates", gates.to_event(1)), x)

    def before(step: int) -> None:
        gumbel.temperature = 0.9 ** (step // 5)

    return setup(model, guide, same(torch.randn(5)), before=before)
