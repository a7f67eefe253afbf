"""The normal likelihood with one fixed scale, of the l2-VAE."""

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae._core.checks import positive_finite
from pyro_ricvae.likelihoods.likelihood import Likelihood, in_precision_of


class FixedNormal(Likelihood):
    r"""A normal with one fixed scale for every cell: a squared error, the l2-VAE.

    .. math:: -\log p(x_j \mid z) = \tfrac12 (x_j - \mu_j)^2 / s^2 + \log s + \tfrac12 \log 2\pi

    Parameters
    ----------
    scale : float
        The standard deviation s, in data units: positive and finite.

    Attributes
    ----------
    scale : Tensor, shape ()
        A buffer; change it in place (``likelihood.scale.fill_(0.5)``).

    Raises
    ------
    ValueError
        If `scale` is not positive and finite.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.likelihoods import FixedNormal
    >>> FixedNormal(scale=2.0)(torch.zeros(1, 3), torch.ones(1, 3)).scale
    tensor([[2., 2., 2.]])
    """

    scale: Tensor

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", positive_finite("scale", scale))

    def forward(self, decoder_output: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return N(location, scale²) for every cell. See `Likelihood.forward`."""
        distribution: TorchDistribution = dist.Normal(in_precision_of(x, decoder_output), self.scale)
        return distribution
