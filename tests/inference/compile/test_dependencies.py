"""What Python reads for a loss is noticed when it changes, by however little, wherever it is kept."""

import dataclasses
import functools
import random
import types
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch import nn

from pyro_ricvae.inference.compile.dependencies import Dependencies

LITTLE = 1.0 + 2**-50

# What a change changes; functions read it as a global variable.
temperature = 1.0
table = {"temperature": 1.0, "rest": [1, 2]}


@dataclasses.dataclass(slots=True)
class Slotted:
    """Attributes without a dictionary."""

    value: float = 1.0


class Annealed:
    """A user's schedule: by an attribute, of the object or of the class."""

    rate = 1.0

    def __init__(self) -> None:
        self.value = 1.0
        self.history: list[float] = []

    @property
    def squared(self) -> float:
        return self.value**2

    def __call__(self) -> float:
        return self.squared * self.rate


def keep(value: Any) -> tuple[Any, Callable[[], None]]:
    """Return a function that reads a value from a closure, and one that changes it by a little."""

    def read() -> Any:
        return value

    def change() -> None:
        nonlocal value
        value = LITTLE

    return read, change


def of_global() -> Any:
    def change() -> None:
        global temperature
        temperature = LITTLE

    return lambda: temperature, change


def of_table() -> Any:
    return lambda: table["temperature"], lambda: table.update(temperature=LITTLE)


def of_nested_list() -> Any:
    return lambda: table["rest"], lambda: table["rest"].append(3)  # type: ignore[attr-defined]


def of_default() -> Any:
    def read(value: float = 1.0) -> float:
        return value

    return read, lambda: setattr(read, "__defaults__", (LITTLE,))


def of_keyword_default() -> Any:
    def read(*, value: float = 1.0) -> float:
        return value

    return read, lambda: read.__kwdefaults__.update(value=LITTLE)


def of_attribute() -> Any:
    schedule = Annealed()
    return schedule, lambda: setattr(schedule, "value", LITTLE)


def of_class() -> Any:
    cls = type("Own", (Annealed,), {"rate": 1.0, "__module__": __name__})
    return cls(), lambda: setattr(cls, "rate", LITTLE)


def of_shadowed_class() -> Any:
    schedule = Annealed()
    return schedule, lambda: setattr(schedule, "rate", LITTLE)


def of_slot() -> Any:
    slotted = Slotted()
    return lambda: slotted.value, lambda: setattr(slotted, "value", LITTLE)


class Tempered(nn.Module):
    """A user's network, whose ``forward`` only torch calls."""

    def __init__(self) -> None:
        super().__init__()
        self.warmth = 1.0
        self.mask = torch.ones(2)

    def forward(self, x: Any) -> Any:
        return self.warmth * x


def of_network() -> Any:
    network = Tempered()
    return lambda x: network(x), lambda: setattr(network, "warmth", LITTLE)


def of_network_in_a_network() -> Any:
    network = nn.Sequential(Tempered(), nn.ReLU())
    return network, lambda: setattr(network[0], "warmth", LITTLE)


def of_computed_name() -> Any:
    settings = types.SimpleNamespace(value_0=1.0)
    return lambda: getattr(settings, f"value_{0}"), lambda: setattr(settings, "value_0", LITTLE)


def of_array() -> Any:
    array = np.ones(3)
    return lambda: array, lambda: array.__setitem__(1, LITTLE)


def of_deque() -> Any:
    values = deque([1.0, 1.0])
    return lambda: values, lambda: values.rotate() or values.append(2.0)


def of_set() -> Any:
    values = {1.0}
    return lambda: values, lambda: values.add(LITTLE)


def of_partial() -> Any:
    options = {"value": 1.0}
    return functools.partial(dict, options), lambda: options.update(value=LITTLE)


def of_type() -> Any:
    settings = types.SimpleNamespace(value=1.0)
    return lambda: settings.value, lambda: setattr(settings, "value", 1)


def of_sign() -> Any:
    settings = types.SimpleNamespace(value=0.0)
    return lambda: settings.value, lambda: setattr(settings, "value", -0.0)


def of_layer() -> Any:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    return network, lambda: network.__setitem__(0, nn.Linear(2, 2))


