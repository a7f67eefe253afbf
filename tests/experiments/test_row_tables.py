"""Outlying rows beside other detectors: how the tables are made."""

import json
from pathlib import Path

from click.testing import CliRunner
from tables import cells

from experiments import rows


def test_tables_have_means_over_seeds_and_ranks_by_data_set(tmp_path: Path) -> None:
    lines = []
    for name, first in (("14_glass", 0.9), ("15_Hepatitis", 0.5), ("MVTec-AD_bottle", 0.7)):
        for seed in (0, 1):
            for k, method in enumerate(rows.METHODS):
                area = first if method == rows.OURS else 0.8 - k / 100
                of = {"name": name, "seed": seed, "seconds": "1.0", "of": method, "method": method}
                lines.append(of | {"roc_auc": area + seed / 100, "average_precision": 0.5})
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    printed = CliRunner().invoke(rows.main, ["tables", str(file)], catch_exceptions=False).output
    of_tables, of_images = printed.partition("1 image sets")[::2]
    assert of_tables.startswith("2 tables")
    ours = {cells(line)[0]: cells(line) for line in of_tables.splitlines() if line.startswith("|")}[rows.OURS]
    assert ours == [rows.OURS, "0.705", "0.500", f"{(1 + len(rows.METHODS)) / 2:.2f}"]
    assert [rows.OURS, "0.705", "0.500", f"{len(rows.METHODS):.2f}"] in [
        cells(line) for line in of_images.splitlines() if line.startswith("|")
    ]
