"""Random models and guides, as hypothesis composes them: what CompiledSVI gives is what SVI gives."""

import functools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from conformance import fuzz
from conformance.fuzz import trained
from conformance.random_draws import describe, described_by, simpler
from conformance.random_models import Description
from conformance.random_source import source


@st.composite
def descriptions(draw: st.DrawFn) -> Description:
    """Draw a description; what hypothesis shrinks to is simpler, as first values are."""
    return describe(lambda values: draw(st.sampled_from(values)))


@functools.cache
def differences(this: Description) -> list[str]:
    """Train a description once: of what hypothesis draws by changing what it has drawn, half is the same."""
    return trained(this, steps=8, compiled=False)[2]


@pytest.mark.slow
@settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(descriptions())
def test_a_captured_step_of_any_model_is_svis(this: Description) -> None:
    note(source(this))
    assert differences(this) == []


def test_a_description_is_python_and_the_same_at_every_call() -> None:
    from conformance import random_models

    for number in range(50):
        this = described_by(0, number)
        assert this == described_by(0, number) == eval(repr(this), vars(random_models))
        compile(source(this), "source", "exec")
        assert all(each != this for each in simpler(this))


@pytest.mark.parametrize("stays", [True, False])
def test_what_differs_in_single_precision_alone_is_no_difference(stays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = fuzz.trained

    def differing(this: Description, *, steps: int, compiled: bool) -> tuple[Any, Any, list[str]]:
        expected, actual, _ = kept(this, steps=steps, compiled=False)
        single = torch.get_default_dtype() == torch.float32
        return expected, actual, ["step 1: another loss"] if single or stays else []

    monkeypatch.setattr(fuzz, "trained", differing)
    found = fuzz.run_one(0, 0, 2, True)
    assert torch.get_default_dtype() == torch.float32
    assert found["unlike"] == int(stays)
    assert found.get("rounding") == (None if stays else ["step 1: another loss"])
    assert fuzz.run_one(0, 0, 2, False)["unlike"] == 1  # captured graphs are equal to the last bit
    assert ("1 differ in single precision alone" in fuzz.summary([found])) != stays
