"""Table 1: outlying rows by an affine iC-VAE and others, on 18 tables and 15 image sets of ADBench."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, studentized_range
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from experiments.reproduce.data import adbench, outlying_rows
from experiments.reproduce.report import Claim, Report
from experiments.rows import outlyingness
from pyro_ricvae import RiCVAE
from pyro_ricvae.estimators import DRAE, UOCL, discriminative_threshold
from pyro_ricvae.plots.style import BLUE, GREY, new_figure

Array = NDArray[np.float64]

SUMMARY = "Outlying rows by an affine iC-VAE and others: F1, ROC-AUC, average precision, ranks."
PAPER, OURS = "iC-VAE, affine", "RiCVAE"
_PYOD = ("OCSVM", "IForest", "PCA", "ECOD", "KNN", "AutoEncoder", "VAE")
_METHODS = (PAPER, OURS, "UOCL", "DRAE", *_PYOD)
_FIGURES = ("ROC-AUC", "average precision", "F1, outlying", "F1, inlying")
_LEVEL = 0.05
_MOST = 2000  # rows that UOCL, whose time goes with their cube, is fitted to


def configurations(seeds: int, quick: bool) -> list[dict[str, Any]]:
    """Return the settings of each run."""
    tables, images = adbench(images=False), adbench(images=True)
    if not tables:
        raise FileNotFoundError("Expected ADBench's adbench/*.npz in the folder that PYRO_RICVAE_DATA names.")
    some = ["14_glass", "42_WBC", images[0]] if quick else [*tables, *images]
    methods = [each for each in _METHODS if each not in ("AutoEncoder", "VAE")] if quick else _METHODS
    common = {"quick": quick}
    return [
        common | {"data": f"adbench/{name}", "method": method, "seed": seed}
        for seed in range(seeds)
        for name in some
        for method in methods
    ]


def run(configuration: dict[str, Any], device: str) -> dict[str, Any]:
    """Score the rows of a data set by a method fitted to them; return what the scores are worth."""
    rows, outlying = outlying_rows(configuration["data"])
    arguments = {"epochs": 3} if configuration["quick"] else {}
    try:
        scores = outlyingness_of(configuration["method"], rows, configuration["seed"], device, arguments)
    except ValueError as error:  # PyOD's PCA gives infinite scores on constant columns
        return {"refused": str(error)} | dict(zip(_FIGURES, (0.5, float(outlying.mean()), 0.0, 0.0), strict=True))
    found = scores > discriminative_threshold(scores)
    return {
        "ROC-AUC": float(roc_auc_score(outlying, scores)),
        "average precision": float(average_precision_score(outlying, scores)),
        "F1, outlying": float(f1_score(outlying, found)),
        "F1, inlying": float(f1_score(~outlying, ~found)),
    }


def outlyingness_of(method: str, rows: Array, seed: int, device: str, arguments: dict[str, Any]) -> Array:
    """Return how outlying a method takes each row for, shape (n,): of the paper's, the mean squared residual."""
    if method == PAPER:
        est = RiCVAE(
            likelihood="index_conditioned",
            train_passes=1,
            hidden=(),
            n_latent=rows.shape[1],
            random_state=seed,
            device=device,
            verbose=False,
            **arguments,
        ).fit(rows)
        residuals = (rows - est.clean(rows)) / est.scaling_.scale
        return np.asarray(np.square(residuals).mean(axis=1))
    if method == OURS:
        return -RiCVAE(random_state=seed, device=device, verbose=False, **arguments).fit(rows).score_samples(rows)
    if method == "UOCL":
        standard = StandardScaler().fit_transform(rows)
        some = np.random.default_rng(seed).permutation(len(rows))[:_MOST]
        return -UOCL().fit(standard[some]).score_samples(standard)
    if method == "DRAE":
        return -DRAE(random_state=seed, **arguments).fit(rows).score_samples(rows)
    return outlyingness(method, rows, seed)[method]


