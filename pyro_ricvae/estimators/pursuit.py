"""Principal component pursuit: a matrix as a low-rank one plus a sparse one."""
# ruff: noqa: N803 -- D is the papers' name

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from pyro_ricvae._core.checks import positive_finite, positive_int
from pyro_ricvae.data.rows import as_rows

Array = NDArray[np.float64]


def principal_component_pursuit(
    D: Any, *, lambda_scale: float = 1.0, tol: float = 1e-7, max_iter: int = 1000
) -> tuple[Array, Array]:
    r"""Split a matrix into a low-rank and a sparse one.

    Solves :math:`\min_{A, E} \|A\|_* + \lambda \|E\|_1` subject to :math:`A + E = D`, with :math:`\lambda = s /
    \sqrt{\max(m, n)}` (Candes, Li, Ma and Wright 2011, Robust principal component analysis?, J. ACM 58:3), by the
    inexact augmented Lagrangian method (Lin, Chen and Ma 2010, arXiv:1009.5055), whose penalty :math:`\mu` grows by 1.5
    a step from :math:`1.25 / \|D\|_2`, to at most :math:`10^7` times that.

    Where D is a low-rank matrix plus a sparse one, as theorem 1.1 of the former asks, the result is that pair, to about
    `tol`. Elsewhere :math:`\mu` outgrows the search: the parts still add up to D, but their objective stays above the
    minimum (by up to 0.5% on the matrices we tried).

    Parameters
    ----------
    D : array-like, shape (m, n)
        Finite numbers, in any unit: the result scales as D does.
    lambda_scale : float, default=1.0
        The factor s > 0. The smaller it is, the lower the rank, and the more cells of the other part are not 0.
    tol : float, default=1e-7
        Stop where :math:`\|D - A - E\|_F < tol \|D\|_F`.
    max_iter : int, default=1000
        The most steps; about 40 are usual. A ConvergenceWarning says if they were not enough.

    Returns
    -------
    low_rank, sparse : ndarray, shape (m, n)
        A and E, float64; E is exactly 0 outside its support.

    Raises
    ------
    TypeError, ValueError
        If `D` does not hold finite real numbers, or is not a matrix; if an argument is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from pyro_ricvae.estimators import principal_component_pursuit
    >>> dirty = np.ones((20, 20))
    >>> dirty[3, 5] = 9.0
    >>> low_rank, sparse = principal_component_pursuit(dirty)
    >>> print(low_rank[3, 5].round(5), sparse[3, 5].round(5), np.count_nonzero(sparse))
    1.0 8.0 1
    """
    positive_finite("lambda_scale", lambda_scale)
    positive_finite("tol", tol)
    positive_int("max_iter", max_iter)
    rows = as_rows(D)
    if len(rows.event_shape) != 1:
        raise ValueError(f"Expected D of shape (m, n), actual rows of shape {rows.event_shape}: flatten them.")
    matrix = rows.values.astype(np.float64)
    is_wide = matrix.shape[0] < matrix.shape[1]
    exponent = int(np.frexp(np.abs(matrix).max())[1])  # so that squares stay in range; a power of two rounds nothing
    tall = np.ascontiguousarray(np.ldexp(matrix.T if is_wide else matrix, -exponent))
    if not tall.any():
        return np.zeros_like(matrix), np.zeros_like(matrix)
    parts = _pursue(tall, float(lambda_scale) / len(tall) ** 0.5, float(tol), max_iter)
    low_rank, sparse = (np.ldexp(part.T if is_wide else part, exponent) for part in parts)
    return low_rank, sparse


def _pursue(matrix: Array, weight: float, tol: float, max_iter: int) -> tuple[Array, Array]:
    """Run the augmented Lagrangian method on a tall matrix; `dual` is Y / mu of the paper."""
    spectral, frobenius = np.linalg.eigvalsh(matrix.T @ matrix)[-1] ** 0.5, np.linalg.norm(matrix)
    mu, mu_max = 1.25 / spectral, 1.25e7 / spectral
    dual = matrix / (mu * max(spectral, np.abs(matrix).max() / weight))
    sparse = np.zeros_like(matrix)
    for _ in range(max_iter):
        low_rank = _shrink_singular_values(matrix - sparse + dual, 1 / mu)
        rest = matrix - low_rank + dual
        new_dual = np.clip(rest, -weight / mu, weight / mu)
        sparse = rest - new_dual
        error = np.linalg.norm(new_dual - dual) / frobenius  # new_dual - dual is matrix - low_rank - sparse
        old_mu, mu = mu, min(1.5 * mu, mu_max)
        dual = new_dual * (old_mu / mu)
        if error < tol:
            return low_rank, sparse
    message = f"Expected parts that add up to D within {tol:g} of its norm, actual {error:.1e} after {max_iter} steps"
    warnings.warn(f"{message}: raise max_iter or tol.", ConvergenceWarning, stacklevel=3)
    return low_rank, sparse


def _shrink_singular_values(matrix: Array, threshold: float) -> Array:
    """Subtract `threshold` from the singular values of a tall matrix, to no less than 0."""
    # By way of the small Gram matrix, a few times faster than an SVD. That blurs singular values below about 1e-8 of
    # the largest; mu_max keeps the threshold above.
    squares, vectors = np.linalg.eigh(matrix.T @ matrix)
    kept = squares > threshold**2
    vectors = vectors[:, kept]
    return np.asarray(matrix @ (vectors * (1 - threshold / np.sqrt(squares[kept]))) @ vectors.T)
