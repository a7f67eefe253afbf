"""Random models and guides, as hypothesis composes them: what CompiledSVI gives is what SVI gives."""

import functools

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

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
