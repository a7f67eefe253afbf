"""The Laplace likelihood."""

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae.likelihoods.likelihood import in_precision_of
from pyro_ricvae.likelihoods.scaled import ScaledLikelihood


class Laplace(ScaledLikelihood):
    r"""A Laplace with one scale for every cell: an absolute error, the l1-VAE.

    .. math:: -\log p(x_j \mid z) = |x_j - \mu_j| / s + \log 2 s

    Parameters
    ----------
    scale : float
        The scale s, in data units: positive and finite. The standard deviation is the square root of 2 times it.
    learn_scale : bool, default=False
        Whether the scale is trained with the networks, starting from `scale`; see `ScaledLikelihood`.

    Attributes
    ----------
    scale : Tensor, shape ()
        A buffer; change it in place.

    Raises
    ------
    ValueError
        If `scale` is not positive and finite.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.likelihoods import Laplace
    >>> Laplace(scale=0.5)(torch.zeros(1, 3), torch.ones(1, 3)).scale
    tensor([[0.5000, 0.5000, 0.5000]])
    """

    def forward(self, decoder_output: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return Laplace(location, scale) for every cell. See `Likelihood.forward`."""
        distribution: TorchDistribution = dist.Laplace(in_precision_of(x, decoder_output), self.current_scale())
        return distribution
