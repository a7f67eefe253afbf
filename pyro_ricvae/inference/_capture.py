"""Capturing a model, a guide and an objective as one graph of tensor operations."""

import inspect
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro.infer.elbo import ELBOModule
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
    tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
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
        # Pyro reads the loss only to report it, and checks it for NaN: both would end in the graph as a branch.
        stack.enter_context(patch.object(Tensor, "item", Tensor.detach))
        for name, module in list(sys.modules.items()):
            if name.startswith("pyro.") and hasattr(module, "warn_if_nan"):
                stack.enter_context(patch.object(module, "warn_if_nan", lambda value, *_, **__: value))
        yield


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
