"""Cases give under CompiledSVI what they give under SVI; `make conformance` runs all of them, and compiled too."""

import inspect

import pytest
from pyro.infer import SVI

from conformance.cases import CASES
from conformance.harness import compare, differences, fell_back, train

# What users change, and what their models do besides computing.
_FILES = ("arguments", "failures", "network_changes", "python_objects", "python_state", "schedules", "surroundings")
_FAST = [name for name, make in CASES.items() if make.__module__.removeprefix("conformance.") in _FILES]


@pytest.mark.parametrize("name", _FAST)
def test_a_captured_graph_gives_what_svi_gives(name: str) -> None:
    _, found = compare(CASES[name], 20)
    assert found == []


@pytest.mark.parametrize("name", _FAST[::20])
def test_svi_gives_the_same_twice(name: str) -> None:
    assert differences(*(train(SVI, CASES[name], 20) for _ in range(2))) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["modes_toggled_in_closure", "temperature_attribute_once"])
def test_a_compiled_graph_gives_what_svi_gives(name: str) -> None:
    record, found = compare(CASES[name], 20, compiled=True, fallback_random=True)
    assert found == []
    assert fell_back(record) is None


def test_every_case_says_what_it_is() -> None:
    assert [name for name, make in CASES.items() if not inspect.getdoc(make)] == []
