"""Pictures of runs: what was cleaned, and what was sampled after M passes."""

from pathlib import Path

import numpy as np

from pyro_ricvae.demo.methods import Outcome
from pyro_ricvae.demo.scenarios import Scenario
from pyro_ricvae.plots import image_grid, save

_PASSES = (1, 5, 20)
_N_SAMPLES = 1000
_FADED = 0.1  # a sample is faded below this share of the data's mean intensity


def draw_samples(scenario: Scenario, outcome: Outcome, picture: Path) -> dict[str, dict[str, float]]:
    """Draw what was cleaned and what was sampled, and return how many of the samples have faded after M passes."""
    shown = np.flatnonzero(scenario.touched.reshape(len(scenario.touched), -1).any(axis=1))[:16]
    shown = shown if len(shown) else np.arange(16)
    rows = {"dirty": scenario.dirty[shown], "cleaned": outcome.cleaned[shown], "truth": scenario.clean[shown]}
    faded = {}
    intensity = float(scenario.clean.mean())
    for passes in _PASSES:
        samples = outcome.estimator.sample(_N_SAMPLES, passes)
        means = samples.reshape(_N_SAMPLES, -1).mean(axis=1)
        faded[f"M={passes}"] = {
            "faded": float((means < _FADED * intensity).mean()),
            "mean intensity over the data's": float(means.mean()) / intensity,
        }
        rows[f"samples, M={passes}"] = samples[:16]
    figure = image_grid(rows, limits=(float(scenario.clean.min()), float(scenario.clean.max())))
    save(figure, picture)
    return faded
