"""Data: sets to try things on, and dirt with known truth to put on them."""

from pyro_ricvae.data import corruption
from pyro_ricvae.data.datasets import load_breast_cancer, load_digits, load_frey_faces, load_mnist

__all__ = ["corruption", "load_breast_cancer", "load_digits", "load_frey_faces", "load_mnist"]
