"""Capturing a loss as one graph of tensor operations."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from pyro_ricvae.inference.compile.patches import capturing
from pyro_ricvae.inference.compile.quiet import silent
from pyro_ricvae.inference.compile.reported import Reported

_CONVERSIONS = {
    torch.ops.aten.contiguous.default,
    torch.ops.aten.type_as.default,
    *(getattr(torch.ops.aten.to, name) for name in torch.ops.aten.to.overloads()),
}


@dataclass
class Graph:
    """A loss as a graph of tensor operations.

    Attributes
    ----------
    module : GraphModule
        From the tensors among the arguments to a list: what `spec` makes the value of, then the surrogates.
    spec : TreeSpec
        The structure of the value: a number, or a tuple of some.
    """

    module: GraphModule
    spec: TreeSpec

    def value_and_surrogates(self, outputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return what `module`, or what was compiled from it, returned, in its two parts."""
        n = self.spec.num_leaves
        return list(outputs[:n]), list(outputs[n:])


def held_by(graph: GraphModule) -> dict[Node, Any]:
    """Return what a graph's operations read beside its arguments, tensors for the most part, by the node that does."""
    return {node: attrgetter(str(node.target))(graph) for node in graph.graph.find_nodes(op="get_attr")}


class _Program(nn.Module):
    """A loss as a function of tensors alone; all other arguments are what they were."""

    def __init__(
        self,
        loss: Callable[..., Any],
        leaves: Sequence[Any],
        spec: TreeSpec,
        modules: Sequence[nn.Module],
        recorded: Any,
    ) -> None:
        super().__init__()
        self.modules_of_the_loss = nn.ModuleList(modules)
        self.loss, self.leaves, self.spec, self.recorded = loss, leaves, spec, recorded

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        args, kwargs = tree_unflatten(leaves, self.spec)
        numbers, self.recorded.spec = tree_flatten(self.loss(*args, **kwargs))
        values = [each.double if isinstance(each, Reported) else each for each in numbers]
        values = [each if isinstance(each, Tensor) else torch.tensor(each, dtype=torch.float64) for each in values]
        if self.recorded.valid:
            valid = self.recorded.valid[0]
            for each in self.recorded.valid[1:]:
                valid = valid & each
            values = [torch.where(valid, value, torch.nan) for value in values]
        return [*values, *self.recorded.surrogates]


def capture(
    loss: Callable[..., Any],
    leaves: Sequence[Any],
    spec: TreeSpec,
    *,
    with_rows: Sequence[bool] | None,
    modules: Sequence[nn.Module],
    shared: Sequence[Tensor],
) -> Graph:
    """Return a loss as a graph of tensor operations, called with the tensors among the arguments.

    Parameters
    ----------
    loss : callable
        What is captured: it returns a number or a tuple of numbers, as tensors or not, and may have Pyro take a
        gradient by itself.
    leaves, spec
        Its arguments, as ``tree_flatten((args, kwargs))`` gives them.
    with_rows : sequence of bool or None
        Of each tensor among the arguments, whether its first dimension is the batch, whose length may vary (2 or more).
        None keeps all shapes.
    modules : sequence of Module
        What it runs. The graph shares their parameters and buffers.
    shared : sequence of Tensor
        Other tensors that the graph has to share, a ``pyro.param`` for one: they get a gradient, or change in place.

    Returns
    -------
    Graph
        Without branches, Pyro's handlers and values read by Python. Its value is NaN where what Pyro would have
        validated is not valid.
    """
    # Copies: of a view, an export takes the whole that it is a view of for an input.
    with torch.inference_mode(False):
        tensors = tuple(
            _copy(leaf).detach().requires_grad_(leaf.requires_grad) for leaf in leaves if isinstance(leaf, Tensor)
        )
    graded = torch.is_grad_enabled()
    dynamic_shapes: Any = None
    if with_rows is not None:
        batch = torch.export.Dim("batch", min=2)
        dynamic_shapes = (tuple({0: batch} if varies else None for varies in with_rows),)
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(graded),
        capturing() as recorded,
        _same_gradients(shared),
    ):
        program = _Program(loss, leaves, spec, _outermost(modules), recorded)
        exported = torch.export.export(program, tensors, strict=False, dynamic_shapes=dynamic_shapes)
        # Pyro and torch have validated the first call; guards at every call would only cost time.
        guards = {"check_guards": False} if "check_guards" in inspect.signature(exported.module).parameters else {}
        graph: Any = exported.module(**guards)
    with silent():  # older releases of torch warn of nodes that are in between
        _share(graph, shared)
        _simplify(graph)
    return Graph(graph, recorded.spec)


