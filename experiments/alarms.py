"""How often the alarms of the diagnostics ring, where they should and where they should not.

python -m experiments.alarms --out DIR --seeds 20
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tabulate import tabulate

from experiments.linear_gaussian import LinearGaussian
from pyro_ricvae.diagnostics.guide.calibration import simulation_based_calibration
from pyro_ricvae.diagnostics.guide.pareto import pareto_k

#: Guides by name: what their scale is multiplied by, and how many posterior scales their mean is off.
GUIDES = {
    "exact": (1.0, 0.0),
    "0.95 of the scale, mean off by 0.1": (0.95, 0.1),
    "half the scale": (0.5, 0.0),
    "mean off by 1.5 scales": (1.0, 1.5),
    "twice the scale": (2.0, 0.0),
}
#: Numbers of latent units of the models that the guides are tried on.
N_LATENT = (1, 2, 4, 8)

_N_FEATURES = 20
_NOISE = 0.5
_N_ROWS = 200


@dataclass(frozen=True)
class Table:
    """Runs, one a setting and seed, and what is shown of them.

    Parameters
    ----------
    name : str
        Of the file of the runs.
    keys : tuple of str
        The settings: a line of the table for each combination.
    rates, means : tuple of str
        What was measured: shown as counts of the seeds, and as means.
    run : callable
        ``run(seed)``: the runs of one seed, each a dict of the keys, rates and means.
    """

    name: str
    keys: tuple[str, ...]
    rates: tuple[str, ...]
    means: tuple[str, ...]
    run: Callable[[int], list[dict[str, Any]]]

    def markdown(self, runs: list[dict[str, Any]]) -> str:
        """Return the table of the runs of all seeds, in Markdown."""
        lines = defaultdict(list)
        for run in runs:
            lines[tuple(run[key] for key in self.keys)].append(run)
        header = (*self.keys, *self.rates, *self.means)
        shown = []
        for key, seeds in lines.items():
            rates = [f"{sum(run[name] for run in seeds)} of {len(seeds)}" for name in self.rates]
            means = [f"{np.mean([run[name] for run in seeds]):.2g}" for name in self.means]
            shown.append([*map(str, key), *rates, *means])
        return tabulate(shown, header, tablefmt="github", disable_numparse=True)


def wrong_guides(seed: int) -> list[dict[str, Any]]:
    """Return whether k-hat and simulation-based calibration find each guide wrong, on a new model and its own rows."""
    runs = []
    for n_latent in N_LATENT:
        for name, (scale, shift) in GUIDES.items():
            exact = LinearGaussian(_N_FEATURES, n_latent, _NOISE, seed)
            model, guide = exact.model, exact.guide(scale, shift)
            torch.manual_seed(seed)
            with torch.no_grad():
                x = model.decode(model.prior().sample((_N_ROWS,))).sample()
            pareto = pareto_k(model, guide, x)
            ranks = simulation_based_calibration(model, guide, random_state=seed)
            runs.append(
                {
                    "latent units": n_latent,
                    "guide": name,
                    "seed": seed,
                    "k-hat's alarm": pareto.alarm,
                    "calibration's alarm": ranks.alarm,
                    "median k-hat": float(pareto.k.median()),
                    "share of rows above 0.7": pareto.share_above(0.7),
                    "units not calibrated": len(ranks.faults()),
                    "smallest log10 p": math.log10(max(ranks.p_values.min(), 1e-300)),
                }
            )
    return runs


TABLES = (
    Table(
        "guides",
        ("latent units", "guide"),
        ("k-hat's alarm", "calibration's alarm"),
        ("median k-hat", "share of rows above 0.7", "units not calibrated"),
        wrong_guides,
    ),
)


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--seeds", type=click.IntRange(min=1), default=20, show_default=True, help="How many, from 0.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def main(out: Path, seeds: int, threads: int) -> None:
    """Try the alarms over seeds: print tables of their rates, and write every run to OUT."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        runs = [run for seed in range(seeds) for run in table.run(seed)]
        (out / f"{table.name}.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
        shown = table.markdown(runs)
        (out / f"{table.name}.md").write_text(shown + "\n", encoding="utf-8")
        click.echo(shown + "\n")


if __name__ == "__main__":
    main()
