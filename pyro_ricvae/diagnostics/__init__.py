"""Scores, and what a fitted pair says about itself and the data.

All functions take a pair and its rows in the model's units: of an estimator ``est.model_, est.guide_,
est.standardise(X)``.
"""

from pyro_ricvae.diagnostics.affine import AffinePosterior, affine_bound, affine_objective, affine_posterior
from pyro_ricvae.diagnostics.degeneracy import Degeneracy, degeneracy, excess_fits
from pyro_ricvae.diagnostics.guide.aggregate import ActiveUnits, AggregateTest, active_units, aggregate_posterior_test
from pyro_ricvae.diagnostics.guide.amortisation import amortisation_gap
from pyro_ricvae.diagnostics.guide.calibration import SimulationBasedCalibration, simulation_based_calibration
from pyro_ricvae.diagnostics.guide.pareto import ParetoK, pareto_k
from pyro_ricvae.diagnostics.guide.weights import (
    ImportanceWeights,
    check_normalised,
    importance_weighted_bound,
    importance_weights,
)
from pyro_ricvae.diagnostics.pair.check import check
from pyro_ricvae.diagnostics.pair.report import PairReport, SiteRecord
from pyro_ricvae.diagnostics.replicates.intervals import IntervalCalibration, interval_calibration
from pyro_ricvae.diagnostics.replicates.pit import PIT
from pyro_ricvae.diagnostics.replicates.ppc import PosteriorPredictiveCheck, ppc
from pyro_ricvae.diagnostics.replicates.replicate import replicate, replicate_scale
from pyro_ricvae.diagnostics.scores import cell_scores, outlier_scores, row_scores
from pyro_ricvae.diagnostics.to_arviz import to_arviz

__all__ = [
    "PIT",
    "ActiveUnits",
    "AffinePosterior",
    "AggregateTest",
    "Degeneracy",
    "ImportanceWeights",
    "IntervalCalibration",
    "PairReport",
    "ParetoK",
    "PosteriorPredictiveCheck",
    "SimulationBasedCalibration",
    "SiteRecord",
    "active_units",
    "affine_bound",
    "affine_objective",
    "affine_posterior",
    "aggregate_posterior_test",
    "amortisation_gap",
    "cell_scores",
    "check",
    "check_normalised",
    "degeneracy",
    "excess_fits",
    "importance_weighted_bound",
    "importance_weights",
    "interval_calibration",
    "outlier_scores",
    "pareto_k",
    "ppc",
    "replicate",
    "replicate_scale",
    "row_scores",
    "simulation_based_calibration",
    "to_arviz",
]
