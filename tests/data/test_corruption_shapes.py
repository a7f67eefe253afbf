"""What the pixels touched look like: their shapes, places and values, in ways that share nothing with the code."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import kstest

from pyro_ricvae.data import corruption

IMAGES = np.random.default_rng(1).uniform(3, 90, size=(20, 9, 7))
TABLE = np.random.default_rng(2).normal(50, [1, 5, 25, 9], size=(30, 4))


def corrupt(name: str, x: Any = IMAGES, **options: Any) -> tuple[Any, Any]:
    dirty, mask = getattr(corruption, name)(x, random_state=0, **options)
    return dirty, mask


def is_disc(touched: Any) -> bool:
    """Say whether a disc that is centred in the image has these pixels: |p|^2 - 2 c'p <= k inside, > k outside."""
    points = np.argwhere(np.ones_like(touched)).astype(float)
    sign = np.where(touched.ravel(), 1.0, -1.0)[:, None]
    left = sign * np.hstack([-2 * points, -np.ones((len(points), 1)), sign])  # unknown: the centre, k and the margin
    limits = [(-0.5, side - 0.5) for side in touched.shape] + [(None, None), (0, 1)]
    found = linprog([0, 0, 0, -1], left, -sign[:, 0] * (points**2).sum(1), bounds=limits)
    return bool(found.success) and found.x[3] > 0


def test_is_disc_can_say_no() -> None:
    touched = np.hypot(*np.ogrid[-4:5, -3:4]) < 2.5
    assert is_disc(touched)
    touched[4, 3] = False
    assert not is_disc(touched)


def test_discs_are_discs_of_a_uniform_radius_anywhere() -> None:
    _, mask = corrupt("discs", share=1, radius=(0.8, 4))
    assert all(map(is_disc, mask))
    _, mask = corrupt("discs", np.indices((400, 80, 70))[1], share=1, radius=(3, 9))
    whole = ~(mask[:, [0, -1]].any((1, 2)) | mask[:, :, [0, -1]].any((1, 2)))
    radii = np.sqrt(mask[whole].sum((1, 2)) / np.pi)
    assert kstest(radii, "uniform", (3, 6)).pvalue > 0.01
    for axis, side in ((1, 80), (2, 70)):
        places = [np.nonzero(each)[axis - 1].mean() for each in mask[whole]]
        assert kstest(places, "uniform", (8, side - 17)).pvalue > 0.01
    assert (~whole).sum() > 50  # some centres are near an edge
    _, mask = corrupt("discs", np.indices((6000, 3, 2))[1], share=1, radius=(0, 0))
    assert (mask.sum((1, 2)) == 1).all()  # the nearest pixel
    assert np.abs(mask.sum(0) - 1000).max() < 120  # four standard deviations


def boxes(mask: Any) -> Any:
    """Return top, left, height and width of each image's touched pixels, which must be a rectangle."""
    found = []
    for touched in mask:
        rows, columns = np.nonzero(touched.any(1))[0], np.nonzero(touched.any(0))[0]
        found.append((rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1))
        assert touched.sum() == found[-1][2] * found[-1][3]
    return np.array(found)


@pytest.mark.parametrize(("size", "heights", "widths"), [((2, 4), (2, 4), (2, 4)), ((5, 30), (5, 9), (5, 7))])
def test_rectangles_have_all_sizes_and_places(size: Any, heights: Any, widths: Any) -> None:
    _, mask = corrupt("rectangles", np.tile(IMAGES, (50, 1, 1)), share=1, size=size)
    top, left, height, width = boxes(mask).T
    for start, extent, (low, high), side in ((top, height, heights, 9), (left, width, widths, 7)):
        sizes, counts = np.unique(extent, return_counts=True)
        assert sizes.tolist() == list(range(low, high + 1))
        assert counts.min() > 0.8 * 1000 / len(sizes)
        for each in sizes:
            assert set(start[extent == each]) == set(range(side - each + 1))


@pytest.mark.parametrize(("size", "shape"), [(1, (1, 1)), (3, (3, 3)), (8, (8, 7)), (20, (9, 7))])
def test_blocks_are_squares(size: int, shape: tuple[int, int]) -> None:
    _, mask = corrupt("blocks", share=1, size=size)
    assert (boxes(mask)[:, 2:] == shape).all()


