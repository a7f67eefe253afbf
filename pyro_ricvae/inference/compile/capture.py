"""Capturing a model, a guide and an objective as one graph of tensor operations."""

import inspect
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import torch
from pyro.infer.elbo import ELBOModule
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils._pytree import TreeSpec, tree_unflatten

from pyro_ricvae.inference.compile.patches import capturing, silent


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
    module: ELBOModule,
    leaves: Sequence[Any],
    spec: TreeSpec,
    with_rows: Sequence[bool] | None,
    trained: Sequence[Tensor],
) -> GraphModule:
    """Return the loss of `module` as a graph of tensor operations, called with the tensors among the arguments.

    Parameters
    ----------
    module : ELBOModule
        What is captured. The graph shares its parameters and buffers.
    leaves, spec
        Its arguments, as ``tree_flatten((args, kwargs))`` gives them.
    with_rows : sequence of bool or None
        Of each tensor among the arguments, whether its first dimension is the batch, whose length may vary (2 or more).
        None keeps all shapes.
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
    if with_rows is not None:
        batch = torch.export.Dim("batch", min=2)
        dynamic_shapes = (tuple({0: batch} if varies else None for varies in with_rows),)
    with capturing():
        program = torch.export.export(
            _Program(module, leaves, spec), tensors, strict=False, dynamic_shapes=dynamic_shapes
        )
        # Pyro and torch have validated the first call; guards at every call would only cost time.
        guards = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
        graph: Any = program.module(**guards)
    with silent():  # older releases of torch warn of nodes that are in between
        _share(graph, trained)
        _simplify(graph)
    return graph  # type: ignore[no-any-return]


def batch_length(leaves: Sequence[Any]) -> int | None:
    """Return the length of the first dimension of the first tensor, the batch."""
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            return leaf.shape[0] if leaf.dim() else None
    return None


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
    """Leave plain operations: none that compute nothing, and no assertions on types, which autocast would break."""
    _inline_without_gradients(graph)
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code(_has_effect)
    graph.recompile()


def _inline_without_gradients(graph: GraphModule) -> None:
    """Replace what ran under ``torch.no_grad``, which every ``sample`` does, by its operations, detached at the end.

    An export makes a function of it that ``torch.compile`` cannot take.
    """
    for call in graph.graph.find_nodes(op="call_function", target=torch.ops.higher_order.wrap_with_set_grad_enabled):
        enabled, body, *inputs = call.args
        inner: Any = graph.get_submodule(body.target)
        _inline_without_gradients(inner)
        known = dict(zip(inner.graph.find_nodes(op="placeholder"), inputs, strict=True))
        with graph.graph.inserting_before(call):
            outputs: Any = graph.graph.graph_copy(inner.graph, known)
            if not enabled:
                outputs = [graph.graph.call_function(torch.ops.aten.detach.default, (output,)) for output in outputs]
        for part in list(call.users):
            part.replace_all_uses_with(outputs[part.args[1]])
            graph.graph.erase_node(part)
        graph.graph.erase_node(call)


def _has_effect(node: Node) -> bool:
    """Return whether a node does more than compute a value: random numbers are drawn even where nobody uses them."""
    if node.op in ("placeholder", "output"):
        return True
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags
    return isinstance(node.target, torch._ops.HigherOrderOperator)
