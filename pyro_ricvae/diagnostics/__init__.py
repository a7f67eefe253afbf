"""Scores, and what a fitted pair says about the data."""

from pyro_ricvae.diagnostics.scores import cell_scores, row_scores
from pyro_ricvae.diagnostics.weights import (
    ImportanceWeights,
    check_normalised,
    importance_weighted_bound,
    importance_weights,
)

__all__ = [
    "ImportanceWeights",
    "cell_scores",
    "check_normalised",
    "importance_weighted_bound",
    "importance_weights",
    "row_scores",
]
