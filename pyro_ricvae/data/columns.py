"""What columns of a table are: those in which no cell can be judged, and why."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEW_ROWS = 10


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
        name = repr(str(names[j])) if names is not None else f"column {j}"
        if n_rows < _FEW_ROWS:
            found[j] = f"{name}: {n_rows} rows are too few"
        elif (column == column[0]).all():
            found[j] = f"{name}: all values are {column[0]:g}"
        elif _names_rows(column):
            found[j] = f"{name}: whole numbers that are all distinct, as row names are"
    return found


def _names_rows(column: NDArray[Any]) -> bool:
    if column.dtype.kind == "b" or (column.dtype.kind == "f" and not (column == np.floor(column)).all()):
        return False
    ordered = np.sort(column)
    steps = np.diff(ordered)
    if not (steps > 0).all():
        return False
    in_order = bool((np.diff(column) > 0).all() or (np.diff(column) < 0).all())
    return in_order or float(ordered[-1]) - float(ordered[0]) < 2 * len(column)
