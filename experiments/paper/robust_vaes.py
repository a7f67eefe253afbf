"""The default beside robust VAEs and autoencoders of others, on faces, digits and tables with dirt of known truth."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from experiments.paper.models import estimator
from experiments.paper.neighbours import BetaDivergence, FixedOutliers
from experiments.paper.robust_deep_autoencoder import RobustDeepAutoencoder
from experiments.reproduce.report import Claim, Report
from pyro_ricvae import RiCVAE
from pyro_ricvae.demo.scenarios import Scenario, make_scenario
from pyro_ricvae.estimators.defaults import automatic_n_latent
from pyro_ricvae.plots.style import BLUE, GREY, RED, new_figure

SUMMARY = "The default beside the beta-divergence VAE, RVAE's mixture and the robust deep autoencoder, on dirty data."

Array = NDArray[Any]

#: The data set of a scenario, and the passes over it that each model has in training.
SCENARIOS: dict[str, tuple[str, int]] = {
    "faces-discs": ("faces", 80),
    "digits-block": ("digits", 80),
    "digits-line": ("digits", 80),
    "cancer-cells-10": ("cancer", 200),
    "cancer-cells-40": ("cancer", 200),
    "satellite-cells-10": ("adbench/31_satimage-2", 100),
}
_QUICK = {"faces-discs": 16, "cancer-cells-10": 4}  # each so many rows


def grids(images: bool) -> dict[str, list[dict[str, Any]]]:
    """Return the settings that are tried of each model, by its name: scales and thresholds in standardised units.

    Of the beta-VAE by row beta is given times the number of cells; 4 with a scale of 0.2 is about what its authors'
    code for MNIST has.
    """
    by_row = ((0.1, 2.0), (0.2, 4.0)) if images else ((0.5, 0.5), (1.0, 0.5), (2.0, 0.5))
    by_cell = ((0.1, 0.3), (0.2, 0.3), (0.2, 1.0)) if images else ((0.25, 0.1), (0.25, 0.3), (0.5, 0.1), (0.5, 0.3))
    thresholds, of_rows = ((0.02, 0.05, 0.1), 1.0) if images else ((0.03, 0.1, 0.3), 2.0)
    return {
        "default": [{}],
        "iC-VAE": [{}],
        "l2-VAE": [{"scale": scale} for scale in ((0.4, 0.8) if images else (32.0, 64.0))],
        "beta-VAE": [{"scale": scale, "beta_d": beta} for scale, beta in by_row],
        "beta-VAE by cell": [{"scale": scale, "beta": beta} for scale, beta in by_cell],
        "RVAE": [{"clean_share": share} for share in (0.95, 0.8, 0.6)],
        "RDA": [*({"threshold": each} for each in thresholds), {"threshold": of_rows, "norm": "l21"}],
    }


def configurations(seeds: int, quick: bool) -> list[dict[str, Any]]:
    """Return the settings of each run: of a model with one setting of its grid, on one scenario."""
    found = []
    for seed in range(seeds):
        for scenario in _QUICK if quick else SCENARIOS:
            data, passes = SCENARIOS[scenario]
            images = data in ("faces", "digits")
            hidden = (32,) if quick else (256, 128, 64) if images else (128, 64)
            common = {"data": data, "scenario": scenario, "passes": 4 if quick else passes, "hidden": hidden}
            for model, grid in grids(images).items():
                members = [common | {"model": model, "setting": each, "seed": seed, "quick": quick} for each in grid]
                found += members[:1] if quick else members
    return found


def run(configuration: dict[str, Any], device: str) -> dict[str, Any]:
    """Fit a model to dirty data; return its errors there, and how well it finds dirt."""
    given = configuration
    scenario = _scenario(given["scenario"], given["seed"], given["quick"])
    if given["model"] == "RDA":
        return _autoencoder(scenario, given)
    est = _fitted(scenario, given, device)
    dirty, rows = scenario.dirty, est.score_samples(scenario.dirty)
    if given["model"] != "RVAE":
        cells = est.cell_scores(dirty)
        if given["model"].startswith("beta"):  # by row, its own are those of the rows
            cells = np.abs(est.standardise(dirty).numpy() - scenario.standardise(est.clean(dirty)))
        return _figures(scenario, est.clean(dirty), est.repair(dirty), rows, cells)
    odds = _log_odds(est, dirty)
    probability, found = 1 / (1 + np.exp(-odds.reshape(dirty.shape))), []
    for passes in (1, 5):  # the paper's are of one pass, or of a chain of several that begins with the repaired row
        cleaned = est.clean(dirty, passes)
        repaired = probability * cleaned + (1 - probability) * dirty
        found.append(_figures(scenario, cleaned, repaired, rows, odds) | {"test passes": passes})
    return min(found, key=lambda figures: figures["all"])


def _scenario(name: str, seed: int, quick: bool) -> Scenario:
    whole = make_scenario(name, seed)
    step = _QUICK[name] if quick else 1
    return Scenario(name, whole.clean[::step], whole.dirty[::step], whole.touched[::step], whole.by_row)


def _fitted(scenario: Scenario, given: dict[str, Any], device: str) -> RiCVAE:
    """Return a fitted VAE: the iC-VAE but for the likelihood, or the default."""
    setting, model, dirty = given["setting"], given["model"], scenario.dirty
    scale = setting.get("scale")
    arguments: dict[str, Any] = {"hidden": tuple(given["hidden"])}
    if model == "l2-VAE":
        arguments |= {"floor": scale}
    elif model == "beta-VAE":
        arguments |= {"likelihood": BetaDivergence(setting["beta_d"] / dirty[0].size, scale)}
    elif model == "beta-VAE by cell":
        arguments |= {"likelihood": BetaDivergence(setting["beta"], scale, by="cell")}
    elif model == "RVAE":
        arguments |= {"likelihood": FixedOutliers(setting["clean_share"], *_moments(scenario))}
    base = model if model in ("default", "l2-VAE") else "iC-VAE"
    return estimator(base, "recipe", given["passes"], given["seed"], device, **arguments).fit(dirty)


def _moments(scenario: Scenario) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the centre and the deviation of RVAE's data, in standardised units.

    As its authors', one of all pixels of images, and one a column of tables; of these robust ones, which dirt does not
    move.
    """
    x = torch.from_numpy(scenario.standardise(scenario.dirty))
    return (x.mean(), x.std()) if scenario.images else (torch.zeros(x.shape[1]), torch.ones(x.shape[1]))


