"""Centres and scales against plain computations, and what must leave them alone."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from pyro_ricvae.data.scaling import Scaling, quantisation_step

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(1000, 3)) * [1.0, 20.0, 1e-3] + [0.0, -7.0, 1e4]
KINDS = ("range", "robust", "none")


def uniform(n: int, d: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(1).uniform(size=(n, d))


def table() -> NDArray[np.float64]:
    """Return a normal column, one with half of its values equal, one with one value that differs, and a constant."""
    x = np.stack([NORMAL[:, 1]] * 4, axis=1)
    x[:600, 1] = 3.0
    x[:, 2], x[5, 2] = 3.0, 4.0
    x[:, 3] = 0.1  # whose mean, and so standard deviation, is not exact
    return x


# Fits


def test_robust_is_median_and_mad_with_what_stands_for_it() -> None:
    x = table()
    fitted = Scaling.fit(x, "robust")
    assert fitted.kind == "robust"
    assert fitted.center.tolist() == [np.sort(column)[499:501].mean() for column in x.T]
    mad = np.sort(np.abs(x[:, 0] - fitted.center[0]))[499:501].mean()
    assert fitted.scale[0] == pytest.approx(1.482602218505602 * mad, rel=1e-12)
    assert fitted.scale[1] == pytest.approx(1.482602218505602 * np.median(np.abs(x[600:, 1] - 3.0)), rel=1e-12)
    assert fitted.scale[2] == 3.0  # one of a thousand says nothing of a scale: three whole numbers
    assert fitted.scale[3] == 1.0
    assert fitted.center.dtype == fitted.scale.dtype == np.float64


@pytest.mark.parametrize("column", [0, 1, 2])
def test_robust_scale_is_the_standard_deviation_of_normal_values(column: int) -> None:
    fitted = Scaling.fit(norm.ppf((np.arange(20_000)[:, None] + 0.5) / 20_000) * 10.0**column, "robust")
    assert fitted.scale[0] == pytest.approx(10.0**column, rel=1e-3)


@pytest.mark.parametrize("value", [0.1, -1e-7, 3.3e20, 0.0])
@pytest.mark.parametrize("n", [2, 3, 1000])
def test_constant_columns_get_a_scale_of_one(value: float, n: int) -> None:
    fitted = Scaling.fit(np.full((n, 1), value), "robust")
    assert (fitted.center.tolist(), fitted.scale.tolist()) == ([value], [1.0])
    fitted = Scaling.fit(np.full((n, 1), value), "range")
    assert (fitted.center.tolist(), fitted.scale.tolist()) == ([value], [1.0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64])
def test_range_is_from_the_smallest_value_to_the_largest_of_all_features(dtype: Any) -> None:
    x = RNG.integers(3, 101, size=(40, 5)).astype(dtype)
    x[7, 2], x[3, 4] = 2, 101
    fitted = Scaling.fit(x, "range")
    assert (fitted.center.tolist(), fitted.scale.tolist()) == ([2.0] * 5, [99.0] * 5)
    standardised = fitted.standardise(x)
    assert (standardised.min(), standardised.max(), standardised.dtype) == (0.0, 1.0, np.float32)


def test_none_leaves_the_data() -> None:
    fitted = Scaling.fit(NORMAL, "none")
    assert np.array_equal(fitted.standardise(NORMAL), NORMAL.astype(np.float32))
    assert np.array_equal(fitted.restore(NORMAL), NORMAL)


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match=r"Expected scaling to be 'auto', .* or 'none', actual 'minmax'\."):
        Scaling.fit(NORMAL, "minmax")  # type: ignore[arg-type]


# Outliers


@pytest.mark.parametrize("sign", [1, -1])
def test_outliers_do_not_move_centre_and_scale(sign: int) -> None:
    clean = Scaling.fit(NORMAL, "robust")
    dirty = NORMAL.copy()
    dirty[::20] = sign * 1e6  # 5%
    fitted = Scaling.fit(dirty, "robust")
    assert (np.abs(fitted.center - clean.center) < 0.1 * clean.scale).all()
    np.testing.assert_allclose(fitted.scale, clean.scale, rtol=0.1)


def test_where_half_the_values_are_equal_a_few_outliers_do_not_move_the_scale() -> None:
    x = table()[:, 1:2]
    clean = Scaling.fit(x, "robust")
    x[::10] = 1e6  # 10%, all to one side
    fitted = Scaling.fit(x, "robust")
    assert fitted.center.tolist() == clean.center.tolist()
    assert clean.scale[0] < fitted.scale[0] < 2 * clean.scale[0]


def test_stray_values_do_not_stretch_the_range() -> None:
    x = uniform(100, 50)
    low, high = Scaling.fit(x, "range").center[0], 1.0
    stray = x.copy()
    stray[3, 4], stray[60, 1] = 1e6, -50.0
    fitted = Scaling.fit(stray, "range")
    assert fitted.center == pytest.approx(np.full(50, low), abs=0.005)
    assert fitted.scale == pytest.approx(np.full(50, high), abs=0.01)
    expected = np.quantile(stray, [0.001, 0.999])
    assert (fitted.center[0], fitted.scale[0]) == (expected[0], expected[1] - expected[0])


@pytest.mark.parametrize("end", [2.9, 3.1])
def test_values_near_the_rest_are_in_the_range(end: float) -> None:
    """Three times the range of the middle 99.8% is where strayness begins."""
    x = uniform(100, 50)
    inner = np.subtract(*np.quantile(x, [0.999, 0.001]))
    x[3, 4] = x.min() + end * inner
    reached = Scaling.fit(x, "range").scale[0] == x.max() - x.min()
    assert reached == (end < 3)


def test_sparse_images_keep_their_range() -> None:
    """Nearly all values are 0, so that the middle 99.8% has no range at all."""
    x = np.zeros((100, 50))
    x[3, 4] = 255.0
    assert Scaling.fit(x, "range").scale[0] == 255.0


def test_of_over_a_million_values_all_features_are_looked_at() -> None:
    """Every second value would be of every second feature, and these are dark."""
    x = uniform(1500, 1024).astype(np.float32)
    x[:, ::2] *= 0.01
    assert Scaling.fit(x, "range").scale[0] == pytest.approx(1.0, abs=1e-4)
    x = (x * 16).round() / 16
    assert not x[:, ::2].any()
    assert quantisation_step(x, Scaling.fit(x, "range")) == 1 / 16


# There and back


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_restore_undoes_standardise(kind: Any, dtype: Any) -> None:
    x = table().astype(dtype)
    fitted = Scaling.fit(x, kind)
    standardised = fitted.standardise(x)
    assert standardised.dtype == np.float32
    restored = fitted.restore(standardised)
    assert restored.dtype == np.float64
    assert np.array_equal(restored, standardised.astype(np.float64) * fitted.scale + fitted.center)
    tolerance = 1e-6 * np.maximum(np.abs(standardised), 1) * fitted.scale
    assert (np.abs(restored - x) <= tolerance).all()


def test_standardise_is_in_double_precision_and_in_chunks() -> None:
    """Differences of 0.001 around 10,000,000 are below the precision of float32."""
    x = 1e7 + np.arange(10_000)[:, None] * [0.001, 1.0]
    fitted = Scaling.fit(x, "robust")
    expected = ((x - np.median(x, axis=0)) / fitted.scale).astype(np.float32)
    assert np.array_equal(fitted.standardise(x), expected)
    assert len(np.unique(expected[:, 0])) == 10_000


@pytest.mark.parametrize("kind", ["range", "robust"])
@pytest.mark.parametrize("power", [20, -20])
@pytest.mark.parametrize("stray", [False, True])
def test_units_do_not_matter(kind: Any, power: int, stray: bool) -> None:
    """To the last bit, where units differ by a power of two."""
    x = table()
    if kind == "robust":
        x[:, 2] = x[:, 0]  # a nearly constant column's scale is one of decimals, which other units do not have
    if stray:
        x[7, 1] = 1e8
    factor = 2.0**power
    fitted, other = Scaling.fit(x, kind), Scaling.fit(x * factor, kind)
    varying = slice(3) if kind == "robust" else slice(None)  # a constant column's scale is 1 in any units
    rows, other_rows = fitted.standardise(x), other.standardise(x * factor)
    assert np.array_equal(rows, other_rows)
    assert np.array_equal(fitted.restore(rows)[:, varying] * factor, other.restore(other_rows)[:, varying])
    assert quantisation_step(x, fitted) == quantisation_step(x * factor, other)


# Quantisation


@pytest.mark.parametrize(
    ("x", "step"),
    [
        (np.tile(np.arange(256, dtype=np.uint8), 2).reshape(-1, 4), 1 / 255),
        ((np.tile(np.arange(256), 2).reshape(-1, 4) / 255).astype(np.float32), 1 / 255),
        (np.arange(17).repeat(4).reshape(-1, 4) / 16, 1 / 16),
        (np.array([[False, True], [True, True]]), 1.0),
        (uniform(1000, 4), 0.0),
        (np.full((3, 2), 7.0), 0.0),
    ],
    ids=["uint8", "uint8 over 255", "sixteenths", "bool", "continuous", "constant"],
)
def test_step_of_images(x: NDArray[Any], step: float) -> None:
    assert quantisation_step(x, Scaling.fit(x, "range")) == pytest.approx(step, rel=1e-4)


def test_step_of_a_table_is_the_median_over_its_columns() -> None:
    x = np.stack([NORMAL[:, 1], NORMAL[:, 1].round(2), NORMAL[:, 1].round(1)], axis=1)
    fitted = Scaling.fit(x, "robust")
    assert quantisation_step(x, fitted) == pytest.approx(0.01 / fitted.scale[1], rel=1e-6)
    assert quantisation_step(x[:, :1], Scaling.fit(x[:, :1], "robust")) == 0
    half = x[:, [0, 1]]
    assert quantisation_step(half, Scaling.fit(half, "robust")) == pytest.approx(0.01 / fitted.scale[1] / 2, rel=1e-6)
    assert quantisation_step(x[:, 1:2], Scaling.fit(x[:, 1:2], "none")) == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize(("gap", "step"), [(0.9e-5, 0.0), (1.1e-5, 1.1e-5)])
def test_gaps_below_a_hundred_thousandth_of_the_range_are_of_continuous_values(gap: float, step: float) -> None:
    x = np.array([[0.0], [0.5], [0.5 + gap], [1.0]])
    assert quantisation_step(x, Scaling.fit(x, "range")) == pytest.approx(step, rel=1e-6)


@pytest.mark.parametrize("noise", [1e-9, 0.3])
def test_noise_around_the_steps_hides_them(noise: float) -> None:
    x = np.arange(17).repeat(400).reshape(-1, 4) / 16
    x[::10] += noise * NORMAL[: len(x[::10]), :1]
    assert quantisation_step(x, Scaling.fit(x, "range")) < 1e-4
