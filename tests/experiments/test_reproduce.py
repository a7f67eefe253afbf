"""How the paper's experiments are run: what is kept, what is made again, shares, pages, bad input."""

import importlib.util
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from experiments.paper import EXPERIMENTS
from experiments.reproduce import cache as cache_module
from experiments.reproduce.cache import Cache, code_digest
from experiments.reproduce.command import main, reproduce
from experiments.reproduce.data import as_bytes, fingerprint
from experiments.reproduce.report import write_summary

_CODE = '''
"""An experiment of six runs, which notes each that it makes."""
import matplotlib.figure
import numpy as np
import pandas as pd
from experiments.reproduce.report import Claim, Report
from {helper} import FACTOR

SUMMARY = "Squares are not negative."
MADE = []

def configurations(seeds, quick):
    return [dict(data="synthetic", seed=seed, x=x, quick=quick) for seed in range(seeds) for x in (1, 2, 3)]

def run(configuration, device):
    MADE.append(configuration["x"])
    return dict(square=FACTOR * configuration["x"] ** 2, image=np.full((2, 2), configuration["x"]))

def report(runs):
    least = min(run["square"] for run in runs)
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    table = pd.DataFrame(dict(x=run["x"], square=float(run["square"])) for run in runs)
    assert all((run["image"] == run["x"]).all() for run in runs)
    claims = [Claim("At least 0", "here", f"least: {{least}}", least >= 0), Claim("Above 5", "here", "no", least > 5)]
    return Report("Squares", "Of three numbers.", claims, {{"Squares": table}}, {{"empty": ("Nothing", figure)}})
'''


def load(folder: Path, name: str, code: str) -> ModuleType:
    """Return a module of the experiments, written to a folder."""
    path = folder / f"{name.rpartition('.')[2]}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    names = ("experiments.helper", "experiments.paper.squares")
    load(tmp_path, names[0], "def scaled(x):\n    return x\n\nFACTOR = 1\n")
    module = load(tmp_path, names[1], _CODE.format(helper=names[0]).replace("FACTOR\n", "FACTOR, scaled\n", 1))
    monkeypatch.setattr(reproduce.params[0], "type", click.Choice(["squares", "scale"]))
    cache_module.code_digest.cache_clear()
    yield module
    cache_module.code_digest.cache_clear()
    for name in names:
        del sys.modules[name]


def call(out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["reproduce", *arguments, "--out", str(out)])