def _log_odds(est: RiCVAE, dirty: Array) -> Array:
    """Return the log odds of each cell's being an outlier, of shape (n, d), by RVAE's mixture."""
    x = est.standardise(dirty)
    with torch.no_grad():
        cells: Any = est.model_.decode(est.guide_.encode(x).mean).base_dist
        clean, outlier = cells.log_joint(x)
    found: Array = (outlier - clean).numpy()
    return found


def _autoencoder(scenario: Scenario, given: dict[str, Any]) -> dict[str, Any]:
    """Fit the robust deep autoencoder; of what it makes of the rows and the rows less their dirt, report the better."""
    x = torch.from_numpy(scenario.standardise(scenario.dirty))
    autoencoder = RobustDeepAutoencoder(
        n_latent=automatic_n_latent(*x.shape),
        hidden=given["hidden"],
        passes=given["passes"],
        bound=1.0 if scenario.images else 4.0,
        **given["setting"],
    )
    low, sparse = autoencoder.fit(x, given["seed"])
    cleaned, repaired = (
        scenario.scaling.restore(each.numpy()).reshape(scenario.dirty.shape) for each in (low, x - sparse)
    )
    missed = (x - low).abs().numpy()
    return _figures(scenario, cleaned, repaired, -missed.sum(axis=1), missed)


def _figures(scenario: Scenario, cleaned: Array, repaired: Array, rows: Array, cells: Array) -> dict[str, Any]:
    """Return errors of cleaned data, of repaired data over all cells, and the average precision in finding dirt.

    Of images "found" is that of dirty images, and "found cells" that of their pixels.
    """
    errors = scenario.errors(cleaned) | {"repaired": scenario.errors(repaired)["all"]}
    scale = 1000 if scenario.images else 1
    figures = {name: scale * error if name != "median" else error for name, error in errors.items()}
    found_cells = float(average_precision_score(scenario.touched.ravel(), np.asarray(cells).ravel()))
    return figures | {"found": scenario.average_precision(rows, cells), "found cells": found_cells}


