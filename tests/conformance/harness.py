"""Train one setup under SVI and under CompiledSVI, and list every difference."""

import copy
import hashlib
import math
import random
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import SVI
from torch import Tensor, nn

from pyro_ricvae.inference import CompilationWarning, CompiledSVI

Call = tuple[Sequence[Any], dict[str, Any]]


@dataclass
class Setup:
    """What a user trains, made afresh for each training, under one seed and with an empty store.

    Attributes
    ----------
    model, guide, optim, loss
        As for SVI.
    call : callable
        From the number of a step to the arguments of `step`: ``(args, kwargs)``.
    before : callable, optional
        What the user does before a step, called with its number: a schedule, ``eval()``, a layer that is replaced.
    watched : sequence of Module or Tensor
        Whose buffers, modes and values are compared: also what model and guide know only by closures.
    state : callable, optional
        Python state to compare after each step, compared by ``==``: a log, a counter.
    evaluate_every : int
        After how many steps `evaluate_loss` is called, 0 for never.
    loss_and_grads : callable, optional
        As for SVI.
    rounding : float
        How far a compiled graph may be off: 1e-5, or what bfloat16 resolves.
    also : Setup, optional
        What a second SVI trains, in turn with the first; of it, all but what is watched, the state, and `before` count.
    """

    model: Any
    guide: Any
    optim: Any
    loss: Any
    call: Callable[[int], Call]
    before: Callable[[int], None] = lambda step: None
    watched: Sequence[nn.Module | Tensor] = ()
    state: Callable[[], Any] = lambda: None
    evaluate_every: int = 0
    loss_and_grads: Any = None
    rounding: float = 1e-5
    also: "Setup | None" = None


@dataclass
class Step:
    """What one step gave."""

    loss: Any
    error: tuple[str, str] | None
    tensors: dict[str, Tensor]
    random_state: str
    state: Any
    warnings: list[tuple[str, str]]


@dataclass
class Record:
    """What a training gave."""

    steps: list[Step] = field(default_factory=list)
    compilation_warnings: list[str] = field(default_factory=list)
    engines: list[str] = field(default_factory=list)
    optimizer: Any = None
    rounding: float = 1e-5

    @property
    def warnings(self) -> set[tuple[str, str]]:
        """All that were given, but for ours."""
        return {each for step in self.steps for each in step.warnings}


def _random_state() -> str:
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    digest.update(repr(random.getstate()).encode())
    digest.update(np.random.get_state()[1].tobytes())  # type: ignore[index,union-attr]  # noqa: NPY002
    return digest.hexdigest()


def _tensors(watched: Iterable[nn.Module | Tensor]) -> dict[str, Tensor]:
    """Return copies of all that is in the store, and of what is watched."""
    store = pyro.get_param_store()
    found = {f"param {name}": value.detach().clone() for name, value in store.items()}
    for number, each in enumerate(watched):
        if isinstance(each, nn.Module):
            found |= {f"{number} {name}": value.detach().clone() for name, value in each.state_dict().items()}
            modes = [part.training for part in each.modules()]
            found[f"{number} modes"] = torch.tensor(modes)
        else:
            found[f"{number}"] = each.detach().clone()
    return found


@contextmanager
def _global_settings() -> Iterator[None]:
    """Put back what a setup may change: the default dtype, Pyro's settings, and whether it validates."""
    dtype = torch.get_default_dtype()
    validates = pyro.distributions.is_validation_enabled()
    try:
        with pyro.validation_enabled(validates), pyro.settings.context(**pyro.settings.get()):
            yield
    finally:
        torch.set_default_dtype(dtype)


def _svi(cls: Any, setup: Setup, options: dict[str, Any]) -> Any:
    return cls(setup.model, setup.guide, setup.optim, setup.loss, setup.loss_and_grads, **options)


