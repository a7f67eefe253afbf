"""The affine case: the bound (11)-(12) of rows, and the objective (8) that is below it, in closed form."""
# ruff: noqa: N803, N806 -- W is the paper's name

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_ricvae._core.checks import at_least_0, positive_finite

Array = NDArray[np.float64]

#: The most by which h_i of (12) is above the objective, a feature: log 2 + Euler's constant (see `affine_objective`).
GAP = math.log(2) + float(np.euler_gamma)

_TOLERANCE = 1e-9  # of 1 + |h|, the change in a step below which a row is done
_MAX_STEPS = 2000
_SHRINKAGE = 0.8  # of the floor in a step of the annealed start
_MANY = 100.0  # where a mixture over Poisson counts of this mean hands over to its asymptotic series
_NODES = np.polynomial.legendre.leggauss(48)


class AffinePosterior(NamedTuple):
    """Rows under x = W z + b + e with z ~ N(0, I) and e ~ N(0, diag lambda), a lambda for each cell.

    Attributes
    ----------
    h : ndarray, shape (n,)
        (x - b)' Psi^-1 (x - b) + log det Psi with Psi = diag lambda + W W', which is -2 log p(x) - d log 2 pi, in nats.
    variances : ndarray, shape (n, d)
        The lambda, in squared data units.
    loc, covariance : ndarray, shape (n, k) and (n, k, k)
        Moments of the exact posterior of z.
    """

    h: Array
    variances: Array
    loc: Array
    covariance: Array


def affine_posterior(x: Array, W: Array, b: Array, variances: Array) -> AffinePosterior:
    """Return the exact posterior of rows, and h, at given variances of the cells.

    By way of matrices of the size of z. Digits are lost where ``(W / variances**0.5)**2`` nears 1e16.

    Parameters
    ----------
    x, variances : ndarray, shape (n, d)
        Rows in data units, and the positive variances of their cells in those squared.
    W, b : ndarray, shape (d, k) and (d,)
        The decoder's.
    """
    weighted = W / variances[..., None]  # (n, d, k)
    precision = np.eye(W.shape[1]) + np.swapaxes(weighted, 1, 2) @ W
    covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    loc = (covariance @ np.einsum("ndk,nd->nk", weighted, x - b)[..., None])[..., 0]
    residual = x - b - loc @ W.T
    # The same as (x - b)' Psi^-1 (x - b), without differences of large numbers.
    quadratic = (residual**2 / variances).sum(axis=1) + (loc**2).sum(axis=1)
    h = quadratic + np.log(variances).sum(axis=1) + np.linalg.slogdet(precision)[1]
    return AffinePosterior(h, variances, loc, covariance)


def affine_bound(x: Any, W: Any, b: Any, floor: float) -> AffinePosterior:
    r"""Return the bound h_i of each row: equation (12), with a floor under the variances.

    .. math::

        h_i = \inf_{\lambda \ge s_0^2} (x_i - b)^\top \Psi^{-1} (x_i - b) + \log |\Psi|, \qquad
        \Psi = \operatorname{diag} \lambda + W W^\top

    The function of lambda is not convex: what is found is a local minimum, and h at any lambda is still a bound on
    the objective at the posterior that belongs to it (`affine_objective`). There are three starts, and the best is
    taken, a row at a time: all cells errors, :math:`\lambda = \max((x - b)^2, s_0^2)`; all clean; and what EM finds
    under a floor that falls from the row's largest distance to `floor` by a fifth a step. (Of 160 small problems 159
    ended at the least that searches from 20 starts had found.) From each, :math:`\lambda \leftarrow \max(|r| / \sqrt g,
    s_0^2)` with the residuals r at the posterior mean and g the diagonal of :math:`\Psi^{-1}`, which never raises the
    value (it minimises a bound on it, tangent in the log-determinant), until a step changes no row by more than 1e-9
    (1 + \|h\|).

    Parameters
    ----------
    x : array-like, shape (n, d)
        Finite rows, in data units.
    W, b : array-like, shape (d, k) and (d,)
        The decoder's.
    floor : float
        The floor s0 > 0 of the standard deviations, in data units. Without one h may have no lower limit (13).

    Returns
    -------
    AffinePosterior
        h, in nats, the lambda where it was found, and the exact posterior there.

    Raises
    ------
    ValueError
        If shapes do not go together, values are not finite, or the floor is not positive.
    """
    positive_finite("floor", floor)
    floor = float(floor)
    x, W, b = _checked(x, W, b)
    least = floor**2
    distance = np.abs(x - b)
    annealed = np.ones_like(x) * np.maximum(distance.max(axis=1, keepdims=True), floor) ** 2
    falling = np.sqrt(annealed[:, :1])
    while (falling > floor).any():
        falling = np.maximum(falling * _SHRINKAGE, floor)
        annealed = np.maximum(expected_squares(x, W, b, affine_posterior(x, W, b, annealed)), falling**2)
    starts = (np.maximum(distance**2, least), np.full_like(x, least), annealed)
    found = [_descend(x, W, b, start, least) for start in starts]
    best = np.argmin([each.h for each in found], axis=0)
    variances = np.stack([each.variances for each in found])[best, np.arange(len(x))]
    return affine_posterior(x, W, b, variances)


