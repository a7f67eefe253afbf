"""What has to be known of Pyro's and torch's insides for a capture: what is replaced for its time, and why.

A replacement holds for the thread that captures, and, where it changes what is returned, for calls by Pyro alone: what
a user's code calls is what it always is.
"""

import builtins
import sys
import threading
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from contextlib import ExitStack, contextmanager
from functools import cache, partial, wraps
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro.infer import traceenum_elbo
from pyro.infer.util import Dice, MultiFrameTensor
from pyro.ops import einsum, tensor_utils
from pyro.ops.special import _SafeLog
from pyro.poutine.indep_messenger import CondIndepStackFrame, IndepMessenger
from pyro.poutine.scale_messenger import ScaleMessenger
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributions import Distribution, constraints
from torch.distributions.dirichlet import _Dirichlet
from torch.library import Library
from torch.utils._pytree import TreeSpec

from pyro_ricvae._core.isolation import without_modules
from pyro_ricvae.inference.compile.code import is_librarys
from pyro_ricvae.inference.compile.quiet import silent
from pyro_ricvae.inference.compile.reported import Reported

# Pyro's handlers and store, and all that is replaced here, are one for the process: one thread at a time.
LOCK = threading.RLock()

# More than that takes minutes to capture, some 30 ms each.
_MOST_VALIDATED = 2000


class ValueReadError(RuntimeError):
    """Code reads the value of a tensor, which a graph does not have, or has a gradient of its own."""


class TooLargeError(RuntimeError):
    """A loss has so many operations that to capture it would take minutes."""


class Recorded:
    """What a capture keeps of a loss besides its value.

    Attributes
    ----------
    surrogates : list of Tensor
        What Pyro would have taken the gradient of.
    valid : list of Tensor
        Whether what Pyro would have validated is valid, one boolean each.
    spec : TreeSpec
        The structure of the value.
    """

    spec: TreeSpec

    def __init__(self) -> None:
        self.surrogates: list[Tensor] = []
        self.valid: list[Tensor] = []


