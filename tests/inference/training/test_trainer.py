"""The training loop against one written by hand, its phases and its history."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from reference import loss_by_hand, make_pair
from rigged import low_rank_rows, parameters, scheduled
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.inference import Recipe, RecyclingELBO, Trainer
from pyro_ricvae.inference.training.recipe import Phase

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")

RECIPE = Recipe(
    batch_size=8,
    learning_rate=2e-3,
    warmup_steps=5,
    clip_norm=60.0,
    kl_start=0.2,
    kl_until=0.5,
    floor_until=0.6,
    single_pass_share=0.6,
    recycled_share=0.5,
)
FLOOR = (0.5, 0.05)


def train_by_hand(
    model: Any, guide: Any, x: Tensor, loss_of: Callable[[Tensor, int, float], Tensor]
) -> list[dict[str, float]]:
    """Train as `RECIPE` says, 3 epochs of single passes and 2 of every other step; return what each was taken with."""
    loss_of(x[:8], 1, 1.0)  # the check before training draws random numbers too
    taken = []
    together = [*model.parameters(), *guide.parameters()]
    optimizer, step = torch.optim.Adam(together, fused=True), 0
    n_steps = 5 * 3
    for passes_of_phase, epochs in (((1,), 3), ((1, 2), 2)):
        passes_in_turn = itertools.cycle(passes_of_phase)
        for _ in range(epochs):
            for chosen in torch.randperm(20).split(8):
                done, passes = step / n_steps, next(passes_in_turn)
                floor = 0.5 * (0.05 / 0.5) ** min(1.0, done / 0.6)
                kl_weight = 0.2 + 0.8 * min(1.0, done / 0.5)
                lr = 2e-3 * (min(1.0, (step + 1) / 5) * (0.5 * (1 + math.cos(math.pi * step / n_steps))))
                model.likelihood.floor.fill_(floor)
                optimizer.param_groups[0]["lr"] = lr
                optimizer.zero_grad()
                loss = loss_of(x[chosen], passes, kl_weight)
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(together, 60.0)
                optimizer.step()
                step += 1
                taken.append(
                    {
                        "loss": loss.item(),
                        "passed": len(chosen) * passes,
                        "gradient_norm": norm.item(),
                        "learning_rate": lr,
                        "kl_weight": kl_weight,
                        "floor": floor,
                    }
                )
    return taken


@pytest.mark.parametrize("by_formulas", [False, True])
def test_the_loop_is_the_one_by_hand(by_formulas: bool) -> None:
    dtype = torch.float64 if by_formulas else torch.float32
    model, guide = make_pair(dtype=dtype)
    copies = make_pair(dtype=dtype)
    for module, copy in zip((model, guide), copies, strict=True):
        copy.load_state_dict(module.state_dict())
    x = low_rank_rows(dtype=dtype)

    torch.manual_seed(1)
    trainer = Trainer(*scheduled((model, guide), FLOOR), epochs=5, passes=2, recipe=RECIPE)
    assert trainer.fit(x) is trainer
    after = torch.get_rng_state()

    def loss_of(batch: Tensor, passes: int, kl_weight: float) -> Tensor:
        if by_formulas:
            return loss_by_hand("index_conditioned", *copies, batch, passes=passes, kl_weight=kl_weight)[0].sum()
        elbo = RecyclingELBO(passes=passes)
        elbo.kl_weight = kl_weight
        return elbo(*copies)(batch)

    torch.manual_seed(1)
    taken = train_by_hand(*copies, x, loss_of)
    assert torch.equal(torch.get_rng_state(), after)
    for actual, expected in zip(parameters(model, guide), parameters(*copies), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9 if by_formulas else 0, atol=0)
    assert min(step["gradient_norm"] for step in taken) < 60 < max(step["gradient_norm"] for step in taken)

    assert len(trainer.history) == 5
    for number, entry in enumerate(trainer.history):
        steps = taken[3 * number : 3 * number + 3]
        passed = sum(step["passed"] for step in steps)
        assert (passed == 20) == (number < 3)
        assert entry["loss"] == pytest.approx(sum(step["loss"] for step in steps) / passed, rel=1e-5)
        assert entry["gradient_norm"] == pytest.approx(sum(step["gradient_norm"] for step in steps) / 3, rel=1e-5)
        for name in ("learning_rate", "kl_weight", "floor"):
            assert entry[name] == pytest.approx(steps[-1][name], rel=1e-6), name


class Repairing(rv.likelihoods.SpikeAndSlab):
    """Repairs what it recycles, as it always does, and tells dirt from the locations with a gradient."""

    def follow(self, squares: Tensor, observed: Tensor | None = None, *, momentum: float = 0.0) -> None:
        pass


def test_repaired_rows_are_data_that_have_no_gradient() -> None:
    """The loss of a training is that of an ELBO which stops the gradient at them."""
    model, guide = make_pair()
    model.likelihood = Repairing((0.5, 0.5))
    trainer = Trainer(model, guide, epochs=1)
    x = low_rank_rows()
    losses = {}
    for detach in (True, False):
        torch.manual_seed(0)
        loss = RecyclingELBO(2, recycle="repair", detach=detach)(model, guide)(x)
        losses[detach] = torch.autograd.grad(loss, list(model.parameters()))
    torch.manual_seed(0)
    actual = torch.autograd.grad(trainer.modules[2](x), list(model.parameters()))
    assert all(map(torch.equal, actual, losses[True]))
    assert not all(map(torch.equal, actual, losses[False]))


# Phases and history


def test_phases_divide_the_epochs() -> None:
    def phases(epochs: int, passes: int, share: float) -> list[tuple[str, int, int, float]]:
        recipe = Recipe(single_pass_share=share)
        trainer = Trainer(*make_pair(), epochs=epochs, passes=passes, recipe=recipe)
        return [(each.name, each.passes, each.epochs, each.share) for each in trainer.phases]

    single, recycling = ("single passes", 1), ("recycling", 3)
    assert phases(9, 3, 2 / 3) == [(*single, 6, 1.0), (*recycling, 3, 0.5)]
    assert phases(9, 3, 0.0) == [(*recycling, 9, 0.5)]
    assert phases(9, 3, 1.0) == [(*single, 9, 1.0)]
    for share in (0.0, 2 / 3, 1.0):
        assert phases(9, 1, share) == [(*single, 9, 1.0)]
    plain = Trainer(*make_pair(), epochs=9, passes=3, recipe=Recipe.plain()).phases
    assert [(each.passes, each.epochs, each.share) for each in plain] == [(3, 9, 1.0)]


@pytest.mark.parametrize("share", [0.0, 0.25, 1 / 3, 0.5, 1.0])
def test_recycled_steps_are_spread_evenly(share: float) -> None:
    phase = Phase("recycling", 4, 1, share)
    taken = [phase.passes_of(step) for step in range(120)]
    assert set(taken) <= {1, 4}
    for start in range(0, 120, 12):
        assert taken[start : start + 12].count(4) == pytest.approx(12 * share, abs=1e-9)
    assert phase.passes_in_all(120) == sum(taken)


@pytest.mark.parametrize(("passes", "share"), [(1, 2 / 3), (3, 0.0), (3, 2 / 3)])
def test_history_follows_the_schedules(passes: int, share: float) -> None:
    recipe = Recipe(batch_size=8, kl_start=0.5, kl_until=1.0, floor_until=1.0, single_pass_share=share)
    entries: list[dict[str, Any]] = []
    trainer = Trainer(*scheduled(make_pair(), FLOOR), epochs=6, passes=passes, recipe=recipe, on_log=entries.append)
    trainer.fit(low_rank_rows())
    assert trainer.history == entries
    expected = [(phase, epoch + 1) for phase in trainer.phases for epoch in range(phase.epochs)]
    assert len(entries) == len(expected) == 6
    for entry, (phase, epoch) in zip(entries, expected, strict=True):
        before = 0 if phase == trainer.phases[0] else trainer.phases[0].epochs
        progress = (3 * (before + epoch) - 1) / 18  # at its last step
        assert (entry["phase"], entry["passes"], entry["epochs"]) == (phase.name, phase.passes, phase.epochs)
        assert (entry["epoch"], entry["rows"]) == (epoch, 20)
        assert entry["kl_weight"] == pytest.approx(0.5 + 0.5 * progress)
        assert entry["floor"] == pytest.approx(0.5 * 0.1**progress)
        assert entry["rows_per_second"] > 0
        assert {"reconstruction", "kl", "active_units", "under_floor"} <= set(entry)
        assert all(type(value) in (str, int, float) for value in entry.values())


def test_long_epochs_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_ricvae.inference.training.trainer._LOG_STEPS", 3)
    trainer = Trainer(*make_pair(), epochs=2, passes=1, recipe=Recipe(batch_size=5)).fit(low_rank_rows())
    assert [(entry["epoch"], entry["rows"]) for entry in trainer.history] == [(0.75, 15), (1.5, 15), (2.0, 10)]


def test_no_more_than_512_rows_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = []

    def measure(model: Any, guide: Any, x: Tensor) -> dict[str, float]:
        watched.append(x)
        return rv.inference.measure(model, guide, x)

    monkeypatch.setattr("pyro_ricvae.inference.training.trainer.measure", measure)
    x = low_rank_rows(1300)
    Trainer(*make_pair(), epochs=1, passes=1, recipe=Recipe(batch_size=1300)).fit(x)
    for each in watched:
        assert each.shape == (512, 5)
        assert torch.equal(each[0], x[0])
        assert torch.equal(each[-1], x[-1])
    Trainer(*make_pair(), epochs=1, passes=1).fit(x[:20])
    assert torch.equal(watched[-1], x[:20])


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    trainer = Trainer(*make_pair(), epochs=3, passes=1, recipe=Recipe(batch_size=1000)).fit(low_rank_rows())
    assert [entry["rows"] for entry in trainer.history] == [20] * 3


def test_without_a_floor_of_its_own_the_likelihood_s_stays() -> None:
    model, guide = make_pair()
    trainer = Trainer(model, guide, epochs=3).fit(low_rank_rows())
    assert [entry["floor"] for entry in trainer.history] == [0.5] * 3
    assert model.likelihood.floor.item() == 0.5


class Mixture(nn.Module):
    """A prior without a closed-form KL."""

    def forward(self) -> Any:
        components = dist.Normal(torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), 1.0).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=torch.zeros(2)), components)


@pytest.mark.parametrize("kind", ["fixed", "learned"])
def test_other_priors_and_likelihoods(kind: str) -> None:
    model, guide = make_pair(kind)
    model.prior = Mixture()
    before = parameters(model, guide)
    trainer = Trainer(model, guide, epochs=4, recipe=Recipe(batch_size=8, single_pass_share=0.5)).fit(low_rank_rows())
    assert len(trainer.history) == 4
    for entry in trainer.history:
        assert math.isfinite(entry["kl"])
        assert not {"floor", "under_floor", "kl_unit_0"} & set(entry)
    assert not any(map(torch.equal, before, parameters(model, guide)))
