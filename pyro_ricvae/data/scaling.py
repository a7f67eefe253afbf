"""Standardising, undone on output: robust centres and scales for tables, the range for images."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import constraints

from pyro_ricvae._core.robust import robust_scale

Kind = Literal["range", "robust", "none"]
# Stray values: a range this many times wider than that of the middle 99.8% of the values is not taken for the range.
_STRAY = 3.0
# Gaps below this share of the range are those of continuous values, or of rounding, and not of quantisation.
_CONTINUOUS = 1e-5
_MAX_VALUES = 1_000_000
# In standardised units: a cell that lies farther out is taken to lie there. Squares of squares of it fit in float32.
_FARTHEST = 1e9


@dataclass(frozen=True)
class Scaling:
    """An affine map from data units to standardised units, one a feature: ``(x - center) / scale``.

    Parameters
    ----------
    kind : {"range", "robust", "none"}
        How it was fitted.
    center, scale : ndarray of float64, shape (d,)
        In data units; scales are positive.
    """

    kind: Kind
    center: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def fit(cls, x: NDArray[Any], kind: Kind) -> "Scaling":
        """Return the scaling of the rows `x`.

        Parameters
        ----------
        x : ndarray, shape (n, d)
            Finite rows, in data units.
        kind : {"range", "robust", "none"}
            "range", for images: all features from the smallest value to the largest, to [0, 1]; where stray values
            stretch that to more than three times the range of the middle 99.8% of the values, from that range's ends.
            "robust", for tables: each column centred at its median and divided by its robust standard deviation
            (`_core.robust.robust_scale` has what each kind of column gets). Neither is moved by outliers.
            "none": as the data are.

        Returns
        -------
        Scaling
            In float64. Multiplying `x` by a power of two multiplies centres and scales by it, exactly; but for the
            scales of nearly constant columns, which depend on decimals.

        Raises
        ------
        ValueError
            If `kind` is unknown.
        """
        n_features = x.shape[1]
        if kind == "none":
            return cls(kind, np.zeros(n_features), np.ones(n_features))
        if kind == "range":
            low, high = _range(x)
            return cls(kind, np.full(n_features, low), np.full(n_features, high - low or 1.0))
        if kind == "robust":
            columns = np.asarray(x, dtype=np.float64)
            return cls(kind, np.median(columns, axis=0), robust_scale(columns))
        raise ValueError(f"Expected scaling to be 'auto', 'range', 'robust' or 'none', actual {kind!r}.")

    def standardise(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return the rows `x`, of shape (n, d), in standardised units."""
        out = np.empty(x.shape, dtype=np.float32)
        for start in range(0, len(x), 4096):  # float64 in between, without a copy of the whole in it
            rows = slice(start, start + 4096)
            out[rows] = (x[rows] - self.center) / self.scale
        return out

    def restore(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Return standardised rows, of shape (n, d), in data units."""
        return rows * self.scale + self.center


def quantisation_step(x: NDArray[Any], scaling: Scaling) -> float:
    """Return the resolution at which the data were recorded, in standardised units.

    In images (``scaling.kind == "range"``) it is the smallest gap between distinct values; of the columns of a table,
    the median over the columns of theirs. Gaps below 1e-5 of the range are not taken for quantisation: 0 then.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Rows, in data units. Of more than a million values, those of evenly spaced rows are looked at.
    scaling : Scaling
        Theirs.

    Returns
    -------
    float
        In standardised units, at least 0.
    """
    if scaling.kind == "range":
        return _smallest_gap(x) / float(scaling.scale[0])
    return float(np.median([_smallest_gap(column) for column in x.T] / scaling.scale))


def _some(x: NDArray[Any]) -> NDArray[Any]:
    """Return about a million values at most: those of evenly spaced rows, so that all features are looked at alike."""
    return x[:: -(-x.size // _MAX_VALUES)]


def _smallest_gap(x: NDArray[Any]) -> float:
    distinct = np.unique(_some(x)).astype(np.float64)
    if len(distinct) < 2:
        return 0.0
    gap = float(np.diff(distinct).min())
    return gap if gap >= _CONTINUOUS * (distinct[-1] - distinct[0]) else 0.0


def _range(x: NDArray[Any]) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    inner_low, inner_high = np.quantile(_some(x).astype(np.float64), [0.001, 0.999])
    if inner_high > inner_low and high - low > _STRAY * (inner_high - inner_low):
        return float(inner_low), float(inner_high)
    return low, high


def fit_scaling(kind: Any, values: NDArray[Any], support: constraints.Constraint, is_image: bool) -> Scaling:
    """Return the scaling of rows, of shape (n, d), for a likelihood of that support.

    A ValueError if `kind` is unknown, neither "auto" nor one of `Scaling.fit`, or leaves values too far for squares.
    """
    if kind == "auto":
        kind = automatic_scaling(support, values, is_image)
    with np.errstate(over="ignore"):
        scaling = Scaling.fit(values, kind)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(scaling.scale).all() or (kind == "none" and max(-low, high) > _FARTHEST):
        raise ValueError(
            f"Expected data that scaling={kind!r} brings near 1, actual ones from {low:g} to {high:g}, too far for "
            "their squares: leave out such rows, or use another scaling."
        )
    return scaling


def standardised(scaling: Scaling, values: NDArray[Any]) -> Tensor:
    """Return the rows `values`, of shape (n, d), in standardised units, no cell farther out than squares allow."""
    with np.errstate(over="ignore"):
        x = torch.as_tensor(scaling.standardise(values))
    return x.clamp_(-_FARTHEST, _FARTHEST)


def automatic_scaling(support: constraints.Constraint, values: NDArray[Any], images: bool) -> Kind:
    """Return how data of shape (n, d) are scaled for a likelihood of that support, where the user does not say."""
    if support is not constraints.real and bool(support.check(torch.tensor(values)).all()):
        return "none"  # they are where they must be
    return "range" if images else "robust"
