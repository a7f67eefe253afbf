"""Python that a graph has to see through, or leave alone: caches, kinds of tensors, the environment, generators."""

import contextvars
import copy
import functools
import os
import weakref
from collections import OrderedDict, defaultdict, deque
from enum import Enum
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from conformance.harness import Setup
from conformance.parts import batches, line, no_guide, normal_guide, same, setup

_CONTEXT: contextvars.ContextVar[float] = contextvars.ContextVar("shift", default=0.0)


def _points(mean: Tensor, y: Tensor, scale: Any = 0.3) -> None:
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(mean, scale), obs=y)


def _by(mean: Any, **others: Any) -> Setup:
    """Return a regression whose mean is a function of slope and x, over batches."""

    def model(x: Tensor, y: Tensor) -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        _points(mean(slope, x), y)

    return setup(model, normal_guide("slope"), batches(*line()), **others)


def cached_by_function() -> Setup:
    """functools.lru_cache of a matrix, by the number of rows; the cache is emptied at step 9."""
    made: list[int] = []

    @functools.lru_cache
    def matrix(rows: int) -> Tensor:
        made.append(rows)
        return torch.eye(rows) + 0.01 * torch.randn(rows, rows)

    def before(step: int) -> None:
        if step == 9:
            matrix.cache_clear()

    return _by(lambda slope, x: matrix(len(x)) @ (slope * x), before=before, state=lambda: made)


def cached_property() -> Setup:
    """functools.cached_property of a constant, made in the first call, deleted by the user at step 9."""

    class Model:
        calls = 0

        @functools.cached_property
        def basis(self) -> Tensor:
            self.calls += 1
            return torch.tensor([0.5, 0.1 * self.calls])

        def mean(self, slope: Tensor, x: Tensor) -> Tensor:
            return slope * x * self.basis[0] + self.basis[1]

    model = Model()

    def before(step: int) -> None:
        if step == 9:
            del model.basis

    return _by(model.mean, before=before, state=lambda: model.calls)


def cached_by_identity() -> Setup:
    """A cache by the id of a tensor: what was computed of the same batch before."""
    cache: dict[int, float] = {}

    def model(x: Tensor, y: Tensor) -> None:
        shift = cache.setdefault(id(x), 0.1 * len(cache))
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        _points(slope * x + shift, y)

    calls = [line(6), line(6), line(5)]
    return setup(model, normal_guide("slope"), lambda step: (calls[step % 3], {}))


def weak_cache() -> Setup:
    """A WeakKeyDictionary from modules to numbers."""
    layer = nn.Linear(1, 1)
    known: Any = weakref.WeakKeyDictionary({layer: 0.5})

    def before(step: int) -> None:
        if step == 9:
            known[layer] = 0.8

    return _by(lambda slope, x: known[layer] * slope * x, before=before)


def memory_of_last_batch() -> Setup:
    """The model keeps its last batch and compares with it (a running difference)."""
    memory: deque[Tensor] = deque([torch.zeros(())], maxlen=2)

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        memory.append(x.mean())
        return slope * (x - 0.1 * memory[0])

    return _by(mean)


def exact_type() -> Setup:
    """Branches on the exact type of a tensor, on whether it is a leaf, and on isinstance."""

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        shift = 0.1 if type(x) is torch.Tensor else 0.5
        shift += 0.0 if x.is_leaf and isinstance(x, Tensor) else 0.3
        return slope * x + shift + (0.2 if slope.grad_fn is None else 0.0)

    return _by(mean)


def told_of_compilers() -> Setup:
    """Branches on torch.compiler.is_compiling() and torch.jit.is_tracing(), as libraries have them."""

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.compiler.is_exporting():
            return slope * x + 1.0
        return slope * x

    return _by(mean)


def gradients_enabled() -> Setup:
    """Branches on torch.is_grad_enabled(), which evaluate_loss turns off."""
    return _by(lambda slope, x: slope * x + (0.1 if torch.is_grad_enabled() else 0.5), evaluate_every=3)


def environment_variable() -> Setup:
    """An environment variable that the user changes at step 8."""

    def before(step: int) -> None:
        os.environ["CONFORMANCE_SHIFT"] = "0.1" if step < 8 else "0.4"

    return _by(lambda slope, x: slope * x + float(os.environ["CONFORMANCE_SHIFT"]), before=before)


