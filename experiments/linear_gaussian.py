"""A linear-Gaussian model, whose evidence and posterior are known, and right and wrong guides."""

import math

import torch
from torch import Tensor, nn

from pyro_ricvae import guides, likelihoods, models, priors


class LinearGaussian:
    r"""Rows :math:`x = W z + b + s \epsilon` with z ~ N(0, I) and orthogonal columns of W.

    The posterior is a normal that is independent over the units, so that an `AmortizedNormal` guide can be exact.

    Parameters
    ----------
    n_features, n_latent : int
        The sizes of W.
    scale : float
        The noise's scale s.
    seed : int
        Of W and b.

    Attributes
    ----------
    model : VAE
        The model.
    posterior_scale : Tensor, shape (n_latent,)
        The scale of p(z | x), the same for all rows.
    """

    def __init__(self, n_features: int, n_latent: int, scale: float, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        columns, _ = torch.linalg.qr(torch.randn(n_features, n_latent, generator=rng))
        self.weights = columns * torch.linspace(1.0, 2.0, n_latent)
        self.bias = torch.randn(n_features, generator=rng)
        self.scale = scale
        precision = self.weights.square().sum(0) / scale**2 + 1
        self.posterior_scale = precision.rsqrt()
        self.to_mean = (self.weights / scale**2 / precision).T
        decoder = nn.Linear(n_latent, n_features)
        decoder.load_state_dict({"weight": self.weights, "bias": self.bias})
        self.model = models.VAE(decoder, likelihoods.FixedNormal(scale), priors.StandardNormal(n_latent))

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of x at latents of shape (..., n_latent)."""
        mean: Tensor = z @ self.weights.T + self.bias
        return mean

    def sample(self, n: int, seed: int) -> Tensor:
        """Return rows of the model, of shape (n, n_features)."""
        rng = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.weights.shape[1], generator=rng)
        return self.decode(z) + self.scale * torch.randn(n, len(self.bias), generator=rng)

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x) of each row, of shape (n,), in nats."""
        covariance = self.weights @ self.weights.T + self.scale**2 * torch.eye(len(self.bias))
        log_evidence: Tensor = torch.distributions.MultivariateNormal(self.bias, covariance).log_prob(x)
        return log_evidence

    def guide(self, scale: float = 1.0, shift: float = 0.0) -> guides.AmortizedNormal:
        """Return the exact guide, or one of `scale` times its scale, and a mean off by `shift` of it."""
        return guides.AmortizedNormal(_Encoder(self, scale, shift))


class _Encoder(nn.Module):
    def __init__(self, exact: LinearGaussian, scale: float, shift: float) -> None:
        super().__init__()
        self.affine = nn.Linear(*exact.weights.shape)
        bias = shift * exact.posterior_scale - exact.to_mean @ exact.bias
        self.affine.load_state_dict({"weight": exact.to_mean, "bias": bias})
        self.log_scale = nn.Parameter(exact.posterior_scale.log() + math.log(scale))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc = self.affine(x)
        return loc, self.log_scale.exp().expand_as(loc)
