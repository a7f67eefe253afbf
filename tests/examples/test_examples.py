import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_svi_cleans_digits_and_draws_them(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples" / "svi.py", "--epochs", "15", "--out", tmp_path / "out"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    errors = {
        name: (float(dirty), float(clean))
        for name, dirty, clean in re.findall(
            r"^(input|l2-VAE|iC-VAE) +([\d.]+) +([\d.]+)$", printed, flags=re.MULTILINE
        )
    }
    assert errors["input"][0] > 50
    assert errors["input"][1] == 0
    for dirty_ic, dirty_l2 in zip(errors["iC-VAE"], errors["l2-VAE"], strict=True):
        assert dirty_ic < 0.8 * dirty_l2
    picture = (tmp_path / "out" / "svi.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_svi_and_compiled_svi_come_to_the_same_losses() -> None:
    command = [sys.executable, ROOT / "examples" / "compiled_svi.py", "--steps", "400"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    row = r"^([\w ]+?) +(SVI|CompiledSVI) +(-?[\d.]+) +([\d.]+) ms +[\d.]+ s$"
    rows = {(name, engine): float(loss) for name, engine, loss, _ in re.findall(row, printed, flags=re.MULTILINE)}
    assert len(rows) == 4
    for name in ("hierarchical regression", "variational autoencoder"):
        plain, compiled = rows[name, "SVI"], rows[name, "CompiledSVI"]
        assert abs(plain - compiled) < 0.02 * abs(plain)
