"""Scores, and what a fitted pair says about the data."""

from pyro_ricvae.diagnostics.scores import cell_scores, row_scores

__all__ = ["cell_scores", "row_scores"]
