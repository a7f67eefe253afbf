"""Tables of likelihoods by contamination, from runs of ``python -m experiments.runs``.

python -m experiments.likelihoods RUNS > tables.md
"""

import json
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tabulate import tabulate

from pyro_ricvae.demo.scenarios import CONTAMINATIONS, DATA_SETS

#: Methods in the order in which they are shown, and what they are called.
NAMES = {
    "iC-VAE": "index-conditioned (iC-VAE)",
    "RiC-VAE": "index-conditioned, recycled (RiC-VAE)",
    "inverse_gamma": "inverse gamma",
    "student_t": "Student-t",
    "laplace": "Laplace",
    "contaminated_normal": "contaminated normal",
    "learned_normal": "learned normal (LC-VAE)",
    "shared_normal": "shared normal (sigma-VAE)",
    "fixed_normal, best": "fixed normal, best of 4 scales",
    "bernoulli": "Bernoulli",
    "default": "spike and slab (the default)",
    "RPCA": "robust PCA, best of 10",
}

_IMAGES = ("digits", "faces")
_NEAR = 1.15


def read(folder: Path) -> pd.DataFrame:
    """Return a line for each run and criterion: data, dirt, method, seed, criterion, value.

    Criteria are "error, all", "error, dirty" and "error, clean", mean squared errors over all cells, where it is dirty
    and where it is clean (images times 1000, tables in squared robust standard deviations), "median error", the median
    absolute one over all cells, in standardised units, and "found", average precision in finding the dirt. What a
    replaced row was cannot be known: there is no "error, dirty" of rows.
    """
    lines = []
    for file in sorted(folder.glob("*.json")):
        run = json.loads(file.read_text())
        data, _, dirt = run["scenario"].partition("-")
        if data not in DATA_SETS or dirt not in CONTAMINATIONS or run["method"] not in NAMES:
            continue
        figures, factor = run["figures"], 1000 if data in _IMAGES else 1
        values = {"error, clean": factor * figures["clean"]}
        if "median" in figures:
            values |= {"error, all": factor * figures["all"], "median error": figures["median"]}
        if dirt != "none":
            values["found"] = figures["average_precision"]
        if dirt.startswith("cells"):
            values["error, dirty"] = factor * figures["dirty"]
        lines += [(data, dirt, run["method"], run["seed"], name, value) for name, value in values.items()]
    return pd.DataFrame(lines, columns=["data", "dirt", "method", "seed", "criterion", "value"])


def table(runs: pd.DataFrame, data: str, criterion: str) -> str:
    """Return a table of means over seeds, a line a method and a column a contamination, in Markdown.

    The best mean of a column is bold; those that are as good or better on a seed at least are marked with a star.
    """
    chosen = runs[(runs["data"] == data) & (runs["criterion"] == criterion)]
    dirts = [dirt for dirt in CONTAMINATIONS if dirt in set(chosen["dirt"])]
    columns: dict[str, dict[str, str]] = {}
    for dirt in dirts:
        means, level = _compared(chosen[chosen["dirt"] == dirt], criterion)
        best = level[0]
        columns[dirt] = {
            method: f"**{mean:.3g}**" if method == best else f"{mean:.3g}" + " *" * (method in level)
            for method, mean in means.items()
        }
    methods = [name for name in NAMES if name in set(chosen["method"])]
    lines = [[NAMES[name], *(columns[dirt].get(name, "") for dirt in dirts)] for name in methods]
    return tabulate(lines, [f"{data}: {criterion}", *dirts], tablefmt="github", disable_numparse=True) + "\n"


def wins(runs: pd.DataFrame) -> str:
    """Return how often each method is the best, or as good on a seed at least, by contamination, in Markdown.

    Counted over data sets and criteria.
    """
    counts = {method: dict.fromkeys(CONTAMINATIONS, 0) for method in NAMES if method in set(runs["method"])}
    totals = dict.fromkeys(CONTAMINATIONS, 0)
    for dirt in CONTAMINATIONS:
        for (_, criterion), group in runs[runs["dirt"] == dirt].groupby(["data", "criterion"]):
            totals[dirt] += 1
            for method in _compared(group, str(criterion))[1]:
                counts[method][dirt] += 1
    heads = ["best, or as good on a seed", *(f"{dirt} (of {total})" for dirt, total in totals.items())]
    lines = [[NAMES[method], *map(str, each.values())] for method, each in counts.items()]
    return tabulate(lines, heads, tablefmt="github", disable_numparse=True) + "\n"


def summary(runs: pd.DataFrame, criterion: str) -> str:
    """Return how near each method comes to the best of all in each column of an error, in Markdown.

    A column is a data set and its dirt; of a method that is not in all of them, as Bernoulli, over those where it is.
    """
    columns = runs[runs["criterion"] == criterion].pivot_table("value", ["data", "dirt"], "method")
    ratios = columns.div(columns.min(axis="columns"), axis="index")
    table = pd.DataFrame(
        {
            "columns": ratios.notna().sum(),
            "mean rank": columns.rank(axis="columns").mean(),
            "ratio to the best, geometric mean": np.exp(np.log(ratios).mean()),
            "largest": ratios.max(),
            "where": [" ".join(map(str, ratios[method].idxmax())) for method in ratios],
            "within 1.15": (ratios <= _NEAR).sum(),
        }
    ).sort_values("ratio to the best, geometric mean")
    lines = [
        [NAMES[str(method)], *(f"{each:.3g}" if isinstance(each, float) else each for each in row)]
        for method, row in zip(table.index, table.itertuples(index=False), strict=True)
    ]
    return tabulate(lines, [criterion, *table.columns], tablefmt="github", disable_numparse=True) + "\n"


def _compared(runs: pd.DataFrame, criterion: str) -> tuple[dict[str, float], list[str]]:
    """Return the methods' means over seeds, and the best method with those as good on one of the seeds at least."""
    by_seed = runs.pivot(index="method", columns="seed", values="value")
    values = {str(method): by_seed.loc[[method]].to_numpy()[0] for method in by_seed.index}
    sign = -1 if criterion == "found" else 1
    means = {method: float(np.nanmean(each)) for method, each in values.items()}
    best = min(means, key=lambda method: sign * means[method])
    as_good = [method for method, each in values.items() if (sign * (each - values[best]) <= 0).any()]
    return means, [best, *(method for method in as_good if method != best)]


@click.command()
@click.argument("folder", metavar="RUNS", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """Print the tables of the runs in a folder that ``python -m experiments.runs`` has made."""
    runs = read(folder)
    seeds = runs.groupby(["data", "dirt", "method"])["seed"].nunique()
    click.echo(f"{int(np.sum(seeds))} runs, {seeds.min()} to {seeds.max()} seeds each.\n")
    click.echo(wins(runs))
    for criterion in ("error, all", "median error"):
        if (runs["criterion"] == criterion).any():
            click.echo(summary(runs, criterion))
    for data in DATA_SETS:
        for criterion in ("error, all", "median error", "error, dirty", "error, clean", "found"):
            if ((runs["data"] == data) & (runs["criterion"] == criterion)).any():
                click.echo(table(runs, data, criterion))


if __name__ == "__main__":
    main()
