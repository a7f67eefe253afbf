"""Dirty cells of tables at default settings: found, repaired, counted; beside robust PCA and what people do by hand.

python -m experiments.cells run --seeds 0,1,2 --out cells.jsonl
python -m experiments.cells tables cells.jsonl > tables.md
"""

import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 -- or there is no IterativeImputer
from sklearn.impute import IterativeImputer
from sklearn.metrics import average_precision_score
from tabulate import tabulate
from tqdm import tqdm

from experiments.lines import read_lines, run_missing
from experiments.repair import expected_calibration_error
from pyro_ricvae import RiCVAE
from pyro_ricvae.data import corruption
from pyro_ricvae.demo.scenarios import DATA_SETS, Scenario, load_adbench
from pyro_ricvae.estimators import RobustPCA
from pyro_ricvae.plots.style import new_figure, save

Array = NDArray[Any]

#: By name; settings were chosen on the first two and on others of ADBench (glass, Stamps, vowels, cardio, letter,
#: pendigits), not on the last four.
TABLES = ("cancer", "satellite", "18_Ionosphere", "29_Pima", "38_thyroid", "47_yeast")
SHARES = (0, 5, 10, 20, 40)
_MOST_ROWS = 1500


def make(name: str, percent: int, seed: int) -> Scenario:
    """Return a table, without its outlying rows, with gross errors in a share of its cells."""
    if name in DATA_SETS:
        clean = DATA_SETS[name]()
    else:
        rows, outlying = load_adbench(name)
        clean = rows[~outlying][:_MOST_ROWS]
    if not percent:
        return Scenario(f"{name}-0", clean, clean.copy(), np.zeros(clean.shape, dtype=bool), False)
    dirty, touched = corruption.gross_errors(clean, share=percent / 100, random_state=seed)
    return Scenario(f"{name}-{percent}", clean, dirty, touched, False)


def by_hand(rows: Array) -> dict[str, Array]:
    """Return how outlying cells are by what people do without a model of all columns."""
    quarters = np.quantile(rows, [0.25, 0.75], axis=0)
    width = np.maximum(quarters[1] - quarters[0], 1e-12)
    imputer = IterativeImputer(random_state=0).fit(rows)
    expected = np.empty_like(rows)
    for column in range(rows.shape[1]):
        missing = rows.copy()
        missing[:, column] = np.nan
        expected[:, column] = imputer.transform(missing)[:, column]
    residuals = np.abs(rows - expected)
    return {
        "z-score": np.abs(rows - rows.mean(axis=0)) / rows.std(axis=0),
        "IQR": np.maximum(quarters[0] - rows, rows - quarters[1]) / width,
        "IterativeImputer": residuals / np.maximum(np.median(residuals, axis=0), 1e-12),
        "robust PCA": np.asarray(RobustPCA().fit(rows).cell_scores(rows)),
    }


def run(name: str, percent: int, seed: int) -> dict[str, Any]:
    """Fit the default and the iC-VAE, and return what both make of the table."""
    scenario = make(name, percent, seed)
    dirty, truth = scenario.dirty, scenario.touched
    result: dict[str, Any] = {"name": name, "percent": percent, "seed": seed, "true": float(truth.mean())}
    before = RiCVAE(likelihood="index_conditioned", train_passes=1, random_state=seed, verbose=False).fit(dirty)
    est = RiCVAE(random_state=seed, verbose=False).fit(dirty)
    probability = np.asarray(est.cell_probabilities(dirty))
    found = probability > 0.5
    rows = {"iC-VAE, cleaned": before.clean(dirty), "cleaned": est.clean(dirty), "repaired": est.repair(dirty)}
    for what, each in rows.items():
        errors = np.square(scenario.standardise(each) - scenario.standardise(scenario.clean))
        result[what] = float(errors.mean())
        result[f"{what}, without the largest"] = float(
            np.sort(errors, axis=None)[: -max(1, errors.size // 1000)].mean()
        )
    result |= {
        "contamination": est.contamination_,
        "precision": float(truth[found].mean()) if found.any() else None,
        "recall": float(found[truth].mean()) if truth.any() else None,
        "calibration": expected_calibration_error(probability, truth),
    }
    scores = {"default": est.cell_scores(dirty), "iC-VAE": before.cell_scores(dirty), **by_hand(dirty)}
    if percent:
        result["found"] = {
            how: float(average_precision_score(truth.ravel(), np.asarray(each).ravel())) for how, each in scores.items()
        }
    return result


@click.group()
def main() -> None:
    """Run, and show what was run."""


@main.command("run")
@click.option("--name", multiple=True, type=click.Choice(TABLES), help="By default all.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
def run_all(name: tuple[str, ...], seeds: str, out: Path) -> None:
    """Fit models; each table is a line of OUT, and made only once. One thread."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    wanted = [
        (each, percent, seed) for seed in map(int, seeds.split(",")) for each in name or TABLES for percent in SHARES
    ]
    run_missing(out, ("name", "percent", "seed"), wanted, run)


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def tables(path: Path) -> None:
    """Print the tables of a file of runs, in Markdown: means over seeds."""
    runs = pd.json_normalize(read_lines(path), sep=" ")
    means = runs.groupby(["name", "percent"]).mean(numeric_only=True)
    errors = ["iC-VAE, cleaned", "cleaned", "repaired"]
    for columns in (
        [*errors, *(f"{each}, without the largest" for each in errors)],
        ["true", "contamination", "precision", "recall", "calibration"],
        [column for column in runs if column.startswith("found ")],
    ):
        some = means[columns].dropna(how="all").rename(columns=lambda name: str(name).removeprefix("found "))
        lines = [
            [*map(str, key), *("" if np.isnan(x) else f"{x:.3g}" for x in row)]
            for key, row in zip(some.index, some.values, strict=True)
        ]
        click.echo(tabulate(lines, ["table", "% dirty", *some], tablefmt="github", disable_numparse=True) + "\n")
    click.echo(f"Mean average precision: {means.filter(like='found ').mean().round(3).to_dict()}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--seed", type=int, default=0, show_default=True)
def picture(path: Path, seed: int) -> None:
    """Draw how often cells are dirty, by the probability that they are, at 10% dirty cells, into a PNG file."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    figure = new_figure(5, 4.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    for name in tqdm(TABLES):
        scenario = make(name, 10, seed)
        probability = np.asarray(
            RiCVAE(random_state=seed, verbose=False).fit(scenario.dirty).cell_probabilities(scenario.dirty)
        )
        truth, said = calibration_curve(scenario.touched.ravel(), probability.ravel(), n_bins=10)
        error = expected_calibration_error(probability, scenario.touched)
        axes.plot(said, truth, marker="o", markersize=3, label=f"{name}: error {error:.3f}")
    axes.set(xlabel="probability that a cell is dirty", ylabel="share of such cells that are")
    axes.legend(fontsize=8, loc="upper left")
    save(figure, path)


if __name__ == "__main__":
    main()
