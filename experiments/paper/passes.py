"""Errors and samples over N passes in training and M at test time: the paper's draws beside repaired inputs."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from experiments.paper.models import estimator
from experiments.reproduce.report import Claim, Report
from pyro_ricvae.data import corruption, load_digits
from pyro_ricvae.demo.scenarios import Scenario, make_scenario
from pyro_ricvae.estimators import automatic_floor, automatic_spike
from pyro_ricvae.likelihoods import SpikeAndSlab
from pyro_ricvae.plots.style import GREY, new_figure

Array = NDArray[Any]

SUMMARY = "Digits trained under lines: error and sample quality over N and M, draws beside repaired inputs."
N_GRID, M_GRID = (1, 2, 3, 5), (1, 2, 3, 5, 10, 20)
_PASSES = 135
_KINDS = {"paper": "iC-VAE, draws", "draws": "spike and slab, draws", "repaired": "spike and slab, repaired rows"}
_N_SAMPLES, _N_COMPONENTS = 2000, 32
_UNSEEN_SEED = 1000


def configurations(seeds: int, quick: bool) -> list[dict[str, Any]]:
    """Return the settings of each run."""
    common = {"data": "digits", "passes": 5 if quick else _PASSES, "quick": quick}
    grid = (1, 2) if quick else N_GRID
    return [
        common | {"kind": kind, "N": n, "seed": seed}
        for seed in range(seeds)
        for n in grid
        for kind in _KINDS
        if n > 1 or kind != "draws"  # without recycling the two are one
    ]


def run(configuration: dict[str, Any], device: str) -> dict[str, Any]:
    """Fit a model to digits of which 40% are under a line; return its errors and its samples' distance by M."""
    given, scenario = configuration, make_scenario("digits-line", configuration["seed"])
    likelihood = {} if given["kind"] == "paper" else {"likelihood": spike_and_slab(scenario, given["kind"] == "draws")}
    model = "RiC-VAE" if given["kind"] == "paper" else "default"
    options = {"train_passes": given["N"], "hidden": (128, 64), **likelihood}
    est = estimator(model, "recipe", given["passes"], given["seed"], device, **options).fit(scenario.dirty)
    unseen = corruption.blocks(scenario.clean, share=1.0, random_state=_UNSEEN_SEED + given["seed"])[0]
    truth, found = scenario.standardise(scenario.clean), {}
    for m in M_GRID:
        for name, images in (("training", scenario.dirty), ("unseen", unseen)):
            found[f"{name} {m}"] = float(1000 * np.square(scenario.standardise(est.clean(images, m)) - truth).mean())
        found[f"samples {m}"] = distance(est.sample(_N_SAMPLES, m))
    return found


def spike_and_slab(scenario: Scenario, draws: bool) -> SpikeAndSlab:
    """Return the default's likelihood for the scenario, recycled by draws or by repaired rows."""
    x = torch.as_tensor(scenario.standardise(scenario.dirty))
    floor = automatic_floor(x, x.median(0).values, 1 / 16, images=True)
    return SpikeAndSlab(floor=floor, **(automatic_spike(floor[1], images=True) | {"draws": draws}))


