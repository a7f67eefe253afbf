"""The spike and slab likelihood: its density, its limits, its estimates, when it takes over, and how it is recycled."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from reference import gradients, make_pair
from scipy import stats
from torch import Tensor

from pyro_ricvae import likelihoods
from pyro_ricvae.estimators.defaults import automatic_spike
from pyro_ricvae.inference import CompiledELBO, RecyclingELBO, Trainer, reconstruct, repair
from pyro_ricvae.likelihoods import IndexConditionedNormal, InverseGammaNormal, SpikeAndSlab
from pyro_ricvae.likelihoods.index_conditioned_normal import index_conditioned
from pyro_ricvae.pair import next_input, recycle_at_test_time, recycle_in_training

FLOOR = 0.1
WIDTH = 10 * FLOOR


def at(scale: float, share: float, floor: float = FLOOR, **arguments: Any) -> SpikeAndSlab:
    likelihood = SpikeAndSlab(floor, **arguments)
    likelihood.scale.fill_(scale)
    likelihood.share.fill_(share)
    return likelihood.eval()


def pair_with(likelihood: Any) -> tuple[Any, Any]:
    model, guide = make_pair("fixed")
    model.likelihood = likelihood
    return model, guide


def rows_with_dirt(share: float, scale: float = 0.05, n: int = 4000) -> tuple[Tensor, Tensor]:
    """Return residuals, normal ones and a share of them far out, and which those are."""
    generator = torch.Generator().manual_seed(0)
    residuals = scale * torch.randn(n, 5, generator=generator)
    dirty = torch.rand(n, 5, generator=generator) < share
    return torch.where(dirty, 3 * torch.randn(n, 5, generator=generator), residuals), dirty


def trained(share: float, steps: int = 400, **arguments: Any) -> SpikeAndSlab:
    likelihood = SpikeAndSlab(FLOOR, **arguments)
    residuals, _ = rows_with_dirt(share)
    for step in range(steps):
        batch = residuals[100 * step % 4000 :][:100]
        likelihood(torch.zeros_like(batch), batch)
    return likelihood


@pytest.mark.parametrize("clean_df", [None, 3.0, 8.0])
@pytest.mark.parametrize("residual", [0.0, 0.02, -0.3, 2.0, 1e4])
def test_the_density_is_that_of_scipys_components(residual: float, clean_df: float | None) -> None:
    cells: Any = at(0.07, 0.2, clean_df=clean_df).double()(torch.zeros(1, 1).double(), None)
    clean = 0.8 * (stats.norm if clean_df is None else stats.t(clean_df)).pdf(residual / 0.07) / 0.07
    dirty = 0.2 * stats.t.pdf(residual, 0.2, scale=WIDTH / math.sqrt(0.2))
    x = torch.tensor([[residual]], dtype=torch.float64)
    assert cells.log_prob(x).item() == pytest.approx(math.log(clean + dirty), rel=1e-6)
    assert cells.dirt_probability(x).item() == pytest.approx(dirty / (clean + dirty), rel=1e-5)


@pytest.mark.parametrize("residual", [0.01, 0.5, 20.0])
def test_its_limits_are_the_papers_penalty_and_a_normal(residual: float) -> None:
    x = torch.tensor([[residual]], dtype=torch.float64)
    loc = torch.zeros_like(x, requires_grad=True)

    def pull(likelihood: Any, share: float | None = None) -> float:
        likelihood = likelihood.double()
        if share is not None:
            likelihood.share.fill_(share)
        (gradient,) = torch.autograd.grad(likelihood(loc, x).log_prob(x).sum(), loc)
        return float(gradient)

    assert pull(at(0.07, 0.5), 1 - 1e-12) == pytest.approx(pull(InverseGammaNormal(WIDTH)), rel=1e-6)
    if residual < 1:  # farther out a normal explains nothing, however rare dirt is
        assert pull(at(0.07, 0.5), 1e-30) == pytest.approx(residual / 0.07**2, rel=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_em_finds_scale_and_share(share: float) -> None:
    likelihood = trained(share)
    assert likelihood.scale.item() == pytest.approx(0.05, rel=0.1)
    assert likelihood.share.item() == pytest.approx(share, abs=0.03)
    residuals, dirty = rows_with_dirt(share)
    probability = likelihood.dirt_probability(likelihood.eval()(torch.zeros_like(residuals), None), residuals)
    assert probability.mean().item() == pytest.approx(dirty.float().mean().item(), abs=0.03)
    for low in np.arange(0, 1, 0.2):  # calibrated
        among = (probability >= low) & (probability < low + 0.2)
        if among.sum() > 200:
            assert dirty[among].float().mean() == pytest.approx(probability[among].mean().item(), abs=0.1)


def test_clean_cells_with_tails_are_not_taken_for_dirt() -> None:
    """EM finds the scale of a Student-t; a normal takes its tails for dirt."""
    generator = np.random.default_rng(0)
    dirty = generator.random((20_000, 5)) < 0.05
    residuals = np.where(
        dirty, 3 * generator.normal(size=dirty.shape), 0.05 * generator.standard_t(2, size=dirty.shape)
    )
    squares = torch.tensor(residuals).square()
    found = {}
    for clean_df in (None, 2.0):
        likelihood = SpikeAndSlab(FLOOR, clean_df=clean_df).double()
        for _ in range(200):
            likelihood.follow(squares, momentum=0.5)
        found[clean_df] = likelihood
    assert found[2.0].scale.item() == pytest.approx(0.05, rel=0.03)
    assert found[2.0].share.item() == pytest.approx(0.05, abs=0.01)
    assert found[None].share.item() > 0.07
    copies = [
        copy.deepcopy(found[2.0]).eval()(torch.zeros(1, 5).double(), None).expand(size) for size in ((2, 5), (3, 1, 5))
    ]
    assert all(each.clean_df == 2.0 for each in copies)


@pytest.mark.parametrize("clean_df", [None, 4.0])
def test_draws_are_those_of_the_density(clean_df: float | None) -> None:
    cells: Any = at(0.07, 0.2, clean_df=clean_df).double()(torch.zeros(1, 1).double(), None)
    draws = cells.sample((20_000,)).flatten().numpy()
    clean = stats.norm(scale=0.07) if clean_df is None else stats.t(clean_df, scale=0.07)
    dirty = stats.t(0.2, scale=WIDTH / math.sqrt(0.2))
    assert stats.kstest(draws, lambda x: 0.8 * clean.cdf(x) + 0.2 * dirty.cdf(x)).pvalue > 0.001


def test_cells_that_are_not_observed_have_no_part_in_it() -> None:
    x, _ = rows_with_dirt(0.1, n=50)
    observed = torch.rand(50, 5) < 0.5
    one, other = SpikeAndSlab(FLOOR), SpikeAndSlab(FLOOR)
    one(torch.zeros_like(x), x, observed)
    other(torch.zeros_like(x), torch.where(observed, x, torch.zeros(())), observed)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    nothing = SpikeAndSlab(FLOOR)
    before = copy.deepcopy(nothing.state_dict())
    nothing(torch.zeros_like(x), x, torch.zeros_like(observed))
    torch.testing.assert_close(nothing.state_dict(), before)


def test_the_log_penalty_stands_in_its_place_until_it_takes_over() -> None:
    likelihood, x = trained(0.1), torch.tensor([[0.01, 0.4, 5.0]])
    likelihood.first_pass = False

    def log_prob() -> Tensor:
        return likelihood(torch.zeros_like(x), x).log_prob(x)

    penalty = IndexConditionedNormal(FLOOR)(torch.zeros_like(x), x).log_prob(x)
    mixture = copy.deepcopy(likelihood).eval()(torch.zeros_like(x), x).log_prob(x)
    assert torch.equal(log_prob(), mixture)
    assert likelihood.explains
    likelihood.mixed.fill_(0.0)
    assert torch.equal(log_prob(), penalty)
    likelihood.mixed.fill_(1.0)
    likelihood.spread.fill_(3 * FLOOR)  # clean cells are as wide as the data
    assert not likelihood.explains
    assert torch.equal(log_prob(), penalty)


def test_a_scale_as_wide_as_the_data_is_bounded_and_gives_no_dirt_away() -> None:
    likelihood, x = SpikeAndSlab(FLOOR), torch.randn(200, 5) * 5 * FLOOR
    for _ in range(400):
        likelihood(torch.zeros_like(x), x)
    assert not likelihood.explains
    assert likelihood.scale.item() == pytest.approx(FLOOR, rel=0.01)
    assert likelihood.spread.item() == pytest.approx(5 * FLOOR, rel=0.1)


def test_only_the_first_pass_moves_its_estimates() -> None:
    x = torch.randn(20, 5)
    found = []
    for passes in (1, 3):
        torch.manual_seed(0)
        model, guide = pair_with(SpikeAndSlab(FLOOR))
        RecyclingELBO(passes, recycle="repair")(model, guide)(x)
        found.append(model.likelihood.state_dict())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert found[0]["share"] != 0.5


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("passes", "recycle", "arguments"),
    [(1, "repair", {}), (2, "repair", {}), (2, "sample", {}), (2, "sample", automatic_spike(FLOOR, images=True))],
)
def test_captured_it_is_the_same(passes: int, recycle: Any, arguments: dict[str, Any], compiled: bool) -> None:
    x, losses, states = torch.randn(20, 5), [], []
    for captured in (False, True):
        torch.manual_seed(0)
        model, guide = pair_with(SpikeAndSlab((2 * FLOOR, FLOOR), **arguments))
        loss: Any = RecyclingELBO(passes, recycle=recycle, detach=recycle == "repair")(model, guide)
        if captured:
            loss = CompiledELBO(loss, compiled=compiled, fallback_random=True)
        torch.manual_seed(1)
        taken = []
        for step in range(4):
            model.likelihood.mixed.fill_(float(step > 1))
            value = loss(x)
            value.backward()
            taken.append(float(value.detach()))
        if captured:
            assert loss.engines == ["compiled" if compiled else "captured"]
        losses.append(taken)
        states.append(model.likelihood.state_dict() | gradients(model, guide))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5 if compiled else 0)
    torch.testing.assert_close(states[0], states[1], rtol=1e-5 if compiled else 0, atol=1e-6 if compiled else 0)


def test_training_moves_the_floor_and_switches_it_on() -> None:
    model, guide = pair_with(SpikeAndSlab((0.4, 0.1), takeover=0.5))
    seen: list[dict[str, Any]] = []
    Trainer(model, guide, epochs=10, passes=1, on_log=seen.append).fit(torch.randn(60, 5))
    assert [entry["mixed"] for entry in seen] == [0.0] * 5 + [1.0] * 5
    assert seen[-1]["floor"] == pytest.approx(0.1)
    assert {"scale", "share", "spread"} <= set(seen[0])
    assert seen[0]["share"] != seen[-1]["share"]


def test_a_repaired_input_is_always_of_the_first_row() -> None:
    model, guide = pair_with(at(0.07, 0.2))
    model.eval(), guide.eval()
    x = torch.randn(6, 5)
    rows = model.decode(guide.encode(x).mean, x)
    probability = model.likelihood.dirt_probability(rows.base_dist, x)
    second = next_input(rows, x, "repair", model=model)
    torch.testing.assert_close(second, probability * rows.mean + (1 - probability) * x)
    later = model.decode(guide.encode(second).mean, second)
    third = next_input(later, second, "repair", model=model, first=x)
    weight = model.likelihood.dirt_probability(later.base_dist, x)
    torch.testing.assert_close(third, weight * later.mean + (1 - weight) * x)
    with torch.no_grad():
        torch.testing.assert_close(reconstruct(model, guide, x, 2), later.mean)
        made, dirt = repair(model, guide, x, 2)
    torch.testing.assert_close(made, third)
    torch.testing.assert_close(dirt, weight)


def test_what_is_not_observed_is_filled_in() -> None:
    model, guide = pair_with(at(0.07, 0.2))
    x, observed = torch.randn(6, 5), torch.rand(6, 5) < 0.5
    rows = model.decode(guide.encode(x).mean, x)
    filled = next_input(rows, x, "repair", model=model, observed=observed)
    assert torch.equal(filled[~observed], rows.mean[~observed])
    assert not torch.equal(filled[observed], rows.mean[observed])


def test_the_floor_says_what_the_index_conditioned_one_repairs() -> None:
    likelihood, x = IndexConditionedNormal(FLOOR), torch.tensor([[0.05, 0.1, 0.2, 10.0]])
    weight = likelihood.dirt_probability(likelihood(torch.zeros_like(x), x), x)
    torch.testing.assert_close(weight, torch.tensor([[0.0, 0.0, 0.75, 0.9999]]))


def test_draws_have_a_gradient_and_the_share_of_dirt() -> None:
    loc = torch.zeros(1, 2000, requires_grad=True)
    draws = at(0.07, 0.3)(loc, None).rsample()
    (gradient,) = torch.autograd.grad(draws.sum(), loc)
    assert torch.equal(gradient, torch.ones_like(loc))
    assert (draws.abs() > 0.5).float().mean().item() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("floor", 0.0),
        ("ratio", -1.0),
        ("shape", 0.0),
        ("takeover", 1.5),
        ("takeover", "late"),
        ("broadening", 0.9),
        ("broadening", math.inf),
        ("broadest", 0.0),
    ],
)
def test_wrong_numbers(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"floor": 0.1, name: value}
    with pytest.raises(ValueError, match="Expected"):
        SpikeAndSlab(**arguments)


def test_a_likelihood_that_does_not_tell_dirt_is_no_repairer() -> None:
    model, guide = pair_with(likelihoods.FixedNormal(1.0))
    with pytest.raises(ValueError, match="expected a likelihood that says how probable dirt is"):
        repair(model, guide, torch.randn(4, 5))
    with pytest.raises(ValueError, match="Site 'x' cannot be recycled: expected a likelihood that says"):
        RecyclingELBO(2, recycle="repair")(model, guide)(torch.randn(4, 5))


def test_the_scale_of_clean_cells_stays_above_its_bound_where_residuals_are_0() -> None:
    for narrowest in (0.02, 0.5):
        likelihood = SpikeAndSlab(FLOOR, narrowest=narrowest)
        for _ in range(50):
            likelihood.follow(torch.zeros(10, 3), momentum=1.0)
        assert float(likelihood.scale) == pytest.approx(narrowest * FLOOR)


@pytest.mark.parametrize("clean_df", [None, 8.0])
@pytest.mark.parametrize(("scale", "trained_with"), [(0.02, 0.03), (0.1, 0.15), (0.15, 0.2), (0.2, 0.2), (0.35, 0.35)])
def test_training_is_with_a_broader_spike_up_to_a_bound(
    scale: float, trained_with: float, clean_df: float | None
) -> None:
    """1.5 times as broad, up to two floors; what the likelihood says of a cell in any mode goes by its own scale."""
    x = torch.tensor([[0.02, 0.4, -3.0]], dtype=torch.float64)
    loc = torch.zeros_like(x, requires_grad=True)
    likelihood = at(scale, 0.2, broadening=1.5, broadest=2.0, clean_df=clean_df).double().train()
    likelihood.first_pass = False  # estimates stay
    cells = likelihood(loc, x)
    own, broader = (at(each, 0.2, clean_df=clean_df).double()(loc, None) for each in (scale, trained_with))
    torch.testing.assert_close(cells.log_prob(x), broader.log_prob(x))
    torch.testing.assert_close(cells.expand((2, 3)).log_prob(x), cells.log_prob(x).expand(2, 3))
    torch.testing.assert_close(cells.dirt_probability(x), own.dirt_probability(x))
    torch.testing.assert_close(likelihood.eval()(loc, x).log_prob(x), own.log_prob(x))
    likelihood.train().mixed.fill_(0.0)
    before = index_conditioned(loc, x, likelihood.floor).log_prob(x)
    torch.testing.assert_close(likelihood(loc, x).log_prob(x), before)


def test_draws_of_training_have_a_variance_that_is_conditioned_on_the_row() -> None:
    x, loc = torch.tensor([[0.02, 0.4, -3.0]]), torch.zeros(1, 3, requires_grad=True)
    likelihood = at(0.07, 0.2).train()
    likelihood.first_pass = False  # estimates stay
    weight = likelihood.dirt_probability(likelihood.eval()(loc, None), x)
    likelihood.train()
    squares = x.square()
    for mixed, variance in ((0.0, squares.clamp_min(FLOOR**2)), (1.0, (1 - weight) * 0.07**2 + weight * squares)):
        likelihood.mixed.fill_(mixed)
        draws = likelihood(loc, x).rsample((20_000,))
        assert draws.shape == (20_000, 1, 3)
        torch.testing.assert_close(draws.var(0), variance, rtol=0.05, atol=0)
        torch.testing.assert_close(draws.mean(0), torch.zeros(1, 3), rtol=0, atol=0.1)
        (gradient,) = torch.autograd.grad(draws.mean(), loc)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("draws", [True, False])
def test_training_recycles_draws_or_repaired_rows_and_test_time_repaired_ones(draws: bool) -> None:
    model, guide = pair_with(SpikeAndSlab(FLOOR, draws=draws))
    assert recycle_in_training(model) == ("sample" if draws else "repair")
    assert recycle_at_test_time(model) == "repair"
    trainer = Trainer(model, guide, epochs=1, passes=2)
    assert (trainer.modules[2].elbo.recycle, trainer.modules[2].elbo.detach) == (
        ("sample", False) if draws else ("repair", True)
    )


def test_wide_residuals_before_it_takes_over_do_not_make_dirt_clean() -> None:
    """Early residuals are wide: EM would end where all is clean, and stay there once they are not."""
    likelihood = SpikeAndSlab(FLOOR, widest=3.7)
    residuals, dirty = rows_with_dirt(0.4, scale=0.03)
    early, late = (0.5 * torch.randn(4000, 5)).square(), torch.where(dirty, 0.3 * residuals, residuals).square()
    for mixed, squares in ((0.0, early), (1.0, late)):
        likelihood.mixed.fill_(mixed)
        for _ in range(300):
            likelihood.follow(squares)
        if not mixed:
            assert float(likelihood.spread) <= FLOOR + 1e-6
    assert float(likelihood.share) == pytest.approx(0.4, abs=0.08)
    assert float(likelihood.scale) == pytest.approx(0.03, rel=0.3)
