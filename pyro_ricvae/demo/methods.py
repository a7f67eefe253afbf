"""The methods that are compared, each given the same standardised data and, where it is a VAE, the same networks."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pyro_ricvae._core.isolation import random_numbers
from pyro_ricvae.comparison import with_single_passes
from pyro_ricvae.demo.scenarios import Scenario
from pyro_ricvae.estimators import RobustPCA
from pyro_ricvae.estimators.ricvae import RiCVAE
from pyro_ricvae.estimators.settings import Prepared, prepare
from pyro_ricvae.inference import CompiledSVI, RecyclingELBO, choose_engine

Array = NDArray[Any]

#: What robust PCA's default lambda is multiplied by; its default is a weak baseline.
LAMBDA_SCALES = (1.0, 0.7, 0.5, 0.4, 0.3)

#: Scales of an l2-VAE, in standardised units: of images on [0, 1], and of robustly standardised columns.
L2_SCALES = {True: (0.2, 0.3, 0.4, 0.5, 0.6, 0.8), False: (0.5, 1.0, 2.0, 4.0, 8.0)}

# A grid whose best point lies at its end is extended by factors of two, to no more than this scale.
_LARGEST_SCALE = 64.0


@dataclass(frozen=True)
class Outcome:
    """What a method made of a scenario.

    Parameters
    ----------
    figures : dict of str to float
        Mean squared error "dirty" and "clean" (see `Scenario.errors`), and "average_precision".
    cleaned : ndarray
        In data units, of the data's shape.
    cell_scores : ndarray
        Of the data's shape; higher is more outlying.
    estimator
        Fitted.
    details : dict
        What was chosen.
    """

    figures: dict[str, float]
    cleaned: Array
    cell_scores: Array
    estimator: Any
    details: dict[str, Any] = field(default_factory=dict)


def robust_pca(scenario: Scenario, lambda_scales: Sequence[float] = LAMBDA_SCALES) -> Outcome:
    """Run robust PCA at the lambda, raw or median-centred, that is best for its own error on what is dirty."""
    x = scenario.standardise(scenario.dirty)
    grid: dict[str, Outcome] = {}
    for center in (None, "median"):
        for scale in lambda_scales:
            estimator = RobustPCA(lambda_scale=scale, center=center)
            low_rank = estimator.fit_clean(x)
            cleaned = scenario.scaling.restore(low_rank).reshape(scenario.dirty.shape)
            missed = abs(x - low_rank)
            figures = scenario.errors(cleaned)
            figures["average_precision"] = scenario.average_precision(-missed.sum(axis=1), missed)
            shaped = missed.reshape(scenario.dirty.shape)
            grid[f"lambda x {scale:g}, center {center}"] = Outcome(figures, cleaned, shaped, estimator)
    return pick_best(grid)


def pick_best(grid: dict[str, Outcome]) -> Outcome:
    """Return the outcome of a grid that is best for its own error on what is dirty; its details have the whole grid."""
    best = min(grid, key=lambda name: _error(grid[name]))
    errors = {name: outcome.figures for name, outcome in grid.items()}
    return replace(grid[best], details={**grid[best].details, "best": best, "grid": errors})


def l2_vae(scenario: Scenario, scale: float, seed: int, *, epochs: int | None = None) -> Outcome:
    """Train a standard VAE of a given scale (standardised units) by plain SVI, `inference.CompiledSVI`.

    As many epochs as the RiC-VAE has, with the same networks, centre, affine path, Adam, warm-up and cosine.
    """
    estimator = RiCVAE(
        likelihood="fixed_normal", floor=scale, train_passes=1, epochs=epochs or "auto", random_state=seed
    )
    new = prepare(estimator, scenario.dirty)
    with (
        random_numbers(new.seed, new.settings.device),
        pyro.get_param_store().scope(),  # Pyro's store is global
        pyro.validation_enabled(False),  # as in `Trainer`, and as quick
    ):
        history = [{"loss": loss} for loss in _svi(new)]
    estimator = RiCVAE.from_pair(new.model, new.guide, scenario.dirty, history=history, **estimator.get_params())
    return _outcome(scenario, estimator, {"scale": scale, "trained by": "inference.CompiledSVI"})


def best_l2_vae(scenario: Scenario, seed: int, scales: Sequence[float] | None = None, **options: Any) -> Outcome:
    """Train the l2-VAE at the scale that is best for its own error on what is dirty.

    Without `scales`: those of `L2_SCALES`, extended until the best one has worse neighbours on both sides.
    """
    grid = {scale: l2_vae(scenario, scale, seed, **options) for scale in scales or L2_SCALES[scenario.images]}
    best = min(grid, key=lambda scale: _error(grid[scale]))
    while scales is None:
        if best == max(grid) and 2 * best <= _LARGEST_SCALE:
            new = 2 * best
        elif best == min(grid):
            new = best / 2
        else:
            break
        grid[new] = l2_vae(scenario, new, seed, **options)
        best = min(grid, key=lambda scale: _error(grid[scale]))
    return pick_best({f"{scale:g}": grid[scale] for scale in sorted(grid)})


def default(scenario: Scenario, seed: int, **arguments: Any) -> Outcome:
    """Train a `RiCVAE`, at default settings where `arguments` do not say otherwise."""
    estimator = RiCVAE(**{"random_state": seed, "verbose": False, **arguments})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kept in warnings_
        estimator.fit(scenario.dirty)
    return _outcome(scenario, estimator, {"settings": estimator.settings_, "warnings": estimator.warnings_})


def ric_vae(scenario: Scenario, seed: int, **arguments: Any) -> Outcome:
    """Train the paper's RiC-VAE, by this package's recipe, or that of `arguments`."""
    return default(scenario, seed, **{"likelihood": "index_conditioned", **arguments})


def ic_vae(scenario: Scenario, seed: int, **arguments: Any) -> Outcome:
    """Train an iC-VAE, or one of another likelihood, given as many passes as `ric_vae` would take."""
    equal = with_single_passes(RiCVAE(**{"random_state": seed, **arguments}), scenario.dirty)
    return ric_vae(scenario, seed, **{**arguments, "train_passes": 1, "epochs": equal.epochs})


def best_fixed_normal(scenario: Scenario, seed: int, **arguments: Any) -> Outcome:
    """Train a VAE with one fixed scale at the best of four scales for its own error on what is dirty.

    As `ic_vae` but for the likelihood. The choice looks at the truth, which nobody has.
    """
    scales = (0.1, 0.2, 0.4, 0.8) if scenario.images else (0.5, 2.0, 8.0, 32.0)
    return pick_best(
        {f"{scale:g}": ic_vae(scenario, seed, likelihood="fixed_normal", floor=scale, **arguments) for scale in scales}
    )


def _svi(new: Prepared) -> list[float]:
    """Train by SVI; return the mean loss of a row in each epoch, in nats."""
    recipe, x, elbo = new.settings.recipe, new.x, RecyclingELBO()
    batch_size = min(recipe.batch_size, len(x))
    n_steps = new.settings.epochs * math.ceil(len(x) / batch_size)
    choice = choose_engine(elbo(new.model, new.guide), batch_size, [(n_steps, 1)], "auto", "auto")
    schedules: list[Any] = []

    def optimizer(parameters: list[Tensor]) -> Optimizer:
        adam = Adam(parameters, lr=recipe.learning_rate, fused=True)
        schedules.append(LambdaLR(adam, lambda step: recipe.rate_factor(min(step, n_steps - 1), n_steps)))
        return adam

    svi = CompiledSVI(
        new.model,
        new.guide,
        optimizer,
        elbo,
        precision=choice.precision,
        compiled=choice.engine == "compiled",
    )
    losses = []
    for _ in range(new.settings.epochs):
        total = 0.0
        for rows in torch.randperm(len(x), device=x.device).split(batch_size):
            total += svi.step(x[rows])
            schedules[0].step()
        losses.append(total / len(x))
    return losses


def _outcome(scenario: Scenario, estimator: RiCVAE, details: dict[str, Any]) -> Outcome:
    cleaned, cells = estimator.clean(scenario.dirty), estimator.cell_scores(scenario.dirty)
    figures = scenario.errors(cleaned)
    figures["average_precision"] = scenario.average_precision(estimator.score_samples(scenario.dirty), cells)
    return Outcome(figures, cleaned, cells, estimator, details)


def _error(outcome: Outcome) -> float:
    """Return the error that settings are chosen by: on what is dirty, if that has a truth to come back to."""
    dirty = outcome.figures["dirty"]
    return outcome.figures["clean"] if math.isnan(dirty) else dirty