def train(cls: Any, make: Callable[[], Setup], steps: int, *, seed: int = 0, **options: Any) -> Record:
    """Train by `cls`, SVI or CompiledSVI, under one seed and in a store of its own; an error does not end it."""
    record = Record()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    with pyro.get_param_store().scope(), _global_settings(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        setup = make()
        record.rounding = setup.rounding
        svi, also = (each and _svi(cls, each, options) for each in (setup, setup.also))
        for number in range(steps):
            caught.clear()
            setup.before(number)
            loss, error = None, None
            try:
                args, kwargs = setup.call(number)
                loss = svi.step(*args, **kwargs)
                if setup.evaluate_every and number % setup.evaluate_every == 0:
                    loss = (loss, svi.evaluate_loss(*args, **kwargs))
                if setup.also:
                    args, kwargs = setup.also.call(number)
                    loss = (loss, also.step(*args, **kwargs))
            except Exception as raised:
                error = (type(raised).__name__, str(raised))
            state = copy.deepcopy(setup.state())
            given = []
            for each in caught:
                if issubclass(each.category, CompilationWarning):
                    record.compilation_warnings.append(str(each.message))
                elif "Triggered internally" not in str(each.message):  # by torch, once a process
                    given.append((each.category.__name__, str(each.message)))
            record.steps.append(Step(loss, error, _tensors(setup.watched), _random_state(), state, given))
        optimizers = copy.deepcopy(getattr(setup.optim, "get_state", dict)())
        record.optimizer = {name: each for name, each in optimizers.items() if name is not None}  # None: left the store
    for each in (svi, also):
        if isinstance(each, CompiledSVI):
            record.engines += each.engines
    return record


def _flat(loss: Any) -> list[float]:
    return [number for each in loss for number in _flat(each)] if isinstance(loss, tuple) else [float(loss)]


def _far(one: Tensor, other: Tensor, tolerance: float) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return True
    if not (one.is_floating_point() or one.is_complex()):
        return not torch.equal(one, other)
    if tolerance == 0.0:
        return not torch.equal(one.nan_to_num(nan=1.25e9), other.nan_to_num(nan=1.25e9))
    return not torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _unlike(one: Any, other: Any, tolerance: float) -> bool:
    """Return whether two values of Python differ, which may be lists or dictionaries, the latter in any order."""
    if type(one) is not type(other):
        return True
    if isinstance(one, dict):
        return one.keys() != other.keys() or any(_unlike(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple):
        return len(one) != len(other) or any(_unlike(*pair, tolerance) for pair in zip(one, other, strict=True))
    if isinstance(one, Tensor):
        return _far(one, other, tolerance)
    if isinstance(one, float):
        same = math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
        return not (same or (math.isnan(one) and math.isnan(other)))
    return bool(one != other)


def _words(given: Any, tolerance: float) -> Any:
    """Return an error or warnings, without the numbers in them where these may differ in their last digits."""
    return re.sub(r"-?\d[\d.]*(e[+-]?\d+)?", "#", repr(given)) if tolerance else given


def differences(expected: Record, actual: Record, *, tolerance: float = 0.0) -> list[str]:
    """Return every difference, in words: none with a tolerance of 0 means equal to the last bit."""
    found = [
        f"step {number}: {difference}"
        for number, steps in enumerate(zip(expected.steps, actual.steps, strict=True))
        for difference in (*_of_outcomes(*steps, tolerance), *_of_states(*steps, tolerance))
    ]
    if _unlike(expected.optimizer, actual.optimizer, tolerance):
        found.append("another state of the optimizer")
    if len(actual.compilation_warnings) > 1:
        found.append(f"more than one warning: {actual.compilation_warnings}")
    return found


def _of_outcomes(one: Step, other: Step, tolerance: float) -> Iterator[str]:
    if _words(one.error, tolerance) != _words(other.error, tolerance):
        yield f"SVI raises {one.error}, CompiledSVI {other.error}"
    if (one.loss is None) != (other.loss is None):
        yield f"loss {one.loss} and {other.loss}"
    elif one.loss is not None:
        a, b = (torch.tensor(_flat(loss), dtype=torch.float64) for loss in (one.loss, other.loss))
        if _far(a, b, tolerance):
            yield f"loss {one.loss!r} and {other.loss!r}"
    if _words(one.warnings, tolerance) != _words(other.warnings, tolerance):
        yield f"SVI warns {one.warnings}, CompiledSVI {other.warnings}"


def _of_states(one: Step, other: Step, tolerance: float) -> Iterator[str]:
    if one.tensors.keys() != other.tensors.keys():
        yield f"{sorted(one.tensors.keys() ^ other.tensors.keys())} only in one"
    for name in sorted(one.tensors.keys() & other.tensors.keys()):
        if _far(one.tensors[name], other.tensors[name], tolerance):
            yield f"{name} differs by {_distance(one.tensors[name], other.tensors[name])}"
    if one.random_state != other.random_state:
        yield "another random state"
    if _unlike(one.state, other.state, tolerance):
        yield f"state {one.state!r} and {other.state!r}"


def _distance(one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape:
        return f"shape, {tuple(one.shape)} and {tuple(other.shape)}"
    return f"{(one.double() - other.double()).abs().max().item():.3g}"


def compare(make: Callable[[], Setup], steps: int = 20, *, seed: int = 0, **options: Any) -> tuple[Record, list[str]]:
    """Train both ways; return the record of CompiledSVI, and the differences.

    Options are CompiledSVI's: ``compiled=False`` (the default here) has to give no difference at all, a compiled graph,
    with ``fallback_random=True``, none beyond its `Setup.rounding`.
    """
    options = {"compiled": False} | options
    expected = train(SVI, make, steps, seed=seed)
    actual = train(CompiledSVI, make, steps, seed=seed, **options)
    return actual, differences(expected, actual, tolerance=expected.rounding if options["compiled"] else 0.0)


def fell_back(record: Record) -> str | None:
    """Return why Pyro itself ran, in the words of the one warning, or None."""
    for message in record.compilation_warnings:
        return re.sub(r"\s+", " ", message)
    return None
