"""Passes on dirt that training has not seen: how the table is made."""

import json
from pathlib import Path

from click.testing import CliRunner
from tables import cells

from experiments import unseen
from experiments.repair import PASSES


def test_the_table_has_means_and_ratios_to_the_best_by_seed(tmp_path: Path) -> None:
    lines = [
        {"trained on": "digits-line", "dirt": "lines", "model": model, "seed": seed}
        | {f"M = {m}": first * (seed + 1) / (m if model == "default" else 1 / m) for m in PASSES}
        for model, first in (("default", 9.0), ("iC-VAE", 12.0))
        for seed in (0, 1)
    ]
    lines[1]["M = 3"] = 12.0  # of the default, the second seed
    file = tmp_path / "unseen.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    printed = CliRunner().invoke(unseen.main, ["tables", str(file)], catch_exceptions=False).output
    found = {cells(line)[2]: cells(line)[3:] for line in printed.splitlines() if line.startswith("| digits-line")}
    assert found["default"] == ["13.5", "6.8", "7.5", "2.7", "0.7", "0.25 to 0.50"]
    assert found["iC-VAE"] == ["18.0", "36.0", "54.0", "90.0", "360.0", "3.00 to 3.00"]
