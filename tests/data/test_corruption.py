from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from pyro_ricvae.data import corruption

IMAGES = np.random.default_rng(1).uniform(3, 90, size=(20, 9, 7))
TABLE = np.random.default_rng(2).normal(50, [1, 5, 25, 9], size=(30, 4))
PAINT = {  # a value outside the range: what is painted always differs
    "discs": {"value": -1.0},
    "rectangles": {"value": 2.0},
    "blocks": {"value": 2.0},
    "lines": {"value": 2.0},
    "stuck_rows_and_columns": {},
    "salt_and_pepper": {},
}
CELLS = ("impulses", "unit_slips", "gross_errors")
ALL = (*PAINT, *CELLS, "replace_rows")


def corrupt(name: str, x: Any = None, **options: Any) -> tuple[Any, Any]:
    x = (TABLE if name in CELLS else IMAGES) if x is None else x
    dirty, mask = getattr(corruption, name)(x, **{"share": 0.3, "random_state": 0, **PAINT.get(name, {}), **options})
    return dirty, mask


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f4", "u1", "i8"])
@pytest.mark.parametrize("name", ALL)
def test_input_type_and_untouched_cells_stay(name: str, dtype: str) -> None:
    clean = np.asfortranarray((TABLE if name in CELLS else IMAGES).astype(dtype))
    before = clean.copy()
    clean.flags.writeable = False
    dirty, mask = corrupt(name, clean)
    assert clean.tobytes() == before.tobytes()
    assert dirty.dtype == clean.dtype
    assert dirty.shape == mask.shape == clean.shape
    assert mask.dtype == bool
    assert mask.any()
    assert dirty[~mask].tobytes() == clean[~mask].tobytes()
    assert np.isfinite(dirty).all()
    assert not np.shares_memory(dirty, clean)


@pytest.mark.parametrize("name", ALL)
def test_the_mask_is_what_was_touched(name: str) -> None:
    dirty, mask = corrupt(name)
    changed = dirty != (TABLE if name in CELLS else IMAGES)
    if name == "replace_rows":  # a cell may draw its own value
        assert not (changed & ~mask).any()
        assert changed.sum() > 0.8 * mask.sum()
    else:
        np.testing.assert_array_equal(changed, mask)


@pytest.mark.parametrize("name", ALL)
def test_a_seed_fixes_the_result_and_a_generator_goes_on(name: str) -> None:
    first, generator = corrupt(name, random_state=5), np.random.default_rng(5)
    for other in (corrupt(name, random_state=5), corrupt(name, random_state=generator)):
        assert other[0].tobytes() == first[0].tobytes()
        assert other[1].tobytes() == first[1].tobytes()
    for seed in (6, None, generator):
        assert corrupt(name, random_state=seed)[0].tobytes() != first[0].tobytes()


@pytest.mark.parametrize("share", [0, 0.02, 0.125, 0.38, 1])
@pytest.mark.parametrize("name", ALL)
def test_the_share_is_exact(name: str, share: float) -> None:
    _, mask = corrupt(name, share=share)
    if name in CELLS:
        assert mask.sum() == round(share * TABLE.size)
    else:
        assert mask.any((1, 2)).sum() == round(share * len(IMAGES))


@pytest.mark.parametrize("name", ALL)
def test_all_rows_have_the_same_chance(name: str) -> None:
    n = len(TABLE if name in CELLS else IMAGES)
    hits = sum(corrupt(name, random_state=seed)[1].reshape(n, -1).any(1) for seed in range(200))
    expected = 200 * (1 - 0.7**4 if name in CELLS else 0.3)
    assert np.abs(hits - expected).max() < 4 * np.sqrt(expected * (1 - expected / 200))


@pytest.mark.parametrize("name", PAINT)
def test_a_pixel_is_hit_in_all_channels(name: str) -> None:
    colour = np.stack([IMAGES, 2 * IMAGES, 90 - IMAGES], axis=-1)
    dirty, mask = corrupt(name, colour)
    np.testing.assert_array_equal(mask, np.repeat(mask[..., :1], 3, axis=-1))
    assert mask.any((1, 2, 3)).sum() == 6
    np.testing.assert_array_equal(dirty != colour, mask)


