"""One graph in use: what it is for, whether it still is, and how it is verified and compiled."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pyro
import torch
from torch import Tensor
from torch.fx import GraphModule

from pyro_ricvae._core.errors import reason
from pyro_ricvae._core.isolation import undisturbed
from pyro_ricvae.inference.compile.capture import Graph
from pyro_ricvae.inference.compile.dependencies import Dependencies
from pyro_ricvae.inference.compile.patches import nothing_given_away
from pyro_ricvae.inference.compile.quiet import silent

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


@dataclass
class Outcome:
    """What one call gave.

    Attributes
    ----------
    values : list of Tensor
        The loss.
    gradients : list of Tensor or None
        One for each tensor that is trained.
    random_state : list of Tensor
        Of torch's generators, afterwards.
    written : list of Tensor
        Copies of what it may change in place, afterwards.
    """

    values: list[Tensor]
    gradients: list[Tensor | None]
    random_state: list[Tensor]
    written: list[Tensor]


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
            for pair in zip(actual.random_state, expected.random_state, strict=True)
        ),
        *(("a tensor that is changed in place", *pair) for pair in zip(actual.written, expected.written, strict=True)),
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


def compile_graph(
    graph: Graph, leaves: Sequence[Any], with_rows: Sequence[bool] | None, fallback_random: bool, trained: list[Tensor]
) -> Callable[..., Sequence[Tensor]]:
    """Compile `graph`, forward and backward; return what runs as it does, its surrogates added up."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    examples = [tensor.detach().contiguous().clone().requires_grad_(tensor.requires_grad) for tensor in tensors]
    for example, varies in zip(examples, with_rows or [], strict=False):
        if varies:
            torch._dynamo.mark_dynamic(example, 0)
    # `torch.compile` switches torch's validation of distributions off for the process.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        undisturbed(graph.module, leaves),
        silent(),
        nothing_given_away(),
    ):
        compiled: Callable[..., Sequence[Tensor]] = torch.compile(
            _summed(graph).forward,
            fullgraph=True,
            dynamic=False if with_rows is None else None,
            backend=partial(_backend, fallback_random=fallback_random),
        )
        outputs = compiled(*examples)
        with without_hooks(trained):
            gradients_of([output for output in outputs if output.requires_grad][-1:], trained)
    return compiled


def _summed(graph: Graph) -> GraphModule:
    """Return a graph with the sum of its surrogates in their place.

    Its ``forward`` has code of its own. What calls it is the same function for all graphs, and torch compiles one
    function a few times only.
    """
    summed = GraphModule(graph.module, copy.deepcopy(graph.module.graph))
    (output,) = summed.graph.find_nodes(op="output")
    values = list(output.args[0])
    surrogates = values[graph.spec.num_leaves :]
    if len(surrogates) > 1:
        with summed.graph.inserting_before(output):
            total = surrogates[0]
            for surrogate in surrogates[1:]:
                total = summed.graph.call_function(torch.ops.aten.add.Tensor, (total, surrogate))
        output.args = ([*values[: graph.spec.num_leaves], total],)
    summed.recompile()
    return summed


def _backend(graph: Any, examples: list[Tensor], *, fallback_random: bool) -> Any:
    """Compile by Inductor, but merge no two operations that look alike: torch takes some random draws for such."""
    from torch._inductor.compile_fx import compile_fx  # takes seconds to import

    with torch._functorch.config.patch(cse=False):
        return compile_fx(graph, examples, config_patches={"fallback_random": fallback_random})


def cannot_be_compiled(error: Exception) -> str:
    """Return what is said of a captured graph that torch cannot compile."""
    return f"The captured graph cannot be compiled, and runs as it is: {reason(error)}."


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