def report(runs: list[dict[str, Any]]) -> Report:
    """Return the page."""
    table = pd.DataFrame(runs)
    table["group"] = np.where(table["data"].str.contains("MVTec"), "image sets", "tables")
    tables, claims, ranks = {}, [], {}
    for group, some in table.groupby("group", sort=False):
        by_figure = {figure: some.pivot_table(figure, "data", "method", sort=False) for figure in _FIGURES}
        rank = by_figure["ROC-AUC"].rank(axis=1, ascending=False)
        ranks[str(group)] = (rank.mean(), len(rank))
        lines = pd.DataFrame({figure: each.mean() for figure, each in by_figure.items()})
        lines["mean rank by ROC-AUC"] = rank.mean()
        p_value = float(friedmanchisquare(*rank.to_numpy().T).pvalue) if len(rank) > 2 else float("nan")
        caption = f"{len(rank)} {group} (Friedman's test that all are level: p = {p_value:.2g})"
        tables[caption] = lines.sort_values("ROC-AUC", ascending=False).reset_index()
        claims += _claims(str(group), lines)
    for figure in ("ROC-AUC", "F1, inlying"):
        tables[f"{figure} of each"] = table.pivot_table(figure, "data", "method", sort=False).reset_index()
    seen = "Mean ranks of the methods, and the difference from which on two are told apart"
    return Report("Table 1: outlying rows", _text(table), claims, tables, {"ranks": (seen, _picture(ranks))})


def _text(table: pd.DataFrame) -> str:
    return (
        "Google-30, the paper's data, is not public; these are ADBench's 18 tables and 15 image sets (features of a "
        f"ResNet-18), every method fitted to all rows of a set without labels, {table['seed'].nunique()} seed(s). "
        f"*{PAPER}*: as in the paper, kappa = d, no hidden layers, rows by their mean squared residual in standardised "
        f"units; trained by this package's recipe. *{OURS}*: the defaults, `score_samples`. UOCL and those of PyOD get "
        f"standardised columns, UOCL at most {_MOST} rows to fit. F1 by the discriminative threshold of Xia et al. "
        "(2015) on each method's scores, the paper's heuristic, of the outlying rows and of the inlying ones, as Liu "
        "et al. (2014) count. A method that refuses a set counts as one that finds nothing there. Two whose mean ranks "
        "differ by less than the critical difference (Nemenyi, 5%) are not told apart."
    )


def _claims(group: str, lines: pd.DataFrame) -> list[Claim]:
    f1 = lines["F1, inlying"]
    order = [name for name in (PAPER, "DRAE", "UOCL") if name in f1.index]
    auc, rank = lines["ROC-AUC"], lines["mean rank by ROC-AUC"]
    return [
        Claim(
            f"The affine iC-VAE's F1 is above DRAE's, and that above UOCL's, {group}",
            "table 1",
            ", ".join(f"{name} {f1[name]:.3f}" for name in order),
            bool(f1[order].is_monotonic_decreasing),
        ),
        *(
            Claim(
                f"{name} is first by mean ROC-AUC and by mean rank, {group}",
                "ours",
                f"ROC-AUC {auc[name]:.3f} (best other {auc.drop(name).max():.3f}, {auc.drop(name).idxmax()}), mean "
                f"rank {rank[name]:.2f} (best other {rank.drop(name).min():.2f}, {rank.drop(name).idxmin()})",
                bool(auc[name] > auc.drop(name).max() and rank[name] < rank.drop(name).min()),
            )
            for name in (OURS, PAPER)
        ),
    ]


def critical_difference(n_methods: int, n_sets: int) -> float:
    """Return from which difference of mean ranks on two methods are told apart (Nemenyi; Demšar 2006)."""
    quantile = float(studentized_range.ppf(1 - _LEVEL, n_methods, np.inf)) / 2**0.5
    return quantile * (n_methods * (n_methods + 1) / (6 * n_sets)) ** 0.5


def _picture(ranks: "dict[str, tuple[pd.Series[float], int]]") -> Figure:
    figure = new_figure(9, 3.6)
    panels = figure.subplots(1, len(ranks), squeeze=False)[0]
    for panel, (group, (mean, number)) in zip(panels, ranks.items(), strict=True):
        ordered = mean.sort_values(ascending=False)
        panel.plot(ordered.to_numpy(), range(len(ordered)), "o", color=BLUE)
        panel.set_yticks(range(len(ordered)), ordered.index, fontsize=8)
        reach = critical_difference(len(ordered), number)
        panel.axvspan(float(ordered.iloc[-1]), float(ordered.iloc[-1]) + reach, color=GREY, alpha=0.5)
        panel.set_title(f"{number} {group}: mean rank by ROC-AUC\ngrey: not told apart from the first", fontsize=9)
        panel.grid(color=GREY, linewidth=0.5)
    return figure