@pytest.mark.parametrize("name", ["discs", "rectangles", "blocks", "lines"])
@pytest.mark.parametrize(
    ("value", "level"), [(0, 10), (1, 210), (0.25, 60), (0.248, 60), (0.252, 60), (-2, 0), (3, 255)]
)
def test_values_are_fractions_of_the_range(name: str, value: float, level: int) -> None:
    images = (IMAGES > 50).astype(np.uint8) * 200 + np.uint8(10)
    dirty, mask = corrupt(name, images, value=value)
    assert set(dirty[mask]) == {level}
    dirty, mask = corrupt(name, images.astype(np.float32), value=value)
    np.testing.assert_allclose(dirty[mask], 10 + 200 * value, rtol=1e-6)


def test_values_stay_in_what_the_type_holds() -> None:
    for dtype in (np.int64, np.uint64, np.float16):
        info = np.finfo(dtype) if dtype is np.float16 else np.iinfo(dtype)
        images = np.where(IMAGES > 50, info.max, dtype(0)).astype(dtype)
        for value in (1.0, 7.0):
            dirty, mask = corrupt("blocks", images, value=value)
            assert (dirty[mask] >= 0.999 * float(info.max)).all()


def test_impulses_are_standard_deviations_of_the_column() -> None:
    table = np.tile(TABLE, (20, 1))
    dirty, mask = corrupt("impulses", table, size=(3, 5))
    sizes = ((dirty - table) / table.std(0))[mask]
    assert abs((sizes > 0).mean() - 0.5) < 0.07
    assert kstest(np.abs(sizes), "uniform", (3, 2)).pvalue > 0.01
    assert mask.any(0).all()
    whole = np.rint(1000 * table).astype(np.int32)  # the same dirt, rounded
    np.testing.assert_allclose(corrupt("impulses", whole, size=(3, 5))[0], 1000 * dirty, atol=3)


def test_unit_slips_multiply_what_is_not_zero() -> None:
    table = np.where(TABLE > 50, TABLE, 0)
    nonzero = np.count_nonzero(table)
    share = nonzero / table.size
    dirty, mask = corrupt("unit_slips", table, share=share)
    np.testing.assert_array_equal(mask, table != 0)
    ratios, counts = np.unique((dirty[mask] / table[mask]).round(9), return_counts=True)
    assert ratios.tolist() == [0.1, 10, 32]
    assert counts.min() > nonzero / 3 - 3 * np.sqrt(nonzero * 2 / 9)
    dirty, mask = corrupt("unit_slips", table, factors=[-2])
    np.testing.assert_array_equal(dirty[mask], -2 * table[mask])
    with pytest.raises(
        ValueError, match=f"Expected {nonzero + 1} nonzero cells or more to slip, actual {nonzero}: lower"
    ):
        corrupt("unit_slips", table, share=(nonzero + 1) / table.size)


@pytest.mark.parametrize("slip_share", [0, 0.25, 0.26, 1])
def test_gross_errors_are_slips_and_impulses(slip_share: float) -> None:
    dirty, mask = corrupt("gross_errors", share=0.5, slip_share=slip_share)
    ratio, size = (dirty / TABLE)[mask], (np.abs(dirty - TABLE) / TABLE.std(0))[mask]
    slipped = np.isclose(ratio[:, None], [10, 0.1, 32]).any(1)
    assert slipped.sum() == round(slip_share * 60)
    assert ((size >= 2 - 1e-9) & (size <= 8 + 1e-9))[~slipped].all()


@pytest.mark.parametrize("shape", [(4,), (2, 2), (2, 1, 2)])
def test_replaced_rows_keep_marginals_but_not_dependence(shape: tuple[int, ...]) -> None:
    first = np.random.default_rng(0).normal(size=(1000, 1))
    x = (first + np.arange(0, 40, 10)).reshape(-1, *shape)
    dirty, mask = corrupt("replace_rows", x, share=0.5)
    hit = mask.reshape(1000, -1).all(1)
    assert hit.sum() == 500
    assert mask.sum() == 500 * 4
    rows, before = dirty.reshape(1000, 4)[hit], x.reshape(1000, 4)
    for column in range(4):
        assert np.isin(rows[:, column], before[:, column]).all()
        assert kstest(rows[:, column], before[:, column]).pvalue > 0.01
    correlation = np.corrcoef(rows.T)[~np.eye(4, dtype=bool)]
    assert np.abs(correlation).max() < 0.15


