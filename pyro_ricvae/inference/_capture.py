"""Capturing a model, a guide and an objective as one graph of tensor operations."""

import inspect
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from operator import attrgetter
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro.infer.elbo import ELBOModule
from pyro.infer.util import Dice
from pyro.ops import einsum
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils._pytree import TreeSpec, tree_unflatten

from pyro_ricvae._param_store import without_modules


def differentiable_loss(module: ELBOModule, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    """Return the loss of `module`, differentiable, also of an objective that has nothing but ``loss_and_grads``.

    Such an objective (Rényi's, `TraceGraph_ELBO`) takes the gradient itself, of a surrogate: here the surrogate is kept
    instead, and the tensor returned has the value of the loss and the gradient of the surrogate.
    """
    elbo: Any = module.elbo
    if hasattr(elbo, "differentiable_loss"):
        loss: Tensor = module(*args, **kwargs)
        return loss
    surrogates: list[Tensor] = []
    with (
        patch.object(Tensor, "backward", lambda loss, *_, **__: surrogates.append(loss)),
        patch.object(Tensor, "item", Tensor.detach),
    ):
        value = elbo.loss_and_grads(module.model, module.guide, *args, **kwargs)
    surrogate = sum(surrogates, start=torch.zeros(()))
    return surrogate + (torch.as_tensor(value) - surrogate).detach()


def trained_tensors(loss: Tensor) -> list[Tensor]:
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


class _Program(nn.Module):
    """The loss as a function of tensors alone; all other arguments are what they were."""

    def __init__(self, module: ELBOModule, leaves: Sequence[Any], spec: TreeSpec) -> None:
        super().__init__()
        self.module, self.leaves, self.spec = module, leaves, spec

    def forward(self, *tensors: Tensor) -> Tensor:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        args, kwargs = tree_unflatten(leaves, self.spec)
        return differentiable_loss(self.module, args, kwargs)


def capture(
    module: ELBOModule, leaves: Sequence[Any], spec: TreeSpec, rows: int | None, trained: Sequence[Tensor]
) -> GraphModule:
    """Return the loss of `module` as a graph of tensor operations, called with the tensors among the arguments.

    Parameters
    ----------
    module : ELBOModule
        What is captured. The graph shares its parameters and buffers.
    leaves, spec
        Its arguments, as ``tree_flatten((args, kwargs))`` gives them.
    rows : int or None
        The length of the first dimension of the tensors that hold a batch, where it may vary (2 or more). None keeps
        all shapes.
    trained : sequence of Tensor
        The tensors that get a gradient, see `trained_tensors`. Those that are no parameter of `module`, a
        ``pyro.param`` for one, get it from the graph too.

    Returns
    -------
    GraphModule
        Without branches, Pyro's handlers and values read by Python.
    """
    # Copies: of a view, an export takes the whole that it is a view of for an input.
    tensors = tuple(leaf.detach().clone() for leaf in leaves if isinstance(leaf, Tensor))
    dynamic_shapes: Any = None
    if rows is not None:
        batch = torch.export.Dim("batch", min=2)
        dynamic_shapes = (tuple({0: batch} if has_rows(tensor, rows) else None for tensor in tensors),)
    with _capturing():
        program = torch.export.export(
            _Program(module, leaves, spec), tensors, strict=False, dynamic_shapes=dynamic_shapes
        )
        # Pyro and torch have validated the first call; guards at every call would only cost time.
        guards = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
        graph: Any = program.module(**guards)
    _share(graph, trained)
    _simplify(graph)
    return graph  # type: ignore[no-any-return]


def batch_length(leaves: Sequence[Any]) -> int | None:
    """Return the length of the first dimension of the first tensor, the batch."""
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            return leaf.shape[0] if leaf.dim() else None
    return None


def has_rows(tensor: Tensor, rows: int) -> bool:
    """Return whether the first dimension of `tensor` is the batch of that many rows."""
    return tensor.dim() > 0 and tensor.shape[0] == rows


@contextmanager
def _capturing() -> Iterator[None]:
    """Let no value be read from a tensor, which a graph cannot do, and keep what the capture leaves behind away."""
    store = pyro.get_param_store()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(store.scope(without_modules(store.get_state())))
        # What torch prints of a failure is a whole graph: the one line of it that helps is in the error.
        stack.enter_context(redirect_stdout(StringIO()))
        stack.enter_context(redirect_stderr(StringIO()))
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable()
        # Pyro and torch.distributions leave checks of values out where they are traced for TorchScript.
        stack.enter_context(patch.object(torch._C, "_get_tracing_state", lambda: True))
        stack.enter_context(patch.object(Dice, "compute_expectation", _expectation))
        stack.enter_context(patch.object(einsum, "contract_expression", _contract_expression))
        # Equal plates have equal sizes; and a size that varies cannot be hashed.
        key = attrgetter("name", "dim", "counter")
        stack.enter_context(patch.object(CondIndepStackFrame, "__hash__", lambda frame: hash(key(frame))))
        # Pyro reads the loss only to report it, and checks it for NaN: both would end in the graph as a branch.
        stack.enter_context(patch.object(Tensor, "item", Tensor.detach))
        for name, module in list(sys.modules.items()):
            if name.startswith("pyro.") and hasattr(module, "warn_if_nan"):
                stack.enter_context(patch.object(module, "warn_if_nan", lambda value, *_, **__: value))
        yield


_PYROS_EXPECTATION: Any = Dice.compute_expectation
_PYROS_CONTRACT_EXPRESSION: Any = einsum.contract_expression

# What a length that varies is taken for in choosing the order of a contraction.
_TYPICAL_LENGTH = 100


def _contract_expression(equation: str, *shapes: tuple[Any, ...]) -> Any:
    """Choose the order of a contraction as Pyro does, for lengths that are numbers."""
    typical = [tuple(n if isinstance(n, int) else _TYPICAL_LENGTH for n in shape) for shape in shapes]
    return _PYROS_CONTRACT_EXPRESSION(equation, *typical)


def _expectation(dice: Dice, costs: Any) -> Any:
    """Compute an expectation as Pyro does, but leave impossible outcomes out by a zero: a graph keeps its shapes."""
    with patch.object(Tensor, "masked_select", lambda tensor, mask: torch.where(mask, tensor, 0.0)):
        return _PYROS_EXPECTATION(dice, costs)


def _share(graph: GraphModule, trained: Sequence[Tensor]) -> None:
    """Put the tensors that are trained in the place of their copies: an export detaches what is no parameter of it."""
    memory = {tensor.data_ptr(): tensor for tensor in trained if tensor.numel()}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            *path, name = str(node.target).split(".")
            owner = graph.get_submodule(".".join(path))
            constant = getattr(owner, name)
            if isinstance(constant, Tensor):
                original = memory.get(constant.data_ptr())
                if original is not None and original is not constant and original.shape == constant.shape:
                    delattr(owner, name)
                    setattr(owner, name, original)


def _simplify(graph: GraphModule) -> None:
    """Drop what computes nothing: dead code, and the assertions on types, which do not hold under autocast."""
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code(_has_effect)
    graph.recompile()


def _has_effect(node: Node) -> bool:
    """Return whether a node does more than compute a value: random numbers are drawn even where nobody uses them."""
    if node.op in ("placeholder", "output"):
        return True
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        owner = node.graph.owning_module
        return any(
            _has_effect(inner)
            for argument in node.args
            if isinstance(argument, Node) and argument.op == "get_attr" and owner is not None
            for inner in owner.get_submodule(str(argument.target)).graph.nodes  # type: ignore[union-attr]
            if inner.op not in ("placeholder", "output")
        )
    return False
