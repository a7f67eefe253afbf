"""What all else stands on."""

import numpy as np
import pytest
import torch

import pyro_ricvae
from pyro_ricvae._core.extras import extra
from pyro_ricvae._core.isolation import random_state, set_random_state
from pyro_ricvae._core.robust import robust_deviation, robust_scale


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


def test_a_random_state_is_put_back() -> None:
    state = random_state(torch.device("cpu"))
    first = torch.rand(3)
    set_random_state(state, torch.device("cpu"))
    assert torch.equal(torch.rand(3), first)
