"""The paper's eight models and its oracle, as arguments of one estimator, with equal passes over the data."""

from dataclasses import replace
from typing import Any

from pyro_ricvae import RiCVAE
from pyro_ricvae.inference import Recipe

#: The arguments of a model, by its name in section 5.2; (2, 2) are passes in training and at test time. An autoencoder
#: has no KL, and its latents' noise, which nothing then holds up, is learned away. Variances of 1 are the paper's.
MODELS: dict[str, dict[str, Any]] = {
    "AE": {"likelihood": "fixed_normal", "floor": 1.0, "train_passes": 1},
    "l2-VAE": {"likelihood": "fixed_normal", "floor": 1.0, "train_passes": 1},
    "R-l2-VAE": {"likelihood": "fixed_normal", "floor": 1.0, "train_passes": 2},
    "LC-VAE": {"likelihood": "learned_normal", "train_passes": 1},
    "RLC-VAE": {"likelihood": "learned_normal", "train_passes": 2},
    "iC-VAE": {"likelihood": "index_conditioned", "train_passes": 1},
    "RiC-VAE": {"likelihood": "index_conditioned", "train_passes": 2},
    "default": {"train_passes": 2},
}
#: "plain" is the paper's, "recipe" this package's: centre, affine path, schedules, steps of one and of two passes.
PROCEDURES = {"plain": Recipe.plain(), "recipe": Recipe()}


def estimator(model: str, procedure: str, passes: int, seed: int, device: str, **arguments: Any) -> RiCVAE:
    """Return one of `MODELS`, unfitted, whose training is as many passes over the data as any other's.

    Parameters
    ----------
    model, procedure : str
        Of `MODELS` and `PROCEDURES`.
    passes : int
        Over the data in training, those of recycled rows counted.
    seed : int
        Of the training.
    device : str
        Where to train.
    **arguments
        Others of `RiCVAE`.
    """
    recipe = PROCEDURES[procedure]
    if model == "AE":
        recipe = replace(recipe, kl_start=0.0, kl_end=0.0)
    given = MODELS[model] | arguments
    return RiCVAE(
        **given,
        epochs=epochs_of(passes, given["train_passes"], recipe),
        recipe=recipe,
        random_state=seed,
        device=device,
        verbose=False,
    )


def epochs_of(passes: int, train_passes: int, recipe: Recipe) -> int:
    """Return the number of epochs in which a training makes so many passes over the data."""
    recycled = (1 - recipe.single_pass_share) * recipe.recycled_share * (train_passes - 1)
    return max(1, round(passes / (1 + recycled)))
