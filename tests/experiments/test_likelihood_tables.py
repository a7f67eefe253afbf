"""Runs by the command, and the tables of likelihoods that are made of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tables import cells

from experiments import likelihoods
from experiments.runs import main

RUNS = {
    ("cancer-none", "student_t"): [{"clean": 1.0, "dirty": np.nan, "average_precision": np.nan}] * 2,
    ("cancer-none", "laplace"): [{"clean": c, "dirty": np.nan, "average_precision": np.nan} for c in (0.9, 3.0)],
    ("cancer-cells-10", "student_t"): [{"clean": 1.0, "dirty": 4.0, "average_precision": a} for a in (0.9, 0.8)],
    ("cancer-cells-10", "laplace"): [{"clean": 2.0, "dirty": d, "average_precision": 0.7} for d in (1.0, 2.0)],
    ("digits-rows-40", "iC-VAE"): [{"clean": 0.02, "dirty": np.nan, "average_precision": 0.5}] * 2,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for (scenario, method), runs in RUNS.items():
        for seed, figures in enumerate(runs):
            run = {"scenario": scenario, "method": method, "seed": seed, "figures": figures}
            (tmp_path / f"{scenario}-{method}-{seed}.json").write_text(json.dumps(run))
    other = {"scenario": "digits-block", "method": "iC-VAE", "seed": 0, "figures": {"clean": 1.0}}
    (tmp_path / "other.json").write_text(json.dumps(other))
    return tmp_path


def test_tables_have_means_the_best_and_what_is_as_good_on_a_seed(folder: Path) -> None:
    runs = likelihoods.read(folder)
    head, _, *lines = map(cells, likelihoods.table(runs, "cancer", "error, clean").splitlines())
    assert head == ["cancer: error, clean", "none", "cells-10"]
    assert lines == [["Student-t", "**1**", "**1**"], ["Laplace", "1.95 *", "2"]]
    _, _, *lines = map(cells, likelihoods.table(runs, "cancer", "found").splitlines())
    assert lines == [["Student-t", "**0.85**"], ["Laplace", "0.7"]]
    assert cells(likelihoods.table(runs, "digits", "error, clean").splitlines()[-1])[-1] == "**20**"  # times 1000


def test_wins_are_counted_over_data_and_criteria(folder: Path) -> None:
    head, _, *lines = map(cells, likelihoods.wins(likelihoods.read(folder)).splitlines())
    assert head[:4] == ["best, or as good on a seed", "none (of 1)", "cells-10 (of 3)", "cells-40 (of 0)"]
    assert ["Student-t", "1", "2", "0", "0", "0"] in lines
    assert ["Laplace", "1", "1", "0", "0", "0"] in lines
    assert ["index-conditioned (iC-VAE)", "0", "0", "0", "0", "2"] in lines


def test_ratios_are_to_the_best_of_a_column(folder: Path) -> None:
    for data, method, value in (("cancer", "laplace", 3.0), ("cancer", "default", 2.0), ("digits", "laplace", 0.001)):
        figures = {"clean": value, "all": value, "median": value, "dirty": np.nan, "average_precision": np.nan}
        run = {"scenario": f"{data}-none", "method": method, "seed": 7, "figures": figures}
        (folder / f"{data}-{method}-7.json").write_text(json.dumps(run))
    head, _, *lines = map(cells, likelihoods.summary(likelihoods.read(folder), "error, all").splitlines())
    assert head[0] == "error, all"
    assert lines == [
        ["spike and slab (the default)", "1", "1", "1", "1", "cancer none", "1"],
        ["Laplace", "2", "1.5", "1.22", "1.5", "cancer none", "1"],
    ]


def test_the_command_prints_every_table(folder: Path) -> None:
    printed = CliRunner().invoke(likelihoods.main, [str(folder)], catch_exceptions=False).output
    assert printed.startswith("10 runs, 2 to 2 seeds each.")
    heads = ["| " + cells(line)[0] for line in printed.splitlines() if line.startswith(("| cancer", "| digits"))]
    assert heads == [
        "| digits: error, clean",
        "| digits: found",
        "| cancer: error, dirty",
        "| cancer: error, clean",
        "| cancer: found",
    ]


@pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")
def test_runs_are_made_once_by_the_command(tmp_path: Path) -> None:
    arguments = ["cancer-rows-10", "--methods", "student_t;fixed_normal, best", "--epochs", "2", "--hidden", "4"]
    arguments += ["--no-samples", "--out", str(tmp_path)]
    first = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert first.exit_code == 0
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(files) == 2
    best = json.loads(next(path for path in files if "fixed" in path.name).read_text())
    errors = {scale: figures["clean"] for scale, figures in best["details"]["grid"].items()}
    assert set(errors) == {"0.5", "2", "8", "32"}
    assert best["details"]["best"] == min(errors, key=lambda scale: errors[scale])  # replaced rows have no truth
    again = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert again.output.splitlines()[-2:] == first.output.splitlines()[-2:]
    assert ["cancer-rows-10", "student_t", "1", "nan"] in [cells(line)[:4] for line in first.output.splitlines()]
