"""Figure 4: new digits from models of MNIST, clean and with 40% noise, after M passes; figures 5 and 6 use its runs."""

import contextlib
import io
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from prdc import compute_prdc
from scipy.stats import entropy
from sklearn.neighbors import NearestNeighbors

from experiments.paper.models import estimator
from experiments.reproduce.data import as_bytes
from experiments.reproduce.report import Claim, Report
from experiments.samples import classifier, looks
from pyro_ricvae.data import corruption, load_mnist
from pyro_ricvae.plots import image_grid

Array = NDArray[Any]

SUMMARY = "New digits of MNIST models, kappa 30, clean and with 40% noise, after M = 1, 2, 5, 20 passes."
M_GRID = (1, 2, 5, 20)
NEIGHBOURS = (1, 5)  # figure 6 has these M
_PASSES, _NOISE = 12, 0.4
_N_SAMPLES, _N_SHOWN, _N_NEIGHBOURS, _NEAREST = 5000, 16, 60_000, 5
_N_LATENT = 30
_SCALES = (0.1, 0.2, 0.3)  # of l2-VAEs beside the paper's 1
_MODELS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("l2-VAE", "recipe", {}),
    *(("l2-VAE", "recipe", {"floor": scale}) for scale in _SCALES),
    ("iC-VAE", "recipe", {}),
    ("RiC-VAE", "recipe", {"train_passes": 5}),
    ("default", "recipe", {}),
    ("iC-VAE", "plain", {}),
    ("RiC-VAE", "plain", {"train_passes": 5}),
)


def configurations(seeds: int, quick: bool) -> list[dict[str, Any]]:
    """Return the settings of each run; the first of a seed is of the digits themselves."""
    common = {"data": "mnist", "passes": 1 if quick else _PASSES, "quick": quick}
    models = _MODELS[3:6] if quick else _MODELS
    return [
        common | {"scenario": scenario, "model": model, "procedure": how, "arguments": arguments, "seed": seed}
        for seed in range(seeds)
        for scenario, some in (("real", (("digits", "-", {}),)), ("noise", models), ("clean", models))
        for model, how, arguments in some
        if not (quick and scenario == "clean")
    ]


def run(configuration: dict[str, Any], device: str) -> dict[str, Any]:
    """Fit a model; return what its samples look like after M passes, its aggregate posterior, and nearest digits."""
    given, digits = configuration, load_mnist()
    number = 500 if given["quick"] else _N_SAMPLES
    if given["model"] == "digits":
        return _figures(load_mnist("test")[:number], 1) | _distances(digits[: 500 if given["quick"] else None], True, 1)
    rows = digits[:2000] if given["quick"] else digits
    if given["scenario"] == "noise":
        rows = corruption.salt_and_pepper(rows, cell_share=_NOISE, random_state=given["seed"])[0]
    hidden = (64,) if given["quick"] else "auto"
    options = {"n_latent": _N_LATENT, "hidden": hidden, **given["arguments"]}
    est = estimator(given["model"], given["procedure"], given["passes"], given["seed"], device, **options).fit(rows)
    found: dict[str, Any] = {"engine": est.settings_["engine"]}
    for m in M_GRID:
        samples = est.sample(number, m)
        found |= _figures(samples, m) | {f"samples {m}": as_bytes(samples[:_N_SHOWN])}
    if given["model"] in ("RiC-VAE", "default") and given["procedure"] == "recipe":
        for m in NEIGHBOURS:
            found |= _distances(est.sample(500 if given["quick"] else _N_NEIGHBOURS, m), False, m)
    return found | {"aggregate": _aggregate(est, rows[:2000])}


def _figures(images: Array, m: int) -> dict[str, float]:
    """Return how near images on [0, 255] are to the data, by the features and the classes of a small classifier."""
    net = classifier()[0]
    with torch.no_grad():
        features = net(torch.as_tensor(images))
        probabilities = net.head(features).softmax(-1).numpy()
        real = net(torch.as_tensor(load_mnist("test")[-len(images) :])).numpy()
    with contextlib.redirect_stdout(io.StringIO()):  # which it tells its arguments
        near = compute_prdc(real, features.numpy(), nearest_k=_NEAREST)
    found = looks(images) | near
    found |= {
        "confidence": probabilities.max(-1).mean(),
        "class entropy": entropy(np.bincount(probabilities.argmax(-1), minlength=10)),
    }
    return {f"{name} {m}": float(value) for name, value in found.items()}


def _distances(images: Array, is_data: bool, m: int) -> dict[str, Any]:
    """Return the distances of images to their nearest training digits, Euclidean, of pixels on [0, 1]."""
    digits = load_mnist().reshape(60_000, -1).astype(np.float32) / 255
    rows = images.reshape(len(images), -1).astype(np.float32) / 255
    index = NearestNeighbors(n_neighbors=2 if is_data else 1, algorithm="brute").fit(digits)
    return {f"nearest {m}": index.kneighbors(rows)[0][:, -1].astype(np.float32)}  # a digit's nearest is itself


def _aggregate(est: Any, rows: Array) -> Array:
    """Return a draw from the posterior of each row."""
    x = est.standardise(rows)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return np.asarray(est.guide_.encode(x).sample().numpy(), dtype=np.float32)


