"""Rows of low rank with errors: the subspace, and variances of all cells, of greatest marginal likelihood."""
# ruff: noqa: N806 -- W and C are the papers' names

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import svd
from sklearn.exceptions import ConvergenceWarning

from pyro_ricvae.diagnostics.affine import affine_posterior, expected_squares

Array = NDArray[np.float64]

_LEAST_FLOOR = 1e-5  # of the scale of the data: squares of ten digits are left of a double's sixteen
_SHRINKAGE = 0.9  # of the floor, in a step at most
_TOLERANCE = 1e-7  # nats a cell, of a step; while the floor falls by no more than a hundredth
_PRUNED = 1e-10  # of the floor, squared: what is narrower changes no row's log-determinant by more than that
_NUMBERS_AT_ONCE = 4_000_000


@dataclass
class MarginalFit:
    """What `fit_marginal` found.

    Attributes
    ----------
    W, b : ndarray, shape (d, k) and (d,)
        Orthogonal columns, the longest first, and the centre, in data units.
    variances, low_rank : ndarray, shape (n, d)
        The lambda of the cells, and the posterior means of W z + b.
    floor : float
        s0 in data units.
    objectives : list of float
        The mean over rows of h, nats, before each step and at the end.
    """

    W: Array
    b: Array
    variances: Array
    low_rank: Array
    floor: float
    objectives: list[float]


def fit_marginal(x: Array, n_latent: int, floor: float | None, *, learn_center: bool, max_iter: int) -> MarginalFit:
    r"""Minimise the sum over rows of h of equation (12) over W, b and lambda, by EM under a falling floor.

    A step is two conditional maximisations of EM, each of which lowers the sum: first :math:`\lambda = \max(E r^2,
    s_0^2)`; then W and b, by a weighted regression of each feature on the latents, with the latents' mean and
    covariance as parameters too (parameter-expanded EM, which is many times faster), folded into W and b after. The
    floor starts at the scale of the data, where this is a PCA, and falls by a tenth a step at most: to `floor`, or with
    None to 1.4826 median \|r\| of the residuals, as long as those fall. It never rises, so that what was feasible
    stays so, and the sum falls all the way. Latents whose column of W has died out are left out.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        In data units, not constant.
    n_latent : int
        The number of latents at the start.
    floor : float or None
        s0 at the end, in data units; None finds it, no less than 1e-5 of the data's scale.
    learn_center : bool
        Whether b is learned, from the features' medians, or 0.
    max_iter : int
        The most steps. A ConvergenceWarning says if they were not enough.
    """
    b = np.median(x, axis=0) if learn_center else np.zeros(x.shape[1])
    scale = _scale(x - b)
    least = _LEAST_FLOOR * scale if floor is None else floor
    now = max(scale, least)
    W = svd(x - b, full_matrices=False)[2][:n_latent].T * scale
    state = MarginalFit(W, b, np.full(x.shape, now**2), np.empty_like(x), now, [])
    for _ in range(max_iter):
        _step(x, state, learn_center=learn_center)
        median = 1.4826 * float(np.median(np.abs(x - state.low_rank)))
        target = max(least, median) if floor is None else least
        before, state.floor = state.floor, min(state.floor, max(target, _SHRINKAGE * state.floor))
        is_still = len(state.objectives) > 1 and state.objectives[-2] - state.objectives[-1] < _TOLERANCE * x.shape[1]
        if is_still and state.floor > 0.99 * before:
            break
    else:
        message = f"Expected an objective that is still to {_TOLERANCE:g} nats a cell, actual one that falls"
        warnings.warn(f"{message} after {max_iter} steps: raise max_iter.", ConvergenceWarning, stacklevel=3)
    _finish(x, state)
    return state


def _scale(x: Array) -> float:
    """Return the root mean square of cells, each taken to be at most three times their median size."""
    sizes = np.abs(x)
    median = float(np.median(sizes))
    return math.sqrt(float(np.mean(np.minimum(sizes, 3 * median if median else np.inf) ** 2)))


def _batches(n: int, d: int, k: int) -> Iterator[slice]:
    size = max(1, _NUMBERS_AT_ONCE // (k * (d + k) + 1))
    return (slice(start, start + size) for start in range(0, n, size))


def _step(x: Array, state: MarginalFit, *, learn_center: bool) -> None:
    """Make a step in place: the expectation at the parameters of the state, its objective, and the next parameters."""
    (d, k), n = state.W.shape, len(x)
    width = k + 1 if learn_center else k
    squares, products, moments = np.zeros((d, width**2)), np.zeros((d, width)), np.zeros((k + 1, k + 1))
    total = 0.0
    for rows in _batches(n, d, k):
        posterior = affine_posterior(x[rows], state.W, state.b, state.variances[rows])
        total += float(posterior.h.sum())
        state.low_rank[rows] = posterior.loc @ state.W.T + state.b
        variances = np.maximum(expected_squares(x[rows], state.W, state.b, posterior), state.floor**2)
        state.variances[rows] = variances
        latents = np.concatenate([posterior.loc, np.ones((len(variances), 1))], axis=1)
        second = latents[:, :, None] * latents[:, None, :]
        second[:, :k, :k] += posterior.covariance
        squares += (1 / variances).T @ second[:, :width, :width].reshape(-1, width**2)
        products += (x[rows] / variances).T @ latents[:, :width]
        moments += second.sum(axis=0) / n
    state.objectives.append(total / n)
    solved = _solve(squares.reshape(d, width, width), products)
    mean = moments[:k, k] if learn_center else np.zeros(k)
    W = solved[:, :k]
    state.b = solved[:, k] + W @ mean if learn_center else state.b
    C = moments[:k, :k] - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(C)
    left, lengths, _ = svd(W @ (vectors * np.sqrt(np.maximum(values, 0.0))), full_matrices=False)
    kept = lengths**2 > _PRUNED * state.floor**2
    state.W = left[:, kept] * lengths[kept]


def _solve(matrices: Array, vectors: Array) -> Array:
    """Return the solutions of positive semidefinite systems, scaled so that their diagonals are 1."""
    size = np.sqrt(np.maximum(np.einsum("dkk->dk", matrices), np.finfo(np.float64).tiny))
    scaled = matrices / (size[:, :, None] * size[:, None, :]) + 1e-14 * np.eye(matrices.shape[1])
    return np.asarray(np.linalg.solve(scaled, (vectors / size)[..., None])[..., 0] / size)


def _finish(x: Array, state: MarginalFit) -> None:
    """Bring means and objective up to the last parameters."""
    total = 0.0
    for rows in _batches(len(x), *state.W.shape):
        posterior = affine_posterior(x[rows], state.W, state.b, state.variances[rows])
        total += float(posterior.h.sum())
        state.low_rank[rows] = posterior.loc @ state.W.T + state.b
    state.objectives.append(total / len(x))