class Replacements(ExitStack):
    """Replacements for the time of the block, in this thread."""

    def replace(self, owner: Any, name: str, replacement: Callable[..., Any], by: str = "") -> None:
        """Replace a function, for callers in modules that begin with `by`."""
        original, thread = getattr(owner, name), threading.get_ident()

        @wraps(original)
        def either(*args: Any, **kwargs: Any) -> Any:
            ours = threading.get_ident() == thread and _caller().startswith(by)
            return (replacement if ours else original)(*args, **kwargs)

        self.enter_context(patch.object(owner, name, either))

    def refuse(self, owner: Any, name: str, *, also_fake: bool) -> None:
        """Have a user's code that reads a value, of a tensor outside of the graph, raise a `ValueReadError`."""
        original, thread = getattr(owner, name), threading.get_ident()

        @wraps(original)
        def checked(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            users = threading.get_ident() == thread and not is_librarys(_caller())
            if users and (also_fake or not isinstance(tensor, FakeTensor)):
                raise ValueReadError(f"the value of a tensor is read, by {name}")
            return original(tensor, *args, **kwargs)

        self.enter_context(patch.object(owner, name, checked))


def _caller() -> str:
    """Return the name of the module whose code calls a replacement."""
    frame: Any = sys._getframe(1)
    while frame.f_globals is globals():
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


@contextmanager
def capturing() -> Iterator[Recorded]:
    """Have what Pyro reads from tensors, to report and to validate it, recorded, and keep what is left behind away."""
    _complete_torch()
    recorded = Recorded()
    with Replacements() as stack:
        # Distributions are validated as the user has it set, see `_record_validation`; what else is, has been.
        stack.enter_context(pyro.settings.context(validate_infer=False, validate_poutine=False))
        stack.enter_context(_own_store())
        stack.enter_context(silent())
        stack.replace(torch._C, "_get_tracing_state", _is_traced, by="pyro.")
        stack.replace(ScaleMessenger, "__init__", _set_scale)
        stack.replace(traceenum_elbo, "_get_common_scale", lambda scales: scales[0])
        stack.replace(IndepMessenger, "__iter__", _iterate)
        stack.replace(Dice, "compute_expectation", _expectation)
        stack.replace(einsum, "contract_expression", _contract_expression)
        stack.replace(CondIndepStackFrame, "__hash__", _hash_of)
        stack.replace(MultiFrameTensor, "add", partial(_add, MultiFrameTensor.add))
        _record_validation(stack, recorded)
        _record_losses(stack, recorded)
        _refuse_values(stack)
        _refuse_own_gradients(stack)
        for name, module in list(sys.modules.items()):
            if name.startswith("pyro."):
                for function, replacement in _REPLACEMENTS.items():
                    if hasattr(module, function):
                        stack.replace(module, function, replacement)
            names = getattr(module, "__dict__", {"len": None})
            if name.partition(".")[0] not in _NEVER_SEE_A_BATCH and "len" not in names:
                names["len"] = _len
                stack.callback(names.pop, "len", None)
        yield recorded


def _hash_of(frame: CondIndepStackFrame) -> int:
    """Return the hash of a plate as Pyro has it, at this length of a batch: a size that varies cannot be hashed."""
    size: Any = frame.size
    return hash((frame.name, frame.dim, size.node.hint if isinstance(size, torch.SymInt) else size, frame.counter))


def _add(add: Callable[..., None], sums: MultiFrameTensor, *items: Any) -> None:
    """Add terms as Pyro does, which sums over their plates in the order of a set, and so of hashes of their sizes."""
    for frames, _ in items:
        sizes = [frame.size for frame in frames if frame.vectorized]
        if len(sizes) > 1 and any(isinstance(size, torch.SymInt) for size in sizes):
            raise RuntimeError("the order in which Pyro sums over plates depends on the length of the batch")
    add(sums, *items)


class _InOrder(dict[str, Tensor]):
    """A store's parameters in the order in which they once came: modules give theirs again, and sums depend on it."""

    def __init__(self, order: Iterable[str], params: dict[str, Tensor]) -> None:
        super().__init__(params)
        self._order = dict.fromkeys(order)

    def __iter__(self) -> Iterator[str]:
        yield from [name for name in self._order if name in self]
        yield from [name for name in super().__iter__() if name not in self._order]

    def keys(self) -> Any:
        return KeysView(self)

    def values(self) -> Any:
        return ValuesView(self)

    def items(self) -> Any:
        return ItemsView(self)


@contextmanager
def _own_store() -> Iterator[None]:
    """Have Pyro's store hold no module's parameters, and be what it was at the end, to the object."""
    store: Any = pyro.get_param_store()
    before = dict(vars(store))
    try:
        state = store.get_state()
        store.clear()
        store.set_state(without_modules(state))
        store._params = _InOrder(before["_params"], store._params)
        yield
    finally:
        vars(store).update(before)


@contextmanager
def nothing_given_away() -> Iterator[None]:
    """Have torch compile a backward that can run twice (retain_graph): it writes over none of what was saved for it.

    The setting that says so, ``donated_buffer``, would have to hold when the backward runs too.
    """
    with Replacements() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("torch._functorch.") and hasattr(module, "collect_bw_donated_buffer_idxs"):
                stack.replace(module, "collect_bw_donated_buffer_idxs", lambda *_, **__: [])
        yield


def _record_losses(stack: Replacements, recorded: Recorded) -> None:
    """Keep what Pyro takes gradients of; and numbers that it reads to report, which Python adds as doubles."""
    stack.replace(Tensor, "backward", lambda loss, *_, **__: recorded.surrogates.append(loss), by="pyro.")
    stack.replace(Tensor, "item", lambda tensor: Reported(tensor.detach().double()), by="pyro.")


def _record_validation(stack: Replacements, recorded: Recorded) -> None:
    """Keep whether arguments and values of distributions are valid, in the place of an error where they are not."""

    def note(valid: Tensor) -> bool:
        recorded.valid.append(valid.all())
        if len(recorded.valid) > _MOST_VALIDATED:
            raise TooLargeError(
                f"it has more than {_MOST_VALIDATED} arguments and values of distributions, as a long loop or a "
                "sequential enumeration has, and would take minutes to capture"
            )
        return True

    def validate(distribution: Any, value: Tensor) -> None:
        support = getattr(distribution, "support", None)
        if support is not None:
            note(support.check(value))

    stack.replace(torch, "_is_all_true", note, by="torch.distributions.")
    stack.replace(Distribution, "_validate_sample", validate)
    # They look at the values to save a factorisation.
    for name, check in _CHECKS.items():
        cls = getattr(constraints, name, None)
        if cls is not None:
            stack.replace(cls, "check", check)


def _refuse_own_gradients(stack: Replacements) -> None:
    """Have a function whose gradient is written in Python found: an export sees through it to torch's own gradient.

    Both may agree where a graph is verified, and differ elsewhere.
    """
    function: Any = torch.autograd.Function
    original, thread = function.apply.__func__, threading.get_ident()

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread and cls in _OWN_GRADIENTS:
            return _OWN_GRADIENTS[cls](*args, **kwargs)
        if threading.get_ident() == thread:
            raise ValueReadError(f"{cls.__qualname__} has a gradient that is written in Python")
        return original(cls, *args, **kwargs)

    stack.enter_context(patch.object(function, "apply", classmethod(apply)))


def _refuse_values(stack: Replacements) -> None:
    """Have a value that a user's code reads found: of a tensor outside of the graph it would be a constant."""
    for name in ("item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__complex__"):
        stack.refuse(Tensor, name, also_fake=False)
    for owner, name in ((Tensor, "__format__"), (Tensor, "__repr__"), (FakeTensor, "__repr__")):
        stack.refuse(owner, name, also_fake=True)


@cache
def _complete_torch() -> Library:
    """Tell torch what shapes some operations give, which it does not know for a length that varies."""
    library = Library("aten", "IMPL")  # holds as long as the process: a graph may be compiled again later
    for name in ("_sample_dirichlet", "_dirichlet_grad", "_standard_gamma_grad", "binomial"):
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "Meta"):
            library.impl(name, lambda first, *_, **__: torch.empty_like(first), "Meta")
    return library


