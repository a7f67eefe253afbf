import math
from typing import Any

import numpy as np
import pyro
import pytest

from pyro_ricvae.demo import methods
from pyro_ricvae.demo.methods import Outcome, best_l2_vae, ic_vae, l2_vae, pick_best, ric_vae, robust_pca
from pyro_ricvae.demo.scenarios import Scenario, make_scenario
from pyro_ricvae.inference import Recipe


@pytest.fixture(scope="module")
def table() -> Scenario:
    whole = make_scenario("table-10", 0)
    return Scenario("small", whole.clean[:150], whole.dirty[:150], whole.touched[:150])


def outcome(error: float) -> Outcome:
    return Outcome({"dirty": error, "clean": 0.0}, np.zeros(0), np.zeros(0), None)


@pytest.mark.slow
def test_robust_pca_is_at_its_best_of_all_lambdas_and_centres(table: Scenario) -> None:
    best = robust_pca(table)
    grid = best.details["grid"]
    assert len(grid) == 2 * len(methods.LAMBDA_SCALES)
    assert best.figures["dirty"] == min(each["dirty"] for each in grid.values())
    assert best.figures == grid[best.details["best"]]
    assert best.figures["dirty"] < 0.2 * table.errors(table.dirty)["dirty"]
    assert best.figures["average_precision"] > 0.8


@pytest.mark.slow
def test_the_l2_vae_is_trained_by_svi_and_leaves_no_parameters(table: Scenario) -> None:
    trained = l2_vae(table, 4.0, 0, epochs=120)
    assert trained.estimator.settings_["likelihood"] == "fixed_normal"
    assert trained.estimator.model_.likelihood.scale.item() == 4.0
    losses = [entry["loss"] for entry in trained.estimator.history_]
    assert len(losses) == 120
    assert losses[-1] < 0.8 * losses[0]
    assert dict(pyro.get_param_store().items()) == {}
    assert l2_vae(table, 4.0, 0, epochs=120).figures == trained.figures


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (1.0, {0.5, 1.0, 2.0}),
        (8.0, {0.5, 1.0, 2.0, 4.0, 8.0, 16.0}),
        (0.25, {0.125, 0.25, 0.5, 1.0, 2.0}),
        (1e9, {0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0}),
    ],
)
def test_the_grid_of_scales_grows_until_the_best_is_inside_it(
    table: Scenario, monkeypatch: pytest.MonkeyPatch, best: float, tried: set[float]
) -> None:
    monkeypatch.setitem(methods.L2_SCALES, False, (0.5, 1.0, 2.0))
    monkeypatch.setattr(methods, "l2_vae", lambda scenario, scale, seed: outcome(abs(math.log(scale / best))))
    details = best_l2_vae(table, 0).details
    assert {float(scale) for scale in details["grid"]} == tried
    assert float(details["best"]) == min(tried, key=lambda scale: abs(math.log(scale / best)))


def test_scales_that_are_given_are_not_added_to(table: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "l2_vae", lambda scenario, scale, seed: outcome(scale))
    assert set(best_l2_vae(table, 0, (4.0, 8.0)).details["grid"]) == {"4", "8"}


def test_the_best_without_dirt_is_by_the_error_on_what_is_clean() -> None:
    grid = {"a": Outcome({"dirty": math.nan, "clean": 2.0}, np.zeros(0), np.zeros(0), None), "b": outcome(math.nan)}
    assert pick_best(grid).details["best"] == "b"


def test_the_ic_vae_gets_as_many_passes_as_the_ric_vae(table: Scenario) -> None:
    arguments: Any = {"epochs": 9, "train_passes": 3, "recipe": Recipe(batch_size=75)}
    recycled, single = ric_vae(table, 0, **arguments), ic_vae(table, 0, **arguments)
    trained = [sum(entry["row_passes"] for entry in each.estimator.history_) for each in (recycled, single)]
    assert trained[0] == trained[1] == (3 + 6 * 2) * 150
    assert {entry["passes"] for entry in single.estimator.history_} == {1}
    assert recycled.cleaned.shape == recycled.cell_scores.shape == table.dirty.shape
