"""Errors in two groups, small and large: the threshold between them, and a loss that draws them apart."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Splits whose scatter between the groups is as large as the best one's, but for rounding.
_AS_GOOD = 1 - 1e-12


def discriminative_threshold(errors: Any) -> float:
    r"""Return the error above which rows are outlying, by the split into two groups that are the most compact.

    Of all splits of the sorted errors :math:`e_1 \le \dots \le e_n` into the k smallest and the others, with means
    :math:`m_1` and :math:`m_2`, it is the one with the least within-group share of the scatter,

    .. math:: h(k) = \frac{\sum_{i \le k} (e_i - m_1)^2 + \sum_{i > k} (e_i - m_2)^2}{\sum_i (e_i - \bar e)^2}

    and the threshold lies halfway between its :math:`e_k` and :math:`e_{k+1}`. This is the split of 2-means in one
    dimension, and of Otsu's method. It takes time in n log n.

    Parameters
    ----------
    errors : array-like, shape (n,)
        How outlying each row is, in any unit: finite numbers, one or more. Errors need not be squared, but squaring
        changes the threshold.

    Returns
    -------
    float
        In the unit of the errors. ``errors > threshold`` are the outliers: never none and never all, unless all errors
        are equal, or there is but one: then it is that error, and no row is outlying. Equal errors are on the same
        side. Of splits that are equally good it is the one with the fewest outliers.

    Raises
    ------
    ValueError
        If there are no errors, they have not one dimension, or some are NaN or infinite.

    References
    ----------
    Xia, Y., Cao, X., Wen, F., Hua, G. and Sun, J. (2015). Learning discriminative reconstructions for unsupervised
    outlier removal. ICCV.

    Examples
    --------
    >>> from pyro_ricvae.estimators import discriminative_threshold
    >>> discriminative_threshold([0.1, 0.3, 4.0, 0.2, 5.0])
    2.15
    """
    values = np.asarray(errors, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"Expected errors of shape (n,), one a row, with n >= 1, actual {values.shape}.")
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise ValueError(
            f"Expected finite errors, actual {int(wrong.sum())} of {len(values)} that are NaN or infinite, the first "
            f"that of row {int(wrong.argmax())}: leave such rows out."
        )
    ordered = np.sort(values)
    n_inliers = number_of_small(ordered)
    if n_inliers == len(ordered):
        return float(ordered[-1])
    below, above = float(ordered[n_inliers - 1]), float(ordered[n_inliers])
    halfway = max(below, below / 2 + above / 2)  # their difference may be too large for a number
    return halfway if halfway < above else below


def number_of_small(ordered: NDArray[np.float64]) -> int:
    """Return how many of the errors, of shape (n,) and in rising order, are in the group of small ones.

    All of them where all are equal. See `discriminative_threshold`.
    """
    # So that no square is too large or too small; the mean then goes, as a common offset would cost digits in sums.
    scaled = np.ldexp(ordered, -np.frexp(np.abs(ordered).max())[1])
    apart = np.diff(scaled) > 0
    if not apart.any():
        return len(ordered)
    sums, numbers = np.cumsum(scaled - scaled.mean()), np.arange(1, len(scaled))
    # What is not within the groups is between them.
    between = (sums[:-1] - sums[-1] * numbers / len(scaled)) ** 2 / (numbers * (len(scaled) - numbers))
    between[~apart] = 0.0
    return int(np.flatnonzero(between >= _AS_GOOD * between.max())[-1]) + 1


def discriminative_loss(errors: Tensor, weight: float) -> Tensor:
    r"""Return the mean of the small errors, plus `weight` times the within-group share h of the scatter.

    Parameters
    ----------
    errors : Tensor, shape (B,)
        Of the rows of a batch, at least 0. Which of them are small is taken as given: the gradient is that of the mean
        and of h at this split, see `discriminative_threshold`.
    weight : float
        The weight :math:`\lambda` of h.

    Returns
    -------
    Tensor, shape ()
        In the unit of the errors, h having none. The mean alone where all errors are equal.
    """
    found, order = errors.detach().sort()
    n_inliers = number_of_small(found.cpu().double().numpy())
    if n_inliers == len(errors):
        return errors.mean()
    shares = errors / found[-1]  # h does not change, and their squares are numbers
    within = _scatter(shares[order[:n_inliers]]) + _scatter(shares[order[n_inliers:]])
    loss: Tensor = errors[order[:n_inliers]].mean() + weight * within / _scatter(shares)
    return loss


def _scatter(values: Tensor) -> Tensor:
    return torch.sum((values - values.mean()) ** 2)
