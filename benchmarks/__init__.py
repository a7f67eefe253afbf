"""Benchmarks of the training step: see README.md in this folder."""
