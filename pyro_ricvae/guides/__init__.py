"""Guides: the approximate posterior q(z | x)."""

from pyro_ricvae.guides.amortized_normal import AmortizedNormal

__all__ = ["AmortizedNormal"]
