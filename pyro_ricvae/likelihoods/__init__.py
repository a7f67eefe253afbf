"""Likelihoods p(x | z): what the decoder's output means, and how a residual is penalised.

A likelihood is an argument of `models.VAE`; a new one is a new `torch.nn.Module` with the contract of `Likelihood`.
"""

from pyro_ricvae.likelihoods.fixed_normal import FixedNormal
from pyro_ricvae.likelihoods.index_conditioned_normal import IndexConditionedNormal
from pyro_ricvae.likelihoods.learned_normal import LearnedNormal
from pyro_ricvae.likelihoods.likelihood import Likelihood

__all__ = ["FixedNormal", "IndexConditionedNormal", "LearnedNormal", "Likelihood"]
