"""The Gaussian mixture prior."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_ricvae._core.checks import positive_int


class GaussianMixture(nn.Module):
    r"""A mixture of normals with diagonal covariances, trained with the networks.

    .. math:: p(z) = \sum_{c=1}^C \pi_c \, \mathcal N(z \mid m_c, \mathrm{diag}\, s_c^2)

    Its KL has no closed form: `inference.RecyclingELBO` takes log q - log p at the draws of the latents. Locations
    start as draws from N(0, I), scales and weights equal.

    Parameters
    ----------
    n_latent : int
        The number of latent units, at least 1.
    n_components : int, default=10
        The number C of components, at least 1.

    Attributes
    ----------
    logits : torch.nn.Parameter, shape (C,)
        The logarithms of the weights, up to a constant.
    loc, log_scale : torch.nn.Parameter, shape (C, n_latent)
        The locations and the logarithms of the scales.

    Raises
    ------
    ValueError
        If `n_latent` or `n_components` is not a whole number >= 1.

    Examples
    --------
    >>> from pyro_ricvae.priors import GaussianMixture
    >>> prior = GaussianMixture(10, n_components=4)
    >>> prior().batch_shape, prior().event_shape
    (torch.Size([]), torch.Size([10]))
    """

    def __init__(self, n_latent: int, n_components: int = 10) -> None:
        super().__init__()
        shape = (positive_int("n_components", n_components), positive_int("n_latent", n_latent))
        self.logits = nn.Parameter(torch.zeros(shape[0]))
        self.loc = nn.Parameter(torch.randn(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))

    def forward(self) -> TorchDistribution:
        """Return the mixture, batch shape (), event shape (n_latent,)."""
        components = dist.Normal(self.loc, self.log_scale.exp()).to_event(1)
        mixture: TorchDistribution = dist.MixtureSameFamily(dist.Categorical(logits=self.logits), components)
        return mixture

    def responsibilities(self, z: Tensor) -> Tensor:
        """Return the probabilities of the components at latents `z` of shape (..., n_latent), of shape (..., C)."""
        mixture: Any = self()
        joint: Tensor = mixture.component_distribution.log_prob(z.unsqueeze(-2)) + mixture.mixture_distribution.logits
        return joint.softmax(-1)
