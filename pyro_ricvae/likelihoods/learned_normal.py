"""The normal likelihood with a learned scale, of the LC-VAE."""

from typing import ClassVar

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae.likelihoods.likelihood import Likelihood, in_precision_of


class LearnedNormal(Likelihood):
    r"""A normal whose scale, too, is an output of the decoder: the VAE with learned covariance (LC-VAE).

    .. math:: -\log p(x_j \mid z) = \tfrac12 (x_j - \mu_j)^2 / \sigma_j^2 + \log \sigma_j + \tfrac12 \log 2\pi

    The decoder returns ``(location, scale)``, both in data units, the scale positive.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.likelihoods import LearnedNormal
    >>> LearnedNormal()((torch.zeros(1, 2), torch.tensor([[0.5, 2.0]])), torch.ones(1, 2)).scale
    tensor([[0.5000, 2.0000]])
    """

    n_outputs: ClassVar[int] = 2

    def forward(self, decoder_output: tuple[Tensor, Tensor], x: Tensor | None = None) -> TorchDistribution:
        """Return N(location, scale²) for every cell. See `Likelihood.forward`."""
        loc, scale = (in_precision_of(x, each) for each in decoder_output)
        distribution: TorchDistribution = dist.Normal(loc, scale)
        return distribution
