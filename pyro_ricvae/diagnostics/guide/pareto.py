"""Pareto k-hat of each row: how far the guide is from the posterior, and what to do about it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ricvae._core import arviz as _arviz
from pyro_ricvae._core.checks import check_rows, positive_int
from pyro_ricvae.diagnostics.guide.weights import importance_weights
from pyro_ricvae.pair import Guide, Model

#: Vehtari et al. (2024): above 0.5 the weights' variance is infinite, above 0.7 estimates are of no use at any number
#: of draws one can afford, above 1 the weights' mean is infinite.
THRESHOLDS = (0.5, 0.7, 1.0)

#: The share of rows above 0.7 at which `ParetoK.alarm` rings.
ALARM_SHARE = 0.1

_FEWEST_DRAWS = 100
# Rows whose heaviest draw outweighs the median one by less, in nats, have no tail: what is left is rounding.
_NO_TAIL = 0.01
# Draws times rows that are kept at once.
_DRAWS_AT_ONCE = 2**18


@dataclass(frozen=True)
class ParetoK:
    r"""How far the guide is from the posterior of each row, by the tail of its importance weights.

    Parameters
    ----------
    k : Tensor, shape (n,), of float64
        The shape of the generalised Pareto distribution fitted to the largest weights of each row: lower is better, and
        0 where all draws weigh the same. Infinite where no tail could be fitted, as under weights of zero.
    n_draws : int
        How many draws of each row it was fitted to.
    """

    k: Tensor
    n_draws: int

    def share_above(self, threshold: float) -> float:
        """Return the share of the rows whose k-hat is above `threshold`."""
        return float((self.k > threshold).double().mean())

    @property
    def alarm(self) -> bool:
        """Whether the guide is wrong for many rows: more than a tenth of them have a k-hat above 0.7."""
        return self.share_above(0.7) > ALARM_SHARE

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Return the shares of the rows above 0.5, 0.7 and 1, and what to do, in words."""
        counts = [int((self.k > threshold).sum()) for threshold in THRESHOLDS]
        shares = ", ".join(
            f"{count} ({count / len(self.k):.1%}) above {threshold:g}"
            for threshold, count in zip(THRESHOLDS, counts, strict=True)
        )
        return (
            f"Pareto k-hat of {len(self.k)} rows from {self.n_draws} draws each: median {self.k.median():.2f}, "
            f"{shares}. {self._counsel(counts)}"
        )

    def _counsel(self, counts: list[int]) -> str:
        some, bad, hopeless = counts
        if self.alarm:
            return (
                "The guide is far from the posterior of many rows: refine it row by row (amortisation_gap says what "
                "that would gain); if that gains much, train for longer or give the encoder wider layers; if it gains "
                "little, a normal with independent units does not fit, and another guide may. Do not importance-weight "
                "the rows above 0.7" + (", those above 1 least of all." if hopeless else ".")
            )
        if bad:
            return "Do not importance-weight the rows above 0.7; refine the guide for them, or leave them out."
        if some:
            return "Importance weights are of use for all rows; those above 0.5 need more draws."
        return (
            "Importance weights are of use for all rows. That alone does not make the guide right: one that is too "
            "wide is safe to weight, and one that misses a mode never draws from it."
        )


def pareto_k(model: Model, guide: Guide, x: Tensor, n_draws: int = 1000, *, batch_size: int = 1024) -> ParetoK:
    r"""Return Pareto k-hat of each row, from :math:`\log p(x_i, z_s) - \log q(z_s \mid x_i)`.

    A guide whose tails are lighter than the posterior's, or that lies beside it, has a few draws that outweigh all
    others. k-hat is the shape of the tail of the weights: their moments exist up to order 1 / k (Yao et al., 2018, for
    variational posteriors; Vehtari et al., 2024, for the smoothing, which is ArviZ's).

    Parameters
    ----------
    model : pair.Model
        The generative model, with any likelihood; see the notes for one that is not normalised.
    guide : pair.Guide
        Its guide.
    x : Tensor, shape (n, d)
        The rows, in the model's units.
    n_draws : int, default=1000
        The number S of draws a row, at least 100. The tail is the largest min(S / 5, 3 sqrt(S)) of them.
    batch_size : int, default=1024
        The number of rows in a chunk at most; fewer where there are many draws.

    Returns
    -------
    ParetoK
        On the device of `x`. Its ``summary()`` says what to do.

    Raises
    ------
    ValueError
        If `n_draws` is not a whole number >= 100, a density is NaN or infinite, or another argument is not
        as said.

    Notes
    -----
    For a fixed row k-hat looks at :math:`p(x_i \mid z) p(z)` as a function of z alone, up to a factor. A profile
    likelihood is bounded in z, by its value where all residuals are within the floor, so that this product can be
    integrated over z although not over x: it defines a pseudo-posterior, the very one that training draws the guide
    towards. k-hat is then a diagnostic of the guide against that pseudo-posterior. It says nothing about the model.

    It grows with the number of latent units: an error that is harmless in one is not in thirty. It is blind to a guide
    that is somewhat too wide, whose weights are bounded; `simulation_based_calibration` is not.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae import guides, likelihoods, models, networks, priors
    >>> from pyro_ricvae.diagnostics.guide.pareto import pareto_k
    >>> model = models.VAE(networks.MLPDecoder(2, 5, ()), likelihoods.FixedNormal(1.0), priors.StandardNormal(2))
    >>> guide = guides.AmortizedNormal(networks.MLPEncoder(5, 2, ()))
    >>> pareto_k(model, guide, torch.zeros(8, 5)).k.shape
    torch.Size([8])
    """
    n_draws = positive_int("n_draws", n_draws)
    if n_draws < _FEWEST_DRAWS:
        raise ValueError(
            f"Expected n_draws to be at least {_FEWEST_DRAWS}, so that there is a tail to fit, actual {n_draws}: take "
            "more."
        )
    check_rows(x)
    if x.dim() != 2:
        raise ValueError(f"Expected x of shape (n, d), actual {tuple(x.shape)}: give all rows in one dimension.")
    rows = max(1, min(positive_int("batch_size", batch_size), _DRAWS_AT_ONCE // n_draws))
    k = [
        _tail_shapes(importance_weights(model, guide, chunk, n_draws, batch_size=rows).log_weights)
        for chunk in x.split(rows)
    ]
    return ParetoK(torch.from_numpy(np.concatenate(k)).to(x.device), n_draws)


def _tail_shapes(log_weights: Tensor) -> NDArray[np.float64]:
    """Return k-hat of each row of weights of shape (S, n)."""
    weights = log_weights.cpu().double().numpy()
    with np.errstate(all="ignore"):  # the fit overflows where the tail is thin, and -inf less -inf is no number
        has_tail = ~(weights.max(axis=0) - np.median(weights, axis=0) <= _NO_TAIL)
        k = np.zeros(weights.shape[1])
        if has_tail.any():
            k[has_tail] = _arviz.pareto_k(weights[:, has_tail])
    return k
