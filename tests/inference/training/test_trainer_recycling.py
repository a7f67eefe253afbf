"""What the loop does where recycling diverges, and the advice that it gives."""

import dataclasses
import math
from typing import Any

import pytest
from reference import make_pair
from rigged import STEPS, equal, low_rank_rows, parameters, scheduled
from torch import Tensor

from pyro_ricvae.inference import Trainer, TrainingWarning, measure
from pyro_ricvae.inference.training.monitor import recycling_diverged
from pyro_ricvae.inference.training.step import Step

quiet = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")


# Recycling that diverges


def recycled(epochs: int) -> tuple[Trainer, Tensor]:
    """Return a trainer, half of whose epochs are single passes, and rows."""
    model, guide = make_pair()
    return Trainer(model, guide, epochs=epochs, passes=2, recipe=dataclasses.replace(STEPS, single_pass_share=0.5)), (
        low_rank_rows()
    )


def saying(monkeypatch: pytest.MonkeyPatch, *answers: bool) -> None:
    """Have the watch say at each look whether recycling has diverged; a look more than that is an error."""
    said = iter(answers)
    monkeypatch.setattr("pyro_ricvae.inference.training.trainer.recycling_diverged", lambda *_: next(said))


def watch_steps(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[list[Tensor]]]:
    """Return the passes of each step, and the parameters before it, as they will be taken."""
    passes: list[int] = []
    before: list[list[Tensor]] = []
    step = Step.__call__

    def watched(self: Step, batch: Tensor, number: int) -> Any:
        passes.append(number)
        before.append(parameters(trainer.model, trainer.guide))
        return step(self, batch, number)

    monkeypatch.setattr(Step, "__call__", watched)
    return passes, before


@quiet
def test_recycling_that_diverges_is_undone_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, False, True)
    trainer, x = recycled(epochs=8)
    passes, before = watch_steps(trainer, monkeypatch)
    trainer.fit(x)
    said = [message for message in trainer.messages if "recycling made single passes worse" in message]
    assert said == [
        "Recycling, step 2 of 4: recycling made single passes worse by more than 0.3 nats a cell. Went back to the "
        "model before recycling, and take the other steps in single passes. Train longer before recycling, or with one "
        "pass."
    ]
    assert passes == [1, 1, 1, 1, 2, 2, 1, 1]
    assert equal(before[6], before[4])
    assert not equal(before[7], before[6])
    assert [(entry["phase"], entry["epoch"]) for entry in trainer.history[3:]] == [
        ("single passes", 4),
        ("recycling", 1),
        ("recycling", 3),
        ("recycling", 4),
    ]


@quiet
def test_a_wrong_step_after_that_goes_back_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the state of recycling that was good before it diverged."""
    saying(monkeypatch, False, True)
    trainer, x = recycled(epochs=10)
    passes, before = watch_steps(trainer, monkeypatch)
    step = Step.__call__

    def spoiled(*args: Any) -> Any:
        loss, norm = step(*args)
        return (loss * math.nan if len(passes) == 8 else loss), norm

    monkeypatch.setattr(Step, "__call__", spoiled)
    trainer.fit(x)
    assert [message.split(":")[0] for message in trainer.messages[:2]] == [
        "Recycling, step 2 of 5",
        "Recycling, step 3 of 5",
    ]
    assert equal(before[8], before[5])
    assert trainer.history[-1]["learning_rate"] == pytest.approx(1e-2 / 2)


@quiet
def test_recycling_that_diverges_at_the_last_look_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, True)
    trainer, x = recycled(epochs=2)
    _, before = watch_steps(trainer, monkeypatch)
    trainer.fit(x)
    assert len([message for message in trainer.messages if "recycling made" in message]) == 1
    assert equal(parameters(trainer.model, trainer.guide), before[1])


@quiet
def test_what_has_gone_back_is_resumed_without_recycling(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, True)
    trainer, x = recycled(epochs=6)
    states: list[dict[str, Any]] = []
    trainer.on_log = lambda _: states.append(trainer.state.state_dict())
    trainer.fit(x)
    model, guide = make_pair()
    resumed = Trainer(model, guide, epochs=6, passes=2, recipe=trainer.recipe)
    passes, _ = watch_steps(resumed, monkeypatch)
    resumed.fit(x, resume=states[-2])
    assert passes == [1]
    assert equal(parameters(model, guide), parameters(trainer.model, trainer.guide))


def test_it_has_diverged_where_a_cell_costs_a_third_of_a_nat_more() -> None:
    before = {"reconstruction": 10.0, "kl": 2.0}
    for grown, expected in ((1.4, False), (1.6, True), (math.nan, True), (-5.0, False)):
        now = {"reconstruction": 10.0 + grown, "kl": 2.0}
        assert recycling_diverged(before, now, n_features=5) is expected


@quiet
@pytest.mark.parametrize(("passes", "share"), [(1, 0.5), (2, 0.0)])
def test_without_single_passes_before_it_nothing_is_undone(passes: int, share: float) -> None:
    recipe = dataclasses.replace(STEPS, learning_rate=3.0, single_pass_share=share)
    trainer = Trainer(*make_pair(), epochs=4, passes=passes, recipe=recipe).fit(low_rank_rows())
    assert not [message for message in trainer.messages if "recycling made" in message]
    assert len(trainer.history) == 4


# Advice


def test_advice_is_given_at_the_end_and_as_warnings() -> None:
    model, guide = make_pair()
    trainer = Trainer(*scheduled((model, guide), (1e3, 1e3)), epochs=2, recipe=STEPS)
    with pytest.warns(TrainingWarning, match="of the residuals lie under the floor: this is a standard VAE") as caught:
        trainer.fit(low_rank_rows())
    assert [str(each.message) for each in caught] == trainer.messages


@quiet
def test_advice_is_about_the_model_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not about the last one that was logged."""
    asked: list[Any] = []
    saying(monkeypatch, False, False, False, True)
    trainer, x = recycled(epochs=8)
    monkeypatch.setattr("pyro_ricvae.inference.training.trainer.advice", lambda *args: asked.append(args) or ["Well."])
    trainer.fit(x)
    assert trainer.messages[-1] == "Well."
    assert trainer.history[-1]["phase"] == "recycling"
    assert asked == [(measure(trainer.model, trainer.guide, x), 2)]
