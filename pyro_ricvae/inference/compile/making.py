"""A graph made: captured from the loss, and compiled."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils._pytree import TreeSpec

from pyro_ricvae._core.errors import reason
from pyro_ricvae._core.isolation import undisturbed
from pyro_ricvae.inference.compile.capture import Graph, capture, held_by
from pyro_ricvae.inference.compile.patches import nothing_given_away
from pyro_ricvae.inference.compile.program import Program, copies_of, gradients_of, warn, without_hooks
from pyro_ricvae.inference.compile.quiet import silent
from pyro_ricvae.inference.compile.watch import Watch


def captured(
    loss: Callable[..., Any],
    leaves: Sequence[Any],
    spec: TreeSpec,
    watch: Watch,
    trained: Sequence[Tensor],
    with_rows: Sequence[bool] | None,
    *,
    copies: bool,
    by_value: bool,
) -> Program:
    """Capture the loss of the arguments `leaves`, as `watch` has seen the call.

    Its first dimension may vary where `with_rows` has True of a tensor among them. The others are as in `Program`.
    """
    dependencies = watch.dependencies
    assert dependencies is not None
    stored = dict(pyro.get_param_store().named_parameters())
    reached = list(dependencies.tensors.values())
    _check_trained(trained, (*reached, *stored.values(), *leaves))
    whole = dependencies.is_named("get_param_store")
    with dependencies.kept():
        graph = capture(
            loss,
            [leaf.contiguous() if copies and isinstance(leaf, Tensor) else leaf for leaf in leaves],
            spec,
            with_rows=with_rows,
            modules=dependencies.modules,
            shared=[*stored.values(), *(each for each in reached if each.requires_grad), *watch.written],
        )
    # Without a gradient, as where a loss is evaluated, nothing is trained; the graph still reads the store's entries.
    used = {id(tensor) for tensor in (*trained, *reached, *held_by(graph.module).values())}
    return Program(
        graph=graph,
        run=graph.module,
        engine="captured",
        dependencies=dependencies,
        arguments=watch.arguments,
        params={name: tensor for name, tensor in stored.items() if whole or id(tensor) in used},
        whole_store=whole,
        trained=list(trained),
        written=watch.written,
        dtypes=watch.dtypes,
        copies=copies,
        by_value=by_value,
    )


def _check_trained(trained: Sequence[Tensor], known: Sequence[Any]) -> None:
    """Raise an error where a call trained a tensor that no later call will know."""
    known_ones = {id(tensor) for tensor in known if isinstance(tensor, Tensor)}
    for tensor in trained:
        if id(tensor) not in known_ones:
            raise RuntimeError(
                f"a parameter of shape {tuple(tensor.shape)} is made anew at every call, so nothing can train it: "
                "make networks outside the model, and give pyro.param a plain tensor"
            )


def compile_program(
    program: Program, leaves: Sequence[Any], with_rows: Sequence[bool] | None, fallback_random: bool
) -> None:
    """Compile a graph, or leave it as it is, with a `CompilationWarning`, where that fails."""
    try:
        program.run = _compiled(program, leaves, with_rows, fallback_random)
        program.engine = "compiled"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        warn(f"The captured graph cannot be compiled, and runs as it is: {reason(error)}.")


def _compiled(
    program: Program, leaves: Sequence[Any], with_rows: Sequence[bool] | None, fallback_random: bool
) -> Callable[..., Sequence[Tensor]]:
    """Compile a graph, forward and backward; return what runs as it does, its surrogates added up."""
    graph, trained = program.graph, program.trained
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
        functional, written = _functional(graph)
        run: Callable[..., Sequence[Tensor]] = torch.compile(
            functional.forward,
            fullgraph=True,
            dynamic=False if with_rows is None else None,
            backend=partial(_backend, fallback_random=fallback_random),
        )
        outputs = run(*examples, *copies_of(written))
        with without_hooks(trained):
            gradients_of([output for output in outputs if output.requires_grad][-1:], trained)
    return _writing(run, written) if written else run


def _writing(run: Callable[..., Sequence[Tensor]], written: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Return what runs on copies of the tensors that are written, and then writes their new values into them."""

    def call(*tensors: Tensor) -> Sequence[Tensor]:
        outputs = run(*tensors, *copies_of(written))
        with torch.no_grad():
            for tensor, value in zip(written, outputs[-len(written) :], strict=True):
                tensor.copy_(value)
        return outputs[: -len(written)]

    return call


def _functional(graph: Graph) -> tuple[GraphModule, list[Tensor]]:
    """Return a graph with the sum of its surrogates in their place, and without effects; and what it would write.

    The values of the tensors that it would write are arguments, after the others, and their new ones results. In a
    backward torch (2.13) computes anew what it has not kept of the forward, and does so from tensors as they are by
    then: where a forward moves a buffer and uses it, the gradient would be that of the next call.

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
        values = [*values[: graph.spec.num_leaves], total]
    places = _written_in(summed)
    copies = []
    for number, nodes in enumerate(places.values()):
        last = summed.graph.find_nodes(op="placeholder")[-1:]
        with summed.graph.inserting_after(last[0]) if last else summed.graph.inserting_before(None):
            given = summed.graph.placeholder(f"written_{number}")
        with summed.graph.inserting_after(given):
            copied = summed.graph.call_function(torch.ops.aten.clone.default, (given,))
        copies.append(copied)
        for node in nodes:
            node.replace_all_uses_with(copied)
            summed.graph.erase_node(node)
    output.args = ([*values, *copies],)
    summed.recompile()
    return summed, list(places)


def _written_in(graph: GraphModule) -> dict[Tensor, list[Node]]:
    """Return the tensors that a graph writes in place, each with the nodes that stand for it."""
    held = held_by(graph)
    written = set()
    for node in graph.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            for base in node.all_input_nodes:
                while base.op == "call_function" and base.all_input_nodes:  # it may write a view
                    base = base.all_input_nodes[0]
                written.add(held.get(base))
    found: dict[Tensor, list[Node]] = {}
    for node, tensor in held.items():
        if isinstance(tensor, Tensor) and tensor in written and not tensor.requires_grad:
            found.setdefault(tensor, []).append(node)
    memory = {tensor.untyped_storage().data_ptr() for tensor in found}
    others = (tensor for tensor in held.values() if isinstance(tensor, Tensor) and tensor not in found)
    if any(tensor.untyped_storage().data_ptr() in memory for tensor in others) or len(memory) < len(found):
        raise RuntimeError("a tensor is written that shares its memory with another one")
    return found


def _backend(graph: Any, examples: list[Tensor], *, fallback_random: bool) -> Any:
    """Compile by Inductor, but merge no two operations that look alike: torch takes some random draws for such."""
    from torch._inductor.compile_fx import compile_fx  # takes seconds to import

    with torch._functorch.config.patch(cse=False):
        return compile_fx(graph, examples, config_patches={"fallback_random": fallback_random})
