"""The median absolute deviation, as a standard deviation that outliers do not move."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Standard deviations in the median absolute deviation of a normal.
NORMAL_MAD = 1.482602218505602

_MAD_OF_NORMAL = 0.6744897501960817  # the third quartile of a standard normal


def robust_deviation(x: NDArray[Any]) -> Any:
    """Return 1.4826 times the median absolute deviation from the median along the first axis, of shape x.shape[1:]."""
    return np.median(np.abs(x - np.median(x, axis=0)), axis=0) / _MAD_OF_NORMAL


def robust_scale(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the robust standard deviation of each column, of shape (d,).

    Where it is 0, as half of the values are equal, that of the other half; 1 for a constant column.
    """
    scale = np.asarray(robust_deviation(columns))
    for j in np.flatnonzero(scale == 0):
        away = np.abs(columns[:, j] - np.median(columns[:, j]))
        away = away[away > 0]
        scale[j] = NORMAL_MAD * np.median(away) if len(away) else 1.0
    return scale
