"""A linear-Gaussian model, whose evidence and posterior are known, and right and wrong guides."""

import math

import torch
from torch import Tensor, nn

from pyro_ricvae import guides, likelihoods, models, priors


class LinearGaussian:
    """x = W z + b + scale * noise, with z ~ N(0, I) and a W of orthogonal columns: the posterior is N(A (x - b), C).

    C is diagonal, so that an `AmortizedNormal` guide can be exact.
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
        with torch.no_grad():
            decoder.weight.copy_(self.weights)
            decoder.bias.copy_(self.bias)
        self.model = models.VAE(decoder, likelihoods.FixedNormal(scale), priors.StandardNormal(n_latent))

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.weights.T + self.bias

    def sample(self, n: int, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.weights.shape[1], generator=rng)
        return self.decode(z) + self.scale * torch.randn(n, len(self.bias), generator=rng)

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x) of each row, of shape (n,), in nats."""
        covariance = self.weights @ self.weights.T + self.scale**2 * torch.eye(len(self.bias))
        return torch.distributions.MultivariateNormal(self.bias, covariance).log_prob(x)

    def guide(self, scale: float = 1.0, shift: float = 0.0) -> guides.AmortizedNormal:
        """Return the exact guide, or one of `scale` times its scale, and a mean off by `shift` of that."""
        return guides.AmortizedNormal(_Encoder(self, scale, shift))


class _Encoder(nn.Module):
    def __init__(self, exact: LinearGaussian, scale: float, shift: float) -> None:
        super().__init__()
        self.affine = nn.Linear(*exact.weights.shape)
        with torch.no_grad():
            self.affine.weight.copy_(exact.to_mean)
            self.affine.bias.copy_(shift * exact.posterior_scale - exact.to_mean @ exact.bias)
        self.log_scale = nn.Parameter(exact.posterior_scale.log() + math.log(scale))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc = self.affine(x)
        return loc, self.log_scale.exp().expand_as(loc)
