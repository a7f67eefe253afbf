"""Baselines that are not VAEs, with the methods of scikit-learn, to compare with on the same data."""

from pyro_ricvae.baselines.robust_pca import RobustPCA, principal_component_pursuit

__all__ = ["RobustPCA", "principal_component_pursuit"]
