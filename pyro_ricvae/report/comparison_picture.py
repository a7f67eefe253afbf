"""The picture of a comparison: a panel for every criterion, a dot for every seed."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from pyro_ricvae.report.comparison import CRITERIA, Comparison
from pyro_ricvae.report.pictures import _BLUE, _GREY, _save

_N_COLUMNS = 3
_WIDE, _N_DECADES = 4.0, 1.5  # ratios drawn on a logarithmic axis; decades on which it has numbers in between


def draw_comparison(comparison: Comparison, path: str | Path) -> None:
    """Draw the values of every criterion, and write them as a PNG file.

    Parameters
    ----------
    comparison : Comparison
        What is drawn.
    path : str or Path
        The file to write.
    """
    names = comparison.names
    n_lines = -(-len(comparison.criteria) // _N_COLUMNS)
    figure = Figure(figsize=(11, n_lines * (0.9 + 0.28 * len(names))), layout="constrained")
    panels = figure.subplots(n_lines, _N_COLUMNS, sharey=True, squeeze=False).ravel()
    for panel, criterion in zip(panels, comparison.criteria, strict=False):
        _draw_criterion(panel, comparison, criterion)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    for panel in panels[len(comparison.criteria) :]:
        panel.set_visible(False)
    _save(figure, path)


def _draw_criterion(panel: Axes, comparison: Comparison, criterion: str) -> None:
    better, _, is_logarithmic = CRITERIA[criterion]
    values = comparison.values(criterion).to_numpy()
    for height, row in enumerate(values):
        if np.isnan(row).all():
            where = panel.get_yaxis_transform()
            panel.text(0.5, height, "none", transform=where, ha="center", va="center", fontsize=8)
        panel.plot(row, [height] * len(row), "o", color=_BLUE, alpha=0.6, markersize=5, markeredgewidth=0)
    panel.set_title(f"{criterion}\n{better} is better", fontsize=9)
    panel.grid(color=_GREY, linewidth=0.5)
    panel.tick_params(labelsize=8)
    panel.xaxis.set_major_locator(MaxNLocator(4))
    if np.isnan(values).all():
        panel.set_xticks([])
    positive = values[values > 0]
    if is_logarithmic and len(positive) and positive.max() > _WIDE * positive.min():
        panel.set_xscale("log")
        decades = np.log10(positive.max() / positive.min())
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < _N_DECADES else (1.0,)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
