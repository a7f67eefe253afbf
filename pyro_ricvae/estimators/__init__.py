"""Estimators with the conventions of scikit-learn: dirty data in, clean data and a model out."""

from pyro_ricvae._core.extras import extra

with extra("estimators"):
    from pyro_ricvae.estimators.base import RowEstimator, load
    from pyro_ricvae.estimators.defaults import (
        automatic_epochs,
        automatic_floor,
        automatic_hidden,
        automatic_n_latent,
        automatic_spike,
        automatic_test_passes,
    )
    from pyro_ricvae.estimators.discriminative import discriminative_threshold
    from pyro_ricvae.estimators.drae import DRAE
    from pyro_ricvae.estimators.empirical_bayes import EmpiricalBayesRobustPCA
    from pyro_ricvae.estimators.pursuit import principal_component_pursuit
    from pyro_ricvae.estimators.ricvae import RiCVAE
    from pyro_ricvae.estimators.robust_pca import RobustPCA
    from pyro_ricvae.estimators.uocl import UOCL

__all__ = [
    "DRAE",
    "UOCL",
    "EmpiricalBayesRobustPCA",
    "RiCVAE",
    "RobustPCA",
    "RowEstimator",
    "automatic_epochs",
    "automatic_floor",
    "automatic_hidden",
    "automatic_n_latent",
    "automatic_spike",
    "automatic_test_passes",
    "discriminative_threshold",
    "load",
    "principal_component_pursuit",
]
