"""One call as Pyro makes it, and all that a graph in its place would have to do as well."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_ricvae._core.isolation import other_random_numbers
from pyro_ricvae.inference.compile.dependencies import Dependencies
from pyro_ricvae.inference.compile.kinds import in_words, is_object
from pyro_ricvae.inference.compile.program import (
    Outcome,
    Program,
    State,
    about_argument,
    difference,
    gradients_of,
    same_values,
    without_hooks,
)

# Larger tensors are data.
_MOST_COPIED = 10_000_000


class Watch:
    """A call that runs as Pyro, from just before it.

    Parameters
    ----------
    leaves : sequence
        Its arguments.
    dependencies : Dependencies or None
        What may be read, as an earlier call has it found.
    written : sequence of Tensor
        What an earlier call changed in place.

    Attributes
    ----------
    between : list
        What was changed since that call, as `Dependencies.changes` gives it.
    dtypes : list of torch.dtype or None
        Of the values, None for numbers of Python's.
    warned : list of str
        The warnings that the call gave.
    arguments : dict of int to Dependencies
        What can be read of arguments that are objects, by their position.
    """

    def __init__(self, leaves: Sequence[Any], dependencies: Dependencies | None, written: Sequence[Tensor]) -> None:
        self.dependencies = dependencies
        self.warned: list[str] = []
        self.between = dependencies.changes() if dependencies is not None else []
        self._tensors = list(dependencies.tensors.values()) if dependencies is not None else []
        self.arguments = {number: about_argument(leaf) for number, leaf in enumerate(leaves) if is_object(leaf)}
        self._leaves = [(leaf, leaf.detach().clone()) for leaf in leaves if isinstance(leaf, Tensor)]
        self._copies = [_copy_or_version(tensor) for tensor in self._tensors]
        self.written = list(written)
        self._located = [*leaves, *self._tensors]
        self._before = State(self._located, self.written)
        self._others_before = other_random_numbers()
        self._after: Outcome | None = None
        self.dtypes: list[torch.dtype | None] = []

    def end(self, values: Iterable[Any], gradients: Sequence[Tensor | None]) -> None:
        """Note what the call gave."""
        values = list(values)
        self.dtypes = [value.dtype if isinstance(value, Tensor) else None for value in values]
        self._after = Outcome(
            [value.detach() if isinstance(value, Tensor) else _double(value) for value in values],
            list(gradients),
            State(self._located, self.written),
        )

    def wrote(self) -> list[Tensor]:
        """Return the tensors that were changed in place."""
        return [
            tensor
            for tensor, was in zip(self._tensors, self._copies, strict=True)
            if not (same_values(tensor, was) if isinstance(was, Tensor) else _version(tensor) == was)
        ]

    def wrote_arguments(self) -> bool:
        """Return whether an argument was changed in place."""
        tensors_stay = all(same_values(leaf, was) for leaf, was in self._leaves)
        return not (tensors_stay and all(each.hold() for each in self.arguments.values()))

    def drew_elsewhere(self) -> bool:
        """Return whether random numbers were drawn from other generators than torch's."""
        return other_random_numbers() != self._others_before

    def effect(self, changed: Sequence[tuple[str, Any, Any]]) -> str | None:
        """Return what the call did besides computing, which a graph would not do; `changed` is of what it reads."""
        if changed:
            return f"it changes what it reads: {in_words(changed)}"
        if obstacle := next((each.obstacle for each in self.arguments.values() if each.obstacle), None):
            return obstacle
        if self.wrote_arguments():
            return "it changes an argument in place"
        if self.drew_elsewhere():
            return "it draws random numbers from NumPy or Python's random: draw them from torch"
        if self.warned:  # by the filters that hold: they show it, or raise it, at every call
            return f"it warns at every call ({self.warned[0]})"
        return None

    def is_finite(self) -> bool:
        """Return whether the loss was."""
        assert self._after is not None
        return all(bool(value.isfinite().all()) for value in self._after.values)

    def compare(self, program: Program, leaves: Sequence[Any], precision: Any) -> str | None:
        """Return what the graph gives otherwise than the call gave, from the same state on; leave all as it is now."""
        assert self._after is not None
        self._before.put_back()
        try:
            with precision:
                values, surrogates = program(leaves, program.graph.module)
            differentiated = values if program.by_value else surrogates
            with without_hooks(program.trained):
                gradients = gradients_of(differentiated if torch.is_grad_enabled() else [], program.trained)
            actual = Outcome(
                [value.detach() if dtype else _double(value) for value, dtype in zip(values, self.dtypes, strict=True)],
                gradients,
                State(self._located, self.written),
            )
        finally:
            self.put_back()
        contiguous = all(leaf.is_contiguous() for leaf in leaves if isinstance(leaf, Tensor))
        return difference(self._after, actual, program.trained, exactly=contiguous or not program.copies)

    def put_back(self) -> None:
        """Leave random state and what is changed in place as the call did."""
        assert self._after is not None
        self._after.state.put_back()


def _double(number: Any) -> Tensor:
    """Return a number of Python's, or a tensor that stands for one, in its precision."""
    return torch.as_tensor(number, dtype=torch.float64, device="cpu").detach()


def _copy_or_version(tensor: Tensor) -> Tensor | int:
    """Return what tells whether a tensor has changed; torch counts not every change: not of a running mean."""
    small = tensor.numel() <= _MOST_COPIED and not tensor.is_sparse
    return tensor.detach().clone() if small and not tensor.requires_grad else _version(tensor)


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def leaves_of_gradient(loss: Tensor) -> list[Tensor]:
    """Return the tensors that a backward of `loss` gives a gradient to, wherever they are kept."""
    found: list[Tensor] = []
    seen: set[Any] = set()
    pending: list[Any] = [loss.grad_fn]
    while pending:
        function = pending.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        if hasattr(function, "variable"):
            found.append(function.variable)
        pending += [following for following, _ in function.next_functions]
    return found