def of_dropout() -> Any:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    return network, lambda: setattr(network[1], "p", 0.5 * LITTLE)


def of_mode() -> Any:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    return lambda: network(torch.zeros(2)), network.eval


def of_hook() -> Any:
    network = nn.Sequential(nn.Linear(2, 2))
    return network, lambda: network[0].register_forward_hook(lambda *_: None)


def of_frozen() -> Any:
    network = nn.Linear(2, 2)
    return network, lambda: network.weight.requires_grad_(False)


def of_type_of_parameters() -> Any:
    network = nn.Linear(2, 2)
    return network, network.double


def of_tensor() -> Any:
    module = nn.Module()
    module.mask = torch.ones(2)
    module.forward = lambda: module.mask
    return module, lambda: setattr(module, "mask", torch.zeros(2))


def of_generator() -> Any:
    generator = random.Random(0)
    return lambda: generator.random(), generator.random


def of_random_state() -> Any:
    generator = np.random.default_rng(0)
    return lambda: generator.normal(), generator.normal


def of_elbo() -> Any:
    elbo = pyro.infer.Trace_ELBO()
    return elbo.loss, lambda: setattr(elbo, "num_particles", 2)


KEPT = [each for name, each in list(globals().items()) if name.startswith("of_")]


@pytest.mark.parametrize("make", KEPT, ids=lambda make: make.__name__.removeprefix("of_"))
def test_a_change_is_noticed(make: Callable[[], tuple[Any, Callable[[], Any]]]) -> None:
    read, change = make()
    try:
        known = Dependencies({"model": read}, ["model"])
        assert known.obstacle is None
        assert known.hold()
        assert known.changes() == []
        change()
        assert not known.hold()
        assert not known.hold()
        assert len(known.changes()) >= 1
        assert Dependencies({"model": read}, ["model"]).hold()
    finally:
        globals().update(temperature=1.0)
        table.update(temperature=1.0, rest=[1, 2])


def test_a_closure() -> None:
    read, change = keep(1.0)
    known = Dependencies({"model": read}, ["model"])
    change()
    ((path, before, now),) = known.changes()
    assert path == "model.<locals>.value"
    assert (before[1], now[1]) == ("1.0", repr(LITTLE))


def test_another_object_of_the_same_value_is_no_change() -> None:
    schedule = Annealed()
    known = Dependencies({"model": schedule}, ["model"])
    schedule.value = float("1.0")
    assert known.hold()
    schedule.value = LITTLE
    assert not known.hold()
    schedule.value = 1.0
    assert known.hold()


def test_another_function_in_the_place_of_the_model() -> None:
    namespace = {"model": lambda: temperature}
    known = Dependencies(namespace, ["model"])
    namespace["model"] = lambda: 2 * temperature
    assert not known.hold()


def test_what_the_code_does_not_name_may_change() -> None:
    schedule = Annealed()
    known = Dependencies({"model": schedule}, ["model"])
    schedule.history.append(1.0)  # a log of the training loop, for one
    schedule.losses = [3.0]  # type: ignore[attr-defined]
    table["temperature"] = 3.0
    try:
        assert known.hold()
    finally:
        table["temperature"] = 1.0


def test_values_of_tensors_may_change() -> None:
    network = nn.Linear(2, 2)
    known = Dependencies({"model": network}, ["model"])
    with torch.no_grad():
        network.weight.add_(1.0)
    assert known.hold()
    assert set(known.tensors) == {"model.weight", "model.bias"}
    assert known.modules == [network]


def clock() -> float:
    import time

    return time.perf_counter()


def counted() -> Any:
    numbers = iter(range(3))
    return lambda: next(numbers)


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (clock, "time"),
        (counted(), "an iterator"),
        (lambda: open("settings.json"), "open"),  # noqa: SIM115
        (lambda: np.zeros(1), None),
        (keep(np.zeros(200_000))[0], "a NumPy array of 2 MB"),
        (keep(list(range(30_000)))[0], "more than 20000 objects"),
    ],
)
def test_what_cannot_be_compared_is_an_obstacle(read: Any, what: str | None) -> None:
    obstacle = Dependencies({"model": read}, ["model"]).obstacle
    assert what is None if obstacle is None else str(what) in obstacle
