"""Dirt with known truth: seeded generators that overwrite part of clean data and say where.

Every function leaves its input as it is and returns ``(dirty, mask)``, two arrays of the input's shape: `dirty` of its
type, and the boolean `mask` of the cells touched, whether or not their values happen to differ. All other cells are
bit-identical. New values are rounded for integer types, and clipped to what the type holds. The functions share:

images : ndarray of integers or floats, shape (n, height, width) or (n, height, width, channels)
    A pixel that is hit is touched in all channels. Pixels are unit squares around whole coordinates from 0 on.
table : ndarray of integers or floats, shape (n, d)
    Numeric columns, in any units.
share : float in [0, 1]
    Of the images, rows or cells, ``round(share * number)`` are hit, drawn at random.
value : float
    The value painted, as a fraction of the data's range: 0 is their minimum, 1 their maximum.
random_state : int, numpy.random.Generator or None
    The seed. The same seed gives the same dirt; a generator is advanced; None differs from call to call.

What is no NumPy array raises a TypeError. Wrong shapes and types, values that are not finite, data or columns that are
constant where their spread is needed, and options out of range raise a ValueError, before anything is drawn.

Examples
--------
>>> import numpy as np
>>> from pyro_ricvae.data import corruption
>>> images = np.random.default_rng(0).uniform(size=(10, 28, 20))
>>> dirty, mask = corruption.discs(images, share=0.6, random_state=0)
>>> dirty.shape, int(mask.any((1, 2)).sum()), bool((dirty[mask] == images.min()).all())
((10, 28, 20), 6, True)
>>> table = np.random.default_rng(0).normal(size=(50, 4))
>>> dirty, mask = corruption.gross_errors(table, share=0.1, random_state=0)
>>> int(mask.sum()), bool((dirty == table)[~mask].all())
(20, True)
"""

import math
from collections.abc import Callable, Container, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyro_ricvae._core.checks import positive_int

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]
Dirty: TypeAlias = tuple[Array, Mask]
Seed: TypeAlias = int | np.random.Generator | None
Bounds: TypeAlias = tuple[float, float]

_SIZE: Bounds = (2, 8)
_FACTORS = (10, 0.1, 32)
_UNIFORM: Any = object()  # as a value: drawn from the range


def discs(
    images: Array, *, share: float, radius: Bounds = (2, 7), value: float = 0.0, random_state: Seed = None
) -> Dirty:
    """Paint one disc on each image hit: the pixels whose centres it covers, and at least the nearest.

    Parameters
    ----------
    radius : (float, float), default=(2, 7)
        Bounds of the uniform radius in pixels. The disc's centre is uniform over the image.
    """
    low, high = _bounds("radius", radius)

    def disc(rng: np.random.Generator, rows: Array, columns: Array) -> Mask:
        return _within(np.hypot(rows - _place(rng, rows), columns - _place(rng, columns)), rng.uniform(low, high))

    return _paint(images, share, value, random_state, disc)


def rectangles(
    images: Array, *, share: float, size: tuple[int, int] = (3, 11), value: float = 0.0, random_state: Seed = None
) -> Dirty:
    """Paint one upright rectangle on each image hit, at a uniform place inside the image.

    Parameters
    ----------
    size : (int, int), default=(3, 11)
        Bounds of the height and of the width in pixels, inclusive and capped by the image's; both are uniform.
    """
    low, high = _bounds("size", size, whole=True)

    def interval(rng: np.random.Generator, axis: Array) -> Mask:
        length = rng.integers(min(low, axis.size), min(high, axis.size), endpoint=True)
        start = rng.integers(axis.size - length, endpoint=True)
        inside: Mask = (start <= axis) & (axis < start + length)
        return inside

    return _paint(images, share, value, random_state, lambda rng, rows, cols: interval(rng, rows) & interval(rng, cols))


def blocks(images: Array, *, share: float, size: int = 3, value: float = 1.0, random_state: Seed = None) -> Dirty:
    """Paint one square of `size` pixels, capped by the image, on each image hit, at a uniform place inside it."""
    return rectangles(images, share=share, size=(size, size), value=value, random_state=random_state)


def lines(
    images: Array, *, share: float, width: Bounds = (1, 1), value: float = 1.0, random_state: Seed = None
) -> Dirty:
    """Paint one straight bar across each image hit: the pixels whose centres it covers, and at least the nearest.

    Parameters
    ----------
    width : (float, float), default=(1, 1)
        Bounds of the uniform width in pixels. The bar's axis has a uniform angle and goes through a point uniform over
        the image.
    """
    low, high = _bounds("width", width)

    def line(rng: np.random.Generator, rows: Array, columns: Array) -> Mask:
        down, right, angle = rows - _place(rng, rows), columns - _place(rng, columns), rng.uniform(0, math.pi)
        return _within(np.abs(down * math.cos(angle) - right * math.sin(angle)), rng.uniform(low, high) / 2)

    return _paint(images, share, value, random_state, line)


