"""Pictures of a posterior predictive check."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pyro_ricvae._core.arviz import Variable, from_groups, plot_ppc
from pyro_ricvae.diagnostics.replicates.ppc import PosteriorPredictiveCheck
from pyro_ricvae.plots.rows import image_grid
from pyro_ricvae.plots.style import BLUE, GREY, RED, axes_of, is_drawable, new_figure, place_legend

_MOST_PANELS = 12


def statistics(check: PosteriorPredictiveCheck) -> Figure:
    """Draw a histogram of each replicated statistic, with a line at the observed value, red where it is missed.

    Parameters
    ----------
    check : diagnostics.PosteriorPredictiveCheck
        Of more than 12 statistics those with the smallest tail probabilities are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a statistic.
    """
    probabilities, missed = check.tail_probabilities, check.missed
    shown = set(sorted(probabilities, key=lambda name: probabilities[name])[:_MOST_PANELS])
    names = [name for name in check.observed if name in shown]
    columns = min(4, len(names))
    lines = math.ceil(len(names) / columns)
    figure = new_figure(2.6 * columns, 2.2 * lines + 0.5)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes[len(names) :]:
        ax.remove()
    for ax, name in zip(axes, names, strict=False):
        _statistic(ax, check.replicated[name], check.observed[name], name in missed)
        ax.set_title(f"{name}, tail probability {probabilities[name]:.2g}", fontsize=8)
    handles = {
        label: each for ax in axes[: len(names)] for each, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


def pit_histogram(check: PosteriorPredictiveCheck, ax: Axes | None = None) -> Figure:
    """Draw the histogram of the cells' ranks in their predictive distributions, before what the model would give.

    Parameters
    ----------
    check : diagnostics.PosteriorPredictiveCheck
        The check.
    ax : matplotlib.axes.Axes, optional
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        Red where the histogram is not as the model would give it.
    """
    pit = check.pit
    edges = np.linspace(0, 1, len(pit.histogram) + 1)
    n_bins = len(pit.histogram)
    is_users = ax is not None
    figure, ax = axes_of(ax, 5, 3.2)
    low, high = pit.expected.min(0), pit.expected.max(0)
    ax.bar(
        edges[:-1],
        n_bins * (high - low),
        width=1 / n_bins,
        bottom=n_bins * low,
        align="edge",
        color=GREY,
        label=f"{len(pit.expected)} data sets drawn from the model",
    )
    colour = RED if pit.tail_probability <= 0.05 else BLUE
    ax.stairs(n_bins * pit.histogram, edges, color=colour, linewidth=1.8, baseline=None, label="data")
    ax.set_ylim(bottom=0)
    ax.set_xlim(0, 1)
    ax.set_xlabel("where a cell lies among replicates of its own", fontsize=8)
    ax.set_ylabel("density", fontsize=8)
    ax.set_title(f"tail probability {pit.tail_probability:.2g}", fontsize=8)
    ax.tick_params(labelsize=7)
    place_legend(figure, ax, is_users, 2)
    return figure


def replicated_images(
    x: Tensor, replicated: Tensor, event_shape: tuple[int, ...], *, n: int = 12, draws: int = 3
) -> Figure:
    """Draw images beside their replicates, all in one scale of grey.

    Parameters
    ----------
    x : Tensor, shape (m, d)
        The images, in any units.
    replicated : Tensor, shape (S, m, d)
        Their replicates, in the same: see `diagnostics.replicate`.
    event_shape : tuple of int
        (h, w), (h, w, 1) or (h, w, 3).
    n, draws : int, default=12, 3
        How many images, and of how many replicates, are shown at most: the first ones.

    Returns
    -------
    matplotlib.figure.Figure
        A strip of the data, and one a replicate.

    Notes
    -----
    Black is the least value of the data, or the lowest 0.5% of those of the replicates if that is less; white alike.

    Raises
    ------
    ValueError
        If the rows are no images, or the replicates are not of the rows.
    """
    if not is_drawable(event_shape):
        raise ValueError(
            f"Expected images, event_shape (h, w), (h, w, 1) or (h, w, 3), actual {event_shape}: draw the densities of "
            "other data."
        )
    rows = {"data": _first(x, n, event_shape)}
    for number, drawn in enumerate(_checked(x, replicated)[:draws], start=1):
        rows[f"replicate {number}"] = _first(drawn, n, event_shape)
    # In the range of the data noise below black would not be seen; in that of all, little but the farthest cells.
    every = np.stack(list(rows.values()))
    low, high = np.quantile(every[1:], [0.005, 0.995])
    return image_grid(rows, limits=(min(low, float(every[0].min())), max(high, float(every[0].max()))))


def densities(x: Tensor, replicated: Tensor, *, n_draws: int = 50) -> Figure:
    """Draw ArviZ's picture: the distribution of all cells of the data, and of each replicate.

    Parameters
    ----------
    x : Tensor, shape (n, d)
        The rows, in any units.
    replicated : Tensor, shape (S, n, d)
        Their replicates, in the same: see `diagnostics.replicate`.
    n_draws : int, default=50
        How many replicates are drawn at most.

    Returns
    -------
    matplotlib.figure.Figure
        ArviZ's.

    Raises
    ------
    ValueError
        If the replicates are not of the rows.
    """
    dims = ("row", "feature")
    drawn = _checked(x, replicated).unsqueeze(0).cpu().numpy()
    groups: dict[str, dict[str, Variable]] = {
        "posterior_predictive": {"x": (("chain", "draw", *dims), drawn)},
        "observed_data": {"x": (dims, x.cpu().numpy())},
    }
    figure: Figure = plot_ppc(from_groups(groups, {}), n_draws=n_draws)
    return figure


def _statistic(ax: Axes, replicated: NDArray[np.float64], observed: float, missed: bool) -> None:
    """Draw one statistic; of the farthest replicates, one in a hundred, those that are far at the edges."""
    low, high = np.quantile(replicated, [0.005, 0.995])
    margin = 0.25 * (high - low)
    clipped = replicated.clip(low - margin, high + margin)
    # Bars that can be seen where the data are far away, and as wide as whole numbers where there are only those.
    width = max((high - low) / 20, (max(high, observed) - min(low, observed)) / 60)
    if (replicated == np.rint(replicated)).all():
        width = max(1.0, np.rint(width))
    start = clipped.min() - width / 2
    n_bins = int((clipped.max() - start) / width) + 1 if width > 0 else 1
    ax.hist(clipped, bins=n_bins, range=(start, start + n_bins * (width or 1.0)), color=GREY, label="replicates")
    ax.axvline(observed, color=RED if missed else BLUE, linewidth=1.8, label="data, missed" if missed else "data")
    ax.set_yticks([])
    ax.tick_params(axis="x", labelsize=7)
    ax.locator_params(axis="x", nbins=4)


def _checked(x: Tensor, replicated: Tensor) -> Tensor:
    if replicated.dim() != 3 or replicated.shape[1:] != x.shape:
        raise ValueError(
            f"Expected replicates of shape (S, {', '.join(map(str, x.shape))}), actual {tuple(replicated.shape)}: give "
            "those of the same rows."
        )
    return replicated


def _first(rows: Tensor, n: int, event_shape: tuple[int, ...]) -> NDArray[np.float32]:
    images: NDArray[np.float32] = rows[:n].reshape(-1, *event_shape).cpu().numpy()
    return images
