"""Variational inference with recycled data."""

from pyro_ricvae.inference.recycling_elbo import RecyclingELBO

__all__ = ["RecyclingELBO"]
