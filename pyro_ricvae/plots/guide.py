"""Pictures of diagnostics: Pareto k-hat of the rows, ranks of simulated latents, coverage of intervals."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import stats

from pyro_ricvae.diagnostics.guide.calibration import SimulationBasedCalibration
from pyro_ricvae.diagnostics.guide.pareto import THRESHOLDS, ParetoK
from pyro_ricvae.diagnostics.replicates.intervals import IntervalCalibration
from pyro_ricvae.plots.style import BLUE, GREY, RED, axes_of, new_figure

_GREATEST = 3.0  # k-hats beyond are drawn here
_LEAST = -1.0
_BAND = 0.99
_MOST_UNITS = 20


def k_hat(pareto: ParetoK, ax: Axes | None = None) -> Figure:
    """Draw k-hat of each row, with lines at 0.5, 0.7 and 1.

    Parameters
    ----------
    pareto : ParetoK
        What `diagnostics.pareto_k` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        Rows above 0.7 are red; values beyond -1 and 3 are drawn as triangles at the edge.
    """
    k = pareto.k.cpu().numpy()
    drawn = np.clip(k, _LEAST, _GREATEST)
    figure, ax = axes_of(ax, 8, 3.6)
    for is_bad, colour in ((False, BLUE), (True, RED)):
        for marker, which in (("o", drawn == k), ("^", k > _GREATEST), ("v", k < _LEAST)):
            rows = np.flatnonzero(which & ((k > 0.7) == is_bad))
            ax.plot(rows, drawn[rows], marker, color=colour, markersize=4, alpha=0.7, linestyle="none", clip_on=False)
    for threshold in THRESHOLDS:
        ax.axhline(threshold, color="black", linewidth=0.8, linestyle="--")
        ax.annotate(
            f"{threshold:g}: {pareto.share_above(threshold):.0%} of rows above",
            (1.01, threshold),
            xycoords=ax.get_yaxis_transform(),
            va="center",
            fontsize=7,
        )
    low, high = min(-0.1, drawn.min() - 0.1), max(1.2, drawn.max() + 0.1)
    ax.set_ylim(low, high)
    ax.set_xlim(-0.5 - 0.01 * len(k), len(k) - 0.5 + 0.01 * len(k))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("row", fontsize=8)
    ax.set_ylabel("Pareto k-hat (lower is better)", fontsize=8)
    ax.tick_params(labelsize=7)
    return figure


def rank_histograms(calibration: SimulationBasedCalibration) -> Figure:
    """Draw the ranks of each latent unit, with the band that holds 99% of a uniform's bins.

    A hump is a posterior that is too wide, a bowl one that is too narrow, a slope one that is too high or low.

    Parameters
    ----------
    calibration : SimulationBasedCalibration
        What `diagnostics.simulation_based_calibration` returned.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a unit. Units that are not calibrated are red; of more than 20 the 20 with the smallest p-values.
    """
    counts, expected = calibration.histogram()
    p_values, faults = calibration.p_values, calibration.faults()
    units = np.sort(np.argsort(p_values, kind="stable")[:_MOST_UNITS])
    n = len(calibration.ranks)
    low, high = stats.binom.interval(_BAND, n, expected / n)
    edges = np.concatenate([[0], np.cumsum(expected) / n])
    columns = min(5, len(units))
    lines = math.ceil(len(units) / columns)
    figure = new_figure(max(4.0, 2.2 * columns), 1.8 * lines + 0.7)
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for ax in axes[len(units) :]:
        ax.set_visible(False)
    for ax, unit in zip(axes, units, strict=False):
        ax.stairs(counts[unit], edges, fill=True, color=RED if unit in faults else BLUE)
        ax.stairs(high, edges, baseline=low, fill=True, color=GREY, alpha=0.7, zorder=2)
        ax.stairs(expected, edges, baseline=None, color="black", linewidth=0.8, linestyle="--")
        ax.set_title(f"unit {unit}, corrected p = {p_values[unit]:.2g}", fontsize=8)
        ax.tick_params(labelsize=6)
    figure.supxlabel(f"rank of the true latent among {calibration.n_draws} draws, as a share", fontsize=8)
    figure.supylabel(f"simulations of {n}", fontsize=8)
    return figure


def coverage(calibration: IntervalCalibration, ax: Axes | None = None) -> Figure:
    """Draw the coverage of intervals against the nominal one, with three standard errors.

    Parameters
    ----------
    calibration : IntervalCalibration
        What `diagnostics.interval_calibration` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        Below the diagonal intervals are too narrow.
    """
    colours = {"too narrow": RED, "too wide": BLUE, "as said": "black"}
    figure, ax = axes_of(ax, 4.2, 4.2)
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
    verdicts = calibration.verdicts()
    for level, covered, error, verdict in zip(
        calibration.levels, calibration.coverage, calibration.standard_error, verdicts, strict=True
    ):
        ax.errorbar(level, covered, 3 * error, fmt="o", color=colours[verdict], capsize=3, markersize=5)
    handles = [
        Line2D([], [], marker="o", linestyle="none", color=colour, label=verdict)
        for verdict, colour in colours.items()
        if verdict in verdicts
    ]
    ax.legend(handles=handles, loc="upper left", fontsize=8, frameon=False)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    ax.set_aspect("equal")
    ax.set_xlabel("nominal coverage", fontsize=8)
    ax.set_ylabel(f"share of {calibration.n_entries} entries within", fontsize=8)
    ax.tick_params(labelsize=7)
    return figure
