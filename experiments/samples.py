"""New digits from models of MNIST, clean or under noise: how near they are to the data after M passes.

python -m experiments.samples run --seeds 0 --out samples.jsonl --pictures pictures
python -m experiments.samples tables samples.jsonl > tables.md

Distances are Fréchet's between Gaussians fitted to features, those of a small convolutional classifier trained here on
the clean digits: they compare models in one table, and no further.
"""

import itertools
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tabulate import tabulate
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from experiments.lines import read_lines, run_missing
from experiments.repair import MODELS
from pyro_ricvae import RiCVAE
from pyro_ricvae.data import load_mnist
from pyro_ricvae.demo.scenarios import make_scenario
from pyro_ricvae.plots import image_grid, save

Array = NDArray[Any]

PASSES = (1, 2, 3, 5, 10, 20)
SCENARIOS = ("mnist-noise", "mnist-clean")
_N_SAMPLES, _N_SHOWN = 5000, 20
_EPOCHS, _BATCH, _RATE = 3, 128, 1e-3  # of the classifier
# A sample is faded if fewer of its pixels than this share are brighter than the half, of which there is no digit in the
# data, and a blob with more than this multiple of the ink of the digits that have most, the last percent.
_FADED, _BLOB = 0.02, 1.5


class Classifier(nn.Module):
    """Two convolutions and 64 features; `forward` returns those, and `head` takes them to ten classes."""

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2, padding=2)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(32 * 49, self.num_features), nn.ReLU()),
        )
        self.head = nn.Linear(self.num_features, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, of shape (n, 64), of images on [0, 255], of shape (n, 28, 28)."""
        features: Tensor = self.body(images.float()[:, None] / 255)
        return features


@cache
def classifier() -> tuple[Classifier, float]:
    """Return a classifier of clean digits, and its accuracy on the test images."""
    images, labels = map(torch.as_tensor, load_mnist(return_labels=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classifier()
        optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
        for rows in itertools.chain.from_iterable(torch.randperm(len(images)).split(_BATCH) for _ in range(_EPOCHS)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net.head(net(images[rows])), labels[rows].long()).backward()
            optimizer.step()
    images, labels = map(torch.as_tensor, load_mnist("test", return_labels=True))
    with torch.no_grad():
        return net.requires_grad_(False).eval(), float((net.head(net(images)).argmax(-1) == labels).float().mean())


@cache
def to_the_data() -> FrechetInceptionDistance:
    """Return the distance to the features of all training images."""
    metric = FrechetInceptionDistance(classifier()[0], reset_real_features=False)
    for batch in torch.as_tensor(load_mnist()).split(1000):
        metric.update(batch, real=True)
    return metric


@cache
def of_the_data() -> tuple[float, float, NDArray[np.bool_]]:
    """Return the digits' mean intensity, that from which on an image is a blob, and the pixels they leave black."""
    real = load_mnist()
    inks = real.mean(axis=(1, 2))
    return float(inks.mean()), float(_BLOB * np.quantile(inks, 0.99)), np.asarray((real > 0).mean(axis=0) < 0.01)


def looks(images: Array) -> dict[str, float]:
    """Return how near images on [0, 255] are to the data, and what can be seen of them.

    Returns
    -------
    dict
        "distance": Fréchet's, in squared units of the features. "faded", "blobs": shares of the images; see above.
        "ink": the mean intensity over that of the data. "background": the mean, on [0, 1], of the pixels that nearly
        all digits leave black.
    """
    (mean, blob, black), metric, ink = of_the_data(), to_the_data(), images.mean(axis=(1, 2))
    metric.reset()
    for batch in torch.as_tensor(images).split(1000):
        metric.update(batch, real=False)
    return {
        "distance": float(metric.compute()),
        "faded": float(((images > 127).mean(axis=(1, 2)) < _FADED).mean()),
        "blobs": float((ink > blob).mean()),
        "ink": float(ink.mean() / mean),
        "background": float(images[:, black].mean() / 255),
    }


def run(name: str, model: str, seed: int, pictures: Path | None = None) -> list[dict[str, Any]]:
    """Fit a model at its default settings, and return a line for each number of passes."""
    scenario = make_scenario(name, seed)
    began = time.perf_counter()
    est = RiCVAE(**MODELS[model], random_state=seed, verbose=False).fit(scenario.dirty)
    fitted = time.perf_counter() - began
    lines, shown = [], {}
    for m in PASSES:
        samples = est.sample(_N_SAMPLES, m)
        shown[f"M={m}"] = samples[:_N_SHOWN]
        key = {"scenario": name, "model": model, "seed": seed, "passes": m}
        lines.append(key | looks(samples) | {"seconds": round(fitted, 1), "engine": est.settings_["engine"]})
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        save(image_grid(shown, limits=(0, 255)), pictures / f"{name}-{model.replace(', ', '-')}-{seed}.png")
    return lines


@click.group()
def main() -> None:
    """Run, and show what was run."""


@main.command("run")
@click.option("--scenario", multiple=True, type=click.Choice(SCENARIOS), help="By default both.")
@click.option("--model", multiple=True, type=click.Choice(list(MODELS)), help="By default all.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--pictures", type=click.Path(path_type=Path, file_okay=False), help="A folder for some of the samples.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
def run_all(scenario: tuple[str, ...], model: tuple[str, ...], seeds: str, pictures: Path | None, out: Path) -> None:
    """Fit models; each is some lines of OUT, and made only once. One thread."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    wanted = list(itertools.product(scenario or SCENARIOS, model or MODELS, map(int, seeds.split(","))))
    run_missing(out, ("scenario", "model", "seed"), wanted, lambda *key: run(*key, pictures=pictures))


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def tables(path: Path) -> None:
    """Print the tables of a file of runs, in Markdown: means over seeds."""
    runs = pd.DataFrame(read_lines(path))
    torch.set_num_threads(1)
    click.echo(f"The classifier's accuracy is {classifier()[1]:.3f}; the distance of the test images from the training")
    click.echo(f"images is {looks(load_mnist('test'))['distance']:.3g}.\n")
    for name, some in runs.groupby("scenario"):
        for figure in ("distance", "faded", "blobs", "ink", "background"):
            means = some.pivot_table(figure, "model", "passes", sort=False)
            lines = [[str(model), *(f"{each:.3g}" for each in row)] for model, row in means.iterrows()]
            heads = [f"{name}: {figure}", *(f"M = {m}" for m in means)]
            click.echo(tabulate(lines, heads, tablefmt="github", disable_numparse=True) + "\n")


if __name__ == "__main__":
    main()
