"""Statistics of a data set, for predictive checks.

Each takes rows ``x`` of shape (..., n, d) and a ``mask`` of shape (n, d), True where a cell counts, and returns a
tensor of shape (...): one number a data set, computed in float64. Those that need a ruler (`Sparsity`, `Outlying`) are
objects made from the observed rows once, so that replicates are judged by the ruler of the data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_ricvae._core.robust import NORMAL_MAD

#: From rows (..., n, d) and a mask (n, d), True where a cell counts, to (...) or (..., k).
Statistic = Callable[[Tensor, Tensor], Tensor]

#: The names of the statistics; "autocorrelation" is for rows with a shape (h, w) or (h, w, channels).
NAMES = ("mean", "variance", "sparsity", "maximum", "outlying", "kurtosis", "autocorrelation")

_REPEATED = 0.05  # the share of cells that a value needs to be called the data's own zero


def mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the cells that count, of shape (...), in the units of `x`."""
    return _sum(x, mask) / mask.sum()


def variance(x: Tensor, mask: Tensor) -> Tensor:
    """Return the variance of the cells around the mean of their column, over all that count, of shape (...)."""
    return _sum(_centred(x, mask).square(), mask) / mask.sum()


def maximum(x: Tensor, mask: Tensor) -> Tensor:
    """Return the greatest of the cells that count, of shape (...)."""
    return x.double().masked_fill(~mask, -torch.inf).amax((-2, -1))


def kurtosis(x: Tensor, mask: Tensor) -> Tensor:
    r"""Return the fourth moment of the standardised cells, of shape (...): 3 for normal ones, more with heavy tails.

    .. math:: \frac1N \sum_{ij} (x_{ij} - \bar x_j)^4 / v_j^2, \qquad v_j = \frac{1}{n_j} \sum_i (x_{ij} - \bar x_j)^2

    over the N cells that count, without the columns in which all are equal (0 if that leaves none).
    """
    squares = _centred(x, mask).square()
    n = mask.sum(-2).clamp(min=1)
    variances = torch.where(mask, squares, 0.0).sum(-2, keepdim=True) / n
    standardised = torch.where(mask & (variances > 0), squares / variances.clamp(min=1e-300), 0.0)
    cells = (mask & (variances > 0)).sum((-2, -1)).clamp(min=1)
    return standardised.square().sum((-2, -1)) / cells


