"""Scores of cells and rows: how far they are from what the model expects."""

from torch import Tensor
from torch.distributions import Independent

from pyro_ricvae._core.checks import positive_int
from pyro_ricvae.inference.predictive import in_chunks, recycle
from pyro_ricvae.inference.row_loss import row_loss_terms
from pyro_ricvae.pair import Guide, Model


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
        return -(reconstruction + (kl.sum(-1) if kl.dim() > reconstruction.dim() else kl)).unsqueeze(-1)

    return in_chunks((model, guide), x, batch_size, score).squeeze(-1)
