"""What has to be known of Pyro's and torch's insides for a capture: what is replaced for its time, and why."""

import builtins
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from operator import attrgetter
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro.infer import traceenum_elbo
from pyro.infer.util import Dice
from pyro.ops import einsum, tensor_utils
from pyro.poutine.indep_messenger import CondIndepStackFrame, IndepMessenger
from pyro.poutine.scale_messenger import ScaleMessenger
from torch import Tensor
from torch.library import Library

from pyro_ricvae._core.isolation import without_modules


@contextmanager
def silent() -> Iterator[None]:
    """Keep what torch prints and logs of a failure, a whole graph: the one line of it that helps is in the error."""
    logged = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logged)


@contextmanager
def capturing() -> Iterator[None]:
    """Let no value be read from a tensor, which a graph cannot do, and keep what the capture leaves behind away."""
    _complete_torch()
    store = pyro.get_param_store()
    with ExitStack() as stack:
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(store.scope(without_modules(store.get_state())))
        stack.enter_context(silent())
        stack.enter_context(patch.object(torch._C, "_get_tracing_state", _pyro_is_traced))
        # A distribution made before keeps its own setting; the first call has been validated.
        stack.enter_context(patch.object(torch.distributions.Distribution, "_validate_sample", lambda *_: None))
        stack.enter_context(patch.object(ScaleMessenger, "__init__", _set_scale))
        stack.enter_context(patch.object(traceenum_elbo, "_get_common_scale", lambda scales: scales[0]))
        stack.enter_context(patch.object(torch.distributions.dirichlet, "_Dirichlet", _Dirichlet))
        stack.enter_context(patch.object(IndepMessenger, "__iter__", _iterate))
        stack.enter_context(patch.object(Dice, "compute_expectation", _expectation))
        stack.enter_context(patch.object(einsum, "contract_expression", _contract_expression))
        # Equal plates have equal sizes; and a size that varies cannot be hashed.
        key = attrgetter("name", "dim", "counter")
        stack.enter_context(patch.object(CondIndepStackFrame, "__hash__", lambda frame: hash(key(frame))))
        # Pyro reads the loss only to report it, and checks it for NaN: both would end in the graph as a branch.
        stack.enter_context(patch.object(Tensor, "item", Tensor.detach))
        for name, module in list(sys.modules.items()):
            if name.startswith("pyro."):
                for function, replacement in _REPLACEMENTS.items():
                    if hasattr(module, function):
                        stack.enter_context(patch.object(module, function, replacement))
            names = getattr(module, "__dict__", {"len": None})
            if name.partition(".")[0] not in _NEVER_SEE_A_BATCH and "len" not in names:
                names["len"] = _len
                stack.callback(names.pop, "len", None)
        yield


@cache
def _complete_torch() -> Library:
    """Tell torch what shapes some operations give, which it does not know for a length that varies."""
    library = Library("aten", "IMPL")  # holds as long as the process: a graph may be compiled again later
    for name in ("_sample_dirichlet", "_dirichlet_grad", "_standard_gamma_grad", "binomial"):
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "Meta"):
            library.impl(name, lambda first, *_, **__: torch.empty_like(first), "Meta")
    return library


def _pyro_is_traced() -> bool:
    """Return whether it is Pyro that asks: it leaves out checks of values where it is traced for TorchScript.

    So does torch, but its distributions would also draw otherwise.
    """
    return str(sys._getframe(1).f_globals.get("__name__")).startswith("pyro.")


def _set_scale(messenger: ScaleMessenger, scale: Any) -> None:
    """Make a messenger without the check that the scale is positive, which a length that varies cannot answer."""
    super(ScaleMessenger, messenger).__init__()
    messenger.scale = scale


def _len(given: Any) -> Any:
    """Return the length, of a tensor as a number that may vary; Python's own `len` makes a constant of it."""
    return given.shape[0] if isinstance(given, Tensor) and given.dim() else builtins.len(given)


class _Dirichlet:
    """torch's reparametrised sample, which is a function with a gradient of its own, of operations that have theirs."""

    @staticmethod
    def apply(concentration: Tensor) -> Tensor:
        """Return a sample, plus the derivative times a zero that depends on the concentration."""
        constant = concentration.detach()
        x = torch._sample_dirichlet(constant)
        total = constant.sum(-1, keepdim=True).expand_as(constant)
        change = torch._dirichlet_grad(x, constant, total) * (concentration - constant)
        return x + (change - x * change.sum(-1, keepdim=True))


def _iterate(plate: Any) -> Iterator[Any]:
    """Loop over a plate as Pyro does; the indices of all of it are numbers, as a site's name may need."""
    whole = plate.subsample_size == plate.size
    for number, index in enumerate(_PYROS_ITERATION(plate)):
        yield number if whole else index


def _safe_cholesky(x: Tensor) -> Tensor:
    """Add Pyro's jitter to the diagonal and factorise; Pyro adds it in place, past autograd."""
    if x.size(-1) == 1:
        return _PYROS_CHOLESKY(x)  # type: ignore[no-any-return]
    largest = x.detach().abs().max(-1).values
    jitter = tensor_utils.CHOLESKY_RELATIVE_JITTER * torch.finfo(x.dtype).eps * largest
    factor: Tensor = torch.linalg.cholesky(x + torch.diag_embed(jitter))
    return factor


_PYROS_ITERATION: Any = IndepMessenger.__iter__
_PYROS_CHOLESKY: Any = tensor_utils.safe_cholesky
_REPLACEMENTS = {"warn_if_nan": lambda value, *_, **__: value, "safe_cholesky": _safe_cholesky}
# All other modules may hold a user's model.
_NEVER_SEE_A_BATCH = {"torch", "sympy", *sys.stdlib_module_names}
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
