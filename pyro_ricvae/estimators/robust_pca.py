"""Robust PCA by principal component pursuit: dirty data are a low-rank matrix plus a sparse one."""
# ruff: noqa: N803 -- X and Z are scikit-learn's names, D is the papers'

import warnings
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import svd
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted

from pyro_ricvae._core.checks import positive_finite, positive_int
from pyro_ricvae.data.rows import as_rows, check_for_training
from pyro_ricvae.estimators.persistence import check_no_parts, saved_seed
from pyro_ricvae.estimators.pursuit import principal_component_pursuit
from pyro_ricvae.estimators.subspace import SubspaceEstimator

Array = NDArray[np.float64]

_RANK_TOLERANCE = 1e-6  # of the largest singular value: ten times what the pursuit leaves unexplained
_GAP_TOLERANCE = 1e-4  # of a row's sum of absolute values about the centre


class RobustPCA(SubspaceEstimator):
    r"""A clean linear subspace, learned from dirty rows by `principal_component_pursuit`.

    Data are used in the units they come in, and an error weighs the same in every cell: bring columns of different
    units to a common scale first.

    Parameters
    ----------
    lambda_scale : float, default=1.0
        The factor s > 0 in the weight :math:`\lambda = s / \sqrt{\max(n, d)}` of the sparse part. 1 is from the theory;
        on data only roughly of low rank, 0.3 to 0.7 often clean better.
    center : {"median", None}, default="median"
        What is subtracted first and added back: the median of each feature, or nothing.
    random_state : int, RandomState or None, default=None
        The source of the random numbers of `sample`. With an int every call draws the same rows.

    Attributes
    ----------
    low_rank_, sparse_ : ndarray, shape (n, \*event_shape)
        The clean training rows, centre included, and their errors, in data units.
    components_, singular_values_ : ndarray, shape (k, d) and (k,)
        Orthonormal right singular vectors of the centred low-rank part, and their singular values in data units, the
        largest first, those above 1e-6 of it.
    center_ : ndarray, shape (d,)
        What was subtracted, in data units.
    n_features_in_, event_shape_, feature_names_in_
        What rows look like; see `RowEstimator`.

    Notes
    -----
    For rows x, `clean`, the scores and `transform` keep the subspace and centre m and take :math:`\min_c \|x - m -
    V^\top c\|_1`, a row at a time, to within 1e-4 of :math:`\|x - m\|_1`; a ConvergenceWarning says if that failed.
    **On the training rows this is not** `low_rank_`: no nuclear norm holds the coefficients back, so the higher the
    rank, the more dirt comes through, and at the default `lambda_scale` it is often high. For them use `fit_clean`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyro_ricvae.estimators import RobustPCA
    >>> clean = np.outer(np.arange(40.0), np.linspace(1, 2, 30))
    >>> dirty = clean.copy()
    >>> dirty[3, 5] = -50.0
    >>> rpca = RobustPCA().fit(dirty)
    >>> np.allclose(rpca.low_rank_, clean, atol=1e-3), int(rpca.cell_scores(dirty[3:4]).argmax())
    (True, 5)
    """

    def __init__(
        self, *, lambda_scale: float = 1.0, center: Literal["median"] | None = "median", random_state: Any = None
    ) -> None:
        self.lambda_scale = lambda_scale
        self.center = center
        self.random_state = random_state

    def fit(self, X: Any, y: None = None) -> Self:
        r"""Learn the subspace from an array-like, shape (n, \*event_shape), in data units.

        A TypeError or ValueError unless there are two rows or more, finite, not all equal, and parameters as said.
        """
        positive_finite("lambda_scale", self.lambda_scale)
        if not (self.center is None or str(self.center) == "median"):  # by str: an array has no one truth value
            raise ValueError(f'Expected center to be "median" or None, actual {self.center!r}.')
        rows = as_rows(X)
        check_for_training(rows)
        x = rows.values.astype(np.float64)
        center = np.median(x, axis=0) if self.center else np.zeros(x.shape[1])
        low_rank, sparse = principal_component_pursuit(x - center, lambda_scale=self.lambda_scale)
        _, values, vectors = svd(np.linalg.qr(low_rank, mode="r"), full_matrices=False)
        kept = values > _RANK_TOLERANCE * values[0]
        self.components_, self.singular_values_ = vectors[kept], values[kept]
        self.center_ = center
        self.low_rank_ = (low_rank + center).reshape(-1, *rows.event_shape)
        self.sparse_ = sparse.reshape(-1, *rows.event_shape)
        self._remember(rows)
        return self

    def clean(self, X: Any) -> Array:
        r"""Return for each row the point of the subspace that is nearest in the sum of absolute differences.

        Parameters
        ----------
        X : array-like, shape (m, \*event_shape)
            New rows, finite, in data units; for the training rows see the notes of the class.

        Returns
        -------
        ndarray, shape (m, \*event_shape)
            In data units, float64.

        Raises
        ------
        TypeError, ValueError
            If `X` does not hold real numbers; if its rows are not of the shape of those of `fit`, or not finite.
        """
        return self._as_events(self._split(X)[0] + self.center_)

    def cell_scores(self, X: Any) -> Array:
        """Return how outlying each cell is, abs(x - clean(x)), in data units and the shape of `X` (see `clean`)."""
        return self._as_events(np.abs(self._split(X)[1]))

    def score_samples(self, X: Any) -> Array:
        """Return how normal each row is, shape (m,): minus the sum of its cell scores; `X` as in `clean`."""
        return np.asarray(-np.abs(self._split(X)[1]).sum(axis=1))

    def transform(self, X: Any) -> Array:
        """Return the coefficients c of the rows, shape (m, k), in data units; `X` as in `clean`."""
        return np.asarray(self._split(X)[0] @ self.components_.T)

    def sample(self, n: int = 1) -> Array:
        r"""Return `n` >= 1 new rows, shape (n, \*event_shape), in data units.

        Their coefficients are normal, with the mean and the covariance of those of `low_rank_`.
        """
        check_is_fitted(self)
        n, random = positive_int("n", n), check_random_state(self.random_state)
        coefficients = (self.low_rank_.reshape(-1, self.n_features_in_) - self.center_) @ self.components_.T
        centered = coefficients - coefficients.mean(axis=0)
        root = np.linalg.qr(centered, mode="r") / (len(centered) - 1) ** 0.5  # of the covariance
        drawn = coefficients.mean(axis=0) + random.standard_normal((n, len(root))) @ root
        return self._as_events(drawn @ self.components_ + self.center_)

    def _split(self, data: Any) -> tuple[Array, Array]:
        """Return the rows' nearest points in the subspace, without the centre, and what is left of the rows."""
        x = self._like_those_of_fit(data).values - self.center_
        left = np.empty_like(x)
        for batch in gen_batches(len(x), 1024):
            left[batch] = _least_absolute_residuals(x[batch], self.components_)
        return x - left, left

    def _to_save(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        arguments = {"lambda_scale": float(self.lambda_scale), "center": self.center}
        return {"arguments": arguments | {"random_state": saved_seed(self.random_state)}}, self._fitted_tensors()

    @classmethod
    def _from_saved(cls, description: dict[str, Any], tensors: dict[str, torch.Tensor], **given: Any) -> Self:
        check_no_parts(given, cls.__name__)
        estimator = cls(**description["arguments"])
        estimator._restore(tensors)
        return estimator


def _least_absolute_residuals(x: Array, components: Array) -> Array:
    """Return x - V'c with the least sum of absolute values of each row, within a tolerance that the dual certifies.

    The problem is min ||e||_1 with V'c + e = x, its dual max x'y with ||y||_inf <= 1 and Vy = 0. By ADMM, over-relaxed
    by 1.7. The part of x in the subspace plays no role, and rows leave the work when they are done.
    """

    def inside(rows: Array) -> Array:
        return np.asarray(rows @ components.T @ components)

    tolerance = _GAP_TOLERANCE * np.abs(x).sum(axis=1)
    open_rows = np.arange(len(x))
    x = x - inside(x)
    best, upper, lower = x.copy(), np.abs(x).sum(axis=1), np.zeros(len(x))
    step = 3 * np.abs(x).mean(axis=1, keepdims=True)  # from 1 to 10 all do
    errors, dual = x - np.clip(x, -step, step), np.zeros_like(x)
    for _ in range(1000):
        is_open = (upper - lower > tolerance)[open_rows]
        open_rows, x, step, errors, dual = (each[is_open] for each in (open_rows, x, step, errors, dual))
        if not len(x):
            return best
        for _ in range(10):
            residuals = x + inside(errors - dual)
            relaxed = 1.7 * residuals - 0.7 * errors + dual
            dual = np.clip(relaxed, -step, step)
            errors = relaxed - dual
        certificate = dual / step - inside(dual / step)
        certificate /= np.maximum(1, np.abs(certificate).max(axis=1, keepdims=True))
        lower[open_rows] = np.maximum(lower[open_rows], (x * certificate).sum(axis=1))
        sums = np.abs(residuals).sum(axis=1)
        best[open_rows] = np.where((sums < upper[open_rows])[:, None], residuals, best[open_rows])
        upper[open_rows] = np.minimum(upper[open_rows], sums)
    message = f"Expected fits certified to {_GAP_TOLERANCE:g}, actual {len(x)} of {len(best)} rows that are not"
    warnings.warn(f"{message}: take their results with care.", ConvergenceWarning, stacklevel=4)
    return best
