"""Comparing estimators on the same data, over seeds."""

from pyro_ricvae._core.extras import extra

with extra("estimators"):
    from pyro_ricvae.comparison.compare import compare, with_single_passes
    from pyro_ricvae.comparison.criteria import CRITERIA, Criterion
    from pyro_ricvae.comparison.result import Comparison

__all__ = ["CRITERIA", "Comparison", "Criterion", "compare", "with_single_passes"]
