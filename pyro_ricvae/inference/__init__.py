"""Objectives, compiled Pyro, the training loop, and passes at test time."""

from pyro_ricvae.inference.compile import CompilationWarning, CompiledELBO, CompiledSVI, compile_elbo
from pyro_ricvae.inference.predictive import draw_posterior, generate, reconstruct, repair
from pyro_ricvae.inference.recycling_elbo import RecyclingELBO
from pyro_ricvae.inference.row_loss import row_loss_terms
from pyro_ricvae.inference.training import (
    Choice,
    Recipe,
    Trainer,
    TrainingError,
    TrainingWarning,
    choose_engine,
    measure,
)

__all__ = [
    "Choice",
    "CompilationWarning",
    "CompiledELBO",
    "CompiledSVI",
    "Recipe",
    "RecyclingELBO",
    "Trainer",
    "TrainingError",
    "TrainingWarning",
    "choose_engine",
    "compile_elbo",
    "draw_posterior",
    "generate",
    "measure",
    "reconstruct",
    "repair",
    "row_loss_terms",
]
