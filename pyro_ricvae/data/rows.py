"""Data as users have them, arrays, tensors, data frames, as checked rows, and results in the same container."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_ricvae._core.robust import most_decimals

_CHUNK = 65_536


@dataclass(frozen=True)
class Rows:
    """Data as rows, and what is needed to give results in the container they came in.

    Parameters
    ----------
    values : ndarray, shape (n, d)
        Finite real numbers, in data units and of the data's own type; not a copy where none is needed.
    event_shape : tuple of int
        The shape of one row before it was flattened.
    columns : list of str or None
        The names of a data frame's columns.
    wrap : callable
        Turns an array of shape (n, ...) into the container, tensor or array, that the data came in.
    dtype : numpy.dtype
        The floating-point type of results: the data's own, at least float32; float64 for integers of more than 16 bits.
    """

    values: NDArray[Any]
    event_shape: tuple[int, ...]
    columns: list[str] | None
    wrap: Callable[[NDArray[Any]], Any]
    dtype: np.dtype[Any]

    def like(self, rows: NDArray[Any]) -> Any:
        """Return `rows`, of shape (n, d), in the shape, type and container of the data."""
        return self.wrap(rows.reshape(len(rows), *self.event_shape).astype(self.dtype, copy=False))


def as_rows(data: Any) -> Rows:
    """Return `data` as checked rows.

    Parameters
    ----------
    data : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
        A NumPy array or memmap, a tensor on any device, a pandas data frame, or nested lists.

    Returns
    -------
    Rows
        See there.

    Raises
    ------
    TypeError
        If the data, or a column, are not real numbers.
    ValueError
        If there are no rows or features, the rank is below 2, or values are NaN or infinite.
    """
    columns: list[str] | None = None
    wrap: Callable[[NDArray[Any]], Any] = np.asarray
    if isinstance(data, torch.Tensor):
        tensor = data.detach().cpu()
        values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        wrap = _tensor_like(data)
    elif hasattr(data, "columns") and hasattr(data, "iloc"):
        columns = [str(name) for name in data.columns]
        values = _frame_values(data)
        wrap = _frame_like(data)
    elif hasattr(data, "tocsr"):
        raise TypeError("Expected dense data, actual a sparse matrix, which is not supported: give X.toarray().")
    else:
        # A masked cell is a missing one, whatever value is under the mask.
        values = np.ma.filled(data.astype(np.float64), np.nan) if np.ma.is_masked(data) else np.asarray(data)
    values = _numbers(values)
    _check(values, columns)
    dtype = np.dtype(np.result_type(values.dtype, np.float32))
    event_shape = tuple(values.shape[1:])
    rows = values.reshape(len(values), -1)
    _check_finite(rows, event_shape, columns)
    return Rows(rows, event_shape, columns, wrap, np.dtype(np.float64) if dtype.itemsize > 8 else dtype)


def with_cells(data: Any, mask: NDArray[np.bool_], values: NDArray[Any]) -> Any:
    """Return a copy of `data` with other values in some cells, and all others as they are, to the last bit.

    Parameters
    ----------
    data : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
        As `as_rows` takes them.
    mask : ndarray of bool, shape (n, d)
        Which cells.
    values : ndarray, shape (n, d)
        Their values, in data units; they get as many decimals as the others of a table's column have, none where they
        are whole numbers.

    Returns
    -------
    of the type, shape and dtype of `data`
        Nested lists give an array.
    """
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        changed = data.copy()
        for j in np.flatnonzero(mask.any(axis=0)):
            column = data.iloc[:, j].copy()
            rounded = _to_decimals(values[mask[:, j], j], column.to_numpy(dtype=float, na_value=np.nan))
            column[mask[:, j]] = _as_type(rounded, column.dtype)
            changed.isetitem(j, column)
        return changed
    is_tensor = isinstance(data, torch.Tensor)
    array = as_rows(data).values if is_tensor else np.asarray(data)
    changed = np.array(array).reshape(mask.shape)
    if array.ndim == 2:
        values = np.stack([_to_decimals(values[:, j], changed[:, j]) for j in range(values.shape[1])], axis=1)
    changed[mask] = _as_type(values[mask], changed.dtype)
    if is_tensor:
        return torch.as_tensor(changed.reshape(tuple(data.shape)), dtype=data.dtype, device=data.device)
    return changed.reshape(array.shape)


def _to_decimals(values: NDArray[Any], column: NDArray[Any]) -> NDArray[Any]:
    """Return values rounded to the decimals of a column; as they are where it has more than six."""
    number = most_decimals(column)
    return values if number is None else np.round(values, number)


def _as_type(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Return values as a type holds them: rounded to whole numbers, within its bounds."""
    kind = getattr(dtype, "kind", "f")
    if kind == "b":
        is_true: NDArray[Any] = values > 0.5
        return is_true
    if kind not in "iu":
        return values
    whole: np.dtype[Any] = getattr(dtype, "numpy_dtype", dtype)
    bounds = np.iinfo(whole)
    rounded: NDArray[Any] = np.clip(np.rint(values), bounds.min, bounds.max).astype(whole)
    return rounded


