"""Kinds of calls: which have a graph in common, what is known of each, where there can be none, and all in words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils._device import DeviceContext
from torch.utils._pytree import TreeSpec

from pyro_ricvae.inference.compile.capture import batch_length
from pyro_ricvae.inference.compile.dependencies import Dependencies
from pyro_ricvae.inference.compile.precision import Precision
from pyro_ricvae.inference.compile.program import Program, warn

# Arguments of these types are told apart by their values, others by what can be read of them.
PLAIN = (bool, int, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


@dataclass
class Options:
    """How graphs are made; see `compile_elbo`. `warned` is whether it has been said that Pyro itself runs."""

    precision: Precision = "auto"
    fallback_random: bool = False
    dynamic: bool = True
    compiled: bool = True
    warned: bool = False

    def warn_once(self, message: str) -> None:
        """Give the one `CompilationWarning`."""
        if not self.warned:
            self.warned = True
            warn(f"{message}.")


@dataclass
class Kind:
    """What is known of calls whose arguments are of one kind."""

    programs: list[Program] = field(default_factory=list)
    dependencies: Dependencies | None = None
    written: list[Tensor] = field(default_factory=list)
    steady: int = 0
    unsteady: int = 0
    captured: int = 0
    refused: str | None = None
    rest: int = 0  # calls that nobody looks at
    due: Program | None = None


def key_of(leaves: Sequence[Any], spec: TreeSpec, options: Options) -> Any:
    """Return what a graph is made for: the kind of the arguments, and what is ambient."""
    rows = batch_length(leaves) if options.dynamic else None
    return (
        spec,
        tuple([_kind(leaf, rows, options.compiled) for leaf in leaves]),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        Distribution._validate_args,
    )


def is_object(leaf: Any) -> bool:
    """Return whether an argument is told apart by what can be read of it."""
    return not isinstance(leaf, (*PLAIN, Tensor, float, complex))


def _kind(leaf: Any, rows: int | None, compiled: bool) -> Any:
    """Return what has to be the same of an argument in every call of one graph.

    With other strides products may be others in the last bit; compiled they are anyway, and are taken of copies.
    """
    if isinstance(leaf, Tensor):
        shape: Any = leaf.shape
        if not (compiled or leaf.is_contiguous()):
            shape = (shape, leaf.stride())
        elif rows is not None and rows >= 2 and shape and shape[0] == rows:
            shape = ("rows", *shape[1:])
        return type(leaf), shape, leaf.dtype, leaf.device, leaf.requires_grad
    if isinstance(leaf, PLAIN):
        return type(leaf), leaf
    return type(leaf), repr(leaf) if isinstance(leaf, float | complex) else None


def first_difference(one: Any, other: Any) -> str | None:
    """Return the first argument in which the keys of two kinds differ, in words."""
    (spec, kinds, *_), (other_spec, others, *_) = one, other
    if spec != other_spec:
        return f"{spec.num_leaves} and {other_spec.num_leaves} values"
    for number, (was, now) in enumerate(zip(kinds, others, strict=True)):
        if was != now:
            return f"value {number}: {was[1]} and {now[1]}"
    return None


def tensors_with_rows(leaves: Sequence[Any], rows: int) -> list[bool]:
    """Return of each tensor among the arguments whether its first dimension is as long as the batch."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return [tensor.dim() > 0 and tensor.shape[0] == rows for tensor in tensors]


def in_words(changes: Sequence[tuple[str, Any, Any]]) -> str:
    """Return the first change in words."""
    path, before, now = changes[0]
    return f"{path} changes ({_said(before)} to {_said(now)})"


def _said(fact: Any) -> str:
    kind, value = fact[0], fact[1] if len(fact) > 1 else ""
    if kind == "nothing":
        return "nothing"
    if kind == "a tensor":
        return "a tensor"
    return str(value)[:60] or str(getattr(kind, "__name__", kind))


def is_surrounded() -> bool:
    """Return whether something sees what Pyro and torch do in the call: a handler, a mode, hooks of autograd."""
    if pyro.poutine.runtime._PYRO_STACK or torch._C._len_torch_dispatch_stack():
        return True
    modes = torch.overrides._get_current_function_mode_stack() if torch._C._len_torch_function_stack() else ()
    if not all(isinstance(mode, DeviceContext) for mode in modes):  # as which torch keeps the default device
        return True
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def is_recording() -> bool:
    """Return whether a CUDA graph is recorded, in which nothing can be compared."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
