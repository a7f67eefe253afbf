"""The picture of a comparison: a panel for every criterion, a dot for every seed."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from pyro_ricvae.comparison.criteria import CRITERIA
from pyro_ricvae.comparison.result import Comparison
from pyro_ricvae.plots.style import BLUE, GREY, new_figure

_N_COLUMNS = 3
_WIDE, _N_DECADES = 4.0, 1.5  # ratios drawn on a logarithmic axis; decades on which it has numbers in between


def criteria(found: Comparison) -> Figure:
    """Draw the values of every criterion, a panel each, a dot a seed.

    Parameters
    ----------
    found : Comparison
        What `compare` found.

    Returns
    -------
    matplotlib.figure.Figure
        The names of the estimators are at the left, "none" stands where there is no value.
    """
    names = found.names
    n_lines = -(-len(found.criteria) // _N_COLUMNS)
    figure = new_figure(11, n_lines * (0.9 + 0.28 * len(names)))
    panels = figure.subplots(n_lines, _N_COLUMNS, sharey=True, squeeze=False).ravel()
    for panel, criterion in zip(panels, found.criteria, strict=False):
        _draw_criterion(panel, found, criterion)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    for panel in panels[len(found.criteria) :]:
        panel.set_visible(False)
    return figure


def _draw_criterion(panel: Axes, found: Comparison, criterion: str) -> None:
    better, _, is_logarithmic = CRITERIA[criterion]
    values = found.values(criterion).to_numpy()
    for height, row in enumerate(values):
        if np.isnan(row).all():
            where = panel.get_yaxis_transform()
            panel.text(0.5, height, "none", transform=where, ha="center", va="center", fontsize=8)
        panel.plot(row, [height] * len(row), "o", color=BLUE, alpha=0.6, markersize=5, markeredgewidth=0)
    panel.set_title(f"{criterion}\n{better} is better", fontsize=9)
    panel.grid(color=GREY, linewidth=0.5)
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
