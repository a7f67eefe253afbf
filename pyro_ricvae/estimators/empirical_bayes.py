"""Robust PCA by empirical Bayes: the paper's bound for an affine decoder, as an estimator."""
# ruff: noqa: N803 -- X and Z are scikit-learn's names

import math
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted

from pyro_ricvae._core.checks import is_auto, positive_finite, positive_int
from pyro_ricvae.data.rows import as_rows, check_for_training
from pyro_ricvae.diagnostics.affine import affine_bound
from pyro_ricvae.estimators.marginal import fit_marginal
from pyro_ricvae.estimators.persistence import check_no_parts, saved_seed
from pyro_ricvae.estimators.subspace import SubspaceEstimator

Array = NDArray[np.float64]


class EmpiricalBayesRobustPCA(SubspaceEstimator):
    r"""A clean linear subspace, learned from dirty rows by maximum marginal likelihood (Wipf, 2012).

    Every row is :math:`x_i = W z_i + b + e_i` with :math:`z_i \sim N(0, I)`, :math:`e_i \sim N(0, \operatorname{diag}
    \lambda_i)`; W, b and a variance :math:`\lambda_{ij} \ge s_0^2` of every single cell maximise the
    likelihood of the rows with z integrated out. That is the bound (11)-(12) on the objective of an iC-VAE with an
    affine decoder, and by it the number of latents and the cells that are wrong find themselves: variances of clean
    cells fall to the floor, columns of W that are not needed to 0. It recovers low-rank matrices under errors in many
    cells where `RobustPCA` does not (docs/results/paper/phase.md); its objective is not convex.

    Data are used in the units they come in, with one floor for all cells: bring columns of different units to a common
    scale first.

    Parameters
    ----------
    n_latent : int or "auto", default="auto"
        The most latents; "auto" is min(n, d), which the objective prunes. A step costs n d k^2 + n k^3 for k of them:
        give a number where d is in the hundreds.
    floor : float or "auto", default="auto"
        The floor s0 > 0 of the standard deviations, in data units: how precise clean cells are. "auto" is 1.4826 times
        the median residual, as found along the way: the noise where fewer than half the cells are dirty, and next to
        nothing where the data are low-rank and sparse exactly.
    center : {"learned", None}, default="learned"
        Whether the centre b is learned, from the features' medians, or 0.
    max_iter : int, default=500
        The most steps of EM; 50 to 150 are usual. A ConvergenceWarning says if they were not enough.
    random_state : int, RandomState or None, default=None
        The source of the random numbers of `sample`. With an int every call draws the same rows.

    Attributes
    ----------
    low_rank_, sparse_ : ndarray, shape (n, \*event_shape)
        The clean training rows, centre included, and the errors of the cells whose variance is above the floor, else 0;
        in data units. What is left beside them is within the noise.
    components_, singular_values_ : ndarray, shape (k, d) and (k,)
        Orthonormal directions, and the standard deviations of the rows along them times the root of n, in data units,
        the largest first.
    center_ : ndarray, shape (d,)
        b, in data units.
    floor_ : float
        s0, in data units.
    objective_ : ndarray, shape (n_iter\_ + 1,)
        Minus the mean log marginal likelihood of a row, nats, before each step and at the end; it never rises.
    n_iter_ : int
        The number of steps.
    n_features_in_, event_shape_, feature_names_in_
        What rows look like; see `RowEstimator`.

    Notes
    -----
    For new rows W, b and the floor stay, and the variances of their cells are found by `diagnostics.affine_bound`. On
    the training rows that is `low_rank_`, unless its search finds a better minimum for a row.

    The minimum that is found is a local one. Where the rank is 0.4 min(n, d) or more, too many latents die while the
    floor is large, and the result is farther from the truth than that of the pursuit.

    References
    ----------
    Wipf, D. (2012). Non-convex rank minimization via an empirical Bayesian approach. UAI. There the covariance of the
    low-rank part is free; here it is W W', which with ``n_latent="auto"`` is as free, and the steps are of
    parameter-expanded EM under a falling floor (see `marginal.fit_marginal`).

    Examples
    --------
    >>> import numpy as np
    >>> from pyro_ricvae.estimators import EmpiricalBayesRobustPCA
    >>> rng = np.random.default_rng(0)
    >>> clean = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 20))
    >>> dirty = np.where(rng.random((60, 20)) < 0.3, rng.uniform(-9, 9, size=(60, 20)), clean)
    >>> model = EmpiricalBayesRobustPCA().fit(dirty)
    >>> model.components_.shape, np.allclose(model.low_rank_, clean, atol=1e-4)
    ((3, 20), True)
    """

    def __init__(
        self,
        *,
        n_latent: int | Literal["auto"] = "auto",
        floor: float | Literal["auto"] = "auto",
        center: Literal["learned"] | None = "learned",
        max_iter: int = 500,
        random_state: Any = None,
    ) -> None:
        self.n_latent = n_latent
        self.floor = floor
        self.center = center
        self.max_iter = max_iter
        self.random_state = random_state

    _fitted = (*SubspaceEstimator._fitted, "objective_")

    objective_: Array
    floor_: float
    n_iter_: int

    def fit(self, X: Any, y: None = None) -> Self:
        r"""Learn the subspace from an array-like, shape (n, \*event_shape), in data units.

        A TypeError or ValueError unless there are two rows or more, finite, not all equal, and parameters as said.
        """
        n_latent = None if is_auto(self.n_latent) else positive_int("n_latent", self.n_latent)
        if not is_auto(self.floor):
            positive_finite("floor", self.floor)
        if not (self.center is None or str(self.center) == "learned"):  # by str: an array has no one truth value
            raise ValueError(f'Expected center to be "learned" or None, actual {self.center!r}.')
        max_iter = positive_int("max_iter", self.max_iter)
        rows = as_rows(X)
        check_for_training(rows)
        x = rows.values.astype(np.float64)
        exponent = int(np.frexp(np.abs(x).max())[1])  # so that squares stay in range; a power of two rounds nothing
        found = fit_marginal(
            np.ldexp(x, -exponent),
            min(n_latent or x.shape[1], *x.shape),
            None if is_auto(self.floor) else math.ldexp(float(self.floor), -exponent),
            learn_center=self.center is not None,
            max_iter=max_iter,
        )
        lengths = np.linalg.norm(found.W, axis=0)
        self.components_ = (found.W / lengths).T
        self.singular_values_ = np.ldexp(lengths, exponent) * len(x) ** 0.5
        self.center_, self.floor_ = np.ldexp(found.b, exponent), math.ldexp(found.floor, exponent)
        low_rank = np.ldexp(found.low_rank, exponent)
        self.low_rank_ = low_rank.reshape(-1, *rows.event_shape)
        is_error = found.variances > found.floor**2 * (1 + 1e-9)
        self.sparse_ = np.where(is_error, x - low_rank, 0.0).reshape(-1, *rows.event_shape)
        units = x.shape[1] * (math.log(2 * math.pi) + 2 * exponent * math.log(2))
        self.objective_ = (np.array(found.objectives) + units) / 2
        self.n_iter_ = len(self.objective_) - 1
        self._remember(rows)
        return self

    def clean(self, X: Any) -> Array:
        r"""Return the posterior mean of W z + b of each row, at the variances of its cells that suit it best.

        Parameters
        ----------
        X : array-like, shape (m, \*event_shape)
            Rows, finite, in data units.

        Returns
        -------
        ndarray, shape (m, \*event_shape)
            In data units, float64.

        Raises
        ------
        TypeError, ValueError
            If `X` does not hold real numbers; if its rows are not of the shape of those of `fit`, or not finite.
        """
        return self.inverse_transform(self._posterior(X)[1])

    def cell_scores(self, X: Any) -> Array:
        """Return how outlying each cell is, abs(x - clean(x)), in data units and the shape of `X` (see `clean`)."""
        x = self._like_those_of_fit(X).values.reshape(-1, *self.event_shape_)
        return np.asarray(np.abs(x - self.clean(X)))

    def score_samples(self, X: Any) -> Array:
        r"""Return how normal each row is, shape (m,): its log marginal likelihood, nats, greatest over its variances.

        That is :math:`-(h + d \log 2 \pi) / 2` with h of equation (12), a profile likelihood; `X` as in `clean`.
        """
        return -(self._posterior(X)[0] + self.n_features_in_ * math.log(2 * math.pi)) / 2

    def transform(self, X: Any) -> Array:
        """Return the posterior means of the coefficients, shape (m, k), in data units; `X` as in `clean`."""
        return self._posterior(X)[1]

    def sample(self, n: int = 1) -> Array:
        r"""Return `n` >= 1 new clean rows W z + b, z ~ N(0, I), shape (n, \*event_shape), in data units."""
        check_is_fitted(self)
        n, random = positive_int("n", n), check_random_state(self.random_state)
        return self.inverse_transform(random.standard_normal((n, len(self.components_))) * self._lengths)

    @property
    def _lengths(self) -> Array:
        return np.asarray(self.singular_values_ / len(self.low_rank_) ** 0.5)

    def _posterior(self, data: Any) -> tuple[Array, Array]:
        """Return h of rows, shape (m,), and the posterior means of their coefficients, shape (m, k), in data units."""
        x = self._like_those_of_fit(data).values.astype(np.float64)
        exponent = int(np.frexp(max(self.floor_, float(self._lengths.max(initial=0.0))))[1])
        W = np.ldexp(self.components_.T * self._lengths, -exponent)  # noqa: N806 -- the paper's name
        h, coefficients = np.empty(len(x)), np.empty((len(x), len(self.components_)))
        for batch in gen_batches(len(x), 256):
            centred = np.ldexp(x[batch] - self.center_, -exponent)
            posterior = affine_bound(centred, W, np.zeros(x.shape[1]), math.ldexp(self.floor_, -exponent))
            h[batch], coefficients[batch] = posterior.h, posterior.loc * self._lengths
        return h + 2 * x.shape[1] * exponent * math.log(2), coefficients

    def _to_save(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        arguments = {
            "n_latent": "auto" if is_auto(self.n_latent) else int(self.n_latent),
            "floor": "auto" if is_auto(self.floor) else float(self.floor),
            "center": self.center,
            "max_iter": int(self.max_iter),
            "random_state": saved_seed(self.random_state),
        }
        return {"arguments": arguments, "floor_": self.floor_}, self._fitted_tensors()

    @classmethod
    def _from_saved(cls, description: dict[str, Any], tensors: dict[str, torch.Tensor], **given: Any) -> Self:
        check_no_parts(given, cls.__name__)
        estimator = cls(**description["arguments"])
        estimator._restore(tensors)
        estimator.floor_, estimator.n_iter_ = description["floor_"], len(estimator.objective_) - 1
        return estimator
