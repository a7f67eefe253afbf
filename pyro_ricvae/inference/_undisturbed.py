"""What a capture and a compilation must leave as it was."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle


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
def undisturbed(module: nn.Module, leaves: Sequence[Any]) -> Iterator[RemovableHandle]:
    """Put random state, Pyro's and torch's settings and buffers back at the end.

    Within the context that it gives, the buffers of the modules that run are noted: the model's code may know networks
    that `module` does not.
    """
    settings = pyro.settings.get()
    validated = torch.distributions.Distribution._validate_args
    buffers = {buffer: buffer.clone() for buffer in module.buffers()}

    def note(running: nn.Module, _: Any) -> None:
        for buffer in running.buffers(recurse=False):
            if buffer not in buffers:
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
                if not torch.equal(buffer, value):  # the others may be part of a backward to come
                    buffer.copy_(value)
