"""Which columns of a table cannot be judged."""

from typing import Any

import numpy as np
import pytest

from pyro_ricvae.data.columns import not_judged, repeated

N = 60
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (np.full(N, 2.5), "all values are 2.5"),
        (np.arange(N), "whole numbers that are all distinct"),
        (1000.0 + np.arange(N), "whole numbers that are all distinct"),
        (7 * np.arange(N)[::-1], "whole numbers that are all distinct"),
        (RNG.permutation(N) + 50, "whole numbers that are all distinct"),
        (RNG.normal(size=N), None),  # all distinct, and measured
        (RNG.permutation(N) * 1000, None),  # whole, distinct, in no order, with gaps
        (RNG.integers(0, 5, N), None),
        (np.arange(N) % 2 == 0, None),
        (np.r_[np.arange(N - 1), 3], None),
    ],
)
def test_constant_columns_and_names_of_rows_are_not_judged(column: Any, reason: str | None) -> None:
    values = np.column_stack([RNG.normal(size=N), np.asarray(column, dtype=float)])
    found = not_judged(values, ["a", "b"])
    assert found == {} if reason is None else list(found) == [1] and reason in found[1] and "'b'" in found[1]
    alone = not_judged(np.asarray(column)[:, None])
    assert list(alone) == ([] if reason is None else [0])


def test_few_rows_are_too_few() -> None:
    assert list(not_judged(RNG.normal(size=(9, 2)))) == [0, 1]
    assert "column 1: 9 rows are too few" in not_judged(RNG.normal(size=(9, 2)))[1]
    assert not_judged(RNG.normal(size=(10, 2))) == {}


def test_a_value_that_makes_up_a_large_share_is_said() -> None:
    readings = np.round(RNG.normal(50, 5, size=100), 1)
    sentinel = np.where(np.arange(100) < 70, -200.0, readings)
    some = np.where(np.arange(100) < 15, 0.0, readings)
    codes = np.where(np.arange(100) < 90, 1.0, 2.0)
    values = np.column_stack([readings, sentinel, some, codes])
    assert repeated(values, ["a", "b", "c", "d"]) == [
        "70% of 'b' equal -200: if that stands for a value that is missing, or could not be measured, it is taken for "
        "a measured one here."
    ]
    assert repeated(values[:, 1:2])[0].startswith("70% of column 0 equal -200")
