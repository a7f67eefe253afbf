from typing import Any

import pyro
import pytest
import torch
from reference import Returns, make_pair

import pyro_ricvae as rv
from pyro_ricvae.inference import RecyclingELBO


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_posterior_is_the_normal_of_the_encoder(lead: tuple[int, ...]) -> None:
    _, guide = make_pair()
    x = torch.randn(*lead, 4, 5)
    posterior = guide.encode(x)
    loc, scale = guide.encoder(x)
    assert posterior.batch_shape == (*lead, 4)
    assert torch.equal(posterior.mean, loc)
    assert torch.equal(posterior.stddev, scale)


def test_site_and_plate() -> None:
    _, guide = make_pair(size=40)
    trace = pyro.poutine.trace(guide).get_trace(torch.randn(4, 5))
    assert trace.nodes["z"]["fn"].batch_shape == (4,)
    assert trace.nodes["z"]["scale"] == 10.0
    assert [frame.name for frame in trace.nodes["z"]["cond_indep_stack"]] == ["data"]


def test_low_precision_outputs_are_taken_in_the_precision_of_the_data() -> None:
    outputs = (torch.zeros(4, 2, dtype=torch.bfloat16), torch.ones(4, 2, dtype=torch.bfloat16))
    posterior = rv.guides.AmortizedNormal(Returns(outputs)).encode(torch.zeros(4, 5))
    assert posterior.rsample().dtype == torch.float32
    assert posterior.stddev.dtype == torch.float32


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(4, 2), r"Site 'z': expected \(loc, scale\) .* each of shape \(4,\) .* actual \(4, 2\)"),
        ((torch.zeros(4, 2),), r"actual tuple\(\(4, 2\)\)"),
        ((torch.zeros(4, 2), torch.ones(4, 1)), r"actual tuple\(\(4, 2\), \(4, 1\)\)"),
        ((torch.zeros(3, 2), torch.ones(3, 2)), r"actual tuple\(\(3, 2\), \(3, 2\)\)"),
        ((torch.zeros(4, 2), 1.0), r"actual tuple\(\(4, 2\), float\)"),
        (None, r"actual NoneType"),
    ],
)
def test_wrong_encoder_outputs(outputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rv.guides.AmortizedNormal(Returns(outputs))(torch.zeros(4, 5))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_an_encoder_s_scale_must_be_positive(scale: float) -> None:
    guide = rv.guides.AmortizedNormal(Returns((torch.zeros(4, 2), torch.full((4, 2), scale))))
    with pytest.raises(
        ValueError, match=r"Site 'z': expected .* shape \(4, 2\) .* x of shape \(4, 5\), actual: .*softplus"
    ):
        RecyclingELBO().loss(make_pair()[0], guide, torch.zeros(4, 5))


def test_rows_that_are_not_finite() -> None:
    model, guide = make_pair()
    x = torch.zeros(4, 5)
    x[1, 2] = float("nan")
    with pytest.raises(ValueError, match=r"1 that are NaN or infinite, the first at \(1, 2\)"):
        RecyclingELBO().loss(model, guide, x)


def test_validation_is_the_user_s_to_switch_off() -> None:
    guide = rv.guides.AmortizedNormal(Returns((torch.zeros(4, 2), torch.full((4, 2), -1.0))))
    with pyro.validation_enabled(False):
        assert guide(torch.zeros(4, 5)).shape == (4, 2)
