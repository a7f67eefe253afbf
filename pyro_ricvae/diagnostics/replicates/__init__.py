"""Replicated data, and what they say about a model: predictive checks and intervals."""
