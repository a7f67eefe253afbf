"""The shapes that are benchmarked, the networks of each, and the operations that a training step cannot do without."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

import pyro_ricvae as rv

FLOOR = 0.1
LEARNING_RATE = 1e-3
PASSES = (1, 2, 5)


@dataclass(frozen=True)
class Shape:
    """A batch, the widths of the networks, from the features to the latents, and what their weights begin with.

    A `gain` above 1 makes every term of the loss matter from the start.
    """

    batch: int
    widths: tuple[int, ...]
    gain: float = 1.0

    @property
    def n_features(self) -> int:
        """The number of features of a row."""
        return self.widths[0]

    @property
    def n_latent(self) -> int:
        """The number of latent units."""
        return self.widths[-1]

    @property
    def hidden(self) -> tuple[int, ...]:
        """The widths of the encoder's hidden layers."""
        return self.widths[1:-1]

    def rows(self, device: str) -> Tensor:
        """Return the one batch that every step trains on."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand(self.batch, self.n_features, generator=generator).to(device)

    def networks(self, device: str) -> tuple[rv.networks.MLPEncoder, rv.networks.MLPDecoder]:
        """Return encoder and decoder, with the same parameters at every call."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            encoder = rv.networks.MLPEncoder(self.n_features, self.n_latent, self.hidden)
            decoder = rv.networks.MLPDecoder(self.n_latent, self.n_features, self.hidden[::-1])
        with torch.no_grad():
            for parameter in (*encoder.parameters(), *decoder.parameters()):
                parameter.mul_(self.gain)
        return encoder.to(device), decoder.to(device)

    def matrix_operations(self, passes: int) -> int:
        """Return the floating-point operations of the matrix products in one step of that many passes.

        Two for each entry of a weight and row, three times over: forward, gradient of the weight, gradient of the
        input. Nobody asks for the gradient of the data, so the layers that read them do without the third in the first
        pass; a recycled row does pass it on.
        """
        between = sum(before * after for before, after in itertools.pairwise(self.widths))
        affine = self.n_features * self.n_latent
        log_scale = self.hidden[-1] * self.n_latent
        from_data = self.n_features * self.hidden[0] + affine
        return 2 * self.batch * (3 * passes * (2 * (between + affine) + log_scale) - from_data)


_FREY = (560, 1000, 500, 250, 10)
_MNIST = (784, 1000, 500, 250, 30)

# The small one is where `benchmarks.agreement` sees best, and where what is not arithmetic costs most.
SHAPES = {
    "small": Shape(32, (20, 16, 8, 3), gain=3.0),
    "frey": Shape(100, _FREY),
    **{f"mnist-{batch}": Shape(batch, _MNIST) for batch in (100, 128, 256, 1024, 8192)},
}
# 128 is where the goals for a CUDA device were set.
DEFAULT_SHAPES = {"cpu": [name for name in SHAPES if name != "mnist-128"], "cuda": list(SHAPES)}