def check_for_training(rows: Rows) -> None:
    """Raise a ValueError if nothing can be learned from the rows: there is but one, or all of them are the same."""
    if len(rows.values) < 2:
        raise ValueError(
            "Expected two rows or more to learn from, actual 1: give all rows at once, one a line (n_samples=1)."
        )
    first = rows.values[0]
    if all((rows.values[i : i + _CHUNK] == first).all() for i in range(0, len(rows.values), _CHUNK)):
        raise ValueError(
            f"Expected data that vary, actual {len(rows.values)} equal rows: there is nothing to learn. Check how the "
            "data were read."
        )


def check_like(rows: Rows, event_shape: tuple[int, ...], columns: Any, whose: str) -> None:
    """Raise a ValueError unless rows have a shape and, where both have names, the columns of those of a fit.

    Parameters
    ----------
    rows : Rows
        The new rows.
    event_shape : tuple of int
        The shape of a row of fit.
    columns : sequence of str or None
        Its columns.
    whose : str
        The name of the estimator's class.
    """
    if rows.event_shape != event_shape:
        given, expected = rows.values.shape[1], math.prod(event_shape)
        sizes = f" (X has {given} features, but {whose} is expecting {expected} features as input)"
        raise ValueError(
            f"Expected rows of shape {event_shape}, as in fit, actual {rows.event_shape}: give the same columns, or "
            f"images of the same size{'' if given == expected else sizes}."
        )
    if columns is not None and rows.columns is not None and list(columns) != rows.columns:
        wrong = next((a, b) for a, b in zip(columns, rows.columns, strict=True) if a != b)
        raise ValueError(
            f"Expected the columns of fit, in their order, actual {wrong[1]!r} in the place of {wrong[0]!r}: give "
            "X[est.feature_names_in_]."
        )


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Return an array of real numbers; of objects that are numbers, in float64."""
    if values.dtype.kind == "c":
        raise ValueError(
            f"Expected real numbers, actual an array of type {values.dtype}, as complex numbers are not supported "
            "(Complex data not supported): give real and imaginary parts as columns."
        )
    if values.dtype.kind == "O" and values.ndim:
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Expected real numbers, actual an array of type object: convert or encode them ({error})."
            ) from error
    if values.dtype.kind not in "biuf":
        raise TypeError(f"Expected real numbers, actual an array of type {values.dtype}: convert or encode them.")
    return values


def _check(values: NDArray[Any], columns: list[str] | None) -> None:
    if values.ndim < 2:
        raise ValueError(
            f"Expected rows of features, shape (n, d), or images, (n, height, width), actual shape {values.shape}: "
            "give a single column as X.reshape(-1, 1), a single row as X.reshape(1, -1). Reshape your data."
        )
    if 0 in values.shape:
        # In the words, too, that scikit-learn's checks of estimators look for; so are others here.
        lacking = "" if len(values) == 0 else f" 0 feature(s) (shape={values.shape}) while a minimum of 1 is required."
        raise ValueError(
            f"Expected at least one row and one feature, actual shape {values.shape}: the data are empty.{lacking}"
        )


def _check_finite(rows: NDArray[Any], event_shape: tuple[int, ...], columns: list[str] | None) -> None:
    if rows.dtype.kind != "f" or all(np.isfinite(rows[i : i + _CHUNK]).all() for i in range(0, len(rows), _CHUNK)):
        return
    missing, infinite = np.isnan(rows), np.isinf(rows)
    first = np.argwhere(missing if missing.any() else infinite)[0]
    place = np.unravel_index(first[1], event_shape)
    where = repr(columns[first[1]]) if columns else ", ".join(str(index) for index in place)
    if missing.any():
        raise ValueError(
            f"Expected no missing values, actual {int(missing.sum())} NaN, the first in row {first[0]}, column "
            f"{where}: they are not supported yet. Leave such rows out, or fill the cells in (with a column's median)."
        )
    raise ValueError(
        f"Expected finite values, actual {int(infinite.sum())} infinite ones, the first in row {first[0]}, column "
        f"{where}: replace them by a large finite value, which will be found and cleaned, or leave such rows out."
    )


def _frame_values(frame: Any) -> NDArray[Any]:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    for name, column in frame.items():
        if not (is_numeric_dtype(column.dtype) or is_bool_dtype(column.dtype)) or column.dtype.kind == "c":
            example = next(iter(column), None)
            raise TypeError(
                f"Expected columns of real numbers, actual column {str(name)!r} of type {column.dtype}, which holds "
                f"{example!r}: drop it, or encode it as numbers."
            )
    if all(isinstance(dtype, np.dtype) for dtype in frame.dtypes):
        # pandas itself makes objects of bool beside numbers.
        return np.asarray(frame.to_numpy(dtype=np.result_type(np.bool_, *frame.dtypes)))
    return np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))  # pandas' own types, which have their own NA


def _frame_like(frame: Any) -> Callable[[NDArray[Any]], Any]:
    return lambda values: type(frame)(values, index=frame.index, columns=frame.columns)


def _tensor_like(tensor: torch.Tensor) -> Callable[[NDArray[Any]], Any]:
    dtype = tensor.dtype if tensor.is_floating_point() else None
    return lambda values: torch.as_tensor(values, dtype=dtype, device=tensor.device)
