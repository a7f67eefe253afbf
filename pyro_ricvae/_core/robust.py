"""The median absolute deviation, as a standard deviation that outliers do not move."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Standard deviations in the median absolute deviation of a normal.
NORMAL_MAD = 1.482602218505602

# Of a column half of whose values are equal.
_FEW_OTHERS = 0.1
_DECIMALS, _SHARE = 3.0, 0.01
_MOST_DECIMALS, _SINGLE = 6, 1.2e-7  # the second is the relative spacing of single precision
_MAD_OF_NORMAL = 0.6744897501960817  # the third quartile of a standard normal


def robust_deviation(x: NDArray[Any]) -> Any:
    """Return 1.4826 times the median absolute deviation from the median along the first axis, of shape x.shape[1:]."""
    return np.median(np.abs(x - np.median(x, axis=0)), axis=0) / _MAD_OF_NORMAL


def robust_scale(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the robust standard deviation of each column, of shape (d,); none of them is set by a few values.

    ============================================== =================================================================
    column                                         scale
    ============================================== =================================================================
    fewer than half of the values are equal        1.4826 times the median absolute deviation
    half or more, and a tenth or more are others   the same of those others alone: zeros and amounts, counts, codes
    nearly constant: fewer than a tenth are others three times the last decimal of the common value, or 1% of it if
                                                   that is more: a sentinel (-999) among them lies far out
    constant                                       1
    ============================================== =================================================================
    """
    scale = np.asarray(robust_deviation(columns))
    for j in np.flatnonzero(scale == 0):
        center = float(np.median(columns[:, j]))
        away = np.abs(columns[:, j] - center)
        away = away[away > 0]
        if not len(away):
            scale[j] = 1.0
        elif len(away) >= _FEW_OTHERS * len(columns):
            scale[j] = NORMAL_MAD * np.median(away)
        else:
            scale[j] = max(_DECIMALS * 10.0 ** -decimals(center), _SHARE * abs(center))
    return scale


def decimals(value: float) -> int:
    """Return how many decimals a number is written with: at most six, and no more than single precision holds."""
    number = most_decimals(np.array([value]))
    return _MOST_DECIMALS if number is None else number


def most_decimals(column: NDArray[Any]) -> int | None:
    """Return how many decimals the numbers of a column are written with at most; None for more than six."""
    values = np.asarray(column, dtype=np.float64)
    values = values[np.isfinite(values)]
    for number in range(_MOST_DECIMALS + 1):
        if (np.abs(np.round(values, number) - values) <= _SINGLE * np.abs(values)).all():
            return number
    return None