def _checked(x: Any, W: Any, b: Any) -> tuple[Array, Array, Array]:
    """Return finite arrays of shapes that go together, or raise a ValueError."""
    x, W, b = (np.asarray(each, dtype=np.float64) for each in (x, W, b))
    shapes = tuple(each.shape for each in (x, W, b))
    if x.ndim != 2 or W.ndim != 2 or shapes[1][0] != x.shape[1] or b.shape != x.shape[1:]:
        raise ValueError(f"Expected x, W and b of shapes (n, d), (d, k) and (d,), actual {shapes}.")
    if not all(np.isfinite(each).all() for each in (x, W, b)):
        raise ValueError("Expected finite x, W and b, actual values that are not: leave out or fill in those cells.")
    return x, W, b


def expected_squares(x: Array, W: Array, b: Array, posterior: AffinePosterior) -> Array:
    """Return the expected squares of the residuals x - W z - b under a posterior, shape (n, d)."""
    return np.asarray((x - b - posterior.loc @ W.T) ** 2 + _spread(W, posterior.covariance))


def _spread(W: Array, covariance: Array) -> Array:
    """Return the variances of W z, shape (n, d)."""
    return np.asarray(((W @ covariance) * W).sum(axis=-1))


def _descend(x: Array, W: Array, b: Array, variances: Array, least: float) -> AffinePosterior:
    """Run the fixed point of `affine_bound` from a start; rows leave the work when they are done."""
    best = affine_posterior(x, W, b, variances)
    rows = np.arange(len(x))
    now = best
    for _ in range(_MAX_STEPS):
        residual = np.abs(x[rows] - b - now.loc @ W.T)
        leverage = np.clip(_spread(W, now.covariance) / now.variances, 0.0, 1 - 1e-12)
        stepped = residual * np.sqrt(now.variances / (1 - leverage))
        new = affine_posterior(x[rows], W, b, np.maximum(stepped, least))
        still = now.h - new.h > _TOLERANCE * (1 + np.abs(new.h))
        lower = new.h < now.h  # but for rounding always
        for kept, of_step in zip(best, new, strict=True):
            kept[rows[lower]] = of_step[lower]
        rows, now = rows[still], AffinePosterior(*(each[still] for each in new))
        if not len(rows):
            break
    return best


