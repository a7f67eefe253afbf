"""Probability integral transforms: where each cell lies in its own predictive distribution."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: From rows (n, d) and a number k to replicates (k, n, d).
Draw = Callable[[Tensor, int], Tensor]

_N_BINS = 20  # a cell's rank among 19 replicates: every bin is as wide
_N_SETS = 99  # data sets drawn from the model, for the test
_MAX_ROWS = 200  # of the test, whose sets are each replicated again
_MAX_CELLS = 2**20  # in those rows, and one row at least: 80 MiB for the replicates of a set


@dataclass(frozen=True)
class PIT:
    r"""Where the cells lie in their predictive distributions, and a test of whether that is as it should be.

    Parameters
    ----------
    values : ndarray, shape (n, d)
        The estimated :math:`P(x_{is} \le x_i)`, in (0, 1), ties broken at random; NaN where a cell does not count.
    histogram : ndarray, shape (20,)
        The share of the cells at each rank among 19 replicates, of at most 200 rows.
    expected : ndarray, shape (99, 20)
        The same for as many data sets drawn from the model. It is not flat: a row's latents come from the row, which so
        lies nearer to the middle of its replicates than another of the same model would.
    tail_probability : float
        The probability, at least 0.01, of a histogram as far from the average one as that of the data, among those.
    """

    values: NDArray[np.float32]
    histogram: NDArray[np.float64]
    expected: NDArray[np.float64]
    tail_probability: float

    def words(self) -> str:
        """Return in words whether the cells lie where they should, and if not where there are too many."""
        if self.tail_probability > 0.05:
            return (
                f"Cells lie in their predictive distributions as they should (tail probability "
                f"{self.tail_probability:.2g})."
            )
        excess = (self.histogram - self.expected.mean(0)) / np.maximum(self.expected.std(0), 1e-9)
        low, middle, high = excess[:2].mean(), excess[8:12].mean(), excess[-2:].mean()
        if abs((low + high) / 2 - middle) >= abs(high - low):
            many, few = "in the middle", "at both ends"
            turned = middle < (low + high) / 2
        else:
            many, few = "at the upper end", "at the lower end"
            turned = high < low
        if turned:
            many, few = few, many
        return (
            f"Missed: the shape of the predictive distributions: too many cells {many} of theirs, too few {few} "
            f"(tail probability {self.tail_probability:.2g})."
        )


def count_replicate(replicates: Tensor, x: Tensor, less: Tensor, equal: Tensor) -> None:
    """Add to `less` and `equal`, (n, d) each, how many of the replicates (k, n, d) are below, and at, the rows `x`."""
    less += (replicates < x).sum(0)
    equal += (replicates == x).sum(0)


def uniformity(draw: Draw, x: Tensor, mask: Tensor, values: Tensor) -> PIT:
    """Return the PIT with its test against data sets drawn from the model.

    Those are encoded and replicated as the rows are, so that what the double use of the data does to a histogram it
    does to theirs too. They are replicates of one replicate of `x`: if the guide is the posterior, that is a reversible
    chain, and `x` and they, each one step from the same root, are exchangeable, so that the test is exact (the parallel
    method of Besag and Clifford, 1989, "Generalized Monte Carlo significance tests"). Cells that do not count are those
    of `x` in all of them. The distance of a histogram is the sum over bins of its squared differences to the average of
    all hundred, over that average.

    Parameters
    ----------
    draw : callable
        Replicates rows.
    x : Tensor, shape (n, d)
        The rows.
    mask : Tensor of bool, shape (n, d)
        True where a cell counts.
    values : Tensor, shape (n, d)
        The PIT values.
    """
    counted = mask.any(-1).nonzero().squeeze(-1)
    n_rows = min(len(counted), _MAX_ROWS, max(1, _MAX_CELLS // x.shape[1]))
    some = counted[torch.linspace(0, len(counted) - 1, n_rows).round().long().to(x.device)]
    rows, counts = x[some], mask[some]

    def redraw(given: Tensor) -> Tensor:
        return torch.where(counts, draw(given, 1)[0], rows)

    root = redraw(rows)
    histograms = [_histogram(draw, rows, counts)]
    histograms += [_histogram(draw, redraw(root), counts) for _ in range(_N_SETS)]
    every = np.stack(histograms)
    average = np.maximum(every.mean(0), 1e-12)
    distances = ((every - average) ** 2 / average).sum(1)
    return PIT(values.cpu().numpy(), every[0], every[1:], float((distances >= distances[0]).mean()))


def _histogram(draw: Draw, rows: Tensor, mask: Tensor) -> NDArray[np.float64]:
    """Return the share of the cells that count at each rank among replicates of their own."""
    less, equal = torch.zeros_like(rows), torch.zeros_like(rows)
    count_replicate(draw(rows, _N_BINS - 1), rows, less, equal)
    ranks = (less + torch.floor(torch.rand_like(rows) * (equal + 1))).long()[mask]
    shares: NDArray[np.float64] = torch.bincount(ranks, minlength=_N_BINS).double().cpu().numpy() / len(ranks)
    return shares
