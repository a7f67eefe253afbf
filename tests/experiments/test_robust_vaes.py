"""The default beside robust autoencoders of others: its runs at tiny settings, and the page of made-up ones."""

from typing import Any

import numpy as np
import pytest

from experiments.paper.robust_vaes import SCENARIOS, configurations, grids, report, run
from pyro_ricvae.demo.scenarios import make_scenario

FIGURES = {"all", "dirty", "clean", "median", "repaired", "found", "found cells"}
MODELS = list(grids(images=False))


def test_each_member_of_a_grid_is_a_run_of_equal_passes() -> None:
    found = configurations(2, quick=False)
    for scenario, (data, passes) in SCENARIOS.items():
        some = [each for each in found if each["scenario"] == scenario]
        grid = grids(images=data in ("faces", "digits"))
        assert len(some) == 2 * sum(map(len, grid.values()))
        assert {each["passes"] for each in some} == {passes}
        assert {each["data"] for each in some} == {data}
        if data in ("digits", "cancer"):  # the others' files need not be there
            assert make_scenario(scenario, 0).images == (data == "digits")
    assert len({str(each) for each in found}) == len(found)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_gives_its_figures(model: str) -> None:
    quick = [each for each in configurations(1, quick=True) if each["data"] == "cancer" and each["model"] == model]
    assert len(quick) == 1
    found = run(quick[0], "cpu")
    assert found.keys() - {"test passes"} == FIGURES
    assert all(np.isfinite(value) for value in found.values())
    assert 0 < found["found"] <= 1
    assert found["found"] == pytest.approx(found["found cells"])  # of a table they are the same


def test_images_are_found_by_row_and_by_pixel() -> None:
    common = {"data": "digits", "scenario": "digits-line", "passes": 1, "hidden": [8], "seed": 0, "quick": False}
    given = common | {"model": "RDA", "setting": {"threshold": 0.5, "norm": "l21"}}
    found = run(given, "cpu")
    assert 0 < found["found cells"] < found["found"] < 1
    assert found["all"] > 1  # times 1000


def made_up(default: float, other: float) -> list[dict[str, Any]]:
    """Return runs in which each model has the same errors at its best setting, the default another."""
    runs = []
    for given in configurations(3, quick=False):
        grid = grids(given["data"] in ("faces", "digits"))[given["model"]]
        error = default if given["model"] == "default" else other * (1 + grid.index(given["setting"]))
        figures = dict.fromkeys(FIGURES, error * (1 + given["seed"] / 10)) | {"found": 1 / error}
        runs.append(given | figures | {"seconds": 1.0})
    return runs


def test_the_page_says_what_is_best_at_the_settings_that_the_truth_chooses() -> None:
    page = report(made_up(1.0, 2.0))
    assert all(claim.held for claim in page.claims)
    errors = page.tables["Error over all cells"].set_index("model")
    assert errors.loc["default"].tolist() == pytest.approx([1.1] * len(SCENARIOS))
    assert errors.loc["RDA"].tolist() == pytest.approx([2.2] * len(SCENARIOS))  # and not the mean of its settings
    chosen = page.tables["Settings chosen, those of the seeds in turn"].set_index("model")
    assert chosen.loc["RVAE"].eq("clean_share 0.95").all()
    assert list(page.pictures) == ["errors"]


def test_the_page_says_so_where_the_default_loses() -> None:
    page = report(made_up(2.0, 1.0))
    assert not any(claim.held for claim in page.claims)
    assert any("default 2.2, best of others'" in claim.figures and "+1.1" in claim.figures for claim in page.claims)


def test_one_setting_for_all_is_chosen_over_all_of_a_kind() -> None:
    runs = made_up(1.0, 2.0)
    for each in runs:  # RVAE's best setting is another on one scenario
        if (each["model"], each["scenario"], each["setting"]) == ("RVAE", "digits-line", {"clean_share": 0.8}):
            each["all"] = 1.5
    page = report(runs)
    common = page.tables["Error over all cells, one setting for all images and one for all tables"]
    assert page.tables["Error over all cells"].set_index("model").loc["RVAE", "digits-line"] == pytest.approx(1.5)
    assert common.set_index("model").loc["RVAE", "digits-line"] == pytest.approx(2.2)