def test_runs_are_made_once_and_a_page_says_what_held(squares: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = call(out, "squares", "--seeds", "2")
    assert first.exit_code == 0, first.output
    assert squares.MADE == [1, 2, 3, 1, 2, 3]
    page = (out / "paper/squares.md").read_text()
    for text in ("# Squares", "| At least 0 ", "least: 1 ", "| held", "**did not hold**", "--seeds 2", "6 runs"):
        assert text in page
    assert "![Nothing](squares-empty.png)" in page
    assert (out / "paper/squares-empty.png").stat().st_size > 0
    assert len((out / "paper/squares.csv").read_text().splitlines()) == 7
    assert "did not hold" in first.output
    summary = write_summary(out / "paper", ["scale", "squares"]).read_text()
    assert summary.count("## [Squares](paper/squares.md)") == summary.count("## ") == 1
    assert "| Above 5 " in summary
    assert "| 1 " not in summary  # of the page's other table
    (out / "paper.md").write_text(summary.replace("ours* are", "ours* were"))
    assert "ours* were" in write_summary(out / "paper", ["squares"]).read_text()
    assert call(out, "squares", "--seeds", "2").exit_code == 0
    assert len(squares.MADE) == 6
    assert call(out, "squares", "--seeds", "3").exit_code == 0
    assert len(squares.MADE) == 9  # the third seed alone


def test_quick_runs_decide_nothing(squares: Any, tmp_path: Path) -> None:
    assert call(tmp_path / "out", "squares", "--quick").exit_code == 0
    page = (tmp_path / "out/paper/squares.md").read_text()
    assert "held" not in page.replace("did not hold", "held").split("## ")[0].replace("not measured", "")
    assert page.count("not measured") == 2


def test_what_was_cut_short_is_made_again(squares: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call(out, "squares", "--seeds", "1")
    entries = sorted((out / "runs/squares").glob("*.npz"))
    assert len(entries) == 3
    assert not list((out / "runs/squares").glob(".*"))
    entries[0].write_bytes(entries[0].read_bytes()[:100])
    entries[1].write_bytes(b"")
    assert call(out, "squares", "--seeds", "1").exit_code == 0
    assert len(squares.MADE) == 5


def test_shares_are_disjoint_and_the_last_call_makes_the_page(squares: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call(out, "squares", "--shard", "1/2").exit_code == 0
    assert squares.MADE == [1, 3, 2, 1, 3]
    assert not (out / "paper/squares.md").exists()
    assert call(out, "squares", "--shard", "2/2").exit_code == 0
    assert len(squares.MADE) == 9
    assert call(out, "squares").exit_code == 0
    assert len(squares.MADE) == 9
    assert (out / "paper/squares.md").exists()


def test_a_run_of_anything_else_is_not_reused(squares: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, asked = Cache(tmp_path, squares), {"data": "synthetic", "x": 1}
    kept.write(asked, "cpu", {"square": 1, "image": np.ones(3)})
    found = kept.read(asked, "cpu")
    assert found is not None
    assert found["square"] == 1
    np.testing.assert_array_equal(found["image"], np.ones(3))
    assert kept.read(asked | {"x": 2}, "cpu") is None
    assert kept.read(asked | {"data": "digits"}, "cpu") is None
    assert kept.read(asked, "cuda") is None
    for name, value in (("fingerprint", lambda name: "other values"), ("code_digest", lambda module: "other code")):
        with monkeypatch.context() as changed:
            changed.setattr(cache_module, name, value)
            assert kept.read(asked, "cpu") is None
    assert kept.read(asked, "cpu") is not None


def test_code_is_known_but_for_the_page(squares: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest() -> str:
        cache_module.code_digest.cache_clear()
        return code_digest(squares)

    before, source = digest(), (tmp_path / "squares.py").read_text()
    monkeypatch.setattr(cache_module.inspect, "getsource", lambda module: Path(module.__file__).read_text())
    assert digest() == before
    (tmp_path / "squares.py").write_text(source + "\n# of the page\n")
    assert digest() == before
    (tmp_path / "squares.py").write_text("# of a run\n" + source)
    assert digest() != before
    (tmp_path / "squares.py").write_text(source)
    (tmp_path / "helper.py").write_text("FACTOR = 2\n")
    assert digest() != before
    (tmp_path / "helper.py").write_text("def scaled(x):\n    return x\n\nFACTOR = 1\n")
    assert digest() == before
    monkeypatch.setattr(cache_module.pyro_ricvae, "__version__", "99")
    assert digest() != before


def _write_many(folder: Path, module_name: str, first: int) -> None:
    module = __import__(module_name, fromlist=["scale"])
    for x in range(first, first + 20):
        Cache(folder, module).write({"data": "synthetic", "x": x}, "cpu", {"square": x * x})


@pytest.mark.slow
def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    from experiments.paper import scale

    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_write_many, args=(tmp_path, "experiments.paper.scale", first)) for first in (0, 10)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    kept = Cache(tmp_path, scale)
    found = [kept.read({"data": "synthetic", "x": x}, "cpu") for x in range(30)]
    assert [each and each["square"] for each in found] == [x * x for x in range(30)]
    assert len(list((tmp_path / "scale").iterdir())) == 30


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_a_share_that_is_none_is_refused(shard: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["reproduce", "scale", "--shard", shard, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "Expected i/n" in result.output


def test_an_unknown_experiment_gets_the_list(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["reproduce", "fig99", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert all(name in result.output for name in EXPERIMENTS)


def test_unknown_data_get_the_list() -> None:
    with pytest.raises(ValueError, match=r"Expected one of the data sets digits, cancer, faces.*actual 'figits'"):
        fingerprint("figits")


def test_missing_data_are_said_where_to_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_RICVAE_DATA", str(tmp_path))
    fingerprint.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"adbench/14_glass\.npz in the folder that PYRO_RICVAE_DATA names"):
        fingerprint("adbench/14_glass")


def test_an_experiment_without_its_data_or_packages_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_RICVAE_DATA", str(tmp_path))
    pytest.importorskip("prdc")
    result = CliRunner().invoke(main, ["reproduce", "table1", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "table1: Expected ADBench's adbench/*.npz in the folder that PYRO_RICVAE_DATA names" in result.output
    monkeypatch.setitem(sys.modules, "prdc", None)
    monkeypatch.delitem(sys.modules, "experiments.paper.fig4", raising=False)
    result = CliRunner().invoke(main, ["reproduce", "fig4", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert 'pip install -e ".[experiments]"' in result.output


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    result = CliRunner().invoke(main, ["reproduce", "scale", "--quick", "--device", "cuda", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "cuda" in result.output
    assert not list(tmp_path.rglob("*.npz"))


def test_a_failed_run_keeps_those_before_it(squares: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = squares.run

    def fails(configuration: dict[str, Any], device: str) -> dict[str, Any]:
        if configuration["x"] == 3:
            raise OSError("the disk went away")
        return dict(made(configuration, device))

    monkeypatch.setattr(squares, "run", fails)
    result = call(tmp_path / "out", "squares", "--seeds", "1")
    assert result.exit_code == 1
    assert "squares: the disk went away" in result.output
    monkeypatch.setattr(squares, "run", made)
    assert call(tmp_path / "out", "squares", "--seeds", "1").exit_code == 0
    assert squares.MADE == [1, 2, 3]


def test_an_entry_says_what_it_is_of(squares: Any, tmp_path: Path) -> None:
    Cache(tmp_path, squares).write({"data": "synthetic", "x": 1}, "cpu", {"square": 1})
    (entry,) = (tmp_path / "squares").iterdir()
    record = json.loads(str(np.load(entry)["record"]))
    assert record == {
        "experiment": "squares",
        "configuration": {"data": "synthetic", "x": 1},
        "found": {"square": 1},
    }


@pytest.mark.slow
def test_jobs_are_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments", "reproduce", "scale", "--quick", "--jobs", "2", "--seeds", "1"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs/scale").glob("*.npz"))) == 8
    assert (tmp_path / "paper/scale.md").exists()


def test_images_that_a_run_keeps_do_not_wrap_around() -> None:
    kept = as_bytes(np.array([-3.0, -0.4, 12.5, 254.6, 271.0]))
    assert kept.dtype == np.uint8
    assert kept.tolist() == [0, 0, 12, 255, 255]