def _is_traced() -> bool:
    """Return whether Pyro leaves checks of values out, as where it is traced; reporting a loss is no check."""
    return _caller() != "pyro.infer.trace_mean_field_elbo"


def _set_scale(messenger: ScaleMessenger, scale: Any) -> None:
    """Make a messenger without the check that the scale is positive, which a length that varies cannot answer."""
    super(ScaleMessenger, messenger).__init__()
    messenger.scale = scale


def _len(given: Any) -> Any:
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


_OWN_GRADIENTS: dict[Any, Callable[..., Tensor]] = {_Dirichlet: _dirichlet, _SafeLog: _safe_log}


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


_CHECKS = {
    "_Symmetric": _is_symmetric,
    "_PositiveDefinite": _is_positive_definite,
    "_PositiveSemidefinite": _is_positive_semidefinite,
}


def _iterate(plate: Any) -> Iterator[Any]:
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


_PYROS_ITERATION: Any = IndepMessenger.__iter__
_PYROS_CHOLESKY: Any = tensor_utils.safe_cholesky
_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "warn_if_nan": lambda value, *_, **__: value,
    "safe_cholesky": _safe_cholesky,
}
# All other modules may hold a user's model.
_NEVER_SEE_A_BATCH = {"torch", "sympy", *sys.stdlib_module_names} - {"__main__"}
_PYROS_EXPECTATION: Any = Dice.compute_expectation
_PYROS_CONTRACT_EXPRESSION: Any = einsum.contract_expression

# What a length that varies is taken for in choosing the order of a contraction.
_TYPICAL_LENGTH = 100


def _contract_expression(equation: str, *shapes: tuple[Any, ...]) -> Any:
    """Choose the order of a contraction as Pyro does, for lengths that are numbers."""
    typical = [tuple(n if isinstance(n, int) else _TYPICAL_LENGTH for n in shape) for shape in shapes]
    return _PYROS_CONTRACT_EXPRESSION(equation, *typical)


def _with_zeros(tensor: Tensor, mask: Tensor) -> Tensor:
    """Return a tensor with zeros for what is masked out, laid out as it is: sums are taken in the order of memory."""
    as_laid_out = torch.zeros_like(tensor, dtype=torch.bool) | mask
    return torch.where(as_laid_out, tensor, 0.0)


def _expectation(dice: Dice, costs: Any) -> Any:
    """Compute an expectation as Pyro does, but leave impossible outcomes out by a zero: a graph keeps its shapes."""
    with Replacements() as stack:
        stack.replace(Tensor, "masked_select", _with_zeros, by="pyro.")
        return _PYROS_EXPECTATION(dice, costs)