def _copy(tensor: Tensor) -> Tensor:
    """Return a copy that has its memory for itself, and the same strides."""
    if tensor.is_contiguous():
        return tensor.clone(memory_format=torch.contiguous_format)
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def batch_length(leaves: Sequence[Any]) -> int | None:
    """Return the length of the first dimension of the first tensor, the batch."""
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            return leaf.shape[0] if leaf.dim() else None
    return None


@contextmanager
def _same_gradients(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Put gradients back: a loss may run a backward of its own, which reaches tensors that are no parameters."""
    before = [(tensor, tensor.grad) for tensor in tensors if tensor.is_leaf]
    for tensor, _ in before:
        tensor.grad = None
    try:
        yield
    finally:
        for tensor, gradient in before:
            tensor.grad = gradient


def _outermost(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the modules that are in no other of them."""
    inner = {id(part) for each in modules for part in list(each.modules())[1:]}
    return list({id(each): each for each in modules if id(each) not in inner}.values())


def _share(graph: GraphModule, shared: Sequence[Tensor]) -> None:
    """Put the tensors that are shared in the place of their copies: an export detaches what is no parameter of it."""
    memory = {tensor.data_ptr(): tensor for tensor in shared if tensor.numel()}
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
    graph.graph.set_codegen(CodeGen())  # tensors in, tensors out
    graph.recompile()


def _inline_without_gradients(graph: GraphModule) -> None:
    """Replace what ran under ``torch.no_grad``, which every ``sample`` does, by its operations, on detached tensors.

    An export makes a function of it that ``torch.compile`` cannot take.
    """
    for call in graph.graph.find_nodes(op="call_function", target=torch.ops.higher_order.wrap_with_set_grad_enabled):
        enabled, body, *inputs = call.args
        inner: Any = graph.get_submodule(body.target)
        _inline_without_gradients(inner)
        placeholders = inner.graph.find_nodes(op="placeholder")
        known = dict(zip(placeholders, inputs, strict=True))
        with graph.graph.inserting_before(call):
            if not enabled:
                for placeholder, given in zip(placeholders, inputs, strict=True):
                    if isinstance(given.meta.get("val"), Tensor):
                        known[placeholder] = graph.graph.call_function(torch.ops.aten.detach.default, (given,))
            outputs: Any = graph.graph.graph_copy(inner.graph, known)
        # What is passed through keeps its gradient.
        (returned,) = inner.graph.find_nodes(op="output")
        back = dict(zip(placeholders, inputs, strict=True))
        outputs = [back.get(_itself(was), now) for was, now in zip(returned.args[0], outputs, strict=True)]
        for part in list(call.users):
            part.replace_all_uses_with(outputs[part.args[1]])
            graph.graph.erase_node(part)
        graph.graph.erase_node(call)


def _itself(node: Any) -> Any:
    """Return the tensor that a conversion to the type that it has, which copies nothing, returns; or `node`."""
    while isinstance(node, Node) and node.target in _CONVERSIONS and True not in node.args:
        given: Any = node.args[0]
        one, other = node.meta.get("val"), given.meta.get("val")
        if one is None or other is None or (one.dtype, one.device) != (other.dtype, other.device):
            break
        if node.target is torch.ops.aten.contiguous.default and not other.is_contiguous():
            break
        node = given
    return node


def _has_effect(node: Node) -> bool:
    """Return whether a node does more than compute a value: random numbers are drawn even where nobody uses them."""
    if node.op in ("placeholder", "output"):
        return True
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags
    return isinstance(node.target, torch._ops.HigherOrderOperator)
