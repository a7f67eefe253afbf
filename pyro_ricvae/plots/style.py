"""What pictures have in common: colours, resolution, and how they are saved.

Drawn with matplotlib's objects, so that neither its backend nor any open figure changes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, RED, GREY = "#2166ac", "#b2182b", "#d0d0d0"  # told apart by the colour-blind too

_DPI = 120


def is_drawable(event_shape: Sequence[int]) -> bool:
    """Return whether rows of this shape are images: (h, w), (h, w, 1) or (h, w, 3)."""
    return len(event_shape) == 2 or (len(event_shape) == 3 and event_shape[-1] in (1, 3))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, whose parts do not overlap."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_of(ax: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """Return the axes to draw into, with their figure: the user's, or new ones of a size in inches."""
    if ax is None:
        figure = new_figure(width, height)
        return figure, figure.subplots()
    own: Any = ax.figure
    return own.figure, ax  # of a figure within a figure, the outer one


def place_legend(figure: Figure, ax: Axes, is_users: bool, n_columns: int) -> None:
    """Place the legend of some axes: above a figure of our own, within axes of the user's."""
    if is_users:
        ax.legend(fontsize=8, frameon=False)
        return
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=n_columns, fontsize=8, frameon=False)


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file, whatever the ending of its name."""
    figure.savefig(path, dpi=_DPI, format="png")
