"""Whether the index-conditioned objective can degenerate: the count (10), before training and at a posterior."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_ricvae._core.checks import at_least_0, positive_finite, positive_int

Array = NDArray[np.float64]

_AT_RISK = 0.5  # of the spread: an honest fit to be found would have to be at least as close to the data


def excess_fits(residuals: Any, singular_values: Any, tolerance: float) -> NDArray[np.int64]:
    r"""Return by how much the left side of (10) exceeds the right: near-zero residuals less near-zero singular values.

    Where it is positive, the objective (8) of the row falls as that times log tolerance while both go to zero: every
    cell is worth :math:`\log r^2`, every direction in which the posterior collapses costs :math:`\log s_k`.

    Parameters
    ----------
    residuals : array-like, shape (n, d)
        Of the rows at the posterior mean, in data units.
    singular_values : array-like, shape (n, k)
        Of the posterior covariances of the latents: for a diagonal guide the squares of its scales.
    tolerance : float
        The paper's epsilon > 0; squares of residuals, and singular values, below it are near zero.

    Returns
    -------
    ndarray of int, shape (n,)

    Raises
    ------
    ValueError
        If `tolerance` is not positive, or the rows are not as many.
    """
    positive_finite("tolerance", tolerance)
    residuals, values = np.asarray(residuals, dtype=np.float64), np.asarray(singular_values, dtype=np.float64)
    if residuals.ndim != 2 or values.ndim != 2 or len(residuals) != len(values):
        shapes = f"{residuals.shape} and {values.shape}"
        raise ValueError(f"Expected residuals and singular values of shapes (n, d) and (n, k), actual {shapes}.")
    return np.asarray((residuals**2 < tolerance).sum(axis=1) - (values < tolerance).sum(axis=1))


@dataclass(frozen=True)
class Degeneracy:
    """What the count (10) says of data, a number of latents and a floor (`degeneracy`). Printed, it says so in words.

    Attributes
    ----------
    n_rows, n_features, n_latent : int
        n, d and kappa.
    floor : float
        s0, in the units of the data.
    spread : float
        The geometric mean of the distances of cells from their feature's median, none taken below the floor: the
        residuals of a decoder that says nothing.
    repeated : float
        The share of cells within one floor of that median: near-zero residuals that cost no singular value.
    n_memorised : int
        How many rows an affine decoder can fit exactly whatever they are.
    n_excess : int
        How many near-zero residuals it has then that no singular value pays for, the excess in (10).
    share : float
        What that is of all that there could be.
    threshold : float
        Memorising pays unless a fit of so many latents to all rows leaves residuals below this (geometric mean).
    """

    n_rows: int
    n_features: int
    n_latent: int
    floor: float
    spread: float
    repeated: float
    n_memorised: int
    n_excess: int
    share: float
    threshold: float

    @property
    def unbounded(self) -> bool:
        """Whether the objective has no lower limit: without a floor always, as one row can be the constant term."""
        return self.floor == 0

    @property
    def at_risk(self) -> bool:
        """Whether memorising rows beats any fit that leaves more than half the spread."""
        return self.unbounded or self.threshold < _AT_RISK * self.spread

    def __str__(self) -> str:
        counted = (
            f"{self.n_memorised} of {self.n_rows} rows can be memorised, with {self.n_excess} near-zero residuals more "
            "than near-zero singular values"
        )
        repeated = f"{self.repeated:.0%} of the cells are at their feature's median" if self.repeated > 0.01 else ""
        if self.unbounded:
            said = f"Without a floor the objective is unbounded below: {counted}. Set a floor, the data's resolution."
        else:
            said = (
                f"With the floor {self.floor:.3g} the objective is bounded. {counted}: that pays unless a fit leaves "
                f"residuals below {self.threshold:.3g} (the data's spread is {self.spread:.3g})"
            )
            said += ", so take fewer latents, more rows or a larger floor." if self.at_risk else "."
        return f"{said} {repeated}, and pay without any latent." if repeated else said


def degeneracy(x: Any, n_latent: int, floor: float) -> Degeneracy:
    r"""Count, before any training, how far the iC-VAE's objective (8) can degenerate as (10) describes.

    A row with J residuals of about epsilon has :math:`|J| \log \epsilon^2` of them, and its posterior must have
    collapsed in the rank(W_J) directions that move these cells, at :math:`-\operatorname{rank}(W_J) \log \epsilon^2`.
    So any row can have as many exact cells as latents at no gain, and what is beyond is the excess of (10). An affine
    decoder of rank k < d, of at most n_latent, can go through any k + 1 rows: an excess of (k + 1) (d - k), which are
    its degrees of freedom, and enough to make (8) unbounded below. With a floor s0 that is a matter of price. At a
    share f = (k + 1) / n of rows, all others left at the spread S of the data, memorising is worth f log (S / s0) a
    residual; a fit of all rows that leaves residuals s1 is worth log (S / s1), and better only if :math:`s_1 < S (s_0 /
    S)^f`.

    Latents and W are free here, and KL terms that stay finite as s0 goes to zero are left out: it is a count, not a
    bound. Deep decoders have more freedom: for them it is what is possible at least.

    Parameters
    ----------
    x : array-like, shape (n, d)
        Finite rows, in the units of `floor` (of a `RiCVAE` those of ``est.standardise(X)``).
    n_latent : int
        kappa >= 1.
    floor : float
        s0 >= 0.

    Returns
    -------
    Degeneracy

    Raises
    ------
    ValueError
        If an argument is out of its range, or `x` is not of shape (n, d) with finite values.

    Examples
    --------
    >>> import numpy as np
    >>> from pyro_ricvae.diagnostics import degeneracy
    >>> x = np.random.default_rng(0).normal(size=(40, 10))
    >>> found = degeneracy(x, n_latent=9, floor=1e-4)
    >>> found.n_memorised, found.n_excess, found.at_risk
    (10, 10, True)
    """
    n_latent, floor = positive_int("n_latent", n_latent), at_least_0("floor", floor)
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(f"Expected finite rows x of shape (n, d), actual shape {x.shape}: flatten or fill in.")
    n, d = x.shape
    distance = np.abs(x - np.median(x, axis=0))
    rank = min(n_latent, d - 1)
    n_memorised = min(n, rank + 1)
    share = n_memorised / n
    tiny = np.finfo(np.float64).tiny
    spread = math.exp(np.log(np.maximum(distance, max(floor, tiny))).mean())
    return Degeneracy(
        n_rows=n,
        n_features=d,
        n_latent=n_latent,
        floor=floor,
        spread=spread,
        repeated=float((distance <= floor).mean()),
        n_memorised=n_memorised,
        n_excess=n_memorised * (d - rank),
        share=share,
        threshold=spread * (floor / spread) ** share,
    )
