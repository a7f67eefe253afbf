"""The examples of the workflow: predictive checks, and the comparison with a standard VAE."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def _run(name: str, *options: str) -> str:
    command = [sys.executable, ROOT / "examples" / name, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _assert_pictures(folder: Path, names: list[str]) -> None:
    for name in names:
        picture = (folder / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 5_000


def test_posterior_predictive_finds_the_wrong_model_and_the_dirt(tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = _run("posterior_predictive.py", "--epochs", "25", "--out", str(out))
    row = r"^((?:normal|Student-t|index-conditioned)[\w ,-]*?) {2,}([\w ,]+?) +([\d.]+)$"
    missed = {name: words.split(", ") for name, words, _ in re.findall(row, printed, flags=re.MULTILINE)}
    assert len(missed) == 5
    # So short a training that Student-t is missed too; over seeds 0 and 1 these hold, and after 100 epochs over 0 to 2.
    assert "kurtosis" in missed["normal on heavy tails"]
    assert {"kurtosis", "outlying cells"} <= set(missed["index-conditioned, dirty rows"])
    assert not {"kurtosis", "outlying cells"} & set(missed["index-conditioned, dirty cells masked"])
    guides = re.findall(r"^(\w+) +\d+% +[\d.-]+ nats +(refused|\d of 2 wrong) +([\d.]+)%", printed, flags=re.MULTILINE)
    assert [(name, units == "refused") for name, units, _ in guides] == [
        ("shared_normal", False),
        ("student_t", False),
        ("index_conditioned", True),
    ]
    for _, _, seen in guides:
        assert 85 < float(seen) < 99
    assert "draws.nc: z {'chain': 1, 'draw': 200, 'row': 300, 'latent': 2}, StudentT" in printed
    assert "A group log_likelihood needs a normalised likelihood, actual IndexConditionedNormal" in printed
    checks = [name.lower().replace(", ", "-").replace(" ", "-") for name in missed]
    _assert_pictures(out, [f"{kind}-{name}" for kind in ("ppc", "pit") for name in checks])
    _assert_pictures(out, [f"{kind}-{name}" for kind in ("k-hat", "coverage") for name, _, _ in guides])
    _assert_pictures(out, ["ranks-shared_normal", "ranks-student_t"])


def test_compare_with_vae_shows_the_same_losses_and_refuses_to_rank_a_profile(tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = _run("compare_with_vae.py", "--epochs", "3", "--n-seeds", "1", "--out", str(out))
    same = re.search(r"(\d+) steps: losses differ by ([\d.e+-]+) at most", printed)
    assert same is not None
    assert int(same[1]) == 50
    assert float(same[2]) < 1e-5
    table = pd.read_csv(out / "comparison.csv")
    names = ["plain SVI", "l2-VAE", "sigma-VAE", "Student-t", "RiC-VAE", "RiC-VAE, single passes"]
    assert table["name"].unique().tolist() == names
    bounds = table[table["criterion"] == "bound"].set_index("name")["value"]
    assert bounds.index[bounds.notna()].tolist() == ["l2-VAE", "sigma-VAE", "Student-t"]
    assert re.search(r"^bound, best first: (?!.*(RiC-VAE|plain SVI))", printed, flags=re.MULTILINE)
    assert "Refused: Expected estimators that have a value of 'bound' to rank, actual ['RiC-VAE']" in printed
    assert (out / "comparison.md").read_text().startswith("| criterion")
    assert (np.load(out / "dirty.npy") != np.load(out / "truth.npy")).any(axis=(1, 2)).sum() == 400
    _assert_pictures(out, ["comparison", "cleaned"])