def is_bar(touched: Any, width: float) -> bool:
    """Say whether a bar of this width has these pixels, by trying angles; places are searched exactly."""
    angle = np.linspace(0, np.pi, 1800)[:, None, None]
    rows, columns = np.indices(touched.shape)
    along = rows * np.cos(angle) - columns * np.sin(angle)
    inside, outside = along[:, touched], along[:, ~touched]
    first, last = inside.min(1), inside.max(1)
    below = np.where(outside < first[:, None], outside, -np.inf).max(1)
    above = np.where(outside > last[:, None], outside, np.inf).min(1)
    between = ((outside >= first[:, None]) & (outside <= last[:, None])).any(1)
    low, high = np.maximum(below, last - width), np.minimum(above - width, first)  # of the bar's lower edge
    return bool((~between & (low < high + 0.02)).any())  # 0.02: for the angles between


def test_is_bar_can_say_no() -> None:
    touched = np.abs(np.subtract.outer(np.arange(9), np.arange(7))) <= 1
    assert is_bar(touched, 1.5)
    assert not is_bar(touched, 1.3)
    touched[0, 0] = False
    assert not is_bar(touched, 1.5)


def test_lines_are_bars_at_all_angles() -> None:
    _, mask = corrupt("lines", np.tile(IMAGES, (3, 1, 1)), share=1, width=(1.5, 1.5))
    assert all(is_bar(touched, 1.5) for touched in mask)
    big = np.indices((400, 41, 41))[1]
    one, five = (corrupt("lines", big, share=1, width=(width, width))[1] for width in (1, 5))
    assert not (one & ~five).any()  # one seed, one line
    assert five.sum() / one.sum() == pytest.approx(5, rel=0.05)
    long = [touched for touched in one if touched.sum() > 20]
    slopes = [np.linalg.svd(np.argwhere(touched) - np.argwhere(touched).mean(0))[2][0] for touched in long]
    angles = np.mod([np.arctan2(*slope) for slope in slopes], np.pi)
    assert kstest(angles, "uniform", (0, np.pi)).pvalue > 0.01


@pytest.mark.parametrize("shape", [(9, 7), (1, 5), (1, 1)])
@pytest.mark.parametrize("width", [0, 1])
def test_every_line_touches_a_pixel(shape: tuple[int, int], width: float) -> None:
    images = np.random.default_rng(0).normal(size=(500, *shape))
    assert corrupt("lines", images, share=1, width=(width, width))[1].any((1, 2)).all()


def test_a_row_or_a_column_is_stuck_at_one_value() -> None:
    images = np.tile(IMAGES, (40, 1, 1))
    dirty, mask = corrupt("stuck_rows_and_columns", images, share=1)
    top, left, height, width = boxes(mask).T
    rows = width == 7
    assert (np.where(rows, height, width) == 1).all()
    assert (np.where(rows, 7, height) == np.where(rows, 7, 9)).all()
    assert abs(rows.mean() - 0.5) < 0.07
    assert set(top[rows]) == set(range(9))
    assert set(left[~rows]) == set(range(7))
    values = [set(each[touched]) for each, touched in zip(dirty, mask, strict=True)]
    assert {len(each) for each in values} == {1}
    low, high = images.min(), images.max()
    assert kstest([each.pop() for each in values], "uniform", (low, high - low)).pvalue > 0.01


@pytest.mark.parametrize("x", [IMAGES, TABLE, np.stack([IMAGES, -IMAGES], -1)], ids=["images", "table", "channels"])
@pytest.mark.parametrize("cell_share", [0, 0.25, 0.4, 1])
def test_salt_and_pepper_is_exact_in_each_row_and_uniform(x: Any, cell_share: float) -> None:
    dirty, mask = corrupt("salt_and_pepper", x, share=0.5, cell_share=cell_share)
    pixels, channels = np.prod(x.shape[1:3]), 2 if x.ndim == 4 else 1
    counts = mask.reshape(len(x), -1).sum(1)
    each = round(cell_share * pixels) * channels
    assert sorted(counts) == sorted([0] * (len(x) // 2) + [each] * (len(x) // 2))
    if each:
        assert kstest(dirty[mask], "uniform", (x.min(), np.ptp(x))).pvalue > 0.01
