"""One graph in use: what it is for, whether it still is, and how it is compared with Pyro."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pyro
import torch
from torch import Tensor

from pyro_ricvae.inference.compile.capture import Graph
from pyro_ricvae.inference.compile.dependencies import Dependencies

# How far a graph may be from the eager loss, relatively, where sums are taken in another order.
_TOLERANCE = 1e-5

# A graph is verified again after so many calls, at first and then at the latest.
_FIRST_CHECK, _LAST_CHECK = 8, 1024


class CompilationWarning(UserWarning):
    """Something runs slower than it could: what, why, and what to do."""


@dataclass
class Program:
    """A loss for arguments of one kind.

    Attributes
    ----------
    graph : Graph
        What was captured.
    run : callable
        The same, compiled or not: from the tensors among the arguments to values and surrogates.
    engine : {"compiled", "captured"}
        Whether `run` is compiled.
    dependencies : Dependencies
        What Python read while it was captured.
    arguments : dict of int to Dependencies
        The same of arguments that are objects, by their position.
    params : dict of str to Tensor
        The entries of Pyro's parameter store that it depends on.
    whole_store : bool
        Whether these are all that there are, and have to stay so.
    trained : list of Tensor
        What it gives a gradient to.
    written : list of Tensor
        What it changes in place: buffers.
    dtypes : list of torch.dtype or None
        Of its values; None for numbers of Python's.
    copies : bool
        Whether it runs on contiguous copies of tensors that are not.
    by_value : bool
        Whether its gradient is that of its value.
    """

    graph: Graph
    run: Callable[..., Sequence[Tensor]]
    engine: Literal["compiled", "captured"]
    dependencies: Dependencies
    arguments: dict[int, Dependencies]
    params: dict[str, Tensor]
    whole_store: bool
    trained: list[Tensor]
    written: list[Tensor]
    dtypes: list[torch.dtype | None]
    copies: bool
    by_value: bool
    calls: int = field(default=0, init=False)

    def holds(self, leaves: Sequence[Any]) -> bool:
        """Return whether all that Python read is as it was when the loss was captured."""
        known = pyro.get_param_store()._params
        return (
            all(known.get(name) is tensor for name, tensor in self.params.items())
            and not (self.whole_store and len(known) != len(self.params))
            and self.dependencies.hold()
            and all(
                was.hold() if leaves[position] is was.namespace["argument"] else alike(was, leaves[position])
                for position, was in self.arguments.items()
            )
        )

    def is_due(self) -> bool:
        """Count a call; return whether it is time to verify it again: at calls 8, 16, 32, ..., 1024, 2048, 3072, ..."""
        self.calls += 1
        calls = self.calls
        return calls % _LAST_CHECK == 0 or (_FIRST_CHECK <= calls < _LAST_CHECK and calls & (calls - 1) == 0)

    def __call__(self, leaves: Sequence[Any], run: Callable[..., Sequence[Tensor]] | None = None) -> Any:
        """Return values and surrogates, two lists."""
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if self.copies:
            tensors = [tensor.contiguous() for tensor in tensors]
        values, surrogates = self.graph.value_and_surrogates((run or self.run)(*tensors))
        return [
            value if dtype is None or value.dtype is dtype else value.to(dtype)
            for value, dtype in zip(values, self.dtypes, strict=True)
        ], surrogates


def about_argument(leaf: Any) -> Dependencies:
    """Return what can be read of an argument that is an object."""
    return Dependencies({"argument": leaf}, ["argument"])


def alike(was: Dependencies, leaf: Any) -> bool:
    """Return whether another object says the same as the one that an argument was."""
    now = about_argument(leaf)
    return now.facts == was.facts and now.obstacle is None


def copies_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return detached copies."""
    return [tensor.detach().clone() for tensor in tensors]