def context_variable() -> Setup:
    """A contextvars.ContextVar that the user sets at each step."""
    return _by(lambda slope, x: slope * x + _CONTEXT.get(), before=lambda step: _CONTEXT.set(0.1 * (step // 5)))  # type: ignore[arg-type]


def default_dictionary() -> Setup:
    """A defaultdict that gains keys by being read, and an OrderedDict whose order the user changes."""
    counts: Any = defaultdict(lambda: 0.5)
    order = OrderedDict(a=1.0, b=2.0)

    def before(step: int) -> None:
        if step % 6 == 5:
            order.move_to_end("a")

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        return slope * x * next(iter(order.values())) + counts[len(x)]

    return _by(mean, before=before, state=lambda: sorted(counts))


def enumerations_and_sets() -> Setup:
    """An Enum as switch, a set of names, a frozenset: changed by the user."""

    class Kind(Enum):
        PLAIN = 1
        SQUARED = 2

    settings: dict[str, Any] = {"kind": Kind.PLAIN, "parts": {"shift"}}

    def before(step: int) -> None:
        if step == 7:
            settings["kind"] = Kind.SQUARED
        if step == 12:
            settings["parts"].add("double")

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        found = slope * x if settings["kind"] is Kind.PLAIN else slope * x**2
        found = found + 0.1 if "shift" in settings["parts"] else found
        return 2 * found if "double" in settings["parts"] else found

    return _by(mean, before=before)


def dynamic_attributes() -> Setup:
    """Attributes by __getattr__ and __slots__, and a method replaced by the user at step 8."""

    class Settings:
        def __init__(self) -> None:
            self.values = {"shift": 0.1}

        def __getattr__(self, name: str) -> float:
            return self.values[name]  # type: ignore[no-any-return]

    class Mean:
        __slots__ = ("factor", "settings")

        def __init__(self) -> None:
            self.factor, self.settings = 1.0, Settings()

        def __call__(self, slope: Tensor, x: Tensor) -> Tensor:
            return self.factor * slope * x + self.settings.shift

    mean = Mean()

    def before(step: int) -> None:
        if step == 8:
            mean.settings.values["shift"] = 0.5
        if step == 12:
            mean.factor = 0.5

    return _by(mean, before=before)


def function_replaced() -> Setup:
    """A function of a module object that the user replaces at step 8 (monkeypatching)."""

    class Links:
        link = staticmethod(torch.tanh)

    def before(step: int) -> None:
        if step == 8:
            Links.link = staticmethod(torch.sin)

    return _by(lambda slope, x: Links.link(slope * x), before=before)


def model_replaced() -> Setup:
    """A model that calls a function in a closure's cell, which the user replaces at step 8."""

    def inner(slope: Tensor, x: Tensor) -> Tensor:
        return slope * x

    def before(step: int) -> None:
        nonlocal inner
        if step == 8:
            inner = lambda slope, x: slope * x**3  # noqa: E731

    return _by(lambda slope, x: inner(slope, x), before=before)


def copied_in_model() -> Setup:
    """The model copies a network by deepcopy, and a new distribution object lives on between calls."""
    network = nn.Linear(1, 1)
    prior = dist.Normal(torch.zeros(()), torch.ones(()))

    def model(x: Tensor, y: Tensor) -> None:
        pyro.module("network", network)
        frozen = copy.deepcopy(network).requires_grad_(False)
        slope = pyro.sample("slope", prior)
        _points(slope * network(x[:, None])[:, 0] + 0.1 * frozen(x[:, None])[:, 0], y)

    def before(step: int) -> None:
        if step == 10:
            prior.scale.fill_(2.0)

    return setup(model, normal_guide("slope"), batches(*line()), before=before, watched=[network])


def store_read_in_model() -> Setup:
    """The model asks the store whether a parameter is there, and how many there are."""

    def model(x: Tensor, y: Tensor) -> None:
        store = pyro.get_param_store()
        known = 0.1 * len(store) if "later" in store else 0.0
        _points(pyro.param("slope", torch.tensor(0.5)) * x + known, y)

    def before(step: int) -> None:
        if step == 8:
            pyro.param("later", torch.tensor(1.0))

    return setup(model, no_guide, batches(*line()), before=before)


def handlers_in_model() -> Setup:
    """The model traces, blocks and replays another model within itself."""

    def inner(x: Tensor) -> Tensor:
        found: Tensor = pyro.sample("inner", dist.Normal(x.mean(), 1.0))
        return found

    def model(x: Tensor, y: Tensor) -> None:
        with poutine.block():
            trace = poutine.trace(inner).get_trace(x)
        shift = poutine.block(poutine.replay(inner, trace=trace))(x)
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        _points(slope * x + 0.1 * shift + 0.01 * trace.log_prob_sum(), y)

    return setup(model, normal_guide("slope"), same(*line(6)))
