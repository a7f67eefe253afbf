"""Train one setup under SVI and under CompiledSVI, and list every difference."""

import hashlib
import random
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
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


@dataclass
class Step:
    """What one step gave."""

    loss: Any
    error: tuple[str, str] | None
    tensors: dict[str, Tensor]
    random_state: str
    state: Any


@dataclass
class Record:
    """What a training gave."""

    steps: list[Step] = field(default_factory=list)
    warnings: set[tuple[str, str]] = field(default_factory=set)
    compilation_warnings: list[str] = field(default_factory=list)
    engines: list[str] = field(default_factory=list)


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


def train(cls: Any, make: Callable[[], Setup], steps: int, *, seed: int = 0, **options: Any) -> Record:
    """Train by `cls`, SVI or CompiledSVI, under one seed and in a store of its own; an error does not end it."""
    record = Record()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    with pyro.get_param_store().scope(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        setup = make()
        svi = cls(setup.model, setup.guide, setup.optim, setup.loss, **options)
        for number in range(steps):
            setup.before(number)
            args, kwargs = setup.call(number)
            loss, error = None, None
            try:
                loss = svi.step(*args, **kwargs)
                if setup.evaluate_every and number % setup.evaluate_every == 0:
                    loss = (loss, svi.evaluate_loss(*args, **kwargs))
            except Exception as raised:
                error = (type(raised).__name__, str(raised))
            record.steps.append(Step(loss, error, _tensors(setup.watched), _random_state(), setup.state()))
    for each in caught:
        if issubclass(each.category, CompilationWarning):
            record.compilation_warnings.append(str(each.message))
        elif "Triggered internally" not in str(each.message):  # by torch, once a process
            record.warnings.add((each.category.__name__, str(each.message)))
    if isinstance(svi, CompiledSVI):
        record.engines = list(getattr(svi, "elbo", svi).engines)
    return record


def _flat(loss: Any) -> list[float]:
    return [number for each in loss for number in _flat(each)] if isinstance(loss, tuple) else [float(loss)]


def _far(one: Tensor, other: Tensor, tolerance: float) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return True
    if tolerance == 0.0 or not one.dtype.is_floating_point:
        return not torch.equal(one.nan_to_num(nan=1.25e9), other.nan_to_num(nan=1.25e9))
    return not torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def differences(expected: Record, actual: Record, *, tolerance: float = 0.0) -> list[str]:
    """Return every difference, in words: none with a tolerance of 0 means equal to the last bit."""
    found = []
    for number, (one, other) in enumerate(zip(expected.steps, actual.steps, strict=True)):
        where = f"step {number}"
        if one.error != other.error:
            found.append(f"{where}: SVI raises {one.error}, CompiledSVI {other.error}")
        if (one.loss is None) != (other.loss is None):
            found.append(f"{where}: loss {one.loss} and {other.loss}")
        elif one.loss is not None:
            a, b = (torch.tensor(_flat(loss), dtype=torch.float64) for loss in (one.loss, other.loss))
            if _far(a, b, tolerance):
                found.append(f"{where}: loss {one.loss!r} and {other.loss!r}")
        if one.tensors.keys() != other.tensors.keys():
            found.append(f"{where}: {sorted(one.tensors.keys() ^ other.tensors.keys())} only in one")
        for name in one.tensors.keys() & other.tensors.keys():
            if _far(one.tensors[name], other.tensors[name], tolerance):
                found.append(f"{where}: {name} differs by {_distance(one.tensors[name], other.tensors[name])}")
        if one.random_state != other.random_state:
            found.append(f"{where}: another random state")
        if one.state != other.state:
            found.append(f"{where}: state {one.state!r} and {other.state!r}")
    if expected.warnings != actual.warnings:
        found.append(f"warnings: {expected.warnings ^ actual.warnings}")
    if len(actual.compilation_warnings) > 1:
        found.append(f"more than one warning: {actual.compilation_warnings}")
    return found


def _distance(one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape:
        return f"shape, {tuple(one.shape)} and {tuple(other.shape)}"
    return f"{(one.double() - other.double()).abs().max().item():.3g}"


def compare(make: Callable[[], Setup], steps: int = 20, *, seed: int = 0, **options: Any) -> tuple[Record, list[str]]:
    """Train both ways; return the record of CompiledSVI, and the differences.

    Options are CompiledSVI's: ``compiled=False`` (the default here) has to give no difference at all, a compiled graph,
    with ``fallback_random=True``, none beyond 1e-5.
    """
    options = {"compiled": False} | options
    expected = train(SVI, make, steps, seed=seed)
    actual = train(CompiledSVI, make, steps, seed=seed, **options)
    return actual, differences(expected, actual, tolerance=1e-5 if options["compiled"] else 0.0)


def fell_back(record: Record) -> str | None:
    """Return why Pyro itself ran, in the words of the one warning, or None."""
    for message in record.compilation_warnings:
        return re.sub(r"\s+", " ", message)
    return None
