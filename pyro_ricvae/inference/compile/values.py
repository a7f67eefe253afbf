"""How what a walk finds is read and written, and what tells it from others: its value, its identity or its state."""

import enum
import functools
import logging
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

BY_VALUE = (bool, int, str, bytes, type(None), type(...), torch.dtype, torch.device, torch.Size, range, slice)
BY_IDENTITY = (enum.Enum, logging.Logger)


def attribute_of(value: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Return what reads an attribute, and what writes it."""
    return functools.partial(getattr, value, name), functools.partial(setattr, value, name)


def key_of(value: Any) -> Any:
    """Return what stands for a key, or an element of a set."""
    return (type(value), value) if isinstance(value, (*BY_VALUE, float)) else (type(value), id(value))


def same_array(array: Any, was: Any) -> bool:
    """Return whether an array is, to the bit, what it was."""
    return bool(array.shape == was.shape and array.dtype == was.dtype and array.tobytes() == was.tobytes())


def state_of(generator: Any) -> Any:
    """Return the state of a generator of random numbers, Python's or NumPy's."""
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()
