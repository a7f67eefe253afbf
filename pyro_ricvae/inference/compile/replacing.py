"""How anything is replaced for the time of a capture: in one thread, and for some callers."""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any
from unittest.mock import patch

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from pyro_ricvae.inference.compile.code import is_librarys

# Modules whose frames lie between a replacement and the code that calls it.
_BETWEEN = {f"{__package__}.{name}" for name in ("replacing", "stand_ins", "patches")}


class ValueReadError(RuntimeError):
    """Code reads the value of a tensor, which a graph does not have, or has a gradient of its own."""


class Replacements(ExitStack):
    """Replacements for the time of the block, in this thread."""

    def replace(self, owner: Any, name: str, replacement: Callable[..., Any], by: str = "") -> None:
        """Replace a function, for callers in modules that begin with `by`."""
        original, thread = getattr(owner, name), threading.get_ident()

        @wraps(original)
        def either(*args: Any, **kwargs: Any) -> Any:
            ours = threading.get_ident() == thread and caller().startswith(by)
            return (replacement if ours else original)(*args, **kwargs)

        self.enter_context(patch.object(owner, name, either))

    def refuse(self, owner: Any, name: str, *, also_fake: bool) -> None:
        """Have a user's code that reads a value, of a tensor outside of the graph, raise a `ValueReadError`."""
        original, thread = getattr(owner, name), threading.get_ident()

        @wraps(original)
        def checked(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            users = threading.get_ident() == thread and not is_librarys(caller())
            if users and (also_fake or not isinstance(tensor, FakeTensor)):
                raise ValueReadError(f"the value of a tensor is read, by {name}")
            return original(tensor, *args, **kwargs)

        self.enter_context(patch.object(owner, name, checked))


def caller() -> str:
    """Return the name of the module whose code calls a replacement."""
    frame: Any = sys._getframe(1)
    while frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))
