"""Passes on dirt of another kind than that of the training data: digits with lines on 40% of them.

python -m experiments.unseen --seeds 0,1,2
"""

from typing import Any

import click
import numpy as np
import torch
from tabulate import tabulate

from experiments.repair import MODELS, PASSES, fitted
from pyro_ricvae.data import corruption
from pyro_ricvae.demo.scenarios import make_scenario

_KINDS: dict[str, Any] = {
    "lines": lambda images, seed: corruption.lines(images, share=1.0, random_state=seed)[0],
    "salt and pepper": lambda images, seed: corruption.salt_and_pepper(images, cell_share=0.25, random_state=seed)[0],
    "blocks": lambda images, seed: corruption.blocks(images, share=1.0, random_state=seed)[0],
}


def errors(model: str, seed: int) -> dict[str, list[float]]:
    """Return the mean squared errors x 1000 after each number of passes, by the kind of dirt, on every image."""
    scenario = make_scenario("digits-line", seed)
    est, truth = fitted(scenario, seed, model), scenario.standardise(scenario.clean)
    found = {}
    for kind, dirty in _KINDS.items():
        images = dirty(scenario.clean, 1000 + seed)
        cleaned = [scenario.standardise(est.clean(images, m)) for m in PASSES]
        found[kind] = [1000 * float(np.square(each - truth).mean()) for each in cleaned]
    return found


@click.command()
@click.option("--seeds", default="0,1,2", show_default=True)
def main(seeds: str) -> None:
    """Print a table in Markdown: means over seeds, and the least and the largest ratio to the iC-VAE's best."""
    torch.set_num_threads(1)
    numbers = list(map(int, seeds.split(",")))
    found = {model: [errors(model, seed) for seed in numbers] for model in MODELS}
    lines = []
    for kind in _KINDS:
        best = [min(each[kind]) for each in found["iC-VAE"]]
        for model, runs in found.items():
            means = [f"{np.mean([each[kind][k] for each in runs]):.1f}" for k in range(len(PASSES))]
            at_three = [each[kind][PASSES.index(3)] / least for each, least in zip(runs, best, strict=True)]
            lines.append([kind, model, *means, f"{min(at_three):.2f} to {max(at_three):.2f}"])
    heads = ["dirt", "model", *(f"M = {m}" for m in PASSES), "M = 3 / the iC-VAE's best"]
    click.echo(tabulate(lines, heads, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
