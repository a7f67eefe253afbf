from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pyro_ricvae.plots.rows import image_grid, largest, tiles, worst_cells
from pyro_ricvae.plots.style import is_drawable, save

RNG = np.random.default_rng(0)


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _share(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> float:
    return float((picture == colour).all(axis=-1).mean())


@pytest.mark.parametrize(
    ("shape", "drawable"),
    [((8, 8), True), ((8, 8, 1), True), ((8, 8, 3), True), ((8, 8, 2), False), ((8,), False), ((2, 8, 8, 3), False)],
)
def test_what_can_be_drawn_is_greyscale_or_rgb(shape: tuple[int, ...], drawable: bool) -> None:
    assert is_drawable(shape) is drawable


@pytest.mark.parametrize("n", [0, 1, 5, 60, 100])
def test_the_largest_come_in_order_with_ties_as_they_stand(n: int) -> None:
    scores = RNG.integers(0, 9, (4, 3, 5)).astype(float)
    everything = sorted(np.ndindex(scores.shape), key=lambda index: -scores[index])  # a stable sort
    assert largest(scores, n) == everything[:n]


@pytest.mark.parametrize("shape", [(3, 6, 4), (3, 6, 4, 1), (3, 6, 4, 3)])
def test_all_rows_share_the_scale_of_the_first(tmp_path: Path, shape: tuple[int, ...]) -> None:
    black_and_white = np.zeros(shape)
    black_and_white[:, :3] = 10
    save(image_grid({"first": black_and_white, "grey": np.full(shape, 5)}), tmp_path / "a.png")
    grey = sum(_share(_pixels(tmp_path / "a.png"), (level,) * 3) for level in (127, 128))
    save(image_grid({"first": black_and_white, "white": np.full(shape, 99)}), tmp_path / "b.png")
    picture = _pixels(tmp_path / "b.png")
    black = _share(picture, (0, 0, 0))
    assert grey > 0.2
    assert black > 0.1
    assert _share(picture, (255, 255, 255)) > 3 * black


def test_limits_set_black_and_white(tmp_path: Path) -> None:
    save(image_grid({"x": np.full((2, 4, 4), 5.0)}, limits=(0, 5)), tmp_path / "a.png")
    save(image_grid({"x": np.full((2, 4, 4), 5.0)}, limits=(5, 9)), tmp_path / "b.png")
    assert _share(_pixels(tmp_path / "a.png"), (255, 255, 255)) > 0.8
    assert _share(_pixels(tmp_path / "b.png"), (0, 0, 0)) > 0.5


def test_heat_maps_are_coloured_and_have_a_bar(tmp_path: Path) -> None:
    scores = RNG.random((2, 6, 4))
    save(image_grid({"plain": scores}, titles=["one", "a name that is far too long.png"]), tmp_path / "a.png")
    save(image_grid({"hot": scores}, heat={"hot"}), tmp_path / "b.png")
    plain, hot = _pixels(tmp_path / "a.png").astype(int), _pixels(tmp_path / "b.png").astype(int)
    assert np.ptp(plain, axis=-1).max() == 0
    assert np.ptp(hot, axis=-1).max() > 100


def test_a_heat_map_of_zeros_is_drawn(tmp_path: Path) -> None:
    save(image_grid({"hot": np.zeros((1, 4, 4))}, heat={"hot"}), tmp_path / "a.png")
    assert _share(_pixels(tmp_path / "a.png"), (0, 0, 3)) > 0.2  # the colour of 0


@pytest.mark.parametrize("rows", [{}, {"a": np.zeros((0, 4, 4))}, {"a": np.zeros((2, 4, 4)), "b": np.zeros((3, 4, 4))}])
def test_rows_that_do_not_match_are_an_error(tmp_path: Path, rows: dict[str, NDArray[np.float64]]) -> None:
    with pytest.raises(ValueError, match="rows with the same number of images, at least one, actual"):
        save(image_grid(rows), tmp_path / "a.png")


@pytest.mark.parametrize("colours", [(), (1,), (3,)])
def test_tiles_hold_each_image_pixel_by_pixel(tmp_path: Path, colours: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, (5, 30, 20, *colours)).astype(float)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    tiles(images).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        picture = np.asarray(image).reshape(image.height, image.width, -1)
    assert picture.shape[:2] == (2 * 62 + 2, 3 * 42 + 2)  # enlarged twice, in two lines of three
    for i, image in enumerate(images):
        y, x = 2 + i // 3 * 62, 2 + i % 3 * 42
        np.testing.assert_array_equal(picture[y : y + 60 : 2, x : x + 40 : 2], image.reshape(30, 20, -1))
        np.testing.assert_array_equal(picture[y + 1 : y + 60 : 2, x + 1 : x + 40 : 2], image.reshape(30, 20, -1))


def test_tiles_clip_at_their_limits(tmp_path: Path) -> None:
    tiles(np.stack([np.full((64, 64), value) for value in (-5.0, 1.0, 2.0, 9.0)]), limits=(0, 2)).save(
        tmp_path / "a.png"
    )
    picture = _pixels(tmp_path / "a.png")[..., 0]
    assert [picture[10, 10], picture[10, 80], picture[80, 10], picture[80, 80]] == [0, 128, 255, 255]


def test_the_worst_cells_are_drawn_also_where_columns_have_no_spread(tmp_path: Path) -> None:
    values = RNG.normal(size=(50, 3))
    values[:, 1] = 7.0
    values[:, 2] = 0.0
    values[4] = [1e9, 8.0, -3.0]
    scores = np.zeros((50, 3))
    scores[4] = [3, 2, 1]
    save(worst_cells(values, np.zeros((50, 3)), scores, n=3), tmp_path / "few.png")
    named = worst_cells(values, np.zeros((50, 3)), scores, rows=[f"r{i}" for i in range(50)], columns=list("abc"))
    save(named, tmp_path / "all.png")
    few, many = _pixels(tmp_path / "few.png"), _pixels(tmp_path / "all.png")
    assert many.shape[0] > few.shape[0]
    for picture in (few, many):
        assert _share(picture, (0xB2, 0x18, 0x2B)) > 0.001
        assert _share(picture, (0xD0, 0xD0, 0xD0)) > 0.001


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    save(image_grid({"x": RNG.random((2, 4, 4))}), tmp_path / "a.png")
    save(worst_cells(RNG.random((5, 2)), RNG.random((5, 2)), RNG.random((5, 2))), tmp_path / "b.png")
    assert dict(mpl.rcParams) == before