class _Components(nn.Module):
    """The first principal components of the clean digits, as features."""

    num_features = _N_COMPONENTS

    def __init__(self) -> None:
        super().__init__()
        pca = PCA(_N_COMPONENTS, random_state=0).fit(load_digits().reshape(-1, 64) / 16)
        self.register_buffer("components", torch.as_tensor(pca.components_.T, dtype=torch.float64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of images on [0, 16], shape (n, 8, 8)."""
        return images.flatten(1).double() / 16 @ self.components


def distance(images: Array) -> float:
    """Return Fréchet's distance of images from the clean digits, in 32 principal components, x 1000."""
    metric = FrechetInceptionDistance(_Components())
    metric.update(torch.as_tensor(load_digits()), real=True)
    metric.update(torch.as_tensor(images), real=False)
    return float(1000 * metric.compute())


def report(runs: list[dict[str, Any]]) -> Report:
    """Return the page."""
    table = pd.DataFrame(runs)
    tables = {}
    for name, caption in _CAPTIONS.items():
        means = table.groupby(["kind", "N"], sort=False)[[f"{name} {m}" for m in M_GRID]].mean().reset_index()
        means["kind"] = means["kind"].map(_KINDS)
        tables[caption] = means.set_axis(["recycled by", "N", *(f"M = {m}" for m in M_GRID)], axis=1)
    text = (
        f"Digits (8 x 8), 40% of them under a bright line; networks 128-64, {runs[0]['passes']} passes over the data "
        f"in training for each model, {table['seed'].nunique()} seed(s), means. N passes in half of the steps of the "
        "last 70% of training, M at test time. Errors are mean squared, x 1000, of images on [0, 1], on the training "
        "images and on the same digits with an unseen bright block on each. Samples: Fréchet's distance of 2,000 "
        f"samples from the clean digits in {_N_COMPONENTS} principal components, x 1000. At test time a spike and slab "
        "model repairs, the iC-VAE passes on means."
    )
    seen = "Error and distance over M, a line each N, a column each way of recycling"
    return Report(
        "Passes: N in training, M at test time", text, _claims(table), tables, {"passes": (seen, _draw(table))}
    )


_CAPTIONS = {
    "training": "Error on the training images",
    "unseen": "Error on unseen blocks",
    "samples": "Distance of samples",
}


def _claims(table: pd.DataFrame) -> list[Claim]:
    claims = []
    for kind, called in _KINDS.items():
        some = table[(table["kind"] == kind) & (table["N"] == 2)]
        single = table[(table["kind"] == ("repaired" if kind == "draws" else kind)) & (table["N"] == 1)]
        if some.empty:
            continue
        second = some["unseen 2"] / some["unseen 1"]
        growth = {n: (each["unseen 20"] / each["unseen 1"]).mean() for n, each in ((1, single), (2, some))}
        claims += [
            Claim(
                f"{called}: the second pass refines the first on unseen dirt, N = 2",
                "section 4.2",
                f"M = 2 over M = 1: {second.min():.2f} to {second.max():.2f}",
                bool((second < 1).all()),
            ),
            Claim(
                f"{called}: sequences of passes diverge without recycling in training, and not with it",
                "section 4",
                f"M = 20 over M = 1: {growth[1]:.2f} at N = 1, {growth[2]:.2f} at N = 2",
                bool(growth[1] > 1.2 > growth[2]),
            ),
            Claim(
                f"{called}: samples get better with each pass, N = 2",
                "section 5.3",
                "M = 1, 2, 5, 20: " + ", ".join(f"{some[f'samples {m}'].mean():.3g}" for m in (1, 2, 5, 20)),
                bool(some[[f"samples {m}" for m in M_GRID]].mean().is_monotonic_decreasing),
            ),
        ]
    return claims


def _draw(table: pd.DataFrame) -> Figure:
    figure = new_figure(10, 8)
    panels = figure.subplots(3, 3, sharex=True, sharey="row")
    for row, (name, caption) in zip(panels, _CAPTIONS.items(), strict=True):
        for panel, (kind, called) in zip(row, _KINDS.items(), strict=True):
            for n, some in table[table["kind"] == kind].groupby("N"):
                means = [some[f"{name} {m}"].mean() for m in M_GRID]
                colour = f"C{N_GRID.index(int(n))}"
                panel.plot(M_GRID, means, "o-", markersize=3, label=f"N = {n}", color=colour)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xticks(M_GRID, map(str, M_GRID))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 1)))
            panel.yaxis.set_major_formatter(LogFormatter())
            panel.grid(color=GREY, linewidth=0.5)
            if name == "training":
                panel.set_title(called, fontsize=10)
                panel.legend(fontsize=8, frameon=False)
        row[0].set_ylabel(caption, fontsize=9)
    for panel in panels[-1]:
        panel.set_xlabel("M, passes at test time")
    return figure
