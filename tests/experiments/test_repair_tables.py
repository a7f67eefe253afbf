"""What repair and probabilities are worth, in tables; and how it is counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tables import cells

from experiments import cells as tables_of_cells
from experiments import repair
from experiments.repair import PASSES, expected_calibration_error


def test_the_calibration_error_is_that_of_the_bins() -> None:
    probability = np.array([0.05, 0.05, 0.05, 0.05, 0.95, 0.95])
    truth = np.array([True, False, False, False, True, False])
    expected = 4 / 6 * abs(0.05 - 0.25) + 2 / 6 * abs(0.95 - 0.5)
    assert expected_calibration_error(probability, truth) == pytest.approx(expected)
    assert expected_calibration_error(np.ones(3), np.ones(3, dtype=bool)) == 0


def test_tables_have_means_over_seeds_and_images_times_1000(tmp_path: Path) -> None:
    lines = [
        {
            "name": name,
            "seed": seed,
            "model": "default",
            **{how: {str(m): 0.01 * (seed + m) for m in PASSES} for how in ("clean", "repair")},
            "median": {how: {str(m): 0.5 for m in PASSES} for how in ("clean", "repair")},
            "contamination": 0.2,
            "true": 0.1,
            "precision": None if seed else 0.5,
            "recall": 0.5 + seed / 4,
            "calibration": 0.1,
        }
        for name in ("digits-none", "cancer-cells-10")
        for seed in (0, 1)
    ]
    file = tmp_path / "runs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    printed = CliRunner().invoke(repair.main, ["tables", str(file)], catch_exceptions=False).output
    found = [cells(line) for line in printed.splitlines() if line.startswith("|")]
    assert ["digits-none", "default", *(f"{10 * (m + 0.5):.3g}" for m in PASSES), "0.5"] in found
    assert ["cancer-cells-10", "default", *(f"{0.01 * (m + 0.5):.3g}" for m in PASSES), "0.5"] in found
    assert ["cancer-cells-10", "default", "0.100", "0.200", "0.500", "0.625", "0.100"] in found


@pytest.mark.parametrize("percent", [0, 10, 40])
def test_a_share_of_the_cells_of_a_table_is_wrong(percent: int) -> None:
    scenario = tables_of_cells.make("cancer", percent, 0)
    assert scenario.touched.mean() == pytest.approx(percent / 100, abs=1e-3)
    np.testing.assert_array_equal(scenario.dirty != scenario.clean, scenario.touched)


def test_what_people_do_by_hand_finds_a_cell_that_is_far_out() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(100, 1)) * [1.0, 2.0, 3.0] + 0.1 * rng.normal(size=(100, 3))
    rows[7, 1] = 20.0
    for how, scores in tables_of_cells.by_hand(rows).items():
        assert scores.shape == rows.shape
        assert np.unravel_index(scores.argmax(), scores.shape) == (7, 1), how


def test_tables_of_cells_have_means_over_seeds(tmp_path: Path) -> None:
    errors = ["iC-VAE, cleaned", "cleaned", "repaired"]
    lines = [
        {"name": "cancer", "percent": 10, "seed": seed, "true": 0.1, "contamination": 0.1 + seed / 100}
        | dict.fromkeys([*errors, *(f"{each}, without the largest" for each in errors)], float(1 + seed))
        | {"precision": 0.5, "recall": 0.5, "calibration": 0.1, "found": {"default": 0.9 - seed / 10, "IQR": 0.5}}
        for seed in (0, 1)
    ]
    file = tmp_path / "cells.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    printed = CliRunner().invoke(tables_of_cells.main, ["tables", str(file)], catch_exceptions=False).output
    found = [cells(line) for line in printed.splitlines() if line.startswith("|")]
    assert ["cancer", "10", "0.1", "0.105", "0.5", "0.5", "0.1"] in found
    assert ["cancer", "10", *["1.5"] * 6] in found
    assert ["cancer", "10", "0.85", "0.5"] in found
