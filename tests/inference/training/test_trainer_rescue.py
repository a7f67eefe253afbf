"""What the loop does where loss or gradient is not finite, and what it says."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from reference import make_pair
from rigged import STEPS, Rigged, equal, low_rank_rows, parameters
from torch import Tensor

from pyro_ricvae.inference import Recipe, RecyclingELBO, Trainer, TrainingError, TrainingWarning
from pyro_ricvae.inference.training.step import Step

pytestmark = pytest.mark.filterwarnings("ignore:Encountered NaN:UserWarning")  # Pyro's own, beside ours
quiet = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")


def rigged(wrong: set[int], how: str = "value", epochs: int = 3, recipe: Recipe = STEPS, **kwargs: Any) -> Any:
    """Return a trainer of a rigged pair, and what it is to keep: its parameters at every look."""
    model, guide = make_pair()
    model.decoder = Rigged(model.decoder, wrong, how)
    kept = [parameters(model, guide)]
    trainer = Trainer(
        model, guide, epochs=epochs, recipe=recipe, on_log=lambda _: kept.append(parameters(model, guide)), **kwargs
    )
    return trainer, kept


def train_without(model: Any, guide: Any, x: Tensor, lost: set[int], epochs: int) -> None:
    """Take the steps of `STEPS`, but the lost ones, each of which halves the rate."""
    module = RecyclingELBO()(model, guide)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2, fused=True)
    module(x)
    for step in range(1, epochs + 1):
        optimizer.zero_grad()
        loss = module(x[torch.randperm(20)])
        loss.backward()
        if step in lost:
            optimizer.param_groups[0]["lr"] /= 2
        else:
            optimizer.step()


# Loss or gradient that is not finite


@pytest.mark.parametrize("how", ["value", "gradient"])
@pytest.mark.parametrize("wrong", [{1}, {2}, {3}])
def test_a_wrong_step_is_undone(wrong: set[int], how: str) -> None:
    trainer, kept = rigged(wrong, how, passes=1)
    (number,) = wrong
    with pytest.warns(
        TrainingWarning, match=rf"^Single passes, step {number} of 3: loss or gradient was not finite\. Went"
    ):
        trainer.fit(low_rank_rows())
    assert "halved the learning rate" in trainer.messages[0]
    assert len(trainer.history) == 2
    assert equal(parameters(trainer.model, trainer.guide), kept[-1])
    rates = [1e-2 if step < number else 5e-3 for step in (1, 2, 3) if step != number]
    assert [entry["learning_rate"] for entry in trainer.history] == rates


@quiet
@pytest.mark.parametrize("lost", [set(), {2}, {1, 3}, {2, 3, 5}])
def test_after_a_wrong_step_training_goes_on_as_if_it_had_not_been(lost: set[int]) -> None:
    """With the optimizer's moments of before, at half the rate."""
    trainer, _ = rigged(lost, epochs=7, passes=1)
    model, guide = make_pair()
    model.decoder = Rigged(model.decoder, set())
    model.load_state_dict(trainer.model.state_dict()), guide.load_state_dict(trainer.guide.state_dict())
    x = low_rank_rows()
    torch.manual_seed(1)
    trainer.fit(x)
    torch.manual_seed(1)
    train_without(model, guide, x, lost, epochs=7)
    assert equal(parameters(trainer.model, trainer.guide), parameters(model, guide))


@quiet
def test_all_steps_since_the_last_look_are_undone() -> None:
    recipe = Recipe(batch_size=5, warmup_steps=0, clip_norm=None)  # 4 steps an epoch
    trainer, kept = rigged({6}, epochs=3, recipe=recipe, passes=1)
    floors = []
    trainer.on_log = lambda entry: (
        kept.append(parameters(trainer.model, trainer.guide)),
        floors.append(entry["floor"]),
    )
    trainer.floor = (0.5, 0.1)
    restore = trainer._go_back_to_finite

    def watched(*args: Any) -> None:
        restore(*args)
        assert equal(parameters(trainer.model, trainer.guide), kept[1])
        assert trainer.model.likelihood.floor.item() == pytest.approx(floors[0])

    trainer._go_back_to_finite = watched
    trainer.fit(low_rank_rows())
    assert "step 8 of 12" in trainer.messages[0]
    assert [entry["epoch"] for entry in trainer.history] == [1, 3]
    assert not equal(parameters(trainer.model, trainer.guide), kept[1])


@quiet
@pytest.mark.parametrize("what", ["loss", "norm", "model"])
def test_whatever_is_not_finite_undoes_the_step(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A model may be finite where its last loss was not, and the last step of all may spoil one whose loss was."""
    trainer, kept = rigged(set(), epochs=2, passes=1)
    step = Step.__call__

    def spoiled(*args: Any) -> Any:
        loss, norm = step(*args)
        if trainer.model.decoder.calls == 2:
            if what == "model":
                trainer.model.decoder.network.loc.bias.data.fill_(math.nan)
            loss, norm = (each * (math.inf if what == name else 1) for name, each in (("loss", loss), ("norm", norm)))
        return loss, norm

    monkeypatch.setattr(Step, "__call__", spoiled)
    trainer.fit(low_rank_rows())
    assert "step 2 of 2: loss or gradient was not finite" in trainer.messages[0]
    assert equal(parameters(trainer.model, trainer.guide), kept[-1])


@quiet
def test_where_no_step_is_right_there_is_a_message_all_the_same() -> None:
    trainer, kept = rigged({1, 2}, epochs=2, passes=1)
    trainer.fit(low_rank_rows())
    assert trainer.history == []
    assert [message.split(":")[0] for message in trainer.messages[:2]] == [
        "Single passes, step 1 of 2",
        "Single passes, step 2 of 2",
    ]
    assert equal(parameters(trainer.model, trainer.guide), kept[0])


@quiet
def test_again_and_again_is_an_error() -> None:
    trainer, kept = rigged(set(range(3, 100)), epochs=20, passes=1)
    with pytest.raises(
        TrainingError,
        match=r"^Single passes, step 7 of 20: loss or gradient is not finite again, at 1/16 of the learning rate. Give",
    ):
        trainer.fit(low_rank_rows())
    assert len(trainer.messages) == 4
    assert len(trainer.history) == 2
    assert equal(parameters(trainer.model, trainer.guide), kept[-1])
    assert all(parameter.isfinite().all() for parameter in parameters(trainer.model, trainer.guide))


@quiet
def test_a_wrong_step_of_recycling_is_undone_too() -> None:
    """Steps 1 and 2 are single passes; the decoder is called twice in each one after them."""
    trainer, kept = rigged({6}, epochs=4, recipe=dataclasses.replace(STEPS, single_pass_share=0.5))
    trainer.fit(low_rank_rows())
    assert trainer.messages[0].startswith("Recycling, step 2 of 2: loss or gradient was not finite.")
    assert [entry["phase"] for entry in trainer.history] == ["single passes"] * 2 + ["recycling"]
    assert equal(parameters(trainer.model, trainer.guide), kept[3])
