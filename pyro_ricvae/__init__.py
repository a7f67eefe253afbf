"""Robust deep generative modelling in Pyro: the recurrent iConditional VAE (RiC-VAE).

Ordinary Pyro parts, to be combined: a decoder and an encoder (`networks`), a likelihood (`likelihoods`) and a prior
(`priors`) make a model (`models`) and its guide (`guides`); `inference` trains them on dirty data by recycling each
output as a new input; `predictive` cleans, generates and draws with the result.

The mathematics is in ``docs/mathematics.md``, with a table from symbols to names.
"""

from pyro_ricvae import guides, inference, likelihoods, models, networks, predictive, priors

__version__ = "0.1.0.dev0"

__all__ = ["guides", "inference", "likelihoods", "models", "networks", "predictive", "priors"]
