"""Which columns of a table cannot be judged."""

from typing import Any

import numpy as np
import pytest

from pyro_ricvae.data.columns import not_judged

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
