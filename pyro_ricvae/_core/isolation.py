"""Leaving things as they were: parameters, modes, random numbers, settings and buffers; and where a module lives."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import pyro
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle


class ModuleLike(Protocol):
    """What is needed of a `torch.nn.Module`, for who says no more of it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self, recurse: bool = ...) -> Iterator[nn.Parameter]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def eval(self) -> Any: ...
    def to(self, device: Any) -> Any: ...


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


@contextmanager
def evaluation(*modules: ModuleLike) -> Iterator[None]:
    """Put the modules, and all within them, in evaluation mode, without gradients; leave them as they were."""
    were_training = [(each, each.training) for module in modules for each in module.modules()]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad(), own_parameters():
            yield
    finally:
        for each, training in were_training:
            each.training = training


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of torch's generators of the CPU and, where it is a CUDA device, of `device`."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Set torch's generators to what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of the CPU and the device for the time of the block.

    Those of the CPU and of a CUDA device are left as they were; torch offers no such thing for the others.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed those of all other devices too
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
        yield


def device_named(device: Any) -> torch.device:
    """Return the device of this machine that a name stands for, or raise a ValueError; "auto" is CUDA or the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()  # the device "meta" has no values
    except (RuntimeError, AssertionError, TypeError) as error:  # torch raises any of these, by device
        raise ValueError(
            f"Expected a device of this machine, actual {device!r} ({str(error).splitlines()[0]}): use 'cpu' or 'auto'."
        ) from error
    return found


def device_of(module: ModuleLike) -> torch.device:
    """Return the device of a module's parameters, the CPU where it has none."""
    return next((tensor.device for tensor in module.parameters()), torch.device("cpu"))


def other_random_numbers() -> tuple[Any, bytes, Any]:
    """Return the state of the generators that are not torch's."""
    state: Any = np.random.get_state()  # noqa: NPY002  # the legacy one is what is global
    return random.getstate(), state[1].tobytes(), state[2:]


@contextmanager
def same_random_numbers(leaves: Sequence[Any]) -> Iterator[None]:
    """Put the random state, torch's, NumPy's and Python's, back at the end.

    Torch's is that of the CPU and of the devices of the tensors among `leaves`.
    """
    devices = {leaf.device.index for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_cuda}
    pythons, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)  # noqa: NPY002


@contextmanager
def undisturbed(module: nn.Module, leaves: Sequence[Any], tensors: Sequence[Tensor] = ()) -> Iterator[RemovableHandle]:
    """Put random state, Pyro's and torch's settings, buffers and other `tensors` back at the end.

    Within the context that it gives, the buffers of the modules that run are noted: the model's code may know networks
    that `module` does not.
    """
    settings = pyro.settings.get()
    validated = torch.distributions.Distribution._validate_args
    buffers = {buffer: buffer.detach().clone() for buffer in (*module.buffers(), *tensors)}

    def note(running: nn.Module, _: Any) -> None:
        for buffer in running.buffers(recurse=False):
            if buffer not in buffers and not isinstance(buffer, FakeTensor):  # as which an export has it run
                buffers[buffer] = buffer.clone()

    hook = register_module_forward_pre_hook(note)
    try:
        with same_random_numbers(leaves):
            yield hook
    finally:
        hook.remove()
        pyro.settings.set(**settings)
        # torch.compile switches it off for the process.
        torch.distributions.Distribution.set_default_validate_args(validated)
        with torch.no_grad():
            for buffer, value in buffers.items():
                value = value.to(buffer.device)
                if not torch.equal(buffer, value):  # the others may be part of a backward to come
                    buffer.copy_(value)
