"""What has to be known of Pyro's and torch's insides for a capture: what is replaced for its time, and why.

A replacement holds for the thread that captures, and, where it changes what is returned, for calls by Pyro alone: what
a user's code calls is what it always is.
"""

import sys
import threading
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro.infer import traceenum_elbo
from pyro.infer.util import Dice, MultiFrameTensor
from pyro.ops import einsum
from pyro.poutine.indep_messenger import CondIndepStackFrame, IndepMessenger
from pyro.poutine.scale_messenger import ScaleMessenger
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributions import Distribution, constraints
from torch.library import Library
from torch.utils._pytree import TreeSpec

from pyro_ricvae._core.isolation import without_modules
from pyro_ricvae.inference.compile import stand_ins
from pyro_ricvae.inference.compile.quiet import silent
from pyro_ricvae.inference.compile.replacing import Replacements, ValueReadError
from pyro_ricvae.inference.compile.reported import Reported

# Pyro's handlers and store, and all that is replaced here, are one for the process: one thread at a time.
LOCK = threading.RLock()

# More than that takes minutes to capture, some 30 ms each.
_MOST_VALIDATED = 2000


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
        stack.replace(torch._C, "_get_tracing_state", stand_ins.is_traced, by="pyro.")
        stack.replace(ScaleMessenger, "__init__", stand_ins.set_scale)
        stack.replace(traceenum_elbo, "_get_common_scale", lambda scales: scales[0])
        stack.replace(IndepMessenger, "__iter__", stand_ins.iterate)
        stack.replace(Dice, "compute_expectation", stand_ins.expectation)
        stack.replace(einsum, "contract_expression", stand_ins.contract_expression)
        stack.replace(CondIndepStackFrame, "__hash__", stand_ins.hash_of)
        stack.replace(MultiFrameTensor, "add", partial(stand_ins.add, MultiFrameTensor.add))
        _record_validation(stack, recorded)
        _record_losses(stack, recorded)
        _refuse_values(stack)
        _refuse_own_gradients(stack)
        for name, module in list(sys.modules.items()):
            if name.startswith("pyro."):
                for function, replacement in stand_ins.REPLACEMENTS.items():
                    if hasattr(module, function):
                        stack.replace(module, function, replacement)
            names = getattr(module, "__dict__", {"len": None})
            if name.partition(".")[0] not in stand_ins.NEVER_SEE_A_BATCH and "len" not in names:
                names["len"] = stand_ins.length
                stack.callback(names.pop, "len", None)
        yield recorded


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
    for name, check in stand_ins.CHECKS.items():
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
        if threading.get_ident() == thread and cls in stand_ins.OWN_GRADIENTS:
            return stand_ins.OWN_GRADIENTS[cls](*args, **kwargs)
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
