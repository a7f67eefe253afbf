"""The standard normal prior."""

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_ricvae._core.checks import positive_int


class StandardNormal(nn.Module):
    r"""The prior :math:`p(z) = \mathcal N(0, I)`.

    Parameters
    ----------
    n_latent : int
        The number of latent units, at least 1.

    Raises
    ------
    ValueError
        If `n_latent` is not a whole number >= 1.

    Examples
    --------
    >>> from pyro_ricvae.priors import StandardNormal
    >>> StandardNormal(10)().event_shape
    torch.Size([10])
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        n_latent = positive_int("n_latent", n_latent)
        # Buffers, so that the distribution follows the model's device and dtype; nothing in them needs saving.
        self.register_buffer("loc", torch.zeros(n_latent), persistent=False)
        self.register_buffer("scale", torch.ones(n_latent), persistent=False)

    def forward(self) -> TorchDistribution:
        """Return N(0, I), batch shape (), event shape (n_latent,)."""
        distribution: TorchDistribution = dist.Normal(self.loc, self.scale).to_event(1)
        return distribution
