"""Importance weights of posterior draws, and the bound on the evidence that they give."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ricvae._core.checks import check_rows, positive_int
from pyro_ricvae._core.isolation import device_of, evaluation
from pyro_ricvae.diagnostics.replicates.replicate import rows_at_once
from pyro_ricvae.inference.predictive import in_chunks
from pyro_ricvae.likelihoods.likelihood import is_profile
from pyro_ricvae.pair import Guide, Model, likelihood_name


@dataclass(frozen=True)
class ImportanceWeights:
    r"""Draws of the latents from the guide, and their log-densities, one a row of the data.

    Parameters
    ----------
    z : Tensor, shape (S, n, n_latent)
        Draws from q(z | x).
    log_likelihood, log_prior, log_guide : Tensor, shape (S, n)
        :math:`\log p(x_i \mid z)`, :math:`\log p(z)` and :math:`\log q(z \mid x_i)`, in nats.
    """

    z: Tensor
    log_likelihood: Tensor
    log_prior: Tensor
    log_guide: Tensor

    @property
    def log_weights(self) -> Tensor:
        r""":math:`\log p(x_i, z) - \log q(z \mid x_i)`, of shape (S, n), in nats, not normalised."""
        return self.log_likelihood + self.log_prior - self.log_guide


def importance_weights(
    model: Model, guide: Guide, x: Tensor, n_draws: int = 1000, *, batch_size: int = 1024
) -> ImportanceWeights:
    """Return draws from the guide with their log-densities.

    Parameters
    ----------
    model : pair.Model
        The generative model, with any likelihood; what the log-likelihood of one that is not normalised may be used
        for, `check_normalised` says.
    guide : pair.Guide
        Its guide.
    x : Tensor, shape (n, d)
        The rows, in the model's units.
    n_draws : int, default=1000
        The number S of draws a row.
    batch_size : int, default=1024
        The number of rows in a chunk at most; fewer where there are many draws.

    Returns
    -------
    ImportanceWeights
        On the device of `x`.

    Raises
    ------
    ValueError
        If `n_draws` or `batch_size` is not a whole number >= 1, or `x` is not as said.
    """
    n_draws = positive_int("n_draws", n_draws)
    at_once = rows_at_once(batch_size, n_draws, x)

    def weigh(chunk: Tensor) -> Tensor:
        posterior = guide.encode(chunk)
        z = posterior.sample((n_draws,))
        log_densities = (
            model.decode(z, chunk).log_prob(chunk),
            model.prior().log_prob(z),
            posterior.log_prob(z),
        )
        return torch.cat([z, torch.stack(log_densities, dim=-1)], dim=-1)

    z, log_likelihood, log_prior, log_guide = in_chunks((model, guide), x, at_once, weigh).tensor_split(
        (-3, -2, -1), dim=-1
    )
    return ImportanceWeights(z, log_likelihood.squeeze(-1), log_prior.squeeze(-1), log_guide.squeeze(-1))


def importance_weighted_bound(
    model: Model, guide: Guide, x: Tensor, n_draws: int = 1000, *, batch_size: int = 1024
) -> Tensor:
    r"""Return the importance-weighted bound on the evidence of each row (Burda et al., 2016).

    .. math:: \log \frac1S \sum_{s=1}^S \frac{p(x_i, z_s)}{q(z_s \mid x_i)}, \qquad z_s \sim q(z \mid x_i)

    Its expectation is at most :math:`\log p(x_i)`, and approaches it with S; at S = 1 it is the ELBO.

    Parameters
    ----------
    model, guide, x, n_draws, batch_size
        As in `importance_weights`; the likelihood is normalised.

    Returns
    -------
    Tensor, shape (n,)
        In nats, in the model's units: of data divided by scales s_j it is higher by the sum of log s_j.

    Raises
    ------
    ValueError
        If the likelihood is not normalised, or an argument is not as said.
    """
    check_normalised(model, guide, x, "An importance-weighted bound")
    chunks = x.split(rows_at_once(batch_size, positive_int("n_draws", n_draws), x), dim=-2)  # no draws are kept
    log_weights = (importance_weights(model, guide, chunk, n_draws).log_weights for chunk in chunks)
    return torch.cat([each.logsumexp(0) - math.log(len(each)) for each in log_weights], dim=-1)


def check_normalised(model: Any, guide: Any, x: Tensor, what: str) -> None:
    """Raise a ValueError unless the likelihood is normalised, and a density or mass at the values of `x`.

    Parameters
    ----------
    model, guide
        The pair.
    x : Tensor, shape (..., n, d)
        The rows, in the model's units.
    what : str
        What asks for it: the beginning of the error.
    """
    check_rows(x)
    name = likelihood_name(model)
    if is_profile(model):
        raise ValueError(
            f"{what} needs a normalised likelihood, actual {name}, which does not integrate to one over x: there is no "
            "log p(x) behind it, and its value is no density's (where a variance is maximised over for each cell, as "
            "in IndexConditionedNormal, it is above one by construction). Fit a normalised one, such as "
            "likelihoods.StudentT or likelihoods.InverseGammaNormal, or compare errors, scores of rows and predictive "
            "checks instead."
        )
    with evaluation(model, guide):
        row = x[..., :1, :].to(device_of(guide))
        distribution = model.decode(guide.encode(row).mean, row)
        inside = distribution.support.check(x.to(row.device))
    if not inside.all():
        raise ValueError(
            f"{what} needs values to which {name} gives a density or a probability, actual {int((~inside).sum())} of "
            f"{inside.numel()} rows with others, outside {distribution.support}: round them, or use another likelihood."
        )
