"""Encoders and decoders, safe for any leading dimensions; any `torch.nn.Module` of the same signature will do."""

from pyro_ricvae.networks.centred import LOG_SCALE_BOUNDS
from pyro_ricvae.networks.mlp import MLPDecoder, MLPEncoder

__all__ = ["LOG_SCALE_BOUNDS", "MLPDecoder", "MLPEncoder"]
