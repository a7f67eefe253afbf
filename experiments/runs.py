"""Run methods on scenarios over seeds; each run is kept as a JSON file, and made only once.

python -m experiments.runs faces-discs faces-bars --methods "RPCA;RiC-VAE" --seeds 0,1,2 --out runs
python -m experiments.runs digits-block --methods RiC-VAE --floor 0.2 --out runs
"""

import json
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tabulate import tabulate

from experiments.figures import draw_samples
from pyro_ricvae import __version__
from pyro_ricvae.demo.methods import Outcome, best_fixed_normal, best_l2_vae, default, ic_vae, ric_vae, robust_pca
from pyro_ricvae.demo.scenarios import SCENARIOS, make_scenario
from pyro_ricvae.estimators.registry import LIKELIHOODS
from pyro_ricvae.plots.style import is_drawable

METHODS: dict[str, Callable[..., Outcome]] = {
    "RPCA": lambda scenario, seed, **_: robust_pca(scenario),
    "l2-VAE": best_l2_vae,
    "iC-VAE": ic_vae,
    "RiC-VAE": ric_vae,
    "default": default,
    "fixed_normal, best": best_fixed_normal,
    **{name: partial(ic_vae, likelihood=name) for name in LIKELIHOODS},
}


@click.command()
@click.argument("scenarios", nargs=-1, required=True, type=click.Choice(SCENARIOS))
@click.option("--methods", default="RPCA;l2-VAE;iC-VAE;RiC-VAE", show_default=True, help="With semicolons.")
@click.option("--seeds", default="0", show_default=True, help="As in 0,1,2.")
@click.option("--floor", default="auto", show_default=True, help="Of the iC- and RiC-VAE: a number, or START,END.")
@click.option("--scales", help="Of the l2-VAE, as in 0.4,0.5,0.6; by default a grid that grows until it has the best.")
@click.option("--epochs", type=int, help="Of the RiC-VAE; by default those of 'auto'.")
@click.option("--hidden", help="Of the VAEs, as in 256,128,64; by default those of 'auto'.")
@click.option("--samples/--no-samples", default=True, show_default=True, help="Whether to draw new images.")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False))
def main(
    scenarios: tuple[str, ...],
    methods: str,
    seeds: str,
    floor: str,
    scales: str | None,
    epochs: int | None,
    hidden: str | None,
    samples: bool,
    threads: int,
    out: Path,
) -> None:
    """Run methods on scenarios over seeds; each run is kept as a JSON file in OUT, and made only once."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    ends = floor if floor == "auto" else _numbers(floor)
    common: dict[str, Any] = {"epochs": epochs} if epochs else {}
    common |= {"hidden": tuple(map(int, hidden.split(",")))} if hidden else {}
    robust: dict[str, Any] = {"floor": ends[0] if len(ends) == 1 else ends} | common
    arguments = dict.fromkeys(METHODS, common) | {"iC-VAE": robust, "RiC-VAE": robust, "RPCA": {}}
    arguments["l2-VAE"] = ({"scales": _numbers(scales)} if scales else {}) | ({"epochs": epochs} if epochs else {})
    runs = defaultdict(list)
    for name in scenarios:
        for method in methods.split(";"):
            for seed in map(int, seeds.split(",")):
                run = _run(name, method, seed, arguments[method], out, samples)
                runs[name, method].append(run)
    lines = []
    for (name, method), each in runs.items():
        factor = 1 if name.startswith("table") else 1000
        errors = [_mean_and_range([factor * run["figures"][key] for run in each]) for key in ("dirty", "clean", "all")]
        found = _mean_and_range([run["figures"]["average_precision"] for run in each])
        seconds = np.mean([run["seconds"] for run in each])
        lines.append([name, method, str(len(each)), *errors, found, f"{seconds:.0f}"])
    head = ["scenario", "method", "seeds", "dirty", "clean", "all", "average precision", "seconds"]
    click.echo(tabulate(lines, head, tablefmt="github", disable_numparse=True))


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _mean_and_range(values: list[float]) -> str:
    return f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else f"{values[0]:.3g}"


def _run(name: str, method: str, seed: int, arguments: dict[str, Any], out: Path, samples: bool) -> dict[str, Any]:
    """Return what a run gave, from its file where there is one."""
    settings = "".join(f"-{key}-{value}" for key, value in arguments.items() if value != "auto")
    stem = f"{name}-{method}{settings}-{seed}".translate(str.maketrans(",", "-", " []()"))
    file = out / f"{stem}.json"
    if file.exists():
        done: dict[str, Any] = json.loads(file.read_text())
        return done
    scenario = make_scenario(name, seed)
    began = time.perf_counter()
    outcome = METHODS[method](scenario, seed, **arguments)
    run = {
        "scenario": name,
        "method": method,
        "seed": seed,
        "arguments": arguments,
        "input": scenario.errors(scenario.dirty),
        "figures": outcome.figures,
        "seconds": round(time.perf_counter() - began, 1),
        "threads": torch.get_num_threads(),
        "versions": {"pyro_ricvae": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "details": outcome.details,
    }
    if samples and is_drawable(scenario.dirty.shape[1:]) and method != "RPCA":
        run["samples"] = draw_samples(scenario, outcome, out / f"{stem}.png")
    file.write_text(json.dumps(run, indent=1) + "\n")
    click.echo(f"{stem}: {run['figures']} in {run['seconds']:.0f} s", err=True)
    return run


if __name__ == "__main__":
    main()
