import itertools

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from pyro_ricvae.estimators import (
    automatic_epochs,
    automatic_floor,
    automatic_hidden,
    automatic_n_latent,
    automatic_spike,
)

ROWS = [2, 3, 10, 99, 100, 101, 600, 2000, 5000, 60_000, 10**6, 10**8]


def floor_of(x: Tensor, step: float = 0.0, *, images: bool = False) -> tuple[float, float]:
    return automatic_floor(x, x.median(0).values, step, images=images)


# What is clean, and what is dirt


@pytest.mark.parametrize("floor", [0.02, 0.15, 3.0])
def test_dirt_of_images_is_as_wide_as_a_share_of_their_range_and_of_tables_as_floors(floor: float) -> None:
    images, tables = automatic_spike(floor, images=True), automatic_spike(floor, images=False)
    assert images["ratio"] * floor == pytest.approx(0.3)
    assert tables["ratio"] == 10
    assert images["broadest"] * floor == pytest.approx(max(0.05, 0.75 * floor))
    assert (images["takeover"], images["broadening"]) == (0.1, 1.5)
    assert (tables["takeover"], tables["broadening"], tables["broadest"]) == (0.1, 1.0, 1.0)
    assert (images["widest"], images["narrowest"], images["clean_df"], images["draws"]) == (2.0, 0.5, None, True)
    assert (tables["widest"], tables["narrowest"], tables["clean_df"], tables["draws"]) == (3.7, 0.02, 8.0, False)


# Latents, layers and epochs


@pytest.mark.parametrize(
    ("n_rows", "n_features", "expected"),
    [(2000, 400, 10), (60_000, 784, 31), (600, 30, 7), (2000, 8, 4), (2000, 9, 5), (1600, 12, 6), (10**8, 784, 64)],
)
def test_latents_as_documented(n_rows: int, n_features: int, expected: int) -> None:
    assert automatic_n_latent(n_rows, n_features) == expected


@pytest.mark.parametrize("n_rows", ROWS)
def test_latents_are_fewer_than_features(n_rows: int) -> None:
    for n_features in range(2, 2001):
        n_latent = automatic_n_latent(n_rows, n_features)
        assert type(n_latent) is int
        assert 1 <= n_latent < n_features
        assert n_latent <= min(64, n_features / 2 + 0.5)
    assert automatic_n_latent(n_rows, 1) == 1


@pytest.mark.parametrize("n_features", [1, 2, 5, 30, 784, 2000])
def test_latents_grow_with_rows_and_features(n_features: int) -> None:
    by_rows = [automatic_n_latent(n_rows, n_features) for n_rows in ROWS]
    assert by_rows == sorted(by_rows)
    for n_rows in ROWS:
        assert automatic_n_latent(n_rows, n_features) <= automatic_n_latent(n_rows, n_features + 1)


@pytest.mark.parametrize(("n_rows", "images"), [(100, True), (10_000, True), (10_000, False)])
def test_layers_narrow_and_grow_with_the_features(n_rows: int, images: bool) -> None:
    sizes = {width: automatic_hidden(n_rows, width, images=images) for width in (1, 48, 49, 256, 257, 2000)}
    assert sizes[1] == sizes[48] == (128, 64)
    assert sizes[49] == sizes[256] == (256, 128, 64)
    assert sizes[257] == sizes[2000] == (1000, 500, 250)


def test_layers_of_tables_with_few_rows_are_small() -> None:
    assert {automatic_hidden(9_999, width, images=False) for width in (1, 49, 512, 2000)} == {(128, 64)}


