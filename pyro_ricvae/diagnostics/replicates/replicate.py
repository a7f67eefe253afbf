"""Replicated data: rows as the model would have them again, for predictive checks.

Of a likelihood that looks at the row itself replication would follow the row's own residual: every cell beyond the
floor then lies one scale out, a good one and a gross error alike, and no check could tell them. Such a likelihood is
replicated with one scale a feature, aggregated over rows.
"""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_ricvae._core.checks import check_mask, check_rows, positive_int
from pyro_ricvae._core.distributions import mean_of
from pyro_ricvae._core.isolation import evaluation
from pyro_ricvae._core.robust import NORMAL_MAD
from pyro_ricvae.inference.predictive import in_chunks
from pyro_ricvae.likelihoods.likelihood import is_profile
from pyro_ricvae.pair import likelihood_name

# Draws times rows times features that are decoded at once: 64 MiB in float32. Hidden layers are wider than a few.
_CELLS_AT_ONCE = 2**24
LEAST_WIDTH = 64


def replicate(
    model: Any, guide: Any, x: Tensor, n_draws: int, *, batch_size: int = 1024, reference: Tensor | None = None
) -> Tensor:
    r"""Return draws of the rows from their posterior predictive.

    .. math:: z_s \sim q(z \mid x_i), \qquad x_{is} \sim p(x \mid z_s)

    A profile likelihood (``normalised`` False) has no p(x | z) that does not look at the row: there, cells are drawn
    from normals around the decoder's location, with the scales of `replicate_scale`.

    Parameters
    ----------
    model, guide
        The pair.
    x : Tensor, shape (n, d)
        The rows, in the model's units.
    n_draws : int
        The number S of draws a row.
    batch_size : int, default=1024
        The number of rows in a chunk at most; fewer where there are many draws.
    reference : Tensor, shape (m, d), optional
        The rows over which a profile likelihood's scales are aggregated, by default `x`. Give the training rows where
        `x` are few. Other likelihoods do not use them.

    Returns
    -------
    Tensor, shape (S, n, d)
        In the model's units, on the device of `x`. Random numbers come from torch's global generator.

    Raises
    ------
    ValueError
        If `n_draws` or `batch_size` is not a whole number >= 1, or `x` is not as said.
    """
    n_draws = positive_int("n_draws", n_draws)
    check_rows(x)
    scale = scale_for(model, guide, x if reference is None else reference)
    return in_chunks(
        (model, guide),
        x,
        rows_at_once(batch_size, n_draws, x),
        lambda chunk: draw_rows(model, guide.encode(chunk).sample((n_draws,)), scale),
    )


def replicate_scale(model: Any, guide: Any, x: Tensor, *, mask: Tensor | None = None, batch_size: int = 1024) -> Tensor:
    r"""Return the scale of each feature around the decoder's location, aggregated over rows.

    .. math:: s_j = \max(1.4826\, \mathrm{median}_i\, |x_{ij} - \mu_j(z_i)|,\; s_0), \qquad z_i \sim q(z \mid x_i)

    with :math:`s_0` the model's scale where residuals are zero, such as the floor. It is not moved by up to half
    outlying cells in a feature. Residuals are those at draws, not at posterior means, which are too close to the rows
    they were computed from: if guide and model are right, residuals at draws are distributed as the noise.

    Parameters
    ----------
    model, guide
        The pair.
    x : Tensor, shape (n, d)
        The rows, in the model's units.
    mask : Tensor of bool, shape (n, d), optional
        True where a cell counts; of a feature without such cells the scale is the floor.
    batch_size : int, default=1024
        The number of rows in a chunk.

    Returns
    -------
    Tensor, shape (d,)
        In the model's units, on the device of `x`.

    Raises
    ------
    ValueError
        If `batch_size` is not a whole number >= 1, `x` or `mask` is not as said, or a feature has no residuals at all.
    """

    def residual_and_floor(chunk: Tensor) -> Tensor:
        expected = model.decode(guide.encode(chunk).sample())  # without the rows: residuals of zero
        floor = expected.stddev.nan_to_num(0.0, 0.0, 0.0).expand_as(chunk)  # some have no variance
        return torch.stack([(chunk - mean_of(expected, "Replication")).abs(), floor])

    check_rows(x)
    mask = check_mask(mask, x)
    residual, floor = in_chunks((model, guide), x, batch_size, residual_and_floor)
    spread = NORMAL_MAD * residual.masked_fill(~mask, torch.nan).nanmedian(dim=0).values.nan_to_num(0.0)
    scale = torch.maximum(spread, floor.amin(dim=0))
    if not (scale > 0).all():
        raise ValueError(
            f"Expected residuals of {likelihood_name(model)} that vary, to replicate it with their scale, "
            f"actual none of {int((scale == 0).sum())} features: give a reference of more rows."
        )
    return scale


def scale_for(model: Any, guide: Any, reference: Tensor, mask: Tensor | None = None) -> Tensor | None:
    """Return what `draw_rows` needs: the scales of a profile likelihood over the rows `reference`, or None."""
    return replicate_scale(model, guide, reference, mask=mask) if is_profile(model) else None


def draw_rows(model: Any, z: Tensor, scale: Tensor | None) -> Tensor:
    """Return one row (..., d) for each z (..., n_latent): of p(x | z), or around its location with scales (d,)."""
    expected = model.decode(z)
    try:
        drawn: Tensor = (
            expected if scale is None else dist.Normal(mean_of(expected, "Replication"), scale.to(z.device))
        ).sample()
    except NotImplementedError as error:
        raise ValueError(
            f"Expected a likelihood that can be drawn from, actual {expected}: give its distribution a method sample."
        ) from error
    return drawn


def draw_prior_rows(model: Any, n_draws: int, n_rows: int, scale: Tensor | None) -> Tensor:
    """Return rows of shape (n_draws, n_rows, d) from the prior predictive, in evaluation mode, all at once."""
    with evaluation(model):
        return draw_rows(model, model.prior().sample((n_draws, n_rows)), scale)


def rows_at_once(batch_size: int, n_draws: int, x: Tensor) -> int:
    """Return the number of rows, at most `batch_size`, whose draws are decoded at once."""
    return min(
        positive_int("batch_size", batch_size), max(1, _CELLS_AT_ONCE // (n_draws * max(LEAST_WIDTH, x.shape[-1])))
    )
