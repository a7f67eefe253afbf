"""How well outlying rows are found at default settings, beside the detectors of PyOD: 18 tables and 15 image sets.

pip install -e ".[experiments]"
python -m experiments.rows run --seeds 0,1,2 --out rows.jsonl
python -m experiments.rows tables rows.jsonl > tables.md
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from tabulate import tabulate

from experiments.lines import read_lines, run_missing
from pyro_ricvae import RiCVAE
from pyro_ricvae.data.datasets import find
from pyro_ricvae.demo.scenarios import load_adbench
from pyro_ricvae.diagnostics import row_scores

OURS = "RiCVAE"
DETECTORS = ("IForest", "OCSVM", "LOF", "KNN", "ECOD", "COPOD", "HBOS", "PCA", "AutoEncoder", "VAE")
METHODS = (OURS, *DETECTORS)
_FIGURES = ("roc_auc", "average_precision")
_MODULES = {"AutoEncoder": "auto_encoder"}
_IMAGES = "MVTec"


def names() -> list[str]:
    """Return the names of ADBench's data sets, tables first."""
    one = find("adbench/14_glass.npz")
    if one is None:
        raise click.ClickException("Expected adbench in the folder that PYRO_RICVAE_DATA names.")
    return sorted((file.stem for file in one.parent.glob("*.npz")), key=lambda name: (name.startswith(_IMAGES), name))


def outlyingness(method: str, rows: NDArray[np.float64], seed: int) -> dict[str, NDArray[np.float64]]:
    """Return how outlying a method fitted to the rows takes them for, at its defaults, by the name of the score.

    PyOD's detectors get standardised columns; ours the data as they are.
    """
    if method == OURS:
        est = RiCVAE(random_state=seed, verbose=False).fit(rows)
        own = -row_scores(est.model_, est.guide_, est.standardise(rows), est.settings_["test_passes"]).numpy()
        return {OURS: -est.score_samples(rows), f"{OURS}, the model's own loss": own}
    module = __import__(f"pyod.models.{_MODULES.get(method, method.lower())}", fromlist=[method])
    make: Callable[..., Any] = getattr(module, method)
    options: dict[str, Any] = {"random_state": seed} if method in ("IForest", "PCA", "AutoEncoder", "VAE") else {}
    detector = make(**options, **({"verbose": 0} if method in ("AutoEncoder", "VAE") else {}))
    detector.fit(StandardScaler().fit_transform(rows))
    if not np.isfinite(detector.decision_scores_).all():
        raise ValueError("Expected finite scores, actual infinite ones or NaN.")
    return {method: detector.decision_scores_}


def run(name: str, method: str, seed: int) -> list[dict[str, Any]]:
    """Return what the scores of a method are worth on a data set."""
    rows, outlying = load_adbench(name)
    began = time.perf_counter()
    try:
        found = outlyingness(method, rows, seed)
    except ValueError as error:  # PyOD's PCA gives infinite scores on constant columns
        found, seconds = {method: np.zeros(len(rows))}, str(error)
    else:
        seconds = f"{time.perf_counter() - began:.1f}"
    common = {"name": name, "seed": seed, "seconds": seconds, "of": method}
    return [
        {
            "method": each,
            "roc_auc": float(roc_auc_score(outlying, scores)),
            "average_precision": float(average_precision_score(outlying, scores)),
            **common,
        }
        for each, scores in found.items()
    ]


@click.group()
def main() -> None:
    """Run, and show what was run."""


@main.command("run")
@click.option("--name", multiple=True, help="Data sets; by default all.")
@click.option("--method", multiple=True, type=click.Choice((OURS, *DETECTORS)), help="By default all.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
def run_all(name: tuple[str, ...], method: tuple[str, ...], seeds: str, out: Path) -> None:
    """Fit detectors; each is a line of OUT, or two, and made only once. One thread."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    wanted = [
        (each, how, seed)
        for seed in map(int, seeds.split(","))
        for each in name or names()
        for how in method or METHODS
    ]
    run_missing(out, ("name", "of", "seed"), wanted, run)


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def tables(path: Path) -> None:
    """Print the tables of a file of runs, in Markdown: means over seeds and data sets, ranks, and each data set."""
    runs = pd.DataFrame(read_lines(path))
    is_image = runs["name"].str.startswith(_IMAGES)
    for what, some in (("tables", runs[~is_image]), ("image sets", runs[is_image])):
        if some.empty:
            continue
        by_method = {figure: some.pivot_table(index="name", columns="method", values=figure) for figure in _FIGURES}
        ranks = by_method["roc_auc"][[*METHODS]].rank(axis=1, ascending=False).mean()
        order = by_method["roc_auc"].mean().sort_values(ascending=False).index
        lines = [
            [
                method,
                *(f"{by_method[figure][method].mean():.3f}" for figure in _FIGURES),
                f"{ranks.get(method, np.nan):.2f}",
            ]
            for method in order
        ]
        number = len(by_method["roc_auc"])
        click.echo(f"{number} {what}\n")
        heads = ["method", "ROC-AUC", "average precision", "mean rank by ROC-AUC"]
        click.echo(tabulate(lines, heads, tablefmt="github", disable_numparse=True) + "\n")
    each = runs[runs["method"].isin(METHODS)].pivot_table(index="name", columns="method", values="roc_auc")[[*METHODS]]
    click.echo(tabulate(each.round(3).reset_index().values.tolist(), ["data set", *METHODS], tablefmt="github"))


if __name__ == "__main__":
    main()
