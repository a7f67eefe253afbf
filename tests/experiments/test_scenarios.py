import os

import numpy as np
import pytest

from pyro_ricvae.experiments.scenarios import SCENARIOS, Scenario, blocks_and_lines, make_scenario

EMBEDDED = [name for name in SCENARIOS if name.startswith(("digits", "table"))]


@pytest.mark.parametrize("name", EMBEDDED)
def test_dirt_is_where_the_mask_says_and_follows_the_seed(name: str) -> None:
    first, again, other = make_scenario(name, 3), make_scenario(name, 3), make_scenario(name, 4)
    assert (first.dirty == again.dirty).all()
    assert (first.dirty != other.dirty).any()
    assert (first.dirty == first.clean)[~first.touched].all()
    share = first.touched.any(axis=tuple(range(1, first.touched.ndim))).mean() if first.images else first.touched.mean()
    assert share == pytest.approx(0.1 if name == "table-10" else 0.4, abs=2e-3)


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
    assert errors == pytest.approx({"dirty": 0.25, "clean": 0.25, "all": 0.25})
    by_hand = np.square((scenario.dirty - scenario.clean) / 16)[dirty].mean()
    assert scenario.errors(scenario.dirty) == pytest.approx(
        {"dirty": by_hand, "clean": 0.0, "all": by_hand * dirty.mean()}
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
