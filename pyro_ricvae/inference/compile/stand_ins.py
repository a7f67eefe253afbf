"""What stands in for Pyro's and torch's own functions for the time of a capture, and why."""

import builtins
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pyro.infer.util import Dice, MultiFrameTensor
from pyro.ops import einsum, tensor_utils
from pyro.ops.special import _SafeLog
from pyro.poutine.indep_messenger import CondIndepStackFrame, IndepMessenger
from pyro.poutine.scale_messenger import ScaleMessenger
from torch import Tensor
from torch.distributions.dirichlet import _Dirichlet

from pyro_ricvae.inference.compile.replacing import Replacements, ValueReadError, caller

_PYROS_ITERATION: Any = IndepMessenger.__iter__
_PYROS_CHOLESKY: Any = tensor_utils.safe_cholesky
_PYROS_EXPECTATION: Any = Dice.compute_expectation
_PYROS_CONTRACT_EXPRESSION: Any = einsum.contract_expression

# All other modules may hold a user's model.
NEVER_SEE_A_BATCH = {"torch", "sympy", *sys.stdlib_module_names} - {"__main__"}

# What a length that varies is taken for in choosing the order of a contraction.
_TYPICAL_LENGTH = 100


def hash_of(frame: CondIndepStackFrame) -> int:
    """Return the hash of a plate as Pyro has it, at this length of a batch: a size that varies cannot be hashed."""
    size: Any = frame.size
    return hash((frame.name, frame.dim, size.node.hint if isinstance(size, torch.SymInt) else size, frame.counter))


def add(pyros: Callable[..., None], sums: MultiFrameTensor, *items: Any) -> None:
    """Add terms as Pyro does, which sums over their plates in the order of a set, and so of hashes of their sizes."""
    for frames, _ in items:
        sizes = [frame.size for frame in frames if frame.vectorized]
        if len(sizes) > 1 and any(isinstance(size, torch.SymInt) for size in sizes):
            raise RuntimeError("the order in which Pyro sums over plates depends on the length of the batch")
    pyros(sums, *items)


def is_traced() -> bool:
    """Return whether Pyro leaves checks of values out, as where it is traced; reporting a loss is no check."""
    return caller() != "pyro.infer.trace_mean_field_elbo"


def set_scale(messenger: ScaleMessenger, scale: Any) -> None:
    """Make a messenger without the check that the scale is positive, which a length that varies cannot answer."""
    super(ScaleMessenger, messenger).__init__()
    messenger.scale = scale


def length(given: Any) -> Any:
    """Return the length, of a tensor as a number that may vary; Python's own `len` makes a constant of it."""
    return given.shape[0] if isinstance(given, Tensor) and given.dim() else builtins.len(given)


def _dirichlet(concentration: Tensor) -> Tensor:
    """Return torch's reparametrised sample, plus the derivative times a zero that depends on the concentration.

    torch's own is a function with a gradient of its own, which an export sees through.
    """
    constant = concentration.detach()
    x = torch._sample_dirichlet(constant)
    total = constant.sum(-1, keepdim=True).expand_as(constant)
    change = torch._dirichlet_grad(x, constant, total) * (concentration - constant)
    return x + (change - x * change.sum(-1, keepdim=True))


def _safe_log(x: Tensor) -> Tensor:
    """Return the logarithm, with a gradient that is finite at 0: plus a zero that has Pyro's."""
    constant = x.detach()
    return constant.log() + (x - constant) / constant.clamp(min=torch.finfo(x.dtype).eps)


OWN_GRADIENTS: dict[Any, Callable[..., Tensor]] = {_Dirichlet: _dirichlet, _SafeLog: _safe_log}


def _is_symmetric(_: Any, value: Tensor) -> Tensor:
    if value.shape[-2] != value.shape[-1]:
        return torch.zeros(value.shape[:-2], dtype=torch.bool, device=value.device)
    symmetric: Tensor = torch.isclose(value, value.mT, atol=1e-6).all(-2).all(-1)
    return symmetric


def _is_positive_definite(_: Any, value: Tensor) -> Tensor:
    definite: Tensor = torch.linalg.cholesky_ex(value).info.eq(0)
    return _is_symmetric(_, value) & definite


def _is_positive_semidefinite(_: Any, value: Tensor) -> Tensor:
    semidefinite: Tensor = torch.linalg.eigvalsh(value).ge(0).all(-1)
    return _is_symmetric(_, value) & semidefinite


CHECKS = {
    "_Symmetric": _is_symmetric,
    "_PositiveDefinite": _is_positive_definite,
    "_PositiveSemidefinite": _is_positive_semidefinite,
}


def iterate(plate: Any) -> Iterator[Any]:
    """Loop over a plate as Pyro does: the indices of all of it are numbers, as they are to Pyro."""
    if plate.subsample_size != plate.size:
        raise ValueReadError("a plate that draws some of its rows is looped over")
    for number, _ in enumerate(_PYROS_ITERATION(plate)):
        yield number


def _safe_cholesky(x: Tensor) -> Tensor:
    """Add Pyro's jitter to the diagonal and factorise; Pyro adds it in place, past autograd."""
    if x.size(-1) == 1:
        return _PYROS_CHOLESKY(x)  # type: ignore[no-any-return]
    largest = x.detach().abs().max(-1).values
    jitter = tensor_utils.CHOLESKY_RELATIVE_JITTER * torch.finfo(x.dtype).eps * largest
    factor: Tensor = torch.linalg.cholesky(x + torch.diag_embed(jitter))
    return factor


REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "warn_if_nan": lambda value, *_, **__: value,
    "safe_cholesky": _safe_cholesky,
}


def contract_expression(equation: str, *shapes: tuple[Any, ...]) -> Any:
    """Choose the order of a contraction as Pyro does, for lengths that are numbers."""
    typical = [tuple(n if isinstance(n, int) else _TYPICAL_LENGTH for n in shape) for shape in shapes]
    return _PYROS_CONTRACT_EXPRESSION(equation, *typical)


def _with_zeros(tensor: Tensor, mask: Tensor) -> Tensor:
    """Return a tensor with zeros for what is masked out, laid out as it is: sums are taken in the order of memory."""
    as_laid_out = torch.zeros_like(tensor, dtype=torch.bool) | mask
    return torch.where(as_laid_out, tensor, 0.0)


def expectation(dice: Dice, costs: Any) -> Any:
    """Compute an expectation as Pyro does, but leave impossible outcomes out by a zero: a graph keeps its shapes."""
    with Replacements() as stack:
        stack.replace(Tensor, "masked_select", _with_zeros, by="pyro.")
        return _PYROS_EXPECTATION(dice, costs)
