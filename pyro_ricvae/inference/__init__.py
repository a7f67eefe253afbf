"""Objectives, the recipe and the training loop."""

from pyro_ricvae.inference._program import CompilationWarning
from pyro_ricvae.inference.automatic import (
    automatic_epochs,
    automatic_floor,
    automatic_hidden,
    automatic_n_latent,
)
from pyro_ricvae.inference.compiled_elbo import CompiledELBO, compile_elbo
from pyro_ricvae.inference.compiled_svi import CompiledSVI
from pyro_ricvae.inference.engine import Choice, choose_engine
from pyro_ricvae.inference.recipe import Recipe
from pyro_ricvae.inference.recycling_elbo import RecyclingELBO
from pyro_ricvae.inference.row_loss import row_loss_terms
from pyro_ricvae.inference.trainer import Trainer, TrainingError, TrainingWarning
from pyro_ricvae.inference.watch import measure

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
    "automatic_epochs",
    "automatic_floor",
    "automatic_hidden",
    "automatic_n_latent",
    "choose_engine",
    "compile_elbo",
    "measure",
    "row_loss_terms",
]