def report(runs: list[dict[str, Any]]) -> Report:
    """Return the page."""
    table = pd.DataFrame(runs)
    table["setting"] = table["setting"].map(_setting)
    best = table.loc[table.groupby(["scenario", "model", "seed"], sort=False)["all"].idxmin()]
    tables = {caption: _means(best, figure) for figure, caption in _CAPTIONS.items()}
    tables["Error over all cells, one setting for all images and one for all tables"] = _means(_common(table), "all")
    tables["Settings chosen, those of the seeds in turn"] = best.pivot_table(
        "setting", "model", "scenario", aggfunc=lambda each: "; ".join(dict.fromkeys(each)), sort=False
    ).reset_index()
    passes = ", ".join(dict.fromkeys(table["scenario"] + " " + table["passes"].astype(str)))
    text = _TEXT.format(seeds=best["seed"].nunique(), passes=passes)
    seen = "Error over all cells of each model on each scenario: a dot a seed at its best setting, grey the others"
    return Report(
        "Robust autoencoders of others", text, _claims(table, best), tables, {"errors": (seen, _picture(table, best))}
    )


_CAPTIONS = {
    "all": "Error over all cells",
    "dirty": "Error on what is dirty: rows of images, cells of tables",
    "clean": "Error on what is clean",
    "median": "Median absolute error, standardised units",
    "repaired": "Error over all cells, repaired",
    "found": "Average precision in finding dirt: rows of images, cells of tables",
    "found cells": "Average precision in finding dirty cells",
}
_TEXT = """What nobody compares: three neighbours of the paper's, on data with dirt of known truth, with the networks,
the centre, the affine path and the steps of `RiCVAE`, and equally many passes over the data ({passes}; recycled rows
count; `RiCVAE()` itself takes 270 to 405).
*beta-VAE*: the beta cross-entropy of a normal decoder (Akrami et al., 2019, 2022), of a row's density, as in their
code; *by cell* the same of each cell's density, which is not theirs. *RVAE*: a cell is the decoder's or an outlier of
N(centre, (2 deviations)^2), with the scale of clean cells learned (Eduardo et al., 2020), after one pass or after five
that begin with the repaired row, whichever is better; pixels are centred and scaled together, as in their code, and
columns of tables robustly, which theirs are not. *RDA*: the robust deep autoencoder X = L + S (Zhou and Paffenroth,
2017), S by cell (l1) or by row (l2,1), found anew after each pass. Not taken over: the chains of samples with which
RVAE may be evaluated.

**The neighbours' settings are chosen by the truth**, in each seed those with the least error over all cells, which
nobody has; "default" (`RiCVAE()`, but for networks and passes) and the iC-VAE have none. One table below has each
model's best single setting for images and for tables instead. Errors are mean squared, in standardised units, of images
on [0, 1] times 1000, of {seeds} seed(s) of dirt and training. *Repaired*: the data where they are clean and the model's
where they are dirty, weighted by the probability of dirt, RVAE's own, else `RiCVAE.repair`; of RDA X - S. Rows of
images are ranked by `score_samples` (RDA: the sum of absolute residuals), cells by `cell_scores` (RVAE: its log odds;
beta-VAE and RDA: the absolute residual)."""


def _setting(setting: dict[str, Any]) -> str:
    return ", ".join(value if isinstance(value, str) else f"{name} {value:g}" for name, value in setting.items()) or "-"