def report(runs: list[dict[str, Any]]) -> Report:
    """Return the page."""
    table = pd.DataFrame([{k: v for k, v in run.items() if not isinstance(v, np.ndarray)} for run in runs])
    table["name"] = [name_of(run) for run in runs]
    models = table[table["scenario"] != "real"]
    tables = {
        f"{figure}, {scenario}": _table(models[models["scenario"] == scenario], figure)
        for scenario in models["scenario"].unique()
        for figure in ("distance", "faded", "precision", "recall", "density", "coverage", "confidence", "class entropy")
    }
    real = table[table["scenario"] == "real"].iloc[0]
    text = (
        f"MNIST, {_N_LATENT} latents, networks 1000-500-250, {runs[0]['passes']} passes over the data for each model, "
        f"{table['seed'].nunique()} seed(s), {_N_SAMPLES} samples from the prior, after M passes by means. The same on "
        "the digits, and with 40% of all pixels replaced by uniform noise. *distance*: Fréchet's, in the 64 features "
        f"of a small classifier trained here on clean digits (accuracy {classifier()[1]:.3f}): it compares models in "
        f"this table and no further; that of test digits is {real['distance 1']:.3g}. *precision*, *recall*, "
        "*density*, *coverage* (Kynkäänniemi et al. 2019, Naeem et al. 2020; 5 neighbours) in the same features, "
        "beside as many test digits. *confidence* is the classifier's mean largest probability, *class entropy* that "
        f"of its classes in nats, at most {np.log(10):.2f}. *faded*: fewer than 2% of the pixels are brighter than the "
        "half. An l2-VAE's "
        "variance is 1 as in the paper, or the square of the scale that is named. *plain* is the paper's procedure, "
        "all others have this package's recipe. RiC(N): N passes in training."
    )
    pictures = {
        scenario: (f"Samples of each model, {scenario}, after M passes", _picture(runs, scenario))
        for scenario in models["scenario"].unique()
    }
    return Report("Figure 4: new digits", text, _claims(models), tables, pictures)


def name_of(run: dict[str, Any]) -> str:
    """Return what a model is called."""
    passes = run["arguments"].get("train_passes")
    name = f"RiC({passes})" if passes else "default" if run["model"] == "default" else run["model"]
    name += f", scale {run['arguments'].get('floor', 1):g}" if run["model"] == "l2-VAE" else ""
    return name + (", plain" if run["procedure"] == "plain" else "")


def _table(some: pd.DataFrame, figure: str) -> pd.DataFrame:
    means = some.groupby("name", sort=False)[[f"{figure} {m}" for m in M_GRID]].mean().reset_index()
    return means.set_axis(["model", *(f"M = {m}" for m in M_GRID)], axis=1)


def _claims(table: pd.DataFrame) -> list[Claim]:
    claims = []
    for scenario, some in table.groupby("scenario", sort=False):
        distance = some.groupby("name")[[f"distance {m}" for m in M_GRID]].mean()
        if not {"RiC(5)", "default", "iC-VAE", "l2-VAE, scale 1"} <= set(distance.index):
            continue
        best_l2 = float(distance[distance.index.str.startswith("l2")].to_numpy().min())
        source = f"section 5.3, figure 4, {scenario}"
        for name in ("RiC(5)", "default", "RiC(5), plain"):
            row, faded = distance.loc[name], some[some["name"] == name]["faded 20"].mean()
            steps = ", ".join(f"{value:.3g}" for value in row)
            claims += [
                Claim(
                    f"{name}: distance falls steadily with M, as iC-VAE's does not",
                    source,
                    f"M = 1, 2, 5, 20: {steps}; iC-VAE: {', '.join(f'{v:.3g}' for v in distance.loc['iC-VAE'])}",
                    bool(row.is_monotonic_decreasing and row.iloc[-1] < 0.95 * row.iloc[0])
                    and not distance.loc["iC-VAE"].is_monotonic_decreasing,
                ),
                Claim(
                    f"{name}: at most a seventh of the best l2-VAE's distance, each at its best M and scale",
                    "ours" if scenario == "noise" else source,
                    f"{row.min():.3g} for {best_l2:.3g}, ratio {row.min() / best_l2:.2f}",
                    bool(row.min() <= best_l2 / 7),
                ),
                Claim(f"{name}: under 1% faded at M = 20", "ours", f"{faded:.1%}", bool(faded < 0.01)),
            ]
        ic, unit = distance.loc["iC-VAE"], distance.loc["l2-VAE, scale 1"]
        claims.append(
            Claim(
                "iC-VAE removes the blur of the l2-VAE of unit variance",
                source,
                f"distance at M = 1: {ic.iloc[0]:.3g} for {unit.iloc[0]:.3g}",
                bool(ic.iloc[0] < unit.iloc[0]),
            )
        )
    return claims


def _picture(runs: list[dict[str, Any]], scenario: str) -> Figure:
    some = [run for run in runs if run["scenario"] == scenario and run["seed"] == 0]
    short = {id(run): name_of(run).replace(", ", "\n", 1).replace("scale ", "s = ") for run in some}
    shown = {f"{short[id(run)]}\nM = {m}": run[f"samples {m}"] for run in some for m in (1, 20)}
    return image_grid(shown, limits=(0, 255))
