"""What columns of a table are: those in which no cell can be judged, and those in which one value stands out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEW_ROWS = 10
# A value that stands out: of so large a share, in a column of so many others.
_LARGE_SHARE, _MANY_VALUES = 0.2, 10


def not_judged(values: NDArray[Any], names: Sequence[str] | None = None) -> dict[int, str]:
    """Return the columns in whose cells no dirt can be told from what is right, by number, each with the reason.

    Those of fewer than ten rows; those whose values are all the same; and those that name the rows: whole numbers, no
    two of them equal, in order or without wide gaps. A measured column of whole numbers repeats itself, or has gaps.

    Parameters
    ----------
    values : ndarray, shape (n, d)
        The rows, finite.
    names : sequence of str, optional
        What the columns are called; their numbers by default.

    Returns
    -------
    dict of int to str
        In words, as "'id': whole numbers that are all distinct, as row names are".
    """
    found: dict[int, str] = {}
    n_rows = len(values)
    for j in range(values.shape[1]):
        column = values[:, j]
        name = _name(j, names)
        if n_rows < _FEW_ROWS:
            found[j] = f"{name}: {n_rows} rows are too few"
        elif (column == column[0]).all():
            found[j] = f"{name}: all values are {column[0]:g}"
        elif _names_rows(column):
            found[j] = f"{name}: whole numbers that are all distinct, as row names are"
    return found


def repeated(values: NDArray[Any], names: Sequence[str] | None = None) -> list[str]:
    """Return in words which columns have a value that makes up a fifth of them or more, among ten others or more.

    Such a value may stand for something else: one that is missing, or below what can be measured.

    Parameters
    ----------
    values, names
        As in `not_judged`.

    Returns
    -------
    list of str
        As "48% of 'insulin' equal 0: if that stands for a missing value, ...".
    """
    said = []
    for j in range(values.shape[1]):
        distinct, counts = np.unique(values[:, j], return_counts=True)
        share = counts.max() / len(values)
        if len(distinct) > _MANY_VALUES and share >= _LARGE_SHARE:
            said.append(
                f"{share:.0%} of {_name(j, names)} equal {distinct[counts.argmax()]:g}: if that stands for a value "
                "that is missing, or could not be measured, it is taken for a measured one here."
            )
    return said


def _name(j: int, names: Sequence[str] | None) -> str:
    return repr(str(names[j])) if names is not None else f"column {j}"


def _names_rows(column: NDArray[Any]) -> bool:
    if column.dtype.kind == "b" or (column.dtype.kind == "f" and not (column == np.floor(column)).all()):
        return False
    ordered = np.sort(column)
    steps = np.diff(ordered)
    if not (steps > 0).all():
        return False
    in_order = bool((np.diff(column) > 0).all() or (np.diff(column) < 0).all())
    return in_order or float(ordered[-1]) - float(ordered[0]) < 2 * len(column)
