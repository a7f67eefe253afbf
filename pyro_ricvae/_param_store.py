"""Keeping modules' parameters out of Pyro's global parameter store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
from torch import nn


@contextmanager
def own_parameters() -> Iterator[None]:
    """Run modules on their own parameters, and leave none of them in Pyro's global store.

    Under Pyro's default settings a `PyroModule` that runs puts its parameters, and those of the modules in it, into the
    global store, under names that other models have too: these are then trained, or even replaced, by the first one's.
    Within this context the store holds no module's parameter but those of the modules that run in it. A user's own
    ``pyro.param`` is there as ever, and a new one stays.
    """
    store = pyro.get_param_store()
    with store.scope(without_modules(store.get_state())) as state:
        yield
    store.set_state(without_modules(state))


def without_modules(state: Any) -> Any:
    """Return a state of the store, as ``get_state`` gives it, without the parameters of modules."""
    # What a module owns is in the store as an nn.Parameter, what a pyro.param made as a plain tensor.
    names = [name for name, value in state["params"].items() if not isinstance(value, nn.Parameter)]
    return {kind: {name: entries[name] for name in names if name in entries} for kind, entries in state.items()}
