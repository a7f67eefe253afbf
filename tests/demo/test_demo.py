import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pyro_ricvae as rv
from pyro_ricvae.demo import format_table, run
from pyro_ricvae.demo.run import L2_SCALES, SCENARIOS
from pyro_ricvae.demo.scenarios import make_scenario

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("demo")
    return out, run(out, 0, quiet=True, epochs=6)


def test_results_have_every_method_and_figure(made: tuple[Path, dict[str, Any]]) -> None:
    out, results = made
    assert json.loads((out / "results.json").read_text()) == results
    for data in ("images", "table"):
        assert set(results[data]) == {"input", "RPCA", "l2-VAE", "iC-VAE", "RiC-VAE", "default"}
        assert results[data]["input"]["clean"] == 0.0 < results[data]["input"]["dirty"]
        for method in ("RPCA", "l2-VAE", "iC-VAE", "RiC-VAE", "default"):
            assert set(results[data][method]) == {"dirty", "clean", "all", "median", "average_precision"}
            assert all(np.isfinite(value) for value in results[data][method].values())
        grid = results["settings"][data]["l2-VAE"]["grid"]
        assert set(grid) == {f"{scale:g}" for scale in L2_SCALES[data]}
    assert results["settings"]["images"]["iC-VAE"]["settings"]["epochs"] == 8  # 2, and 4 of one pass and two in turn


def test_pictures_and_models_are_written(made: tuple[Path, dict[str, Any]]) -> None:
    out, results = made
    for picture in ("images/cleaned.png", "images/samples.png", "table/worst_cells.png"):
        with Image.open(out / picture) as image:
            assert np.asarray(image.convert("L")).std() > 10  # not one colour
    for data, name in SCENARIOS.items():
        scenario = make_scenario(name, 0)
        for method in ("l2-VAE", "iC-VAE", "RiC-VAE", "default"):
            est = rv.load(out / data / "models" / method)
            assert scenario.errors(est.clean(scenario.dirty))["dirty"] == pytest.approx(results[data][method]["dirty"])


def test_the_table_names_and_scales_what_it_shows(made: tuple[Path, dict[str, Any]]) -> None:
    _, results = made
    lines = format_table(results).splitlines()
    rows = [line.split() for line in lines if line.startswith("RiC-VAE")]
    assert float(rows[0][1]) == pytest.approx(1000 * results["images"]["RiC-VAE"]["dirty"], rel=5e-3)
    assert float(rows[1][1]) == pytest.approx(results["table"]["RiC-VAE"]["dirty"], rel=5e-3)
