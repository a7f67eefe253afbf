"""The fourth seam: a training is resumed from its state, to the last bit."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import make_pair
from rigged import Rigged, equal, low_rank_rows, parameters, scheduled

from pyro_ricvae.data.batches import ArrayRows
from pyro_ricvae.inference import Recipe, Trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore::pyro_ricvae.inference.TrainingWarning", "ignore:Encountered NaN:UserWarning"
)

RECIPE = Recipe(batch_size=8, learning_rate=1e-2, warmup_steps=5, kl_start=0.2, single_pass_share=0.6, clip_norm=50.0)


def trainer_of(kind: str, engine: Any, x: Any, wrong: frozenset[int] = frozenset(), **options: Any) -> Trainer:
    torch.manual_seed(0)
    model, guide = make_pair(kind)
    if wrong:
        model.decoder = Rigged(model.decoder, set(wrong))
    if kind == "index_conditioned":
        scheduled((model, guide), (0.5, 0.05))
    return Trainer(model, guide, **{"epochs": 5, "passes": 2, "recipe": RECIPE, "engine": engine, **options})


def outcome(trainer: Trainer) -> tuple[Any, ...]:
    histories = [{**entry, "rows_per_second": None} for entry in trainer.history]
    return histories, trainer.messages, torch.get_rng_state().tolist()


@pytest.mark.parametrize("look", range(5))
@pytest.mark.parametrize(("kind", "engine"), [("index_conditioned", "eager"), ("learned", "captured")])
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(
    kind: str, engine: Any, look: int, tmp_path: Path
) -> None:
    x = low_rank_rows(21)
    whole = trainer_of(kind, engine, x)
    states: list[Any] = []
    whole.on_log = lambda _: states.append(whole.state.state_dict())
    whole.fit(x)
    assert len(states) == 5  # three looks in the first phase, two in the second
    expected, trained = outcome(whole), parameters(whole.model, whole.guide)
    path = tmp_path / "state.pt"
    torch.save(states[look], path)

    resumed = trainer_of(kind, engine, x)
    torch.manual_seed(99)
    resumed.fit(x, resume=torch.load(path, weights_only=True))  # plain values and tensors: nothing is unpickled
    assert outcome(resumed) == expected
    assert equal(parameters(resumed.model, resumed.guide), trained)


def test_in_the_middle_of_an_epoch_too() -> None:
    x = low_rank_rows(21)
    whole = trainer_of("index_conditioned", "eager", x)
    step_of, states = whole.recipe.rate_factor, []

    def noted(step: int, n_steps: int) -> float:
        if step == 4 and not states:
            states.append(whole.state.state_dict())
        return step_of(step, n_steps)

    object.__setattr__(whole.recipe, "rate_factor", noted)
    try:
        whole.fit(x)
    finally:
        object.__delattr__(whole.recipe, "rate_factor")
    assert states[0]["number"] == 4
    assert states[0]["tally"]["steps"] == 1
    resumed = trainer_of("index_conditioned", "eager", x)
    resumed.fit(x, resume=states[0])
    assert outcome(resumed) == outcome(whole)
    assert equal(parameters(resumed.model, resumed.guide), parameters(whole.model, whole.guide))


def test_what_there_is_to_go_back_to_is_part_of_the_state() -> None:
    """The loss is not finite after the state was taken: the resumed training goes back, and is slowed, as the other."""
    x = low_rank_rows(21)
    whole = trainer_of("index_conditioned", "eager", x, frozenset({7}))
    states: list[Any] = []
    whole.on_log = lambda _: states.append(whole.state.state_dict())
    whole.fit(x)
    assert any("was not finite" in message for message in whole.messages)
    assert len(states) == 4
    resumed = trainer_of("index_conditioned", "eager", x, frozenset({4}))  # three steps less, and no first check
    resumed.model.decoder.calls = -1
    resumed.fit(x, resume=states[0])
    assert [message for message in resumed.messages if "finite" in message] == [
        message for message in whole.messages if "finite" in message
    ]
    assert resumed.state.slowed == whole.state.slowed
    assert equal(parameters(resumed.model, resumed.guide), parameters(whole.model, whole.guide))


def test_a_training_that_was_slowed_stays_slowed() -> None:
    """The state is taken after it has gone back; what is left is trained at half of the learning rate."""
    x = low_rank_rows(21)
    whole = trainer_of("index_conditioned", "eager", x, frozenset({4}), epochs=10)
    states: list[Any] = []
    whole.on_log = lambda _: states.append(whole.state.state_dict())
    whole.fit(x)
    state = next(each for each in states if each["phase"] == 0 and each["slowed"] == 0.5)
    assert state["number"] < 18  # there are steps of the phase to come
    resumed = trainer_of("index_conditioned", "eager", x, epochs=10)
    resumed.model.decoder = Rigged(resumed.model.decoder, set())
    resumed.fit(x, resume=state)
    assert outcome(resumed) == outcome(whole)
    assert equal(parameters(resumed.model, resumed.guide), parameters(whole.model, whole.guide))


def test_a_state_does_not_change_as_the_training_goes_on() -> None:
    x = low_rank_rows(21)
    trainer = trainer_of("index_conditioned", "eager", x)
    states: list[Any] = []
    trainer.on_log = lambda _: states.append((trainer.state.state_dict(), parameters(trainer.model)))
    trainer.fit(x)
    for state, then in states:
        kept = [state["networks"][f"model.{name}"] for name, _ in trainer.model.named_parameters()]
        assert equal(kept, then)


def test_a_state_of_other_rows_or_networks_is_refused() -> None:
    x = low_rank_rows(21)
    state = trainer_of("index_conditioned", "eager", x).fit(x).state.state_dict()
    before = trainer_of("index_conditioned", "eager", x)
    fresh = parameters(before.model, before.guide)
    with pytest.raises(ValueError, match="Expected the state of a training with rows 20, actual 21"):
        before.fit(x[:20], resume=state)
    assert equal(parameters(before.model, before.guide), fresh)  # nothing is changed
    for other in ({"passes": 1}, {"epochs": 6}, {"recipe": Recipe(batch_size=7)}):
        with pytest.raises(ValueError, match="Expected the state of a training with"):
            trainer_of("index_conditioned", "eager", x, **other).fit(x, resume=state)
    for wrong in ({}, None, 3, {"phase": 0}):
        if wrong is not None:
            with pytest.raises(ValueError, match=r"Expected as resume what trainer.state.state_dict\(\) returned"):
                trainer_of("index_conditioned", "eager", x).fit(x, resume=wrong)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="Expected a training that has begun"):
        trainer_of("index_conditioned", "eager", x).state.state_dict()
    with pytest.raises(RuntimeError, match="log_scale"):
        trainer_of("learned", "eager", x).fit(x, resume=state)


def test_a_trainer_that_fits_again_adds_to_its_history() -> None:
    x = low_rank_rows(21)
    trainer = trainer_of("index_conditioned", "eager", x)
    history = trainer.history
    trainer.fit(x)
    trainer.fit(x)
    assert trainer.history is history
    assert len(history) == 10


def test_a_training_that_had_ended_says_nothing_again() -> None:
    x = low_rank_rows(21)
    trainer = trainer_of("index_conditioned", "eager", x).fit(x)
    again = trainer_of("index_conditioned", "eager", x).fit(x, resume=trainer.state.state_dict())
    assert outcome(again)[:2] == outcome(trainer)[:2]
    assert equal(parameters(again.model, again.guide), parameters(trainer.model, trainer.guide))


def test_a_source_of_rows_is_trained_on_as_its_tensor() -> None:
    x = low_rank_rows(21)
    one, other = (trainer_of("index_conditioned", "eager", x) for _ in range(2))
    torch.manual_seed(5)
    one.fit(x)
    torch.manual_seed(5)
    other.fit(ArrayRows(x))
    assert outcome(one) == outcome(other)
    assert math.isfinite(one.history[-1]["loss"])
