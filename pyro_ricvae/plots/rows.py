"""Pictures of rows: strips of images, tiles of samples, the cells of a table that fit least."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from PIL import Image

from pyro_ricvae._core.robust import robust_deviation
from pyro_ricvae.plots.style import BLUE, GREY, RED, axes_of, new_figure, place_legend

_CELL = 0.9  # the width of an image, in inches
_LINEAR = 3  # robust standard deviations drawn to scale around a column's median; farther out, the axis is logarithmic


def largest(scores: NDArray[Any], n: int) -> list[tuple[int, ...]]:
    """Return the indices of the `n` greatest entries of an array, greatest first, ties in their order."""
    flat = scores.ravel()
    n = min(n, flat.size)
    if n == 0:
        return []
    candidates = np.flatnonzero(flat >= np.partition(flat, -n)[-n])
    order = candidates[np.argsort(-flat[candidates], kind="stable")][:n]
    return [tuple(int(i) for i in np.unravel_index(index, scores.shape)) for index in order]


def image_grid(
    rows: Mapping[str, NDArray[Any]],
    *,
    titles: Sequence[object] | None = None,
    limits: tuple[float, float] | None = None,
    heat: Collection[str] = (),
) -> Figure:
    """Draw rows of images under each other, such as dirty, cleaned and scores.

    Parameters
    ----------
    rows : mapping of str to ndarray, shape (k, h, w) or (k, h, w, 1) or (k, h, w, 3)
        The images of each row, under its name; k is the same in all.
    titles : sequence, optional
        A title for each of the k columns.
    limits : (float, float), optional
        The values drawn black and white, in data units. The default is the range of the first row that is no heat map,
        so that all share one scale; values beyond are clipped.
    heat : collection of str, default=()
        The names of rows, (k, h, w), drawn as heat maps from 0 to their largest value, with a bar to read them.

    Returns
    -------
    matplotlib.figure.Figure
        A strip a row.

    Raises
    ------
    ValueError
        If there is nothing to draw, or the rows hold different numbers of images.

    Examples
    --------
    >>> import numpy as np
    >>> from pyro_ricvae import plots
    >>> images = np.random.default_rng(0).random((5, 8, 8))
    >>> figure = plots.image_grid({"noise": images, "size": images}, heat={"size"})
    >>> plots.save(figure, "noise.png")  # doctest: +SKIP
    """
    counts = {name: len(images) for name, images in rows.items()}
    k = max(counts.values(), default=0)
    if k == 0 or len(set(counts.values())) > 1:
        raise ValueError(f"Expected rows with the same number of images, at least one, actual {counts}.")
    if limits is None:
        plain = next((images for name, images in rows.items() if name not in heat), np.zeros(1))
        limits = float(plain.min()), float(plain.max())
    height, width = next(iter(rows.values())).shape[1:3]
    figure = new_figure(_CELL * k + 1, _CELL * len(rows) * min(max(height / width, 0.3), 3) + 0.4)
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for ax, (name, images) in zip(axes, rows.items(), strict=True):
        is_heat = name in heat
        drawn = _draw_strip(ax, images, (0.0, float(images.max()) or 1.0) if is_heat else limits, is_heat)
        ax.set_ylabel(name, fontsize=8)
        if is_heat:
            figure.colorbar(drawn, ax=ax, pad=0.01, aspect=8).ax.tick_params(labelsize=6)
    if titles is not None:
        axes[0].xaxis.tick_top()
        axes[0].set_xticks(
            np.arange(k) * (width + _gap(width)) + (width - 1) / 2, [_short(str(title), 12) for title in titles]
        )
        axes[0].tick_params(axis="x", labelsize=7, length=0)
    return figure


def tiles(images: NDArray[Any], *, limits: tuple[float, float] | None = None) -> Image.Image:
    """Return images beside each other, in a grid as square as can be, as one image of their own pixels.

    Parameters
    ----------
    images : ndarray, shape (n, h, w) or (n, h, w, 1) or (n, h, w, 3)
        The images; small ones are enlarged by a whole factor.
    limits : (float, float), optional
        The values drawn black and white, by default the least and the greatest of all.

    Returns
    -------
    PIL.Image.Image
        8-bit, grey or RGB.
    """
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    scaled = np.rint(255 * _scale(images, limits or (float(images.min()), float(images.max())))).astype(np.uint8)
    n, height, width = images.shape[:3]
    enlarge = max(1, 64 // max(height, width))
    scaled = scaled.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    columns = math.ceil(math.sqrt(n))
    lines = math.ceil(n / columns)
    step_y, step_x = height * enlarge + 2, width * enlarge + 2
    canvas = np.full((lines * step_y + 2, columns * step_x + 2, *images.shape[3:]), 128, dtype=np.uint8)
    for i, image in enumerate(scaled):
        y, x = 2 + i // columns * step_y, 2 + i % columns * step_x
        canvas[y : y + step_y - 2, x : x + step_x - 2] = image
    return Image.fromarray(canvas)


def worst_cells(
    values: NDArray[Any],
    expected: NDArray[Any],
    scores: NDArray[Any],
    *,
    rows: Sequence[object] | None = None,
    columns: Sequence[object] | None = None,
    n: int = 20,
    ax: Axes | None = None,
) -> Figure:
    """Draw the cells of a table that fit least, with what a model expects there.

    Each is a line: the value given and the one expected, in robust standard deviations (1.4826 times the median
    absolute deviation) from the median of its column, before a band from the column's 5th to its 95th percentile.

    Parameters
    ----------
    values, expected, scores : ndarray, shape (n_rows, d)
        The cells given and those expected, in data units, and the cells' scores, higher for those that fit less.
    rows, columns : sequence, optional
        Names of rows and columns, by default numbers from 0.
    n : int, default=20
        How many cells are drawn at most.
    ax : matplotlib.axes.Axes, optional
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        A line a cell.
    """
    cells = largest(scores, n)
    is_users = ax is not None
    figure, ax = axes_of(ax, 9, 0.28 * len(cells) + 1.3)
    labels = []
    for y, (row, column) in enumerate(cells):
        given, fits = float(values[row, column]), float(expected[row, column])
        median, scale = _centre_and_scale(values[:, column])
        low, high = ((q - median) / scale for q in np.percentile(values[:, column], [5, 95]))
        there, here = (given - median) / scale, (fits - median) / scale
        first = y == 0
        ax.barh(y, high - low, left=low, color=GREY, height=0.7, label="5 % to 95 % of the column" if first else None)
        ax.plot([there, here], [y, y], color=RED, linewidth=0.8)
        ax.plot(here, y, "o", color=BLUE, markerfacecolor="white", label="expected" if first else None)
        ax.plot(there, y, "D", color=RED, markersize=5, label="given" if first else None)
        ax.annotate(
            f"{given:.4g}, expected {fits:.4g}", (1.01, y), xycoords=ax.get_yaxis_transform(), va="center", fontsize=7
        )
        name = columns[column] if columns is not None else f"column {column}"
        labels.append(f"{_short(str(name), 28)}, row {_short(str(rows[row] if rows is not None else row), 14)}")
    ax.set_yticks(range(len(cells)), labels, fontsize=7)
    ax.set_ylim(len(cells) - 0.4, -0.6)
    ax.set_xscale("symlog", linthresh=_LINEAR)
    ax.use_sticky_edges = False  # or the bands would touch the frame
    ax.margins(x=0.04)
    ax.set_xlabel("robust standard deviations from the column's median (logarithmic beyond 3)", fontsize=8)
    ax.tick_params(axis="x", labelsize=7)
    place_legend(figure, ax, is_users, 3)
    return figure


def _centre_and_scale(column: NDArray[Any]) -> tuple[float, float]:
    median = float(np.median(column))
    scale = float(robust_deviation(column))
    return median, scale or float(np.std(column)) or 1.0


def _scale(images: NDArray[Any], limits: tuple[float, float]) -> NDArray[Any]:
    low, high = limits
    return np.clip((images.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)


def _gap(width: int) -> int:
    return max(1, width // 12)


def _draw_strip(ax: Axes, images: NDArray[Any], limits: tuple[float, float], is_heat: bool) -> AxesImage:
    """Draw images beside each other as one, which takes far less time than axes for each, with grey gaps."""
    k, height, width = images.shape[:3]
    gap = _gap(width)
    channels = images.reshape(k, height, width, -1).astype(np.float64)
    padded = np.pad(channels, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=np.nan)
    strip = padded.transpose(1, 0, 2, 3).reshape(height, k * (width + gap), -1)[:, :-gap]
    ax.set_facecolor(GREY)  # what is not a number is left out
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.set_anchor("W")  # beside a bar of colours, too
    if strip.shape[-1] == 3:
        opaque = np.isfinite(strip[..., :1])
        return ax.imshow(np.concatenate([np.nan_to_num(_scale(strip, limits)), opaque], axis=-1))
    return ax.imshow(strip[..., 0], cmap="magma" if is_heat else "gray", vmin=limits[0], vmax=limits[1])


def _short(text: str, length: int) -> str:
    head = length // 3
    return text if len(text) <= length else f"{text[:head]}…{text[head + 1 - length :]}"