@dataclass(frozen=True)
class Sparsity:
    """The share of the cells that are (nearly) zero, where zero is what the data call so.

    Parameters
    ----------
    zero : float
        The value that counts as zero.
    tolerance : float
        How far a cell may be from it.
    """

    zero: float
    tolerance: float

    @classmethod
    def of(cls, x: Tensor, mask: Tensor) -> "Sparsity":
        """Return the statistic with the zero of the rows `x`, of shape (n, d).

        That is their most frequent value, or, where fewer than 5% of the cells share one, their median; the tolerance
        is a tenth of a robust standard deviation of all cells (a standard deviation where that is 0).
        """
        cells = x.double()[mask]
        values, counts = cells.unique(return_counts=True)
        often = counts.max() >= max(2.0, _REPEATED * len(cells))
        zero = values[counts.argmax()] if often else cells.median()
        return cls(float(zero), 0.1 * float(_robust_scale(cells.unsqueeze(-1), torch.ones_like(cells[:, None]) > 0)[1]))

    def __call__(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the share of the cells that count and are near zero, of shape (...), from 0 to 1."""
        near = (x.double() - self.zero).abs() <= self.tolerance
        return (near & mask).sum((-2, -1)) / mask.sum()


@dataclass(frozen=True)
class Outlying:
    """The number of cells that are farther from the centre of their column than k robust standard deviations.

    Parameters
    ----------
    centre, scale : Tensor, shape (d,)
        The ruler.
    k : float, default=4
        How many of them are too far: of normal cells one in 16 000 is.
    """

    centre: Tensor
    scale: Tensor
    k: float = 4.0

    @classmethod
    def of(cls, x: Tensor, mask: Tensor, k: float = 4.0) -> "Outlying":
        """Return the statistic with the medians and robust standard deviations of the columns of `x`, of shape (n, d).

        A robust standard deviation is 1.4826 times the median distance from the median; where that is 0, the standard
        deviation, of the column or, where that is 0 too, of all cells.
        """
        return cls(*_robust_scale(x.double(), mask), k)

    def __call__(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return how many of the cells that count lie too far out, of shape (...)."""
        far = (x.double() - self.centre).abs() > self.k * self.scale
        return (far & mask).sum((-2, -1)).double()


@dataclass(frozen=True)
class Autocorrelation:
    r"""The spatial autocorrelation of images at lag one, in the way of Moran (1950).

    .. math:: I = \frac{\mathrm{mean}_{(a, b)}\, u_{ia} u_{ib}}{\mathrm{mean}_{ia}\, u_{ia}^2}, \qquad
        u_{ia} = x_{ia} - \bar x_i

    over all pairs (a, b) of cells of one image beside or below each other, both of which count: 1 for smooth images,
    about 0 for noise, negative for a chequerboard. Images of which all cells are equal add nothing; 0 if all are so.

    Parameters
    ----------
    event_shape : tuple of int
        (h, w) or (h, w, channels), whose product is d.
    """

    event_shape: tuple[int, ...]

    def __call__(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the autocorrelation, of shape (...), dimensionless."""
        x = x.double()
        n = mask.sum(-1, keepdim=True).clamp(min=1)
        centred = torch.where(mask, x - torch.where(mask, x, 0.0).sum(-1, keepdim=True) / n, 0.0)
        grid, counts = centred.unflatten(-1, self.event_shape), mask.unflatten(-1, self.event_shape)
        row, length = -len(self.event_shape), 0
        products: Tensor | float = 0.0
        for dim in (row, row + 1):
            size = grid.shape[dim] - 1
            pair = grid.narrow(dim, 0, size) * grid.narrow(dim, 1, size)
            products = products + pair.flatten(row - 1).sum(-1)
            length += int((counts.narrow(dim, 0, size) & counts.narrow(dim, 1, size)).sum())
        spread = centred.square().sum((-2, -1)) / mask.sum()
        return torch.where(spread > 0, products / max(length, 1) / spread.clamp(min=1e-300), 0.0)


def choose(
    statistics: Sequence[str] | Mapping[str, Statistic | str] | None,
    x: Tensor,
    mask: Tensor,
    event_shape: tuple[int, ...] | None = None,
) -> dict[str, Statistic]:
    """Return statistics by name, those that need a ruler with that of the rows `x`.

    Parameters
    ----------
    statistics : sequence of str, mapping of str to callable or str, or None
        Names out of `NAMES`; in a mapping also callables of your own, ``(x, mask) -> number or vector``. None is all
        that the rows have: "autocorrelation" only of images.
    x : Tensor, shape (n, d)
        The observed rows.
    mask : Tensor of bool, shape (n, d)
        True where a cell counts.
    event_shape : tuple of int, optional
        The shape of a row.

    Raises
    ------
    ValueError
        If a name is not known, or "autocorrelation" is asked for of rows that are no images of at least two cells.
    """
    if isinstance(statistics, Mapping):
        wrong = [name for name, function in statistics.items() if not (callable(function) or function in NAMES)]
        if wrong:
            raise ValueError(
                f"Expected a function (x, mask) -> number, or one of {', '.join(NAMES)}, for each statistic, actual "
                f"neither for {wrong}."
            )
        known = choose(
            [each for each in statistics.values() if isinstance(each, str)] or ["mean"], x, mask, event_shape
        )
        return {name: known[each] if isinstance(each, str) else each for name, each in statistics.items()}
    if isinstance(statistics, str):
        statistics = [statistics]
    images = event_shape is not None and len(event_shape) in (2, 3) and max(event_shape[:2]) > 1
    names = list(statistics) if statistics is not None else [n for n in NAMES if images or n != "autocorrelation"]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise ValueError(
            f"Expected statistics out of {', '.join(NAMES)}, actual {unknown or 'none'}: give functions of your own as "
            "a dict, {'name': lambda x, mask: ...}."
        )
    if "autocorrelation" in names and not images:
        raise ValueError(
            "Expected event_shape to be (h, w) or (h, w, channels) for the statistic 'autocorrelation', actual "
            f"{event_shape}: give the shape of an image, or leave the statistic out."
        )
    made: dict[str, Statistic] = {"mean": mean, "variance": variance, "maximum": maximum, "kurtosis": kurtosis}
    if "sparsity" in names:
        made["sparsity"] = Sparsity.of(x, mask)
    if "outlying" in names:
        made["outlying"] = Outlying.of(x, mask)
    if event_shape is not None:
        made["autocorrelation"] = Autocorrelation(event_shape)
    return {name: made[name] for name in names}


def _sum(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x.double(), 0.0).sum((-2, -1))


def _centred(x: Tensor, mask: Tensor) -> Tensor:
    """Return the cells less the mean of their column's cells that count, in float64."""
    x = x.double()
    return x - torch.where(mask, x, 0.0).sum(-2, keepdim=True) / mask.sum(-2).clamp(min=1)


def _robust_scale(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns' centres and robust scales, of shape (d,) each; see `Outlying.of`."""
    counted = x.masked_fill(~mask, torch.nan)
    pooled = x[mask]
    centre = counted.nanmedian(dim=0).values.nan_to_num(float(pooled.median()))  # a column of which no cell counts
    scale = NORMAL_MAD * (counted - centre).abs().nanmedian(dim=0).values.nan_to_num(0.0)
    fallback = (_centred(x, mask).square().masked_fill(~mask, 0.0).sum(0) / mask.sum(0).clamp(min=1)).sqrt()
    scale = torch.where(scale > 0, scale, fallback)
    return centre, torch.where(scale > 0, scale, pooled.std(correction=0))
