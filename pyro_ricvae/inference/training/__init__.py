"""The training loop: the recipe, the engine it runs on, its state, and what watches it."""

from pyro_ricvae.inference.training.engine import Choice, choose_engine
from pyro_ricvae.inference.training.monitor import measure
from pyro_ricvae.inference.training.recipe import Recipe
from pyro_ricvae.inference.training.trainer import Trainer, TrainingError, TrainingWarning

__all__ = ["Choice", "Recipe", "Trainer", "TrainingError", "TrainingWarning", "choose_engine", "measure"]