@pytest.mark.parametrize("batch_size", [1, 32, 100, 5000])
@pytest.mark.parametrize(("images", "steps_in_all", "most"), [(True, 5000, 1000), (False, 3000, 300)])
def test_epochs_make_so_many_steps(batch_size: int, images: bool, steps_in_all: int, most: int) -> None:
    epochs = [automatic_epochs(n_rows, batch_size, images=images) for n_rows in ROWS]
    assert epochs == sorted(epochs, reverse=True)
    assert max(epochs) == min(most, round(steps_in_all / -(-2 // batch_size)))
    for n_rows, each in zip(ROWS, epochs, strict=True):
        steps = -(-n_rows // batch_size)
        assert 9 <= each <= most
        assert each == 9 or each * steps <= steps_in_all + steps / 2
        assert each == most or each * steps >= steps_in_all - steps / 2


# The floor


def test_floor_is_from_the_median_distance() -> None:
    x = torch.tensor([[0.0], [0.0], [0.0], [0.0], [1.0], [-2.0], [3.0]])
    assert floor_of(x) == pytest.approx((1.6, 0.8))
    assert automatic_floor(x, torch.tensor([-1.0]), 0.0, images=False) == pytest.approx((0.8, 0.4))


def test_floor_of_a_normal_table() -> None:
    start, end = floor_of(torch.randn(4000, 10))
    assert start == 2 * end == pytest.approx(0.8 * norm.ppf(0.75), rel=0.02)


def test_floor_of_strokes_on_black() -> None:
    """Four of five cells are at the centre: the strokes set the floor."""
    x = torch.zeros(1000, 50)
    x[torch.rand(x.shape) < 0.2] = 0.8
    assert floor_of(x, 1 / 255, images=True) == pytest.approx((0.8 * 0.8, 0.4 * 0.8))
    # Also where black is not quite black, and not the same in all cells.
    assert floor_of(x + 1e-7 * torch.rand(x.shape), images=True) == pytest.approx((0.8 * 0.8, 0.4 * 0.8), rel=1e-5)


def test_floor_of_smooth_images() -> None:
    x = 0.5 + 0.1 * torch.randn(2000, 1) * torch.linspace(-1, 1, 64).cos()
    distances = (x - x.median(0).values).abs().flatten().sort().values
    start, end = floor_of(x, images=True)
    assert start == 2 * end == pytest.approx(0.8 * distances[len(distances) // 2].item(), rel=0.01)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.2, 0.4])
def test_dirty_cells_far_away_leave_the_floor_among_the_clean_cells(share: float) -> None:
    """The median of all distances is a larger quantile of the clean ones: 13% larger at 10%, twice as large at 40%."""
    x = torch.randn(4000, 10)
    far = torch.rand(x.shape) < share
    x[far] = 1e6 * torch.randn(int(far.sum()))
    clean_quantile = norm.ppf((1 + 0.5 / (1 - share)) / 2)
    assert floor_of(x)[0] == pytest.approx(0.8 * clean_quantile, rel=0.04)


def test_cells_within_half_a_step_or_rounding_are_at_the_centre() -> None:
    def start_of(*counts: tuple[float, int], step: float = 0.0, images: bool = False) -> float:
        x = torch.cat([torch.full((n, 1), value) for value, n in counts])
        return automatic_floor(x, torch.zeros(1), step, images=images)[0]

    away = (1.0, 2), (4.0, 2), (5.0, 3)
    assert start_of((0.0, 6), *away) == pytest.approx(0.8 * 4)
    for near in (0.4, 0.5):
        assert start_of((0.0, 6), (near, 6), *away, step=1.0) == pytest.approx(0.8 * 4)
    assert start_of((0.0, 6), (0.6, 6), *away, step=1.0) == pytest.approx(0.8)
    assert start_of((0.0, 6), (1e-7, 6), (9e-6, 6), *away, images=True) == pytest.approx(0.8 * 4)
    # The unit of a table's rounding is the median distance of what is not at the centre, however much is.
    assert start_of((0.0, 20), (5e-6, 6), *away) == pytest.approx(0.8 * 4)


@pytest.mark.parametrize(
    ("step", "end"),
    [(0.0, 0.4), (0.1, 0.4), (0.2, 0.4), (0.3, 0.6), (0.4, 0.8), (0.5, 0.8), (1.0, 0.8)],
)
def test_the_end_is_two_steps_where_these_lie_between_half_the_start_and_the_start(step: float, end: float) -> None:
    x = torch.tensor([[0.0], [0.0], [0.0], [1.0], [-1.0]])
    assert floor_of(x, step) == pytest.approx((0.8, end))


@pytest.mark.parametrize("factor", [2.0**20, 2.0**-20, 3.7])
def test_floor_has_the_units_of_the_data(factor: float) -> None:
    x = torch.randn(500, 10)
    x[:, :3] = (x[:, :3] * 2).round() / 2
    for step in (0.0, 0.3, 1.0):
        expected = [factor * end for end in floor_of(x, step)]
        assert floor_of(factor * x, factor * step) == pytest.approx(expected, rel=0 if factor != 3.7 else 1e-5)


@pytest.mark.parametrize(("n_rows", "every"), [(10_000, 1), (10_001, 2), (20_000, 2), (20_001, 3)])
def test_of_over_a_million_cells_evenly_spaced_rows_are_looked_at(n_rows: int, every: int) -> None:
    x = torch.full((n_rows, 100), 7.0)
    x[::every] = 1.0
    assert automatic_floor(x, torch.zeros(100), 0.0, images=False)[0] == pytest.approx(0.8)


def test_cells_that_are_all_at_the_centre_give_a_floor_all_the_same() -> None:
    for images, step in itertools.product((False, True), (0.0, 5.0)):
        start, end = automatic_floor(torch.zeros(4, 3), torch.zeros(3), step, images=images)
        assert start >= end > 0
    assert automatic_floor(torch.ones(4, 3), torch.zeros(3), 5.0, images=False) == (0.8, 0.8)  # all within half a step
