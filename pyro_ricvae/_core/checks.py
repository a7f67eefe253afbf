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
        actual = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"Expected {name} to be a whole number >= 1, actual {actual}.")
    return number


def positive_ints(name: str, values: Iterable[Any]) -> tuple[int, ...]:
    """Return `values` as a tuple of ints, or raise a ValueError if one is not a whole number >= 1."""
    if not isinstance(values, Iterable):
        raise ValueError(f"Expected {name} to be a sequence of whole numbers >= 1, actual {values!r}.")
    return tuple(positive_int(f"each of {name}", value) for value in values)


def positive_finite(name: str, value: Any) -> Tensor:
    """Return `value` as a 0-dim tensor, or raise a ValueError that names it if it is not positive and finite there."""
    number = torch.tensor(_number(value))
    if not (0.0 < number < math.inf):
        raise ValueError(f"Expected {name} to be a positive and finite number in {number.dtype}, actual {value!r}.")
    return number


def is_auto(value: Any) -> bool:
    """Return whether an argument is "auto"; of an array, whose comparison is one, no."""
    return isinstance(value, str) and value == "auto"


def at_least_0(name: str, value: Any) -> float:
    """Return `value` as a float, or raise a ValueError that names it if it is not a finite number >= 0."""
    number = _number(value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"Expected {name} to be a finite number >= 0, actual {value!r}.")
    return number


def between_0_and_1(name: str, value: Any) -> float:
    """Return `value` as a float, or raise a ValueError that names it if it is not a number between 0 and 1."""
    number = _number(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"Expected {name} to lie between 0 and 1, actual {value!r}.")
    return number


def _number(value: Any) -> float:
    """Return `value` as a float, NaN if it is not a number."""
    try:
        return math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def features_vector(name: str, value: Any, n_features: int) -> Tensor:
    """Return `value` as a finite tensor of shape ``(n_features,)``, or raise a ValueError that names it."""
    try:
        vector = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"Expected {name} to hold {n_features} numbers, one a feature, actual {value!r}.") from error
    if vector.shape != (n_features,) or not vector.isfinite().all():
        raise ValueError(
            f"Expected {name} to hold {n_features} finite values, one a feature, actual shape "
            f"{tuple(vector.shape)} with {int((~vector.isfinite()).sum())} values not finite."
        )
    return vector


def check_rows(x: Tensor) -> None:
    """Raise an error unless `x` is a floating-point tensor of shape (..., rows, features) with at least one row."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"Expected x to be a tensor, actual {type(x).__name__}: "
            "give torch.as_tensor(x), and of a batch that is a tuple or list its tensor of rows."
        )
    if x.dim() < 2:
        raise ValueError(
            f"Expected x of shape (..., rows, features), actual {tuple(x.shape)}: "
            "give a single row as x.unsqueeze(0), and images as x.flatten(1)."
        )
    if x.shape[-2] == 0:
        raise ValueError(f"Expected at least one row, actual x of shape {tuple(x.shape)}.")
    if not x.is_floating_point():
        raise ValueError(f"Expected x of a floating-point type, actual {x.dtype}: give x.float(), images as x / 255.")


def check_finite(x: Tensor) -> None:
    """Raise a ValueError if values of the rows `x`, of shape (..., rows, features), are NaN or infinite."""
    wrong = ~x.isfinite()
    if wrong.any():
        first = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"Expected finite values in x, actual {int(wrong.sum())} that are NaN or infinite, the first at {first}: "
            "leave such rows out, or fill the cells in; missing values are not supported."
        )


def check_observed(observed: Any, x: Tensor) -> None:
    """Raise a ValueError unless `observed` says of each cell of the rows `x`, of shape (..., B, d), whether it counts.

    Rows that are recycled by several particles have dimensions in front that it has not.
    """
    actual = f"{observed.dtype} of shape {tuple(observed.shape)}" if isinstance(observed, Tensor) else repr(observed)
    fits = isinstance(observed, Tensor) and observed.dtype == torch.bool and observed.dim() >= 2
    if not fits or observed.shape != x.shape[x.dim() - observed.dim() :] or observed.dim() > x.dim():
        raise ValueError(
            f"Expected observed to be a tensor of bool, True where a cell counts, of the shape of x, {tuple(x.shape)}, "
            f"actual {actual}: for whole rows or columns, expand it."
        )


def check_mask(mask: Any, x: Tensor) -> Tensor:
    """Return a mask of the cells of `x` that count, all of them for None, or raise a ValueError."""
    if mask is None:
        return torch.ones_like(x, dtype=torch.bool)
    mask = torch.as_tensor(mask, device=x.device)
    if mask.dtype != torch.bool or mask.shape != x.shape:
        raise ValueError(
            f"Expected mask to be of bool and of the shape of x, {tuple(x.shape)}, True where a cell counts, actual "
            f"{mask.dtype} of shape {tuple(mask.shape)}."
        )
    checked: Tensor = mask
    return checked
