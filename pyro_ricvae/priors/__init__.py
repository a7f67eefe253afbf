"""Priors p(z).

A prior is a `torch.nn.Module` whose ``forward()`` returns a Pyro distribution with empty batch shape and event shape
``(n_latent,)``.
"""

from pyro_ricvae.priors.standard_normal import StandardNormal

__all__ = ["StandardNormal"]
