"""Priors p(z).

A prior is a `torch.nn.Module` whose ``forward()`` returns a Pyro distribution with empty batch shape and event shape
``(n_latent,)``, or such a distribution itself.
"""

from pyro_ricvae.priors.from_distribution import FromDistribution, as_prior
from pyro_ricvae.priors.gaussian_mixture import GaussianMixture
from pyro_ricvae.priors.standard_normal import StandardNormal

__all__ = ["FromDistribution", "GaussianMixture", "StandardNormal", "as_prior"]
