"""What training must leave alone, and what it does not take."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from process_state import state
from reference import OwnEncoder, make_pair
from rigged import low_rank_rows, scheduled

import pyro_ricvae as rv
from pyro_ricvae.inference import Recipe, Trainer

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")


# What stays as it was


class OwnPrior(pyro.nn.PyroModule):
    """A prior with a scale like that."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = pyro.nn.PyroParam(torch.ones(2), dist.constraints.positive)

    def forward(self) -> Any:
        return dist.Normal(torch.zeros(2), self.scale).to_event(1)


@pytest.mark.parametrize("module_local_params", [False, True])
@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_global_changes(module_local_params: bool, validation: bool, error: Any) -> None:
    def on_log(entry: dict[str, Any]) -> None:
        if error and entry["phase"] == "recycling":
            raise error("stop")

    with pyro.settings.context(module_local_params=module_local_params), pyro.validation_enabled(validation):
        pyro.param("someone's", torch.ones(2))
        model, guide = make_pair()[0], rv.guides.AmortizedNormal(OwnEncoder())
        model.prior = OwnPrior()
        trainer = Trainer(model, guide, epochs=3, on_log=on_log)
        names = {"Pyro's settings", "Pyro's parameter store", "torch's validation", "gradient mode", "default dtype"}
        before = {name: value for name, value in state().items() if name in names}
        assert names == set(before)
        if error:
            with pytest.raises(error, match="stop"):
                trainer.fit(low_rank_rows())
        else:
            trainer.fit(low_rank_rows())
        rv.inference.measure(model, guide, low_rank_rows())
        assert {name: value for name, value in state().items() if name in names} == before
        assert pyro.infer.util.is_validation_enabled() == validation
    assert len(trainer.history) >= 2


def test_modes_stay_as_they_are() -> None:
    model, guide = make_pair()
    model.decoder.loc.eval()  # a part that the user has frozen
    guide.eval()
    Trainer(model, guide, epochs=2).fit(low_rank_rows())
    assert model.decoder.training
    assert not model.decoder.loc.training
    assert not guide.encoder.training


# Wrong input


@pytest.mark.parametrize("value", [0, -1, 2.5, True, None, "9"])
def test_wrong_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match=f"Expected epochs to be a whole number >= 1, actual {value!r}"):
        Trainer(*make_pair(), epochs=value)
    with pytest.raises(ValueError, match=f"Expected passes to be a whole number >= 1, actual {value!r}"):
        Trainer(*make_pair(), epochs=1, passes=value)


def test_a_wrong_schedule() -> None:
    for ends in (0.5, (0.5,), (0.5, 0.4, 0.3), "auto"):
        with pytest.raises(ValueError, match=r"each with \(start, end\) or a Switch, actual 'floor'"):
            Trainer(*scheduled(make_pair(), ends), epochs=1)
    with pytest.raises(ValueError, match=r"in the schedule of FixedNormal names of its buffers .* actual 'floor'"):
        Trainer(*scheduled(make_pair("fixed"), (0.5, 0.1)), epochs=1)
    for ends in ((0.5, 0.0), (-1.0, 0.5), (math.nan, 0.5)):
        with pytest.raises(ValueError, match="Expected each end of floor to be a positive and finite number"):
            Trainer(*scheduled(make_pair(), ends), epochs=1)


def test_a_wrong_value_is_found_before_training_comes_to_it() -> None:
    x = low_rank_rows()
    x[19, 4] = math.inf
    trainer = Trainer(*make_pair(), epochs=1, recipe=Recipe(batch_size=2))
    with pytest.raises(ValueError, match=r"Expected finite values in x, actual 1 .* the first at \(19, 4\)"):
        trainer.fit(x)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.full((4, 5), math.nan), ValueError, r"Expected finite values in x, actual 20 .* the first at \(0, 0\)"),
        (torch.zeros(5), ValueError, r"Expected x of shape \(..., rows, features\), actual \(5,\)"),
        (torch.zeros(3, 4, 5), ValueError, r"x of shape \(n, d\) with two rows or more, actual \(3, 4, 5\)"),
        (torch.zeros(1, 5), ValueError, r"x of shape \(n, d\) with two rows or more, actual \(1, 5\)"),
        (torch.zeros(0, 5), ValueError, r"Expected at least one row, actual x of shape \(0, 5\)"),
        (torch.zeros(4, 5, dtype=torch.uint8), ValueError, r"floating-point type, actual torch.uint8"),
        (torch.zeros(4, 3), ValueError, r"Expected rows of 5 features, actual shape \(4, 3\)"),
        (torch.zeros(4, 5).double(), ValueError, r"type torch.float32, actual torch.float64"),
        ([[0.0] * 5] * 4, TypeError, r"Expected x to be a tensor, actual list"),
    ],
)
def test_wrong_rows(x: Any, error: Any, message: str) -> None:
    trainer = Trainer(*make_pair(), epochs=1)
    with pytest.raises(error, match=message):
        trainer.fit(x)
    assert trainer.history == []
