"""What the loop does where recycling diverges, and the advice that it gives."""

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from reference import make_pair
from rigged import STEPS, equal, low_rank_rows, parameters, scheduled
from torch import Tensor

from pyro_ricvae.inference import Trainer, TrainingWarning, measure
from pyro_ricvae.inference.training.step import Step

quiet = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")


# Recycling that diverges


def recycled(epochs: int, recycling_rate: float) -> tuple[Trainer, Tensor, list[Tensor]]:
    """Return a trainer, half of whose epochs are single passes, and the parameters that these alone would give."""
    recipe = dataclasses.replace(STEPS, recycling_rate=recycling_rate, single_pass_share=0.5)
    model, guide = make_pair()
    x, seed = low_rank_rows(), torch.get_rng_state()
    copies = copy.deepcopy((model, guide))
    Trainer(*copies, epochs=epochs // 2, passes=1, recipe=recipe).fit(x)
    torch.set_rng_state(seed)
    return Trainer(model, guide, epochs=epochs, passes=2, recipe=recipe), x, parameters(*copies)


@quiet
def test_recycling_that_diverges_is_undone_twice_and_left() -> None:
    trainer, x, before = recycled(epochs=20, recycling_rate=300.0)
    trainer.fit(x)
    said = [message for message in trainer.messages if "recycling made single passes worse" in message]
    assert len(said) == 2
    assert said[0].startswith(
        "Recycling, step 1 of 10: recycling made single passes worse by more than 0.3 nats a cell."
    )
    assert "Went back to the model before recycling, and go on at a quarter of the learning rate. Train" in said[0]
    assert said[1].startswith("Recycling, step 2 of 10: ")
    assert "and left it at that. Train longer before recycling" in said[1]
    assert {entry["phase"] for entry in trainer.history} == {"single passes"}
    assert equal(parameters(trainer.model, trainer.guide), before)


@quiet
def test_recycling_that_diverges_once_goes_on_at_a_quarter_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, True, False, False])
    monkeypatch.setattr("pyro_ricvae.inference.training.trainer.recycling_diverged", lambda *_: next(answers))
    trainer, x, before = recycled(epochs=8, recycling_rate=1.0)
    go_back = trainer._go_back_to_single_passes

    def watched(*args: Any) -> None:
        go_back(*args)
        assert equal(parameters(trainer.model, trainer.guide), before)

    trainer._go_back_to_single_passes = watched  # type: ignore[method-assign]
    trainer.fit(x)
    assert [message for message in trainer.messages if "go on at a quarter of the learning rate" in message]
    entries = [entry for entry in trainer.history if entry["phase"] == "recycling"]
    assert [(entry["epoch"], entry["learning_rate"]) for entry in entries] == [(1, 1e-2), (3, 2.5e-3), (4, 2.5e-3)]
    assert not equal(parameters(trainer.model, trainer.guide), before)


@quiet
def test_a_wrong_step_after_that_goes_back_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the state of recycling that was good before it diverged."""
    answers = iter([False, True, False])
    monkeypatch.setattr("pyro_ricvae.inference.training.trainer.recycling_diverged", lambda *_: next(answers))
    trainer, x, before = recycled(epochs=8, recycling_rate=1.0)
    go_back, step = trainer._go_back_to_finite, Step.__call__
    taken = []

    def spoiled(*args: Any) -> Any:
        loss, norm = step(*args)
        taken.append(loss)
        return (loss * math.nan if len(taken) == 7 else loss), norm

    def watched(*args: Any) -> None:
        go_back(*args)
        assert equal(parameters(trainer.model, trainer.guide), before)

    monkeypatch.setattr(Step, "__call__", spoiled)
    trainer._go_back_to_finite = watched  # type: ignore[method-assign]
    trainer.fit(x)
    assert [message.split(":")[0] for message in trainer.messages[:2]] == [
        "Recycling, step 2 of 4",
        "Recycling, step 3 of 4",
    ]
    assert trainer.history[-1]["learning_rate"] == pytest.approx(1e-2 / 8)


@quiet
def test_recycling_that_diverges_at_the_last_look_is_left() -> None:
    trainer, x, before = recycled(epochs=2, recycling_rate=300.0)
    trainer.fit(x)
    said = [message for message in trainer.messages if "recycling made" in message]
    assert len(said) == 1
    assert "and left it at that" in said[0]
    assert equal(parameters(trainer.model, trainer.guide), before)


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
    answers, asked = iter([False, True, True]), []
    monkeypatch.setattr("pyro_ricvae.inference.training.trainer.recycling_diverged", lambda *_: next(answers))
    trainer, x, _ = recycled(epochs=8, recycling_rate=1.0)
    monkeypatch.setattr("pyro_ricvae.inference.training.trainer.advice", lambda *args: asked.append(args) or ["Well."])
    trainer.fit(x)
    assert trainer.messages[-1] == "Well."
    assert trainer.history[-1]["phase"] == "recycling"
    assert asked == [(measure(trainer.model, trainer.guide, x), 2)]