def stuck_rows_and_columns(images: Array, *, share: float, random_state: Seed = None) -> Dirty:
    """Set one whole row or column, with equal chance, of each image hit to one value uniform over the data's range."""

    def row_or_column(rng: np.random.Generator, rows: Array, columns: Array) -> Mask:
        stuck, other = (rows, columns) if rng.random() < 0.5 else (columns, rows)
        touched: Mask = (stuck == rng.integers(stuck.size)) & (other >= 0)
        return touched

    return _paint(images, share, _UNIFORM, random_state, row_or_column)


def salt_and_pepper(x: Array, *, share: float = 1.0, cell_share: float = 0.25, random_state: Seed = None) -> Dirty:
    """Replace pixels of the images hit, or cells of the rows hit, by values uniform over the range of all the data.

    Parameters
    ----------
    x : ndarray, shape (n, height, width), (n, height, width, channels) or (n, d)
        Images or a table. A pixel's channels get values of their own.
    cell_share : float in [0, 1], default=0.25
        ``round(cell_share * number)`` of the pixels or cells are replaced, in each image or row hit.
    """
    cell_share = _number("cell_share", cell_share, 0, 1)

    def pixels(rng: np.random.Generator, *axes: Array) -> Mask:
        touched = np.zeros(np.broadcast_shapes(*(axis.shape for axis in axes)), bool)
        touched.flat[_draw(rng, touched.size, cell_share)] = True
        return touched

    return _paint(x, share, _UNIFORM, random_state, pixels, noise=True)


def impulses(table: Array, *, share: float, size: Bounds = _SIZE, random_state: Seed = None) -> Dirty:
    """Add to each cell hit, or subtract with equal chance, a number of standard deviations of its column.

    Parameters
    ----------
    size : (float, float), default=(2, 8)
        Bounds of that uniform number.
    """
    return _hit_cells(table, share, 0.0, random_state, size, _FACTORS)


def unit_slips(table: Array, *, share: float, factors: Sequence[float] = _FACTORS, random_state: Seed = None) -> Dirty:
    """Multiply each cell hit, none of them zero, by a factor: a value in the wrong unit.

    Parameters
    ----------
    factors : sequence of float, default=(10, 0.1, 32)
        The factors, of equal chance; none of them 0 or 1.
    """
    return _hit_cells(table, share, 1.0, random_state, _SIZE, factors)


def gross_errors(table: Array, *, share: float, slip_share: float = 0.25, random_state: Seed = None) -> Dirty:
    """Hit some cells with `unit_slips` and the others with `impulses`, both by their defaults.

    Parameters
    ----------
    slip_share : float in [0, 1], default=0.25
        Of the cells hit, ``round(slip_share * number)`` get unit slips.
    """
    return _hit_cells(table, share, slip_share, random_state, _SIZE, _FACTORS)


def replace_rows(x: Array, *, share: float, random_state: Seed = None) -> Dirty:
    """Replace each row hit by one that does not belong: its cells are drawn independently, from their columns' values.

    Parameters
    ----------
    x : ndarray of integers or floats, shape (n, ...)
        Rows of any shape, not all equal.
    """
    _check("x", x, range(2, 65), "(n, ...), of two dimensions or more")
    share, rng = _number("share", share, 0, 1), np.random.default_rng(random_state)
    if (x == x[0]).all():
        raise ValueError("Expected rows that differ, actual all equal: replacing rows would change nothing.")
    dirty, mask, columns = np.array(x), np.zeros(x.shape, bool), np.indices(x.shape[1:], sparse=True)
    for row in _draw(rng, len(x), share):
        dirty[row] = x[rng.integers(len(x), size=x.shape[1:]), *columns]
        mask[row] = True
    return dirty, mask


def _paint(
    x: Array, share: float, value: float, random_state: Seed, draw: Callable[..., Mask], noise: bool = False
) -> Dirty:
    """Paint where ``draw(rng, *axes)`` says, in `value` or in a uniform one, for each image or, as noise, cell."""
    name, ranks, tables = ("x", (2, 3, 4), "(n, d), ") if noise else ("images", (3, 4), "")
    _check(name, x, ranks, f"{tables}(n, height, width) or (n, height, width, channels)")
    share, value = _number("share", share, 0, 1), value if value is _UNIFORM else _number("value", value)
    low, high, rng = float(x.min()), float(x.max()), np.random.default_rng(random_state)
    if low == high:
        raise ValueError(f"Expected values that vary, actual all {low:g}: dirt is painted in fractions of their range.")
    dirty, mask, axes = np.array(x), np.zeros(x.shape, bool), np.indices(x.shape[1:3], sparse=True)
    for image in _draw(rng, len(x), share):
        mask[image, draw(rng, *axes)] = True
        fraction = rng.random(x.shape[1:] if noise else ()) if value is _UNIFORM else value
        np.copyto(dirty[image], _cast((1 - fraction) * low + fraction * high, x.dtype), where=mask[image])
    return dirty, mask


