"""The command line."""

from pyro_ricvae._core.extras import extra

with extra("cli"):
    from pyro_ricvae.cli.main import main

__all__ = ["main"]
