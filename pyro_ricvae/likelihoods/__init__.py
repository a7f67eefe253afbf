"""Likelihoods p(x | z): what the decoder's output means, and how a residual is penalised.

A likelihood is an argument of `models.VAE`; a new one is a new `torch.nn.Module` with the contract of `Likelihood`, or
a function in `FromFunction`.
"""

from pyro_ricvae.likelihoods.bernoulli import Bernoulli
from pyro_ricvae.likelihoods.contaminated_normal import ContaminatedNormal
from pyro_ricvae.likelihoods.fixed_normal import FixedNormal
from pyro_ricvae.likelihoods.index_conditioned_normal import IndexConditionedNormal
from pyro_ricvae.likelihoods.inverse_gamma_normal import InverseGammaNormal
from pyro_ricvae.likelihoods.laplace import Laplace
from pyro_ricvae.likelihoods.learned_normal import LearnedNormal
from pyro_ricvae.likelihoods.likelihood import FromFunction, Likelihood, as_likelihood
from pyro_ricvae.likelihoods.scaled import ScaledLikelihood
from pyro_ricvae.likelihoods.shared_normal import SharedNormal
from pyro_ricvae.likelihoods.spike_and_slab import SpikeAndSlab
from pyro_ricvae.likelihoods.student_t import StudentT
from pyro_ricvae.pair import Switch

__all__ = [
    "Bernoulli",
    "ContaminatedNormal",
    "FixedNormal",
    "FromFunction",
    "IndexConditionedNormal",
    "InverseGammaNormal",
    "Laplace",
    "LearnedNormal",
    "Likelihood",
    "ScaledLikelihood",
    "SharedNormal",
    "SpikeAndSlab",
    "StudentT",
    "Switch",
    "as_likelihood",
]