def _place(rng: np.random.Generator, axis: Array) -> float:
    return rng.uniform(-0.5, axis.size - 0.5)


def _within(distance: Array, reach: float) -> Mask:
    """Return where the distance is at most `reach`, or else the smallest: no image that is hit stays clean."""
    touched: Mask = distance <= max(reach, distance.min())
    return touched


def _hit_cells(
    table: Array, share: float, slip_share: float, random_state: Seed, size: Bounds, factors: Sequence[float]
) -> Dirty:
    """Hit cells with unit slips and impulses, on cells apart."""
    _check("table", table, (2,), "(n, d)")
    hits = round(_number("share", share, 0, 1) * table.size)
    slips = round(_number("slip_share", slip_share, 0, 1) * hits)
    (low, high), factors = _bounds("size", size), [_number("each of factors", factor) for factor in np.ravel(factors)]
    if not factors or not {0, 1}.isdisjoint(factors):
        raise ValueError(f"Expected one factor or more, none of them 0 or 1, actual {factors}.")
    nonzero, constant = np.flatnonzero(table), np.flatnonzero(table.min(0) == table.max(0))
    if slips > nonzero.size:
        raise ValueError(f"Expected {slips} nonzero cells or more to slip, actual {nonzero.size}: lower the share.")
    if slip_share < 1 and constant.size:
        raise ValueError(f"Expected columns that vary, actual constant columns {constant.tolist()}: leave them out.")
    rng = np.random.default_rng(random_state)
    slipped = rng.choice(nonzero, slips, replace=False)
    pushed = rng.choice(np.setdiff1d(np.arange(table.size), slipped), hits - slips, replace=False)
    values = table.astype(float).ravel()
    values[slipped] *= rng.choice(factors, slips)
    signed = rng.uniform(low, high, pushed.size) * rng.choice([-1, 1], pushed.size)
    values[pushed] += signed * table.std(0, dtype=float)[pushed % table.shape[1]]
    dirty, mask = np.array(table), np.isin(np.arange(table.size), np.append(slipped, pushed)).reshape(table.shape)
    np.copyto(dirty, _cast(values.reshape(table.shape), table.dtype), where=mask)
    return dirty, mask


def _draw(rng: np.random.Generator, number: int, share: float) -> NDArray[np.int64]:
    return rng.choice(number, round(share * number), replace=False)


def _cast(values: Array | float, dtype: np.dtype[Any]) -> Array:
    """Return floats as `dtype`, rounded if it holds integers, and clipped to what it holds."""
    values = np.asarray(values, float)
    if dtype.kind == "f":
        return np.clip(values, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    info = np.iinfo(dtype)  # the largest of 64 bits is no float: the one below the first too large is truncated
    return np.clip(np.rint(values), info.min, np.nextafter(info.max + 1.0, 0)).astype(dtype)


def _check(name: str, x: Any, ranks: Container[int], shape: str) -> None:
    if type(x) not in (np.ndarray, np.memmap):
        raise TypeError(f"Expected {name} to be a NumPy array, actual {type(x).__name__}: give np.asarray({name}).")
    if x.ndim not in ranks or x.size == 0:
        raise ValueError(f"Expected {name} of shape {shape} and not empty, actual shape {x.shape}: reshape them.")
    if x.dtype.kind not in "iuf":
        raise ValueError(f"Expected {name} of integers or floats, actual {x.dtype}: give {name}.astype(float).")
    if wrong := int((~np.isfinite(x)).sum()):
        raise ValueError(f"Expected finite values in {name}, actual {wrong} NaN or infinite: leave them out.")


def _number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"Expected {name} to be a finite number in [{low:g}, {high:g}], actual {value!r}.")
    return number


def _bounds(name: str, bounds: Any, whole: bool = False) -> tuple[Any, Any]:
    if not isinstance(bounds, Sequence | np.ndarray) or len(bounds) != 2:
        raise ValueError(f"Expected {name} to be two bounds, (low, high), actual {bounds!r}.")
    each = f"each bound of {name}"
    low, high = (positive_int(each, bound) if whole else _number(each, bound, 0) for bound in bounds)
    if low > high:
        raise ValueError(f"Expected {name} to be (low, high) with low <= high, actual {bounds!r}: swap them.")
    return low, high
