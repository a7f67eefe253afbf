"""Pictures of diagnostics: what is drawn where, read from the pixels."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from pyro_ricvae.diagnostics.guide.calibration import SimulationBasedCalibration
from pyro_ricvae.diagnostics.guide.pareto import ParetoK
from pyro_ricvae.diagnostics.replicates.intervals import IntervalCalibration
from pyro_ricvae.plots import guide as diagnostic_plots
from pyro_ricvae.plots.guide import coverage, k_hat, rank_histograms
from pyro_ricvae.plots.style import BLUE, RED, save

RNG = np.random.default_rng(0)


def _pixels(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")) / 255


def _share(path: Path, colour: str) -> float:
    """Return the share of the pixels of about this colour, paler where something transparent lies on it."""
    difference = _pixels(path) - np.array(to_rgb(colour))
    return float((np.abs(difference).max(axis=-1) < 0.25).mean())


def test_rows_are_red_above_0_7(tmp_path: Path) -> None:
    save(k_hat(ParetoK(torch.tensor([0.1, 0.3, 0.69]).double(), 100)), tmp_path / "low.png")
    save(k_hat(ParetoK(torch.tensor([0.71, 1.2, 0.9]).double(), 100)), tmp_path / "high.png")
    assert _share(tmp_path / "low.png", RED) == 0
    assert _share(tmp_path / "low.png", BLUE) > 0
    assert _share(tmp_path / "high.png", RED) > 0
    assert _share(tmp_path / "high.png", BLUE) == 0


@pytest.mark.parametrize("k", [[math.inf, 0.1], [50.0], [-math.inf, -3.0, 0.2], [0.0] * 3000])
def test_rows_beyond_the_edges_are_drawn(tmp_path: Path, k: list[float]) -> None:
    save(k_hat(ParetoK(torch.tensor(k).double(), 100)), tmp_path / "k.png")
    assert (_share(tmp_path / "k.png", RED) > 0) == (max(k) > 0.7)
    assert (_share(tmp_path / "k.png", BLUE) > 0) == (min(k) <= 0.7)


def test_units_that_are_not_calibrated_are_red(tmp_path: Path) -> None:
    right, narrow = RNG.integers(0, 100, 1000), RNG.choice([0, 99], 1000)
    shares = []
    for ranks in ([right] * 3, [right, right, narrow], [narrow] * 3):
        save(rank_histograms(SimulationBasedCalibration(np.stack(ranks, axis=1), 99)), tmp_path / "ranks.png")
        shares.append((_share(tmp_path / "ranks.png", RED), _share(tmp_path / "ranks.png", BLUE)))
    assert shares[0][0] == 0
    assert shares[0][1] > shares[1][1] > shares[2][1] == 0
    assert 0 < shares[1][0] < shares[2][0]


@pytest.mark.parametrize("n_latent", [1, 6, 9])
def test_many_units_make_lines_and_the_worst_are_kept(
    tmp_path: Path, n_latent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostic_plots, "_MOST_UNITS", 6)
    ranks = RNG.integers(0, 100, (200, n_latent))
    ranks[:, -1] = 0
    save(rank_histograms(SimulationBasedCalibration(ranks, 99)), tmp_path / "ranks.png")
    assert _share(tmp_path / "ranks.png", RED) > 0
    height, width = _pixels(tmp_path / "ranks.png").shape[:2]
    assert height == int(120 * (1.8 * math.ceil(min(n_latent, 6) / 5) + 0.7))
    assert width == int(120 * max(4.0, 2.2 * min(n_latent, 5)))


def test_coverage_is_coloured_by_its_verdict(tmp_path: Path) -> None:
    levels, error = np.array([0.5, 0.9]), np.array([0.02, 0.01])
    for shares, red, blue in (([0.5, 0.9], False, False), ([0.3, 0.9], True, False), ([0.5, 0.99], False, True)):
        save(coverage(IntervalCalibration(levels, np.array(shares), error, 100, False)), tmp_path / "coverage.png")
        assert (_share(tmp_path / "coverage.png", RED) > 0) == red
        assert (_share(tmp_path / "coverage.png", BLUE) > 0) == blue