def affine_objective(x: Any, W: Any, b: Any, posterior: AffinePosterior, floor: float) -> Array:
    r"""Return the iC-VAE's objective (8) of each row under an affine decoder and a normal posterior, exactly.

    It is :math:`2\,\text{loss}_i - d \log 2 \pi`, in nats and minimised, with the loss of `inference.RecyclingELBO` in
    one pass: :math:`\operatorname{tr} \Sigma + \|\mu\|^2 - \kappa - \log |\Sigma|` plus, for each cell, the expectation
    of :math:`1 + \log r^2` where the residual is beyond the floor, else of :math:`r^2 / s_0^2 + \log s_0^2`. With
    ``floor=0`` it is (8) as the paper writes it, plus d - kappa.

    **Proposition 1**, with constants: of a posterior by `affine_bound`, for any W, b and number of latents,

    .. math:: 0 \le h_i - \text{objective}_i \le d (\log 2 + \gamma) = 1.2704\, d .

    The left side holds at the posterior of any lambda; the right side where lambda is a minimum. Hence (8) <= h_i where
    kappa <= d. With more latents than features that fails, as by kappa - d at W = 0.

    Parameters
    ----------
    x, W, b : array-like, shape (n, d), (d, k) and (d,)
        Rows in data units, and the decoder's.
    posterior : AffinePosterior
        Of the rows; only its moments of z are used.
    floor : float
        The floor s0 >= 0 of the likelihood, in data units.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        If shapes do not go together, values are not finite, or the floor is negative.
    """
    floor = at_least_0("floor", floor)
    x, W, b = _checked(x, W, b)
    mean = x - b - posterior.loc @ W.T
    scale = np.sqrt(np.maximum(_spread(W, posterior.covariance), 0.0))
    trace = np.trace(posterior.covariance, axis1=1, axis2=2)
    divergence = trace + (posterior.loc**2).sum(axis=1) - W.shape[1] - np.linalg.slogdet(posterior.covariance)[1]
    return np.asarray(divergence + expected_penalty(mean, scale, floor).sum(axis=1))


def expected_penalty(mean: Array, scale: Array, floor: float) -> Array:
    r"""Return the expectation of :math:`\min_{v \ge s_0^2} r^2 / v + \log v` over :math:`r \sim N(m, s^2)`, by cell.

    The logarithm's in closed form; what the floor takes away from it is a smooth integral, by quadrature to about 1e-8.

    Parameters
    ----------
    mean, scale : ndarray, of one shape
        m and s >= 0, in data units.
    floor : float
        s0 >= 0; at 0 a cell that is fitted exactly, m = s = 0, is at minus infinity.
    """
    fixed = scale == 0
    safe = np.where(fixed, 1.0, scale)
    with np.errstate(divide="ignore"):
        at_mean = 1 + 2 * np.log(np.maximum(np.abs(mean), floor)) if floor else 1 + np.log(mean**2)
    if floor:
        at_mean = at_mean - 1 + np.minimum((mean / floor) ** 2, 1.0)
    value = 1 + 2 * np.log(safe) + _log_square((mean / safe) ** 2)
    if floor:
        value = value + _inside(np.abs(mean) / floor, safe / floor)
    return np.asarray(np.where(fixed, at_mean, value))


def _log_square(noncentrality: Array) -> Array:
    """Return E log (a + e)^2 for a normal e, of a^2: a Poisson mixture of the digammas of chi squares."""
    half = np.minimum(noncentrality / 2, _MANY)
    weight, digamma = np.exp(-half), -float(np.euler_gamma) - 2 * math.log(2)
    total = weight * (math.log(2) + digamma)
    for count in range(1, 300):
        weight = weight * half / count
        digamma += 2 / (2 * count - 1)
        total += weight * (math.log(2) + digamma)
    square = np.maximum(noncentrality, 2 * _MANY)
    series = sum(-math.prod(range(1, 2 * k, 2)) / (k * square**k) for k in range(1, 7))
    return np.where(noncentrality > 2 * _MANY, np.log(square) + series, total)


def _inside(mean: Array, scale: Array) -> Array:
    """Return E [t^2 - 1 - log t^2; |t| < 1] for t ~ N(mean, scale^2)."""
    total = np.zeros_like(mean)
    points, weights = (_NODES[0] + 1) / 2, _NODES[1] / 2
    for sign in (1.0, -1.0):
        low = np.clip(sign * mean - 10 * scale, 0.0, 1.0)[..., None]
        high = np.clip(sign * mean + 10 * scale, 0.0, 1.0)[..., None]
        t = low + (high - low) * points**4  # so that the logarithm at 0 is smooth
        density = np.exp(-0.5 * ((t - sign * mean[..., None]) / scale[..., None]) ** 2) / scale[..., None]
        slope = (high - low) * 4 * points**3
        with np.errstate(divide="ignore", invalid="ignore"):
            integrand = np.where(high > low, (t**2 - 1 - 2 * np.log(t)) * density * slope, 0.0)
        total += (integrand * weights).sum(axis=-1) / math.sqrt(2 * math.pi)
    return total
