"""What the package leaves alone, and that its documents match its code."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import MUTANTS

import pyro_ricvae as rv

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("module_local_params", [False, True])
def test_importing_and_training_leave_the_process_as_it_was(module_local_params: bool) -> None:
    subprocess.run([sys.executable, "tests/process_state.py", str(module_local_params)], check=True, cwd=ROOT)


def test_public_names_are_there() -> None:
    assert all(hasattr(rv, name) for name in rv.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", rv.__version__)
    assert (Path(rv.__file__).parent / "py.typed").exists()


def test_the_page_on_architecture_names_every_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"^\| `([\w/]+)/`", page, flags=re.MULTILINE))
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "pyro_ricvae").rglob("*.py")}
    outside = {"experiments", "benchmarks", "examples", "docs", "tests"}
    assert named == (folders - {"pyro_ricvae"}) | outside


def test_the_tests_mirror_the_package() -> None:
    folders = {path.parent.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    outside = {".", "examples", "experiments", "core", "conformance"}
    assert {folder for folder in folders - outside if not (ROOT / "pyro_ricvae" / folder).is_dir()} == set()


def test_the_table_of_symbols_names_what_there_is() -> None:
    page = (ROOT / "docs" / "mathematics.md").read_text()
    names = set(re.findall(r"`((?:models|guides|likelihoods|priors|networks|inference)\.[\w.]+)`", page))
    assert names
    for name in names:
        found: object = rv
        for part in name.split("."):
            found = getattr(found, part)


@pytest.mark.slow
def test_the_code_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "readme.py"  # the blocks continue each other
    quick = re.sub(r"range\(\d+\)", "range(2)", "\n".join(blocks)).replace("RiCVAE(", "RiCVAE(epochs=2, ")
    script.write_text(quick)
    names = runpy.run_path(str(script))
    assert rv.load(tmp_path / "model").clean(names["dirty"]).shape == names["truth"].shape == (569, 30)
    assert names["cleaned"].shape == names["clean"].shape == (1797, 64)
    assert names["samples"].shape == (16, 64)
    assert names["replicates"].shape == (50, 1797, 64)
    assert names["suspicion"].shape == (1797, 64)


def test_every_mutant_has_its_place_in_the_code() -> None:
    for mutant in MUTANTS:
        assert (ROOT / "pyro_ricvae" / mutant.file).read_text().count(mutant.old) == 1, mutant.fault
