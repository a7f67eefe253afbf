"""One captured graph: made, verified, compiled, and what to say where that fails."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pyro
import torch
from pyro.infer.elbo import ELBOModule
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._pytree import TreeSpec, tree_unflatten

from pyro_ricvae._core.errors import reason
from pyro_ricvae._core.isolation import other_random_numbers, own_parameters, same_random_numbers, undisturbed
from pyro_ricvae.inference.compile.capture import capture, differentiable_loss, trained_tensors
from pyro_ricvae.inference.compile.patches import silent

# How far the captured loss and its gradient may be from the eager ones under one seed, relative to their size. They are
# equal to the last bit, unless the model depends on something besides its arguments and torch's random numbers.
_TOLERANCE = 1e-3


class CompilationWarning(UserWarning):
    """Something runs slower than it could: what, why, and what to do."""


@dataclass
class Program:
    """The loss for arguments of one kind.

    Attributes
    ----------
    run : callable
        Called with the tensors among the arguments.
    evaluate : callable
        The same without gradients, for which nothing is compiled.
    engine : {"compiled", "captured", "eager"}
        How it runs.
    params : dict of str to Tensor
        The ``pyro.param`` that it trains.
    fixed_by : str or None
        Why the length of the batch may not vary, where it should.
    """

    run: Callable[..., Tensor]
    evaluate: Callable[..., Tensor]
    engine: Literal["compiled", "captured", "eager"]
    params: dict[str, Tensor] = field(default_factory=dict)
    fixed_by: str | None = None

    def check_store(self) -> None:
        """Raise a RuntimeError if a ``pyro.param`` is no more what the graph trains."""
        if self.params:
            now = dict(pyro.get_param_store().named_parameters())
            for name, tensor in self.params.items():
                if now.get(name) is not tensor:
                    raise RuntimeError(
                        f"Expected pyro.param {name!r} to be the tensor that was captured, actual "
                        f"{'another one' if name in now else 'none: the parameter store was cleared'}. Compile again."
                    )


def build_program(
    module: ELBOModule,
    leaves: Sequence[Any],
    spec: TreeSpec,
    *,
    with_rows: Sequence[bool] | None,
    engine: Literal["compiled", "captured"],
    fallback_random: bool,
    autocast: Callable[[], Any] = nullcontext,
) -> Program:
    """Capture the loss for these arguments, verify and compile it, and leave everything as it was.

    Parameters
    ----------
    module : ELBOModule
        The loss.
    leaves, spec
        Its arguments, as ``tree_flatten((args, kwargs))`` gives them.
    with_rows : sequence of bool or None
        Of each tensor among them, whether its first dimension is the batch, where the length of that may vary.
    engine : {"compiled", "captured"}
        Whether to compile what was captured.
    fallback_random : bool
        Whether random numbers are drawn as eagerly.
    autocast : callable
        The context in which the loss is computed.

    Returns
    -------
    Program
        An eager one, after a `CompilationWarning`, where there is no graph.
    """

    def eagerly(*given: Tensor) -> Tensor:
        following = iter(given)
        args, kwargs = tree_unflatten([next(following) if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec)
        with own_parameters():
            return differentiable_loss(module, args, kwargs)

    with torch.inference_mode(False), torch.enable_grad(), undisturbed(module, leaves) as noting_buffers:
        leaves = [leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf for leaf in leaves]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        with noting_buffers, same_random_numbers(tensors):
            first = eagerly(*tensors)  # validated as the user has it set: a wrong model gets Pyro's own error
        with same_random_numbers(tensors):
            others = other_random_numbers()
            loss = eagerly(*tensors)  # the first call may have drawn initial values too
            drawn = other_random_numbers() != others
        trained = trained_tensors(loss)
        expected = _with_gradients(loss, trained)
        if obstacle := _obstacle(drawn, trained_tensors(first), trained):
            graph, failures = None, [obstacle]
        else:
            graph, failures = _captured(module, leaves, spec, with_rows, trained, expected)
        if graph is None:
            warn(
                f"The model, guide or objective cannot be captured, and runs eagerly: {reason(failures[-1])}. "
                "What depends on the values of tensors has to be a tensor operation, torch.where for one."
            )
            return Program(eagerly, eagerly, "eager")
        fixed_by = reason(failures[0]) if failures else None
        with_rows = None if failures else with_rows
        run: Callable[..., Tensor] = graph
        if engine == "compiled":
            with autocast():
                run = _compile_or_not(graph, tensors, trained, with_rows, fallback_random)
            engine = "captured" if run is graph else "compiled"
    params = {
        name: value
        for name, value in pyro.get_param_store().named_parameters()
        if any(value is tensor for tensor in trained)
    }
    return Program(run, graph, engine, params, fixed_by)


def _captured(
    module: ELBOModule,
    leaves: Sequence[Any],
    spec: TreeSpec,
    with_rows: Sequence[bool] | None,
    trained: Sequence[Tensor],
    expected: Sequence[Tensor | None],
) -> tuple[GraphModule | None, list[Exception]]:
    """Capture the loss, if need be at one length of the batch, and verify it; return what failed as well."""
    failures: list[Exception] = []
    for varying in [None] if with_rows is None else [with_rows, None]:
        try:
            graph = capture(module, leaves, spec, varying, trained)
            _verify(graph, [leaf for leaf in leaves if isinstance(leaf, Tensor)], trained, expected)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            failures.append(error)
        else:
            return graph, failures
    return None, failures


def _compile_or_not(graph: GraphModule, tensors: Sequence[Tensor], *how: Any) -> Callable[..., Tensor]:
    """Compile `graph`, or return it as it is, after a `CompilationWarning`, where that fails."""
    try:
        return _compile(graph, tensors, *how)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        warn(f"The captured graph cannot be compiled, and runs as it is: {reason(error)}.")
        return graph


def _compile(
    graph: GraphModule,
    tensors: Sequence[Tensor],
    trained: Sequence[Tensor],
    with_rows: Sequence[bool] | None,
    fallback_random: bool,
) -> Callable[..., Tensor]:
    """Compile `graph`, forward and backward."""
    examples = [tensor.detach().contiguous().requires_grad_(tensor.requires_grad) for tensor in tensors]
    for example, varies in zip(examples, with_rows or [], strict=False):
        if varies:
            torch._dynamo.mark_dynamic(example, 0)
    with silent():
        compiled: Callable[..., Tensor] = torch.compile(
            graph,
            fullgraph=True,
            dynamic=False if with_rows is None else None,
            backend=partial(_backend, fallback_random=fallback_random),
        )
        _with_gradients(compiled(*examples), trained)
    # Other strides would be compiled anew.
    return lambda *given: compiled(*(tensor.contiguous() for tensor in given))


def _backend(graph: GraphModule, examples: list[Tensor], *, fallback_random: bool) -> Any:
    """Compile by Inductor, but merge no two operations that look alike: torch takes some random draws for such."""
    from torch._inductor.compile_fx import compile_fx  # takes seconds to import

    with torch._functorch.config.patch(cse=False):
        return compile_fx(graph, examples, config_patches={"fallback_random": fallback_random})


def _verify(
    graph: GraphModule, tensors: Sequence[Tensor], trained: Sequence[Tensor], expected: Sequence[Tensor | None]
) -> None:
    """Raise a RuntimeError unless the graph gives the eager loss and gradients under the same random numbers."""
    with same_random_numbers(tensors):
        actual = _with_gradients(graph(*tensors), trained)
    names = ["its value", *(f"its gradient for the tensor of shape {tuple(tensor.shape)}" for tensor in trained)]
    for name, one, other in zip(names, actual, expected, strict=True):
        if (one is None) != (other is None):
            raise RuntimeError(f"the graph loses the loss's dependence on a tensor: {name}")
        if one is not None and other is not None:
            far = (one - other).norm() > _TOLERANCE * other.norm()
            if far or not torch.equal(one.isfinite(), other.isfinite()):
                raise RuntimeError(
                    f"under one seed the graph's loss is another than the eager one's in {name}: the model depends on "
                    "something besides its arguments and torch's random numbers"
                )


def _with_gradients(loss: Tensor, trained: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the loss and its gradients, and leave those that the tensors hold alone."""
    gradients = torch.autograd.grad(loss, trained, allow_unused=True) if trained else ()
    return [loss.detach(), *gradients]


def _obstacle(drawn: bool, first: Sequence[Tensor], second: Sequence[Tensor]) -> Exception | None:
    """Return what is wrong with a graph of the model though it may compute what the model did this time."""
    if drawn:
        return RuntimeError("the model draws random numbers from NumPy or Python's random: draw them from torch")
    known = {id(tensor) for tensor in first}
    for tensor in second:
        if id(tensor) not in known:
            return RuntimeError(
                f"a parameter of shape {tuple(tensor.shape)} is made anew at every call, so nothing can train it: "
                "make networks outside the model, and give pyro.param a plain tensor"
            )
    return None


def warn(message: str) -> None:
    """Give a `CompilationWarning`."""
    warnings.warn(message, CompilationWarning, stacklevel=2)
