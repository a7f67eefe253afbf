"""Generative models: the distribution of latents and data."""

from pyro_ricvae.models.vae import VAE

__all__ = ["VAE"]
