"""The least value of a quadratic on the unit sphere: a constrained eigenvalue problem."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Array = NDArray[np.float64]


def smallest_on_sphere(values: Array, vectors: Array, b: Array) -> Array:
    r"""Return the unit vector a with the least :math:`a^\top P a - 2 b^\top a`, P being symmetric.

    A stationary point has :math:`(P - \lambda I) a = b`, and it is the minimum where :math:`\lambda` is not above the
    smallest eigenvalue :math:`d_1` of P. With :math:`\beta` the coordinates of b among the eigenvectors,
    :math:`\lambda = d_1 - \mu` solves the secular equation :math:`\sum_i \beta_i^2 / (d_i - d_1 + \mu)^2 = 1`, whose
    left side falls in :math:`\mu > 0`. Where b is orthogonal to the eigenspace of :math:`d_1` and the left side is
    below 1 even at 0 (the "hard case"), :math:`\mu = 0`, and a vector of that eigenspace makes up for the length: there
    are then two minima or more, of which one is returned.

    Parameters
    ----------
    values, vectors : ndarray, shape (n,) and (n, n)
        Eigenvalues of P in rising order, and eigenvectors in columns, as `scipy.linalg.eigh` gives them.
    b : ndarray, shape (n,)
        The linear part.

    Returns
    -------
    ndarray, shape (n,)
        The vector a, of length 1.

    References
    ----------
    Gander, W., Golub, G. H. and von Matt, U. (1989). A constrained eigenvalue problem. Linear Algebra and its
    Applications 114/115. Their solution is the smallest real eigenvalue of a matrix of twice the size, the same
    :math:`\lambda`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyro_ricvae.estimators.sphere import smallest_on_sphere
    >>> values, vectors = np.linalg.eigh(np.diag([1.0, 2.0]))
    >>> smallest_on_sphere(values, vectors, np.array([0.0, 4.0])).round(6).tolist()
    [0.0, 1.0]
    """
    beta, gaps = vectors.T @ b, values - values[0]
    beta[np.abs(beta) < np.finfo(float).tiny * 4] = 0.0  # of which what is below could be no shift

    def coordinates(shift: float) -> Array:
        return np.asarray(np.divide(beta, gaps + shift, out=np.zeros_like(beta), where=beta != 0))

    def excess(shift: float) -> float:  # nearly a straight line, unlike the length itself
        return 1 / max(float(np.linalg.norm(coordinates(shift))), 1e-300) - 1

    # At this shift one coordinate alone is longer than 1; none is where it is 0, and there beta is 0 where the gap is.
    shift = max(0.0, float((np.abs(beta) - gaps).max())) / 2
    if excess(shift) < 0:
        highest = 2 * float(np.abs(beta).sum())
        shift = brentq(excess, shift, highest, xtol=np.finfo(float).tiny, rtol=1e-14, maxiter=2000)
    found = coordinates(shift)
    lacking = 1 - float(found @ found)
    if shift == 0 and lacking > 0:  # the hard case
        found[0] = lacking**0.5
    a = vectors @ found
    return np.asarray(a / np.linalg.norm(a))
