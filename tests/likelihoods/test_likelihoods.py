"""The likelihoods' formulas, by brute force, and their common contract."""

import math
import re
from typing import Any

import pytest
import torch
from reference import HALF_LOG_TWO_PI, KINDS, cells_by_hand, make_likelihood
from scipy.optimize import minimize_scalar
from torch.distributions import constraints

from pyro_ricvae.likelihoods import FixedNormal, IndexConditionedNormal, LearnedNormal

FLOOR = 0.3
# Residuals below, at and above the floor, on both sides, and none at all.
RESIDUALS = [0.0, 1e-9, 0.1, -0.1, FLOOR, -FLOOR, 0.3001, -0.3001, 2.0, -2.0, 1e4]


def output_of(kind: str, loc: torch.Tensor) -> Any:
    return (loc, torch.full_like(loc, 0.6)) if kind == "learned" else loc


@pytest.mark.parametrize("residual", RESIDUALS)
def test_index_conditioned_scale_minimises_its_objective(residual: float) -> None:
    """(7'): the variance is where r²/v + log v is least over v >= s0², found here by a numerical search."""
    lowest = math.log(FLOOR**2)
    found = minimize_scalar(
        lambda log_v: residual**2 * math.exp(-log_v) + log_v,
        bounds=(lowest, lowest + 40),
        method="bounded",
        options={"xatol": 1e-10},
    )
    x = torch.tensor([[residual]], dtype=torch.float64)
    actual = IndexConditionedNormal(FLOOR).double()(torch.zeros_like(x), x)
    assert actual.scale.item() ** 2 == pytest.approx(math.exp(found.x), rel=1e-5)
    assert -2 * (actual.log_prob(x).item() + HALF_LOG_TWO_PI) <= found.fun + 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("residual", RESIDUALS)
def test_log_density_and_its_gradient_are_the_analytic_ones(kind: str, residual: float) -> None:
    likelihood = make_likelihood(kind).double()
    if kind == "index_conditioned":
        likelihood.floor.fill_(FLOOR)
    loc = torch.tensor([[1.5]], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1.5 + residual]], dtype=torch.float64)
    r = (x - loc).item()  # not quite `residual`: 1.5 + residual is rounded
    log_prob = likelihood(output_of(kind, loc), x).log_prob(x)
    if kind == "index_conditioned":
        expected = 1 / r if abs(r) > FLOOR else r / FLOOR**2
    else:
        expected = r / float(getattr(likelihood, "scale", 0.6)) ** 2
    cells, _, _ = cells_by_hand(kind, likelihood, output_of(kind, loc), x)
    assert log_prob.item() == pytest.approx(-cells.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(log_prob.sum(), loc)
    assert gradient.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_gradient_is_continuous_at_the_floor() -> None:
    likelihood = IndexConditionedNormal(FLOOR).double()
    slopes = []
    for residual in (FLOOR * (1 - 1e-9), likelihood.floor.item(), FLOOR * (1 + 1e-9)):
        loc = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
        x = torch.tensor([[residual]], dtype=torch.float64)
        likelihood(loc, x).log_prob(x).sum().backward()
        slopes.append(loc.grad.item())
    assert slopes == pytest.approx([1 / FLOOR] * 3, rel=1e-6)


def test_learned_scale_gets_its_gradient() -> None:
    loc, x = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64)
    scale = torch.full((1, 1), 0.5, dtype=torch.float64, requires_grad=True)
    LearnedNormal()((loc, scale), x).log_prob(x).sum().backward()
    assert scale.grad.item() == pytest.approx(2.0**2 / 0.5**3 - 1 / 0.5, rel=1e-12)


def test_index_conditioned_scale_stays_attached() -> None:
    """A recycled sample is drawn with |r|, so its gradient must go through |r|: d scale / d location = -sign(r)."""
    loc = torch.zeros(1, 2, requires_grad=True)
    x = torch.tensor([[2.0, -3.0]])
    scale = IndexConditionedNormal(FLOOR)(loc, x).scale
    assert torch.autograd.grad(scale.sum(), loc)[0].tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_contract(kind: str, lead: tuple[int, ...]) -> None:
    likelihood = make_likelihood(kind)
    x = torch.randn(*lead, 4, 5)
    distribution = likelihood(output_of(kind, torch.zeros_like(x)), x)
    assert (distribution.batch_shape, distribution.event_shape) == ((*lead, 4, 5), ())
    assert distribution.has_rsample
    assert likelihood.normalised == (kind != "index_conditioned")
    assert likelihood.n_outputs == (2 if kind == "learned" else 1)
    assert likelihood.support is constraints.real


@pytest.mark.parametrize(("cls", "name"), [(IndexConditionedNormal, "floor"), (FixedNormal, "scale")])
def test_constants_are_buffers_that_are_saved_and_changed_in_place(cls: Any, name: str) -> None:
    likelihood = cls(0.25)
    assert likelihood.state_dict()[name].shape == ()
    assert not list(likelihood.parameters())
    other = cls(1.0)
    other.load_state_dict(likelihood.state_dict())
    x = torch.zeros(1, 2)
    assert other(x, x).scale.tolist() == [[0.25, 0.25]]
    getattr(other, name).fill_(0.5)
    assert other(x, x).scale.tolist() == [[0.5, 0.5]]
    assert other.to(torch.float64)(x.double(), x.double()).scale.dtype == torch.float64


@pytest.mark.parametrize(("cls", "name"), [(IndexConditionedNormal, "floor"), (FixedNormal, "scale")])
@pytest.mark.parametrize("value", [0.0, -1.0, 1e-50, 1e39, math.inf, math.nan, "0.5", True, None])
def test_constants_must_be_positive_and_finite(cls: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"number in torch.float32, actual {value!r}.")):
        cls(value)


@pytest.mark.parametrize("kind", KINDS)
def test_low_precision_outputs_are_judged_in_the_precision_of_the_data(kind: str) -> None:
    x = torch.randn(4, 5)
    output = output_of(kind, torch.zeros(4, 5, dtype=torch.bfloat16))
    assert make_likelihood(kind)(output, x).log_prob(x).dtype == torch.float32