class State:
    """What a call changes besides its result, as it is now: torch's random numbers, and tensors.

    Parameters
    ----------
    tensors : iterable
        Of which only the devices count.
    written : sequence of Tensor
        What may be changed in place.
    """

    def __init__(self, tensors: Iterable[Any], written: Sequence[Tensor]) -> None:
        self._devices = sorted({each.device.index for each in tensors if isinstance(each, Tensor) and each.is_cuda})
        self.random_state = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices)]
        self._written = list(written)
        self.values = copies_of(self._written)

    @torch.no_grad()
    def put_back(self) -> None:
        """Make all of it again what it was."""
        torch.set_rng_state(self.random_state[0])
        for device, state in zip(self._devices, self.random_state[1:], strict=True):
            torch.cuda.set_rng_state(state, device)
        for tensor, value in zip(self._written, self.values, strict=True):
            tensor.copy_(value)


@dataclass
class Outcome:
    """What one call gave.

    Attributes
    ----------
    values : list of Tensor
        The loss.
    gradients : list of Tensor or None
        One for each tensor that is trained.
    state : State
        As it was afterwards.
    """

    values: list[Tensor]
    gradients: list[Tensor | None]
    state: State


def difference(expected: Outcome, actual: Outcome, trained: Sequence[Tensor], exactly: bool = True) -> str | None:
    """Return what a graph gave otherwise than the eager loss, in words, or None: they have to be equal to the last bit.

    Only where sums are taken in another order is some difference allowed: on CUDA, and of other strides.
    """
    pairs: list[tuple[str, Tensor | None, Tensor | None]] = [
        *(("its value", *pair) for pair in zip(actual.values, expected.values, strict=True)),
        *(
            (f"its gradient for the tensor of shape {tuple(tensor.shape)}", one, other)
            for tensor, one, other in zip(trained, actual.gradients, expected.gradients, strict=True)
        ),
        *(
            ("the random numbers it takes", *pair)
            for pair in zip(actual.state.random_state, expected.state.random_state, strict=True)
        ),
        *(
            ("a tensor that is changed in place", *pair)
            for pair in zip(actual.state.values, expected.state.values, strict=True)
        ),
    ]
    for name, one, other in pairs:
        if (one is None) != (other is None):
            there = other if one is None else one
            if there is not None and there.count_nonzero():  # SVI leaves zeros where there is none
                return f"{name}, which one of them does not have"
        elif one is not None and other is not None and not _equal(one, other, exactly):
            return name
    return None


def same_values(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal to the last bit, and NaN in the same places."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if torch.equal(one, other):
        return True
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())


def _equal(one: Tensor, other: Tensor, exactly: bool) -> bool:
    if same_values(one, other):
        return True
    if one.shape != other.shape or not (one.is_floating_point() or one.is_complex()):
        return False
    near = one.dtype == other.dtype and (one.is_cuda or not exactly)
    return near and bool((one - other).norm() <= _TOLERANCE * other.norm())


@contextmanager
def without_hooks(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Have the hooks that users have registered on tensors not see gradients that no step is taken by."""
    hooks = [(tensor, tensor._backward_hooks) for tensor in tensors if tensor._backward_hooks]
    for tensor, _ in hooks:
        tensor._backward_hooks = None
    try:
        yield
    finally:
        for tensor, each in hooks:
            tensor._backward_hooks = each


def gradients_of(surrogates: Iterable[Tensor], trained: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradients, added up in the order in which Pyro has them accumulated."""
    found: dict[Tensor, Tensor] = {}
    differentiable = [tensor for tensor in trained if tensor.requires_grad]
    for surrogate in surrogates:
        if surrogate.requires_grad and differentiable:
            each = torch.autograd.grad(surrogate, differentiable, allow_unused=True, retain_graph=True)
            for tensor, gradient in zip(differentiable, each, strict=True):
                if gradient is not None:
                    found[tensor] = found[tensor] + gradient if tensor in found else gradient
    return [found.get(tensor) for tensor in trained]


def warn(message: str) -> None:
    """Give a `CompilationWarning`."""
    warnings.warn(message, CompilationWarning, stacklevel=2)
