"""What all else stands on."""

import numpy as np
import pytest
import torch

import pyro_ricvae
from pyro_ricvae._core.extras import extra
from pyro_ricvae._core.isolation import random_state, set_random_state
from pyro_ricvae._core.robust import most_decimals, robust_deviation, robust_scale


def test_an_import_that_misses_an_extra_says_which() -> None:
    with (
        pytest.raises(
            ModuleNotFoundError, match=r"Expected no_such_package .*: pip install 'pyro-ricvae\[plots\]'"
        ) as caught,
        extra("plots"),
    ):
        import no_such_package
    assert caught.value.name == "no_such_package"
    with pytest.raises(ModuleNotFoundError, match=r"pyro-ricvae\[plots\]"), extra("all"), extra("plots"):
        import no_such_package  # noqa: F401  # the first that says which is right


def test_a_module_of_the_package_that_is_missing_is_an_error_of_its_own() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'pyro_ricvae\.nothing'$"), extra("all"):
        import pyro_ricvae.nothing  # noqa: F401


def test_a_warning_names_the_first_line_outside_of_the_package() -> None:
    inside = {}
    code = """
import warnings
from pyro_ricvae._core.errors import users_level

def say():
    warnings.warn("it", stacklevel=users_level())

def deeper():
    say()
"""
    exec(compile(code, pyro_ricvae.__file__.replace("__init__", "made_up"), "exec"), inside)
    for function in (inside["say"], inside["deeper"]):
        with pytest.warns(UserWarning, match="it") as caught:
            function()
        assert caught[0].filename == __file__


def test_a_deviation_that_outliers_do_not_move() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(100_000, 2))
    x[:10_000] = 1e9
    np.testing.assert_allclose(robust_deviation(x), 2.0, rtol=0.15)
    columns = np.array([[0.0, 5.0, 1.0], [0.0, 5.0, 2.0], [0.0, 5.0, 3.0], [7.0, 5.0, 4.0]])
    np.testing.assert_allclose(robust_scale(columns), [7 * 1.4826, 1.0, 1.4826], rtol=1e-4)


@pytest.mark.parametrize(
    ("common", "others", "expected"),
    [
        (21.5, [-999.0], 0.3),  # three times its last decimal
        (21.5, [-999.0, 85.0, 21.6], 0.3),
        (21.0, [-999.0], 3.0),
        (0.0, [-999.0], 3.0),
        (1.0, [2.0] * 5, 3.0),  # a code
        (1234.5, [0.0], 12.345),  # a hundredth of it
        (np.float32(21.4), [-999.0], 0.3),
        (1 / 3, [-999.0], 1 / 300),
        (0.0, [1.0, 2.0, 3.0] * 5, 2 * 1.4826),  # a tenth or more: amounts, and none
        (-200.0, [10.0, 11.0, 12.0] * 12, 211 * 1.4826),
    ],
)
def test_where_half_the_values_are_equal_no_few_others_set_the_scale(
    common: float, others: list[float], expected: float
) -> None:
    columns = np.full((100, 1), common, dtype=np.float64)
    columns[: len(others), 0] = others
    np.testing.assert_allclose(robust_scale(columns), [expected], rtol=1e-4)
    assert robust_scale(np.array([[21.5]] * 99 + [[-1e30]])) == pytest.approx(0.3)


def test_decimals_are_those_that_numbers_are_written_with() -> None:
    for column, expected in (([1.0, 2.0], 0), ([1.5, 2.25], 2), ([1e-6, 3.0], 6), ([1 / 3], None), ([0.0], 0)):
        assert most_decimals(np.array(column)) == expected
        assert most_decimals(np.array([*column, np.nan])) == expected
    assert most_decimals(np.array([21.4, 3.25], dtype=np.float32)) == 2
    assert most_decimals(np.array([1e300, -1e18])) == 0


def test_a_random_state_is_put_back() -> None:
    state = random_state(torch.device("cpu"))
    first = torch.rand(3)
    set_random_state(state, torch.device("cpu"))
    assert torch.equal(torch.rand(3), first)
