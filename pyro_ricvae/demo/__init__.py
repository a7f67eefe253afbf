"""The demo: two data sets with dirt of known truth, cleaned by four methods, side by side."""

from pyro_ricvae._core.extras import extra

with extra("all"):
    from pyro_ricvae.demo.run import format_table, run

__all__ = ["format_table", "run"]
