"""What is measured, against computations by hand, and what is said of it."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from reference import KINDS, Returns, cells_by_hand, make_pair
from torch import Tensor, nn

from pyro_ricvae.inference import measure
from pyro_ricvae.inference.training.monitor import advice, recycling_diverged

GOOD = {"active_units": 4.0, "under_floor": 0.5}


# Measures


@pytest.mark.parametrize("kind", KINDS)
def test_measures_by_hand(kind: str) -> None:
    model, guide = make_pair(kind)
    guide.encoder.affine.weight.data[1] = 0.0
    guide.encoder.loc.weight.data[1] = 0.0  # the second unit sees nothing
    x = torch.randn(50, 5)
    measured = measure(model, guide, x)
    with torch.no_grad():
        loc, scale = guide.encoder(x)
        cells, location, _ = cells_by_hand(kind, model.likelihood, model.decoder(loc), x)
    by_unit = (0.5 * (scale**2 + loc**2 - 1) - torch.log(scale)).mean(0)
    expected = {
        "reconstruction": cells.sum(-1).mean(),
        "kl": by_unit.sum(),
        **{f"kl_unit_{k}": unit for k, unit in enumerate(by_unit)},
        "active_units": sum(np.var(column, ddof=1) > 0.01 for column in loc.numpy().T),
    }
    assert expected["active_units"] == 1
    if kind == "index_conditioned":
        expected["under_floor"] = np.mean(np.abs((x - location).numpy()) < 0.5)
        assert 0.1 < expected["under_floor"] < 0.9
    assert measured == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)
    assert all(type(value) is float for value in measured.values())


@pytest.mark.parametrize(("variance", "active"), [(0.0101, 1), (0.0099, 0)])
def test_a_unit_is_active_above_a_variance_of_a_hundredth(variance: float, active: int) -> None:
    model, guide = make_pair(n_latent=1)
    loc = torch.tensor([[-1.0], [1.0]] * 50)
    guide.encoder = Returns((loc * (variance / loc.var()).sqrt(), torch.ones(100, 1)))
    assert measure(model, guide, torch.zeros(100, 5))["active_units"] == active


def test_a_prior_without_a_closed_form() -> None:
    model, guide = make_pair("fixed")
    prior = dist.StudentT(torch.full((2,), 3.0), torch.zeros(2), 1.0).to_event(1)
    model.prior = Returns(prior)
    x = torch.randn(20, 5)
    measured = measure(model, guide, x)
    posterior = guide.encode(x)
    expected = (posterior.log_prob(posterior.mean) - prior.log_prob(posterior.mean)).mean()
    assert measured["kl"] == pytest.approx(expected.item(), rel=1e-5)
    assert set(measured) == {"reconstruction", "kl", "active_units"}


class Wrong(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("wrong", [False, True])
def test_modes_and_gradients_are_left_as_they_were(wrong: bool) -> None:
    model, guide = make_pair()
    guide.encoder.deep.append(nn.Dropout(0.5))
    model.decoder.loc.eval()  # a part that the user has frozen
    if wrong:
        model.decoder.deep = Wrong()
        with pytest.raises(RuntimeError, match="out of memory"):
            measure(model, guide, torch.randn(4, 5))
    else:
        x = torch.randn(4, 5)
        before = torch.get_rng_state()
        assert measure(model, guide, x) == measure(model, guide, x)  # nothing dropped
        assert torch.equal(torch.get_rng_state(), before)
    frozen = model.decoder.loc
    assert not frozen.training
    assert all(each.training for module in (model, guide) for each in module.modules() if each is not frozen)
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


# Divergence


@pytest.mark.parametrize(
    ("reconstruction", "kl", "diverged"),
    [
        (10.0, 2.0, False),
        (12.9, 2.0, False),
        (13.1, 2.0, True),
        (12.0, 2.9, False),
        (12.0, 3.1, True),
        (-90.0, 2.0, False),
        (math.nan, 2.0, True),
        (10.0, math.inf, True),
    ],
)
def test_recycling_has_diverged_at_a_third_of_a_nat_a_cell(reconstruction: float, kl: float, diverged: bool) -> None:
    before = {"reconstruction": 10.0, "kl": 2.0}
    assert recycling_diverged(before, {"reconstruction": reconstruction, "kl": kl}, n_features=10) == diverged


# Advice


@pytest.mark.parametrize("n_latent", [4, 5, 8])
def test_a_good_run_needs_none(n_latent: int) -> None:
    assert advice(GOOD, n_latent) == []
    assert advice({"active_units": 4.0}, n_latent) == []
    for share in (0.1, 0.995):
        assert advice(GOOD | {"under_floor": share}, n_latent) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"active_units": 0.0}, "No latent unit is active: the model returns one row whatever the input. Start from a"),
        (
            {"active_units": 3.0},
            "3 of 8 latent units are active: a smaller n_latent, 3 say, would give the same model.",
        ),
        (
            {"active_units": 1.0},
            "1 of 8 latent units are active: a smaller n_latent, 1 say, would give the same model.",
        ),
        ({"under_floor": 0.996}, "99.6% of the residuals lie under the floor: this is a standard VAE with that scale"),
        ({"under_floor": 0.099}, "9.9% of the residuals lie under the floor: it is below what the model can resolve"),
        ({"under_floor": 0.0}, "0.0% of the residuals lie under the floor: it is below what the model can resolve"),
    ],
)
def test_what_is_wrong_is_said_in_words(changed: dict[str, float], message: str) -> None:
    (said,) = advice(GOOD | changed, n_latent=8)
    assert said.startswith(message)


def test_two_things_wrong_are_said_both() -> None:
    assert len(advice({"active_units": 0.0, "under_floor": 1.0}, n_latent=8)) == 2


def test_one_latent_unit_is_all_or_none() -> None:
    assert advice({"active_units": 1.0}, n_latent=1) == []
    assert len(advice({"active_units": 0.0}, n_latent=1)) == 1


def test_advice_of_a_real_model() -> None:
    model, guide = make_pair()
    x = torch.randn(50, 5)
    for floor, word in ((1e3, "standard VAE"), (1e-6, "below what the model can resolve")):
        model.likelihood.floor.fill_(floor)
        assert word in advice(measure(model, guide, x), n_latent=2)[-1]
    guide.encoder = Returns((torch.zeros(50, 2), torch.ones(50, 2)))
    assert "No latent unit is active" in advice(measure(model, guide, x), n_latent=2)[0]
    assert measure(model, guide, x)["kl"] == 0