def _means(best: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Return means over seeds, a line a model and a column a scenario."""
    return best.pivot_table(figure, "model", "scenario", sort=False).reset_index()


def _common(table: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of each model's one setting for images and one for tables: of the least mean log error."""
    table = table.assign(images=table["data"].isin(["faces", "digits"]), log=np.log(table["all"]))
    means = table.groupby(["images", "model", "setting"], sort=False)["log"].mean()
    chosen = means.loc[means.groupby(["images", "model"], sort=False).idxmin()].index
    return table[pd.MultiIndex.from_frame(table[["images", "model", "setting"]]).isin(chosen)]


def _by_seed(best: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Return a figure of the models, a column each, by scenario and seed."""
    return best.pivot_table(figure, ["scenario", "seed"], "model", sort=False)


def _claims(table: pd.DataFrame, best: pd.DataFrame) -> list[Claim]:
    errors, repaired = _by_seed(best, "all"), _by_seed(best, "repaired")
    claims = []
    for scenario, some in errors.groupby(level="scenario", sort=False):
        others = some.drop(columns="default").mean()
        published, best_of_all = others.drop(["iC-VAE", "beta-VAE by cell"]), others.idxmin()
        off = some["default"] - some[best_of_all]
        words = f"{scenario}: the default has the smallest error over all cells, in each seed"
        spread = f"{off.mean():+.2g} ({off.min():+.2g} to {off.max():+.2g})"
        measured = (
            f"default {some['default'].mean():.3g}, best of others' {published.idxmin()} {published.min():.3g}; "
            f"best of all {best_of_all} {others.min():.3g}, difference {spread}"
        )
        is_least = bool((some["default"] < some.drop(columns="default").min(axis=1)).all())
        claims.append(Claim(words, "ours", measured, is_least))
    words = "The default is better than {} on each, by means over seeds"
    claims += [_against(words.format(model), errors, model) for model in errors.columns.drop("default")]
    common = _by_seed(_common(table), "all")
    words = "... than {}, each with one setting for all images and one for all tables"
    claims += [_against(words.format(model), common, model) for model in ("beta-VAE by cell", "RVAE", "RDA")]
    repaired["best other"] = repaired.drop(columns="default").min(axis=1)
    claims.append(_against("... than the best other of each seed, repaired", repaired, "best other"))
    found = _by_seed(best, "found").groupby(level="scenario", sort=False).mean()
    others = found.drop(columns="default")
    listed = ", ".join(
        f"{name} {found.loc[name, 'default']:.3f} ({others.loc[name].max():.3f})" for name in found.index
    )
    held = bool((found["default"] >= others.max(axis=1)).all())
    return [*claims, Claim("The default finds dirt best (in brackets the best other)", "ours", listed, held)]


def _against(words: str, errors: pd.DataFrame, model: str) -> Claim:
    """Return the claim that the default's mean errors are smaller than a model's, with their ratios."""
    means = errors.groupby(level="scenario", sort=False).mean()
    ratio = means["default"] / means[model]
    listed = ", ".join(f"{name} {value:.2f}" for name, value in ratio.items())
    return Claim(words, "ours", f"default over it: {listed}", bool((ratio < 1).all()))


def _picture(table: pd.DataFrame, best: pd.DataFrame) -> Figure:
    """Draw the errors: a panel a scenario, a line a model, a dot a seed."""
    scenarios, models = list(dict.fromkeys(table["scenario"])), list(dict.fromkeys(table["model"]))[::-1]
    figure = new_figure(11, 6.5)
    panels = figure.subplots(2, -(-len(scenarios) // 2), sharey=True, squeeze=False).ravel()
    for panel, scenario in zip(panels, scenarios, strict=False):
        for runs, color, size in ((table, GREY, 14), (best, BLUE, 22)):
            some = runs[runs["scenario"] == scenario]
            colors = np.where(some["model"] == "default", RED, color)
            panel.scatter(some["all"], some["model"].map(models.index), s=size, c=list(colors), zorder=2)
        default = best[(best["scenario"] == scenario) & (best["model"] == "default")]["all"].mean()
        panel.axvline(default, color=RED, linewidth=0.8)
        panel.set_xscale("log")
        low, high = panel.get_xlim()
        ticks = [m * 10.0**k for k in range(-3, 4) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
        panel.set_xticks([], minor=True)
        panel.set_title(scenario, fontsize=10)
        panel.set_yticks(range(len(models)), models)
        panel.grid(color=GREY, linewidth=0.5, zorder=0)
    for panel in panels[-(len(panels) // 2) :]:
        panel.set_xlabel("error over all cells")
    return figure
