"""The soft labels of unsupervised one-class learning: the inliers and the outliers that fit a function best."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def best_labels(f: Array, margin: float) -> tuple[Array, float]:
    r"""Return the soft labels that are best for values of f, and their gain.

    The objective is :math:`f^\top (I + \gamma_1 L) f - 2 g + n`, in which the labels are in the gain :math:`g = f^\top
    y + (\gamma_2 / n_+) \sum_{y_i > 0} f_i` alone. Let :math:`n_+` be given, and S be the sum of f over the inliers:
    :math:`f^\top y = (c_+ - c_-) S + c_- \sum_i f_i`, and as :math:`c_+ > c_-`, g rises in S. So the inliers are the
    :math:`n_+` rows with the largest f. As :math:`c_+ - c_- = n / \sqrt{n_+ (n - n_+)}`, with :math:`\bar f` the mean,

    .. math:: g(n_+) = \frac{n (S - n_+ \bar f)}{\sqrt{n_+ (n - n_+)}} + \frac{\gamma_2 S}{n_+}

    which cumulative sums of the sorted f give for all :math:`n_+` at once. The first term is :math:`\sqrt n` times the
    root of the scatter between the two groups: without a margin, this is the split of `discriminative_threshold`.

    Parameters
    ----------
    f : ndarray, shape (n,)
        Two values or more.
    margin : float
        The weight :math:`\gamma_2`.

    Returns
    -------
    labels : ndarray, shape (n,)
        The y.
    gain : float
        The g.
    """
    n, mean = len(f), f.mean()
    order = np.argsort(-f, kind="stable")
    above = np.cumsum((f - mean)[order])[:-1]
    numbers = np.arange(1, n)
    gains = n * above / np.sqrt(numbers * (n - numbers)) + margin * (mean + above / numbers)
    best = int(gains.argmax())
    n_inliers = best + 1
    labels = np.full(n, -((n_inliers / (n - n_inliers)) ** 0.5))
    labels[order[:n_inliers]] = ((n - n_inliers) / n_inliers) ** 0.5
    return labels, float(gains[best])
