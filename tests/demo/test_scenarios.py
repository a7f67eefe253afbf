import os

import numpy as np
import pytest

from pyro_ricvae.demo import scenarios
from pyro_ricvae.demo.scenarios import CONTAMINATIONS, SCENARIOS, Scenario, blocks_and_lines, make_scenario

CONTAMINATED = [f"{data}-{dirt}" for data in ("digits", "cancer") for dirt in CONTAMINATIONS if dirt != "none"]
EMBEDDED = [name for name in SCENARIOS if name.startswith(("digits", "table")) and not name.endswith(CONTAMINATIONS)]


@pytest.mark.parametrize("name", EMBEDDED)
def test_dirt_is_where_the_mask_says_and_follows_the_seed(name: str) -> None:
    first, again, other = make_scenario(name, 3), make_scenario(name, 3), make_scenario(name, 4)
    assert (first.dirty == again.dirty).all()
    assert (first.dirty != other.dirty).any()
    assert (first.dirty == first.clean)[~first.touched].all()
    share = first.touched.any(axis=tuple(range(1, first.touched.ndim))).mean() if first.images else first.touched.mean()
    assert share == pytest.approx(0.1 if name == "table-10" else 0.4, abs=2e-3)


@pytest.mark.parametrize("name", CONTAMINATED)
def test_contamination_is_of_so_many_cells_or_rows(name: str) -> None:
    scenario = make_scenario(name, 3)
    share = int(name[-2:]) / 100
    assert (scenario.dirty == scenario.clean)[~scenario.touched].all()
    errors = scenario.errors(scenario.dirty)
    if "rows" in name:
        rows = scenario.touched.reshape(len(scenario.touched), -1)
        assert (rows.all(axis=1) == rows.any(axis=1)).all()
        assert rows.any(axis=1).mean() == pytest.approx(share, abs=2e-3)
        assert np.isnan(errors["dirty"])
        assert scenario.average_precision(-rows.any(axis=1).astype(float), scenario.touched) == 1.0
    else:
        assert scenario.touched.mean() == pytest.approx(share, abs=0.02)
        assert errors["dirty"] > 0
        assert scenario.average_precision(np.zeros(len(scenario.dirty)), scenario.touched.astype(float)) == 1.0
    assert errors["clean"] == 0


def test_without_contamination_nothing_is_touched() -> None:
    for name in ("digits-none", "cancer-none"):
        scenario = make_scenario(name, 0)
        assert (scenario.dirty == scenario.clean).all()
        assert not scenario.touched.any()


def test_a_satellite_table_needs_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "find", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"Expected adbench/31_satimage-2\.npz in the folder"):
        make_scenario("satellite-none", 0)


@pytest.mark.skipif("PYRO_RICVAE_DATA" not in os.environ, reason="needs the files that PYRO_RICVAE_DATA names")
def test_satellite() -> None:
    scenario = make_scenario("satellite-rows-10", 0)
    assert scenario.clean.shape == (1500, 36)
    assert scenario.touched.all(axis=1).sum() == 150


@pytest.mark.skipif("PYRO_RICVAE_DATA" not in os.environ, reason="needs the files that PYRO_RICVAE_DATA names")
@pytest.mark.parametrize(("name", "share"), [("faces-discs", 0.6), ("faces-bars", 0.5), ("faces-clean", 0)])
def test_faces(name: str, share: float) -> None:
    scenario = make_scenario(name, 0)
    assert scenario.touched.any(axis=(1, 2)).mean() == pytest.approx(share, abs=1e-3)
    assert scenario.dirty.dtype == np.uint8


def test_errors_of_images_are_over_all_pixels_of_those_that_are_dirty() -> None:
    scenario = make_scenario("digits-block", 0)
    dirty = scenario.touched.any(axis=(1, 2))
    errors = scenario.errors(scenario.clean + 8.0)  # half the range of 16
    assert errors == pytest.approx({"dirty": 0.25, "clean": 0.25, "all": 0.25, "median": 0.5})
    by_hand = np.square((scenario.dirty - scenario.clean) / 16)[dirty].mean()
    assert scenario.errors(scenario.dirty) == pytest.approx(
        {"dirty": by_hand, "clean": 0.0, "all": by_hand * dirty.mean(), "median": 0.0}
    )


def test_errors_of_tables_are_over_the_cells_in_units_of_their_columns() -> None:
    scenario = make_scenario("table-10", 0)
    error = np.square((scenario.dirty - scenario.clean) / scenario.scaling.scale)
    errors = scenario.errors(scenario.dirty)
    assert errors["dirty"] == pytest.approx(error[scenario.touched].mean(), rel=1e-5)
    assert errors["clean"] == 0.0


def test_average_precision_finds_images_by_rows_and_tables_by_cells() -> None:
    images, table = make_scenario("digits-line", 0), make_scenario("table-40", 0)
    dirty = images.touched.any(axis=(1, 2))
    assert images.average_precision(-dirty.astype(float), np.zeros(images.dirty.shape)) == 1.0
    assert images.average_precision(dirty.astype(float), images.touched) < 0.5
    assert table.average_precision(np.zeros(len(table.dirty)), table.touched.astype(float)) == 1.0
    clean = Scenario("clean", images.clean, images.clean, np.zeros(images.clean.shape, bool))
    assert np.isnan(clean.average_precision(dirty.astype(float), images.touched))
    assert np.isnan(clean.errors(images.clean)["dirty"])


def test_blocks_and_lines_are_on_different_images_in_equal_parts() -> None:
    images = np.zeros((400, 8, 8))
    images[:, 0, 0] = np.arange(400) % 2  # a range
    dirty, touched = blocks_and_lines(images, share=0.4, random_state=0)
    assert touched.any(axis=(1, 2)).mean() == 0.4
    square = (touched.any(axis=1).sum(axis=1) == 3) & (touched.any(axis=2).sum(axis=1) == 3)
    assert (square & (touched.sum(axis=(1, 2)) == 9)).sum() == 80  # no line fills a square
    assert (dirty[touched] == 1.0).all()
