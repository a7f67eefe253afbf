"""Scores of cells and rows: how far they are from what the model expects."""

import torch
from torch import Tensor
from torch.distributions import Independent

from pyro_ricvae._core.checks import positive_finite, positive_int
from pyro_ricvae._core.distributions import mean_of
from pyro_ricvae.inference.predictive import in_chunks, recycle
from pyro_ricvae.inference.row_loss import kl_at_mean, row_loss_terms
from pyro_ricvae.likelihoods.index_conditioned_normal import index_conditioned
from pyro_ricvae.pair import Guide, Model

# In floors, of which an automatic one is 0.4 of it: the typical distance of a value from its feature's centre.
_TYPICAL = 2.5


def cell_scores(model: Model, guide: Guide, x: Tensor, passes: int = 1, *, batch_size: int = 1024) -> Tensor:
    r"""Return how outlying each cell is, in nats: the log-density it lacks from the most that it could have.

    .. math:: \log p(\mathrm{mode} \mid z) - \log p(x_{ij} \mid z), \qquad z = \mu_z(\tilde x_i)

    with :math:`\tilde x_i` what M - 1 passes by means make of the row. Under the index-conditioned likelihood that is
    :math:`\tfrac12 r^2 / s_0^2` up to the floor and :math:`\tfrac12 + \log(|r| / s_0)` above it.

    Parameters
    ----------
    model : pair.Model
        The generative model; its likelihood is independent over the cells.
    guide : pair.Guide
        Its guide.
    x : Tensor, shape (..., n, d)
        The rows, in the model's units.
    passes : int, default=1
        The number M of passes.
    batch_size : int, default=1024
        The number of rows in a chunk.

    Returns
    -------
    Tensor, shape (..., n, d)
        In nats, at least 0; 0 where a cell is exactly as expected. Higher is more outlying.

    Raises
    ------
    ValueError
        If the likelihood is not independent over the cells, or an argument is not as said.
    """

    def score(chunk: Tensor) -> Tensor:
        z = guide.encode(recycle(model, guide, chunk, positive_int("passes", passes) - 1)).mean
        expected, observed = model.decode(z), model.decode(z, chunk)
        if not isinstance(observed, Independent):
            raise ValueError(
                f"Expected a likelihood that is independent over the cells, actual {observed}: it has no scores by "
                "cell. Score whole rows instead."
            )
        try:
            mode = expected.base_dist.mode.nan_to_num()  # a Bernoulli's at 1/2, where either value is a mode
        except NotImplementedError:
            mode = expected.base_dist.mean
        lacking: Tensor = expected.base_dist.log_prob(mode) - observed.base_dist.log_prob(chunk)
        return lacking.clamp(min=0.0)

    return in_chunks((model, guide), x, batch_size, score)


def row_scores(model: Model, guide: Guide, x: Tensor, passes: int = 1, *, batch_size: int = 1024) -> Tensor:
    r"""Return how normal each row is: minus its own loss, reconstruction and KL, at the posterior mean.

    .. math:: \log p(x_i \mid z = \mu_z(\tilde x_i), i) - \mathrm{KL}[q(z \mid \tilde x_i) \,\|\, p(z)]

    The KL counts: a row that the model can express only far from the prior does not belong either.

    Parameters
    ----------
    model, guide, x, passes, batch_size
        As in `cell_scores`; the likelihood may be any.

    Returns
    -------
    Tensor, shape (..., n)
        In nats. Higher is more normal. Of a likelihood that is not normalised, comparable among its own kind alone.

    Raises
    ------
    ValueError
        If an argument is not as said.
    """

    def score(chunk: Tensor) -> Tensor:
        encoded = recycle(model, guide, chunk, positive_int("passes", passes) - 1)
        reconstruction, kl = row_loss_terms(model, guide, chunk, encoded)
        return -(reconstruction + _by_row(kl, reconstruction)).unsqueeze(-1)

    return in_chunks((model, guide), x, batch_size, score).squeeze(-1)


def outlier_scores(
    model: Model,
    guide: Guide,
    x: Tensor,
    passes: int = 1,
    *,
    floor: float,
    center: Tensor | float = 0.0,
    batch_size: int = 1024,
) -> Tensor:
    r"""Return how outlying each row is, in nats: how far from what its latents say, how far these, and it, from usual.

    .. math:: \sum_j \rho_{s_0}(x_{ij} - \mu_{ij}) + \mathrm{KL}[q(z \mid \tilde x_i) \,\|\, p(z)]
        + \sum_j \rho_{2.5 s_0}(x_{ij} - c_j), \qquad
        \rho_s(r) = \begin{cases} \tfrac12 r^2 / s^2 & |r| \le s \\ \tfrac12 + \log(|r| / s)
        & \text{otherwise}\end{cases}

    with :math:`\mu_i` what the model expects at :math:`z = \mu_z(\tilde x_i)`. The first term is the log penalty
    (equation 8 of the paper) of a residual that is more than one floor; so a model that has learned outlying rows by
    heart, to a small fraction of it, gains nothing by that. The last one is the same penalty of the row without its
    latents: what a flexible model explains may be far from all else nevertheless.

    Unlike `row_scores` it is the same quantity for every likelihood, and it is no loss of the model.

    Parameters
    ----------
    model, guide, x, passes, batch_size
        As in `cell_scores`; the likelihood has a mean.
    floor : float
        The resolution s0 of the data, in the model's units: positive and finite. `estimators.automatic_floor` has one.
    center : Tensor, shape (d,), or float, default=0.0
        The features' centres c, in the model's units.

    Returns
    -------
    Tensor, shape (..., n)
        In nats; higher is more outlying. Of a closed-form KL at least 0.

    Raises
    ------
    ValueError
        If the likelihood has no mean, or an argument is not as said.
    """
    positive_finite("floor", floor)

    def penalty(x: Tensor, loc: Tensor, scale: float) -> Tensor:
        floor, zero = x.new_tensor(scale), x.new_zeros(())
        most = index_conditioned(zero, zero, floor).log_prob(zero)
        lacking: Tensor = most - index_conditioned(loc, x, floor).log_prob(x)
        return lacking.sum(-1)

    def score(chunk: Tensor) -> Tensor:
        posterior = guide.encode(recycle(model, guide, chunk, positive_int("passes", passes) - 1))
        mean = mean_of(model.decode(posterior.mean), "A row")
        far = penalty(chunk, mean, floor) + penalty(chunk, torch.as_tensor(center).to(chunk), _TYPICAL * floor)
        kl = _by_row(kl_at_mean(posterior, model.prior()), far)
        return (far + kl).unsqueeze(-1)

    return in_chunks((model, guide), x, batch_size, score).squeeze(-1)


def _by_row(kl: Tensor, rows: Tensor) -> Tensor:
    """Return the KL by row, where it may be by latent unit; `rows` has a value for each row."""
    return kl.sum(-1) if kl.dim() > rows.dim() else kl
