"""Unsupervised one-class learning: a kernel machine and the labels it is trained on, found in turn."""
# ruff: noqa: N803, N806 -- X is scikit-learn's name, K, L and P are the matrices of the formulas

import warnings
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import kneighbors_graph
from sklearn.utils import gen_batches

from pyro_ricvae._core.checks import at_least_0, is_auto, positive_finite, positive_int
from pyro_ricvae.data.rows import as_rows, check_for_training
from pyro_ricvae.estimators.base import RowEstimator
from pyro_ricvae.estimators.outliers import RowOutliers
from pyro_ricvae.estimators.persistence import check_no_parts
from pyro_ricvae.estimators.soft_labels import best_labels
from pyro_ricvae.estimators.sphere import smallest_on_sphere

Array = NDArray[np.float64]

_TENSORS = ("coefficients_", "soft_labels_", "objective_", "_center", "_rows")
_NUMBERS = ("bandwidth_", "n_inliers_", "n_iter_", "offset_")


class UOCL(RowOutliers, RowEstimator):
    r"""Unsupervised one-class learning (Liu, Hua and Smith, 2014): which rows belong to the class most of them are of.

    Data are used in the units they come in, as the paper uses its image features, and distances weigh all columns
    alike: bring columns of different units to a common scale first. All pairs of rows are looked at: for n rows, a few
    matrices of n x n numbers and time in :math:`n^3`, some seconds for 2,000.

    Parameters
    ----------
    smoothness : float, default=1.0
        The weight :math:`\gamma_1 \ge 0` of the differences between neighbours.
    margin : float, default=1.0
        The weight :math:`\gamma_2 \ge 0` of the average margin of the inliers.
    bandwidth : float or "auto", default="auto"
        The length :math:`\sigma` in the kernel, in data units; "auto" is the root mean square distance of two rows.
    n_neighbors : int, default=10
        Of how many other rows, fewer where there are not as many, a row is a neighbour; and they of it.
    max_iter : int, default=100
        The most alternations.

    Attributes
    ----------
    offset_ : float
        The threshold, in the units of ``score_samples``: halfway between the lowest f of an inlier and the highest of
        an outlier, among the rows of `fit`.
    n_inliers_ : int
        The number :math:`n_+` of inliers among them.
    soft_labels_ : ndarray, shape (n,)
        Their y, positive for inliers; ``predict`` agrees on them, except that rows with an f that equals the threshold
        are inliers.
    coefficients_ : ndarray, shape (n,)
        The unit vector :math:`\alpha`.
    bandwidth_ : float
        The :math:`\sigma` of the kernel, in data units.
    objective_ : ndarray, shape (n_iter\_ + 1,)
        The objective at the start and after each alternation; it never rises.
    n_iter_ : int
        The number of alternations.
    n_features_in_, event_shape_, feature_names_in_
        What rows look like; see `RowEstimator`.

    Notes
    -----
    With :math:`f(x) = \sum_i \alpha_i k(x, x_i)` and :math:`k(x, x') = \exp(-\|x - x'\|^2 / 2 \sigma^2)`,

    .. math::

        \min_{\alpha, y} \; \sum_i (f(x_i) - y_i)^2 + \gamma_1 f^\top L f - \frac{2 \gamma_2}{n_+} \sum_{y_i > 0} f(x_i)

    where :math:`\|\alpha\| = 1`, L = D - W is the Laplacian of the graph of neighbours, whose weights are the kernel's,
    and each y is :math:`c_+ = \sqrt{(n - n_+) / n_+}` or :math:`c_- = -\sqrt{n_+ / (n - n_+)}`, for any :math:`n_+`
    from 1 to n - 1: :math:`\sum_i y_i = 0` and :math:`\|y\|^2 = n`. It is solved for :math:`\alpha` and for y in turn,
    each time exactly, from :math:`\alpha = 1 / \sqrt{n}`, where f is a kernel density estimate.

    *The coefficients.* With f = K :math:`\alpha`, :math:`P = K (I + \gamma_1 L) K` and
    :math:`b = K (y + \gamma_2 \tilde y)`, :math:`\tilde y_i` being :math:`1 / n_+` for inliers and 0 for outliers, the
    objective is :math:`\alpha^\top P \alpha - 2 b^\top \alpha + n`: see `sphere.smallest_on_sphere`.

    *The labels.* See `soft_labels.best_labels`.

    Taken from the authors' slides: the three terms, the unit vector, how it starts, that both steps are exact, the
    constrained eigenvalue problem, and that the labels are in the order of f. Derived here: P, b and the labels' gain;
    the slides' curves of log(Q + n) are of the size of this objective. *Not confirmed*, as the paper's text was not to
    be had: that its kernel, bandwidth, graph and weights are these, and what it takes for :math:`\gamma_1` and
    :math:`\gamma_2`.

    It does find the groups that the objective asks for, which need not be those that are meant: inliers of two kinds
    far apart, or spread much wider in some directions than in others, may be split between the labels, though the
    density estimate that it starts from tells them from the outliers. Then try a smaller `bandwidth`, with a
    `smoothness` of 10 or more.

    The method is for the rows of `fit`. Far from all of them f is 0, which lies above the threshold where that is
    negative, as it often is: a new row far out may be taken for an inlier. The slides judge by the sign of f,
    ``score_samples(X) < 0``, which is no better there.

    References
    ----------
    Liu, W., Hua, G. and Smith, J. R. (2014). Unsupervised one-class learning for automatic outlier removal. CVPR.

    Examples
    --------
    >>> import numpy as np
    >>> from pyro_ricvae.estimators import UOCL
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(100, 2))
    >>> x[:30] = rng.uniform(4, 20, size=(30, 2))  # of another kind
    >>> uocl = UOCL().fit(x)
    >>> uocl.n_inliers_, (uocl.predict(x[:30]) == -1).mean()
    (70, np.float64(1.0))
    """

    def __init__(
        self,
        *,
        smoothness: float = 1.0,
        margin: float = 1.0,
        bandwidth: float | Literal["auto"] = "auto",
        n_neighbors: int = 10,
        max_iter: int = 100,
    ) -> None:
        self.smoothness = smoothness
        self.margin = margin
        self.bandwidth = bandwidth
        self.n_neighbors = n_neighbors
        self.max_iter = max_iter

    coefficients_: Array
    soft_labels_: Array
    objective_: Array
    bandwidth_: float
    n_inliers_: int
    n_iter_: int
    _center: Array
    _rows: Array

    def fit(self, X: Any, y: None = None) -> Self:
        r"""Find the inliers among the rows of an array-like, shape (n, \*event_shape), in data units.

        Parameters
        ----------
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, \*event_shape)
            Two rows or more, finite, in data units.
        y : None
            Not used; there for scikit-learn's pipelines.

        Returns
        -------
        UOCL
            Itself.

        Raises
        ------
        TypeError, ValueError
            If the data do not hold real numbers, all rows are equal or too far apart, or an argument is not as said.

        Warns
        -----
        ConvergenceWarning
            If labels still change after `max_iter` alternations.
        """
        smoothness, margin = at_least_0("smoothness", self.smoothness), at_least_0("margin", self.margin)
        n_neighbors, max_iter = positive_int("n_neighbors", self.n_neighbors), positive_int("max_iter", self.max_iter)
        rows = as_rows(X)
        check_for_training(rows)
        x = rows.values.astype(np.float64)
        self._center = np.median(x, axis=0)  # distances of rows far from 0 would be inexact
        self.bandwidth_ = self._bandwidth_of(x - self._center)
        self._rows = self._scaled(x)
        K = rbf_kernel(self._rows, gamma=0.5)
        self._alternate(K, _laplacian(self._rows, K, n_neighbors), smoothness, margin, max_iter)
        f = K @ self.coefficients_
        inliers = self.soft_labels_ > 0
        self.n_inliers_ = int(inliers.sum())
        self.offset_ = float(f[inliers].min() + f[~inliers].max()) / 2
        self._remember(rows)
        return self

    def score_samples(self, X: Any) -> Array:
        r"""Return how normal each row is, f, shape (m,), without a unit; higher is more normal.

        Parameters
        ----------
        X : array-like, Tensor or DataFrame, shape (m, d) or (m, \*event_shape)
            Rows like those of `fit`, in data units; for others than those see the notes of the class.

        Returns
        -------
        ndarray, shape (m,)
            Near :math:`c_+` or :math:`c_-` where the fit is good.

        Raises
        ------
        TypeError, ValueError
            If `X` does not hold real numbers; if its rows are not of the shape of those of `fit`, or not finite.
        """
        x = self._scaled(self._like_those_of_fit(X).values)
        f = np.empty(len(x))
        for batch in gen_batches(len(x), 1024):
            f[batch] = rbf_kernel(x[batch], self._rows, gamma=0.5) @ self.coefficients_
        return f

    def transform(self, X: Any) -> Array:
        """Return ``score_samples(X)`` as a column, shape (m, 1): the one feature that was learned."""
        return self.score_samples(X)[:, None]

    @property
    def _n_features_out(self) -> int:
        return 1

    def _scaled(self, x: NDArray[Any]) -> Array:
        """Return rows as the kernel takes them; in one order in memory, on which their last bits depend."""
        return np.ascontiguousarray((x - self._center) / self.bandwidth_)

    def _bandwidth_of(self, x: Array) -> float:
        if not is_auto(self.bandwidth):
            return float(positive_finite("bandwidth, where it is not 'auto',", self.bandwidth))
        with np.errstate(over="ignore", invalid="ignore"):
            found = float((2 * x.var(axis=0).sum()) ** 0.5)  # of all n^2 pairs
        if not 0 < found < np.inf:
            raise ValueError(
                f"Expected rows whose distances have squares that are numbers, actual {np.abs(x).max():g} from the "
                "median at most: use another unit, or leave such rows out."
            )
        return found

    def _alternate(self, K: Array, L: Array, smoothness: float, margin: float, max_iter: int) -> None:
        """Solve for the coefficients and for the labels in turn, until the labels stay the same."""
        n = len(K)
        P = K @ (K + smoothness * (L @ K))
        values, vectors = eigh((P + P.T) / 2)
        coefficients = np.full(n, n**-0.5)
        labels, gain = best_labels(K @ coefficients, margin)
        objective = [coefficients @ P @ coefficients - 2 * gain + n]
        for _ in range(max_iter):
            is_inlier = labels > 0
            coefficients = smallest_on_sphere(values, vectors, K @ (labels + margin * is_inlier / is_inlier.sum()))
            before = labels
            labels, gain = best_labels(K @ coefficients, margin)
            objective.append(coefficients @ P @ coefficients - 2 * gain + n)
            if np.array_equal(labels, before):
                break
        else:
            warnings.warn(
                f"Expected labels that stay the same, actual ones that change after {max_iter} alternations: raise "
                "max_iter.",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.coefficients_, self.soft_labels_ = coefficients, labels
        self.objective_, self.n_iter_ = np.asarray(objective), len(objective) - 1

    def _to_save(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        arguments = self.get_params() | {name: float(getattr(self, name)) for name in ("smoothness", "margin")}
        arguments |= {name: int(getattr(self, name)) for name in ("n_neighbors", "max_iter")}
        arguments["bandwidth"] = "auto" if isinstance(self.bandwidth, str) else float(self.bandwidth)
        fitted = {name: getattr(self, name) for name in _NUMBERS}
        return {"arguments": arguments, "fitted": fitted}, {
            name: torch.as_tensor(getattr(self, name)) for name in _TENSORS
        }

    @classmethod
    def _from_saved(cls, description: dict[str, Any], tensors: dict[str, torch.Tensor], **given: Any) -> Self:
        check_no_parts(given, cls.__name__)
        estimator = cls(**description["arguments"])
        for name in _TENSORS:
            setattr(estimator, name, tensors[name].numpy())
        for name in _NUMBERS:
            setattr(estimator, name, description["fitted"][name])
        return estimator


def _laplacian(x: Array, K: Array, n_neighbors: int) -> Array:
    """Return D - W, where W has the kernel of two rows one of which is among the nearest of the other."""
    graph = kneighbors_graph(x, min(n_neighbors, len(x) - 1), mode="connectivity")
    W = graph.maximum(graph.T).toarray() * K
    return np.asarray(np.diag(W.sum(axis=1)) - W)
