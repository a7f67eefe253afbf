"""Passes on dirt of another kind than that of the training data: of digits with lines, of faces with discs or bars.

python -m experiments.unseen run --seeds 0,1,2 --out unseen.jsonl
python -m experiments.unseen tables unseen.jsonl
"""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from experiments.lines import read_lines, run_missing
from experiments.repair import MODELS, PASSES, fitted
from pyro_ricvae.data import corruption
from pyro_ricvae.demo.scenarios import make_scenario

Array = NDArray[Any]

_RECTANGLES: dict[str, Any] = {"dark rectangles": partial(corruption.rectangles, share=1.0)}
#: The dirt that trained models are given, on every image, by the scenario that they were trained on.
DIRT: dict[str, dict[str, Any]] = {
    "digits-line": {
        "lines": partial(corruption.lines, share=1.0),
        "salt and pepper": partial(corruption.salt_and_pepper, cell_share=0.25),
        "blocks": partial(corruption.blocks, share=1.0),
    },
    "faces-discs": _RECTANGLES,
    "faces-bars": _RECTANGLES,
}
_FIRST_SEED = 1000  # of new dirt, apart from those of the training data


def run(name: str, model: str, seed: int) -> list[dict[str, Any]]:
    """Fit a model, and return the mean squared errors x 1000 after each number of passes, a line for each new dirt."""
    scenario = make_scenario(name, seed)
    est, truth = fitted(scenario, seed, model), scenario.standardise(scenario.clean)
    lines = []
    for kind, dirt in DIRT[name].items():
        images: Array = dirt(scenario.clean, random_state=_FIRST_SEED + seed)[0]
        errors = {m: 1000 * np.square(scenario.standardise(est.clean(images, m)) - truth).mean() for m in PASSES}
        lines.append(
            {"trained on": name, "dirt": kind, "model": model, "seed": seed}
            | {f"M = {m}": float(error) for m, error in errors.items()}
        )
    return lines


@click.group()
def main() -> None:
    """Run, and show what was run."""


@main.command("run")
@click.option("--scenario", multiple=True, type=click.Choice(list(DIRT)), help="By default all.")
@click.option("--model", multiple=True, type=click.Choice(list(MODELS)), help="By default all.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
def run_all(scenario: tuple[str, ...], model: tuple[str, ...], seeds: str, out: Path) -> None:
    """Fit models; each is some lines of OUT, and made only once. One thread."""
    torch.set_num_threads(1)
    wanted = list(itertools.product(scenario or DIRT, model or MODELS, map(int, seeds.split(","))))
    run_missing(out, ("trained on", "model", "seed"), wanted, run)


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def tables(path: Path) -> None:
    """Print a table in Markdown: means over seeds, and the least and the largest ratio to the iC-VAE's best."""
    runs = pd.DataFrame(read_lines(path)).set_index(["trained on", "dirt", "model", "seed"])
    columns = [f"M = {m}" for m in PASSES]
    best = runs[columns].min(axis=1).xs("iC-VAE", level="model")
    groups = dict(list(runs.groupby(level=["trained on", "dirt", "model"])))
    known = [(name, kind, model) for name in DIRT for kind in DIRT[name] for model in MODELS]
    lines = []
    for name, kind, model in (key for key in known if key in groups):
        some = groups[name, kind, model]
        ratios = some["M = 3"].droplevel("model") / best
        means = [f"{mean:.1f}" for mean in some[columns].mean()]
        lines.append([name, kind, model, *means, f"{ratios.min():.2f} to {ratios.max():.2f}"])
    heads = ["trained on", "dirt", "model", *columns, "M = 3 / the iC-VAE's best"]
    click.echo(tabulate(lines, heads, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
