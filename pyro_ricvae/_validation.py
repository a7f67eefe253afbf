"""Checks of arguments, shared so that every error says what was expected and what came."""

import math
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def positive_int(name: str, value: Any) -> int:
    """Return `value` as an int, or raise a ValueError that names it if it is not a whole number >= 1."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"Expected {name} to be a whole number >= 1, actual {value!r}.")
    return number


def positive_ints(name: str, values: Iterable[Any]) -> tuple[int, ...]:
    """Return `values` as a tuple of ints, or raise a ValueError if one is not a whole number >= 1."""
    if not isinstance(values, Iterable):
        raise ValueError(f"Expected {name} to be a sequence of whole numbers >= 1, actual {values!r}.")
    return tuple(positive_int(f"each of {name}", value) for value in values)


def positive_finite(name: str, value: Any) -> float:
    """Return `value` as a float, or raise a ValueError that names it if it is not positive and finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (0.0 < number < math.inf):
        raise ValueError(f"Expected {name} to be a positive and finite number, actual {value!r}.")
    return number


def features_vector(name: str, value: Any, n_features: int) -> Tensor:
    """Return `value` as a finite tensor of shape ``(n_features,)``, or raise a ValueError that names it."""
    vector = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach().clone()
    if vector.shape != (n_features,) or not vector.isfinite().all():
        raise ValueError(
            f"Expected {name} to hold {n_features} finite values, one a feature, actual shape "
            f"{tuple(vector.shape)} with {int((~vector.isfinite()).sum())} values not finite."
        )
    return vector


def check_rows(x: Tensor) -> None:
    """Raise a ValueError unless `x` is a floating-point tensor of shape (..., rows, features)."""
    if x.dim() < 2:
        raise ValueError(
            f"Expected x of shape (..., rows, features), actual {tuple(x.shape)}: "
            "give a single row as x.unsqueeze(0), and images as x.flatten(1)."
        )
    if not x.is_floating_point():
        raise ValueError(f"Expected x of a floating-point type, actual {x.dtype}: give x.float(), images as x / 255.")


def describe(output: object) -> str:
    """Return the shapes of what a network returned, or its type, for an error."""
    if isinstance(output, tuple | list):
        return f"{type(output).__name__}({', '.join(map(describe, output))})"
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
