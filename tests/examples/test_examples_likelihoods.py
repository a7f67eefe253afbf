"""The examples that swap likelihoods and priors, and the code on their pages."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pyro_ricvae as rv

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NUMBER = r"(-?[\d.e-]+)"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Run an example for one epoch, in this process, as importing torch takes longer; return what it prints."""

    def run(name: str) -> str:
        path = str(ROOT / "examples" / name)
        monkeypatch.setattr(sys, "argv", [path, "--epochs", "1", "--out", str(tmp_path)])
        with torch.random.fork_rng():
            runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run


def pictures(folder: Path) -> set[str]:
    for path in folder.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5_000
    return {path.name for path in folder.iterdir()}


def code_of(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the code of a page in `folder`, its blocks one after the other, with tiny settings; return its names."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)
    script = folder / "page.py"
    quick, found = re.subn(r"(epochs\"?[=:] ?)\d+", r"\g<1>1", "\n".join(blocks))
    assert found
    script.write_text(quick.replace("seeds=[0, 1, 2]", "seeds=[0, 1]"))
    monkeypatch.chdir(folder)
    with torch.random.fork_rng():
        return runpy.run_path(str(script))


def test_swapping_the_likelihood(tmp_path: Path, run: Callable[[str], str]) -> None:
    printed = run("swap_likelihood.py")
    row = rf"^(\w+(?:, [\d.]+)?) +([\d.]+|-) +{NUMBER} +{NUMBER} +{NUMBER}% +{NUMBER}% +{NUMBER} +({NUMBER}|-)$"
    rows = {found[1]: found for found in re.finditer(row, printed, flags=re.MULTILINE)}
    assert len(rows) == 10
    assert {name for name, found in rows.items() if found[8] == "-"} == {"index_conditioned", "bernoulli"}
    assert {name for name, found in rows.items() if found[2] == "-"} == {"learned_normal", "bernoulli"}
    assert float(rows["fixed_normal, 0.5"][2]) == 0.5
    assert pictures(tmp_path) == {f"swap-likelihood-{name}.png" for name in ("cleaned", "given-up", "costs")}


def test_swapping_the_prior(tmp_path: Path, run: Callable[[str], str]) -> None:
    printed = run("swap_prior.py")
    row = rf"^(\w[\w -]+\w) +(closed form|Monte Carlo) +{NUMBER} +{NUMBER}% +{NUMBER} +{NUMBER}$"
    kls = {name: kl for name, kl, *_ in re.findall(row, printed, flags=re.MULTILINE)}
    sampled = dict.fromkeys(("Gaussian mixture", "Student-t", "flow"), "Monte Carlo")
    assert kls == {"standard normal": "closed form"} | sampled
    assert "guide Normal" in printed
    assert "Problems: none" in printed
    assert pictures(tmp_path) == {"swap-prior-latents.png", "swap-prior-samples.png"}


def test_a_likelihood_of_ones_own(tmp_path: Path, run: Callable[[str], str]) -> None:
    printed = run("own_likelihood.py")
    wrong, right = printed.split("ColumnStudentT:")
    assert "leave out .to_event(1)" in wrong
    assert "Problems: none" in right
    assert "it cleans alike: True" in right
    bounds = re.search(rf"^\| bound +\| higher +\| {NUMBER} .*\| {NUMBER} +\| +\|$", right, flags=re.MULTILINE)
    assert bounds is not None
    assert "No bound of 'index_conditioned'" in right
    assert pictures(tmp_path) == {"own-likelihood-compared.png", "own-likelihood-scales.png"}


def test_the_code_on_swapping_the_likelihood_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = code_of("swap-the-likelihood.md", tmp_path, monkeypatch)
    assert names["robust"].settings_["likelihood"] == "index_conditioned"
    assert names["heavy"].settings_["learn_scale"]


def test_the_code_on_swapping_the_prior_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = code_of("swap-the-prior.md", tmp_path, monkeypatch)
    assert [names[name].settings_["kl"] for name in ("normal", "mixture", "heavy", "flow")] == [
        "closed form",
        *3 * ["Monte Carlo"],
    ]
    assert names["samples"].shape == (16, 8, 8)


def test_the_code_on_a_likelihood_of_ones_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = code_of("your-own-likelihood.md", tmp_path, monkeypatch)
    printed = capsys.readouterr().out
    assert np.isfinite(names["cleaned"]).all()
    assert np.array_equal(names["again"].clean(names["dirty"]), names["cleaned"])
    assert names["comparison"].names == ["own", "student_t", "index_conditioned"]
    assert printed.count("Problems: none") == 2
    assert "leave out .to_event(1)," in " ".join(printed.split())
    assert "a positive one (end it with softplus or exp)" in printed
    assert isinstance(names["huber"], rv.RiCVAE)
