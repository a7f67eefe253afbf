"""A row's own loss, the quantity that scores rows and that the watch on a run looks at."""

from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae._core.distributions import closed_form_kl
from pyro_ricvae.pair import Guide, Model


def row_loss_terms(model: Model, guide: Guide, x: Tensor, encoded: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Return the two terms of the rows' loss at the posterior mean.

    .. math:: -\log p(x_i \mid z = \mu_z(\tilde x_i), i), \qquad \mathrm{KL}[q(z \mid \tilde x_i) \,\|\, p(z)]

    Parameters
    ----------
    model, guide
        The pair; see `pyro_ricvae.pair`.
    x : Tensor, shape (..., n, d)
        The rows, in the model's units.
    encoded : Tensor, shape (..., n, d), optional
        The rows that the guide sees, where they are not `x` itself but what earlier passes made of it.

    Returns
    -------
    reconstruction : Tensor, shape (..., n)
        In nats; a profile likelihood's is comparable with its own kind alone.
    kl : Tensor, shape (..., n) or (..., n, n_latent)
        In nats: one a latent unit where posterior and prior are independent over the units, else of the row; at the
        posterior mean, log q - log p, where there is no closed form.
    """
    posterior = guide.encode(x if encoded is None else encoded)
    reconstruction: Tensor = -model.decode(posterior.mean, x).log_prob(x)
    return reconstruction, kl_at_mean(posterior, model.prior())


def kl_at_mean(posterior: TorchDistribution, prior: TorchDistribution) -> Tensor:
    """Return the KL of the rows' posteriors to the prior, as `row_loss_terms` does."""
    kl = closed_form_kl(posterior, prior)
    if kl is None:
        z = posterior.mean
        return posterior.log_prob(z) - prior.log_prob(z)
    return kl
