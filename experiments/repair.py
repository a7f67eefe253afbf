"""What repair and passes are worth, and how calibrated probabilities of dirt are, on data with dirt of known truth.

python -m experiments.repair run --data cancer --dirt cells-10 --seeds 0,1,2 --out runs.jsonl
python -m experiments.repair tables runs.jsonl > tables.md
"""

import itertools
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from experiments.lines import read_lines, run_missing
from experiments.paper.models import epochs_of
from pyro_ricvae import RiCVAE
from pyro_ricvae.demo.scenarios import CONTAMINATIONS, DATA_SETS, Scenario, make_scenario
from pyro_ricvae.inference import Recipe

#: As many passes over the data as the models of docs/results/likelihoods.md have.
EPOCHS = {"digits": 133, "faces": 107, "cancer": 333, "satellite": 133}
PASSES = (1, 2, 3, 5, 20)
#: Arguments by name.
MODELS: dict[str, dict[str, Any]] = {
    "default": {},
    "default, single passes": {"train_passes": 1},
    "iC-VAE": {"likelihood": "index_conditioned", "train_passes": 1},
    "RiC-VAE": {"likelihood": "index_conditioned"},
}
_BINS = 10


def expected_calibration_error(probability: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Return the mean over ten bins, weighted by their cells, of how far their probabilities are from what is true."""
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    found = [(bins == k, (bins == k).mean()) for k in range(_BINS)]
    return float(sum(weight * abs(probability[each].mean() - truth[each].mean()) for each, weight in found if weight))


def fitted(scenario: Scenario, seed: int, model: str) -> RiCVAE:
    """Return one of `MODELS`, fitted to the dirty data by as many passes over them as the others."""
    data, arguments = scenario.name.split("-")[0], MODELS[model]
    est = RiCVAE(
        **arguments,
        hidden=(256, 128, 64) if scenario.images else (128, 64),
        epochs=epochs_of(EPOCHS[data], arguments.get("train_passes", 2), Recipe()),
        random_state=seed,
        verbose=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kept in warnings_
        return est.fit(scenario.dirty)


def run(scenario: Scenario, seed: int, model: str) -> dict[str, Any]:
    """Fit a model; return its errors after passes, cleaned and repaired, and what it says of dirt."""
    est, dirty = fitted(scenario, seed, model), scenario.dirty
    probability = np.asarray(est.cell_probabilities(dirty)).reshape(len(dirty), -1)
    truth = scenario.touched.reshape(probability.shape)
    found = probability > 0.5
    made = {
        "clean": {m: scenario.errors(est.clean(dirty, m)) for m in PASSES},
        "repair": {m: scenario.errors(est.repair(dirty, passes=m)) for m in PASSES},
    }
    return {
        "name": scenario.name,
        "seed": seed,
        "model": model,
        **{how: {m: each["all"] for m, each in errors.items()} for how, errors in made.items()},
        "median": {how: {m: each["median"] for m, each in errors.items()} for how, errors in made.items()},
        "contamination": est.contamination_,
        "true": float(truth.mean()),
        "precision": float(truth[found].mean()) if found.any() else None,
        "recall": float(found[truth].mean()) if truth.any() else None,
        "calibration": expected_calibration_error(probability, truth),
    }


def read(path: Path) -> pd.DataFrame:
    """Return the runs of a file, a line each, images' squared errors times 1000, with columns for each pass."""
    runs = pd.json_normalize(read_lines(path), sep=" ")
    images = runs["name"].str.startswith(("digits", "faces"))
    errors = [f"{how} {m}" for how in ("clean", "repair") for m in PASSES]
    runs.loc[images, errors] *= 1000
    return runs


@click.group()
def main() -> None:
    """Run, and show what was run."""


@main.command("run")
@click.option("--data", multiple=True, type=click.Choice(list(DATA_SETS)), help="By default all.")
@click.option("--dirt", multiple=True, type=click.Choice(list(CONTAMINATIONS)), help="By default all.")
@click.option("--model", multiple=True, type=click.Choice(list(MODELS)), help="By default all.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
def run_all(data: tuple[str, ...], dirt: tuple[str, ...], model: tuple[str, ...], seeds: str, out: Path) -> None:
    """Fit models; each is a line of OUT, and made only once. One thread."""
    torch.set_num_threads(1)
    names = [f"{each}-{kind}" for each in data or DATA_SETS for kind in dirt or CONTAMINATIONS]
    wanted = [(name, seed, each) for name in names for seed in map(int, seeds.split(",")) for each in model or MODELS]
    run_missing(
        out, ("name", "seed", "model"), wanted, lambda name, seed, each: run(make_scenario(name, seed), seed, each)
    )


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def tables(path: Path) -> None:
    """Print the tables of a file of runs, in Markdown: means over seeds."""
    runs = read(path)
    order = [f"{data}-{dirt}" for data in DATA_SETS for dirt in CONTAMINATIONS]
    names = sorted(set(runs["name"]), key=order.index)
    groups = {(str(name), str(model)): each for (name, model), each in runs.groupby(["name", "model"])}
    known = [key for key in itertools.product(names, MODELS) if key in groups]
    for how in ("clean", "repair"):
        columns = [*(f"{how} {m}" for m in PASSES), f"median {how} 1"]
        lines = [[*key, *(f"{groups[key][column].mean():.3g}" for column in columns)] for key in known]
        heads = ["data", "model", *(f"M = {m}" for m in PASSES), "median, M = 1"]
        click.echo(tabulate(lines, heads, tablefmt="github", disable_numparse=True) + "\n")
    columns = ["true", "contamination", "precision", "recall", "calibration"]
    lines = [[*key, *(_mean(groups[key][column]) for column in columns)] for key in known]
    heads = ["data", "model", "dirty", "said", "precision", "recall", "calibration error"]
    click.echo(tabulate(lines, heads, tablefmt="github", disable_numparse=True))


def _mean(column: "pd.Series[Any]") -> str:
    mean = pd.to_numeric(column).mean()
    return "" if np.isnan(mean) else f"{mean:.3f}"


if __name__ == "__main__":
    main()