NAN = np.where(IMAGES > 80, np.nan, IMAGES)
CONSTANT = TABLE * [1, 0, 1, 1]
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "list": (lambda: corrupt("discs", IMAGES.tolist()), "Expected images to be a NumPy array, actual list"),
    "masked": (lambda: corrupt("discs", np.ma.masked_array(IMAGES)), "NumPy array, actual MaskedArray"),
    "constant": (lambda: corrupt("lines", 0 * IMAGES), "Expected values that vary, actual all 0"),
    "table of noise": (lambda: corrupt("salt_and_pepper", 0 * TABLE), "Expected values that vary, actual all 0"),
    "column": (lambda: corrupt("impulses", CONSTANT), r"actual constant columns \[1\]: leave them out"),
    "column, gross": (lambda: corrupt("gross_errors", CONSTANT), r"actual constant columns \[1\]"),
    "equal rows": (lambda: corrupt("replace_rows", TABLE[:1]), "Expected rows that differ, actual all equal"),
    "radius": (lambda: corrupt("discs", radius=(3, 2)), r"\(low, high\) with low <= high, actual \(3, 2\): swap"),
    "one radius": (lambda: corrupt("discs", radius=3), "Expected radius to be two bounds, .* actual 3"),
    "negative": (lambda: corrupt("lines", width=(-1, 2)), r"each bound of width .* in \[0, inf\], actual -1"),
    "not whole": (lambda: corrupt("rectangles", size=(2, 3.5)), "each bound of size to be a whole .*, actual 3.5"),
    "no pixels": (lambda: corrupt("blocks", size=0), "each bound of size to be a whole number >= 1, actual 0"),
    "value": (lambda: corrupt("blocks", value=np.nan), "Expected value to be a finite number .* actual nan"),
    "no value": (lambda: corrupt("discs", value=None), "Expected value to be a finite number .* actual None"),
    "cell_share": (lambda: corrupt("salt_and_pepper", cell_share=2), r"cell_share .* in \[0, 1\], actual 2"),
    "slip_share": (lambda: corrupt("gross_errors", slip_share=-0.1), r"slip_share .* in \[0, 1\], actual -0.1"),
    "size": (lambda: corrupt("impulses", size=(8, 2)), r"low <= high, actual \(8, 2\)"),
    "no factor": (lambda: corrupt("unit_slips", factors=()), r"one factor or more, .* actual \[\]"),
    "factor": (lambda: corrupt("unit_slips", factors=(10, 1)), r"none of them 0 or 1, actual \[10.0, 1.0\]"),
    "text": (lambda: corrupt("unit_slips", factors="ab"), "Expected each of factors to be a finite number"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_wrong_options(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("name", ALL)
def test_wrong_data_and_shares(name: str) -> None:
    good = TABLE if name in CELLS else IMAGES
    for x, message in (
        (good * np.where(np.arange(good.shape[-1]) == 2, np.nan, 1), f"actual {good.size // good.shape[-1]} NaN"),
        (good * np.inf, f"actual {good.size} NaN or infinite: leave them out"),
        (np.zeros(5), r"of shape \(n, .* actual shape \(5,\)"),
        (good[:0], r"and not empty, actual shape \(0, "),
        (good > 50, r"of integers or floats, actual bool: give \w+.astype\(float\)"),
        (good.astype(complex), "actual complex128"),
    ):
        with pytest.raises(ValueError, match=message):
            corrupt(name, x)
    for share in (-0.1, 1.01, np.nan, True, "0.5", None):
        with pytest.raises(ValueError, match=rf"Expected share to be a finite number in \[0, 1\], actual {share!r}"):
            corrupt(name, share=share)
    with pytest.raises((TypeError, ValueError)):
        corrupt(name, random_state="seed")


@pytest.mark.parametrize("name", [name for name in PAINT if name != "salt_and_pepper"])
def test_images_are_no_table(name: str) -> None:
    with pytest.raises(ValueError, match=r"Expected images of shape \(n, height, width\) .* actual shape \(30, 4\)"):
        corrupt(name, TABLE)


@pytest.mark.parametrize("name", CELLS)
def test_tables_are_no_images(name: str) -> None:
    with pytest.raises(ValueError, match=r"Expected table of shape \(n, d\) .* actual shape \(20, 9, 7\)"):
        corrupt(name, IMAGES)
