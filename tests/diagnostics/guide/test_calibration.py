"""Simulation-based calibration, with guides that are right and wrong in known ways."""

import re

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.linear_gaussian import LinearGaussian
from pyro_ricvae import likelihoods
from pyro_ricvae.diagnostics.guide.calibration import SimulationBasedCalibration, simulation_based_calibration
from pyro_ricvae.diagnostics.replicates import replicate as replication


@pytest.fixture
def exact() -> LinearGaussian:
    return LinearGaussian(n_features=12, n_latent=4, scale=0.5, seed=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_exact_guide_passes(exact: LinearGaussian, seed: int) -> None:
    found = simulation_based_calibration(exact.model, exact.guide(), random_state=seed)
    assert found.ranks.shape == (1000, 4)
    assert found.ranks.min() == 0
    assert found.ranks.max() == 99
    assert not found.alarm
    assert found.faults() == {}
    assert "0 of 4 latent units are not calibrated, on 1000 simulated rows" in found.summary()


@pytest.mark.parametrize(
    ("scale", "shift", "which", "size"),
    [
        (0.5, 0.0, "narrow, its scale about", 0.5),
        (2.0, 0.0, "wide, its scale about", 2.0),
        (1.0, 1.5, "high, by about", 1.5),
        (1.0, -1.0, "low, by about", 1.0),
    ],
)
def test_a_wrong_guide_is_caught_and_named(
    exact: LinearGaussian, scale: float, shift: float, which: str, size: float
) -> None:
    found = simulation_based_calibration(exact.model, exact.guide(scale, shift), random_state=0)
    assert found.alarm
    assert (found.p_values < 1e-20).all()
    for unit in range(4):
        words = re.fullmatch(rf"too {which} ([\d.]+) of (its scales|the right one)", found.faults()[unit])
        assert words
        assert float(words[1]) == pytest.approx(size, rel=0.15)
    assert found.summary().startswith("4 of 4 latent units are not calibrated")


def test_only_the_worst_units_are_listed() -> None:
    ranks = np.random.default_rng(0).integers(0, 100, (400, 8))
    ranks[:, :7] //= 2
    ranks[:, 3] = 0
    words = SimulationBasedCalibration(ranks, 99).summary()
    assert "7 of 8 latent units are not calibrated" in words
    assert "The worst: unit 3: posterior too high, by more than 2.6 of its scales; unit" in words
    assert words.count("; unit") == 4


def test_one_wrong_unit_is_named(exact: LinearGaussian) -> None:
    guide = exact.guide()
    with torch.no_grad():
        guide.encoder.log_scale[2] -= 0.7
    found = simulation_based_calibration(exact.model, guide, random_state=0)
    assert list(found.faults()) == [2]
    assert found.summary().count("unit 2: posterior too narrow") == 1


def test_both_at_once_and_more_than_can_be_measured(exact: LinearGaussian) -> None:
    both = simulation_based_calibration(exact.model, exact.guide(2.0, 1.5), random_state=0).faults()[0]
    assert re.fullmatch(r"too high, by about 0\.[678]\d? of its scales and too wide, its scale about .*", both)
    far = simulation_based_calibration(exact.model, exact.guide(0.3, 3.0), random_state=0).faults()[0]
    assert far == "too high, by more than 2.6 of its scales"
    thin = simulation_based_calibration(exact.model, exact.guide(0.1), random_state=0).faults()[0]
    assert re.fullmatch(r"too narrow, its scale at most 0\.26 of the right one", thin)
    lopsided = np.random.default_rng(0).choice([0, 50, 99], (1000, 1), p=[0.6, 0.1, 0.3])
    assert SimulationBasedCalibration(lopsided, 99).faults()[0] == "too narrow, and more often too high than too low"
    assert SimulationBasedCalibration(99 - lopsided, 99).faults()[0].endswith("more often too low than too high")


def test_another_shape_is_not_called_narrow_or_wide() -> None:
    ranks = np.random.default_rng(0).integers(0, 100, 2000)
    ranks = np.where(np.abs(ranks - 50) < 8, np.random.default_rng(1).choice([10, 90], 2000), ranks)[:, None]
    found = SimulationBasedCalibration(ranks, 99)
    assert found.alarm
    quartile = np.tile(np.r_[:25, 25:50, 50:75, 75:100], 10)
    spike = SimulationBasedCalibration(np.where(quartile % 25 < 12, quartile, quartile // 25 * 25 + 3)[:, None], 99)
    assert spike.alarm
    assert "narrow" not in spike.faults()[0]


def test_the_test_is_scipys_with_bins_of_unequal_width() -> None:
    ranks = np.random.default_rng(0).integers(0, 8, (500, 2))
    found = SimulationBasedCalibration(ranks, 7)
    counts, expected = found.histogram()
    assert found.n_bins == 8
    np.testing.assert_array_equal(counts, [np.bincount(unit, minlength=8) for unit in ranks.T])
    np.testing.assert_allclose(expected, 500 / 8)
    expected_p = np.minimum(1, 2 * stats.chisquare(counts, axis=1).pvalue)
    np.testing.assert_allclose(found.p_values, expected_p)

    uneven = SimulationBasedCalibration(np.random.default_rng(0).integers(0, 51, (5000, 1)), 50)
    counts, expected = uneven.histogram()
    assert set(np.rint(expected * 51 / 5000)) == {2, 3}
    assert counts.sum() == 5000
    assert expected.sum() == pytest.approx(5000)
    assert uneven.p_values[0] > 0.01
    assert SimulationBasedCalibration(ranks[:100], 99).n_bins == 10


def test_p_values_of_exact_ranks_are_uniform() -> None:
    """False alarms ring as often as they should: 1% of 1000."""
    ranks = np.random.default_rng(0).integers(0, 100, (1000, 1000, 4))
    rung = sum(SimulationBasedCalibration(each, 99).alarm for each in ranks[:300])
    assert rung <= 9  # 3 expected; above with a probability of 0.1%


def test_a_seed_gives_the_same_and_leaves_the_generator(exact: LinearGaussian, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = exact.guide()
    state = torch.get_rng_state()
    first, second = (simulation_based_calibration(exact.model, guide, 150, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(first.ranks, second.ranks)
    assert torch.equal(torch.get_rng_state(), state)
    assert not np.array_equal(simulation_based_calibration(exact.model, exact.guide(), 150).ranks, first.ranks)
    monkeypatch.setattr(replication, "_CELLS_AT_ONCE", 99 * 12 * 7)  # seven rows at once
    found = simulation_based_calibration(exact.model, exact.guide(0.5), 1000, random_state=3)
    assert found.ranks.shape == (1000, 4)
    assert found.alarm


def test_wrong_input(exact: LinearGaussian) -> None:
    for value in (0, 99):
        with pytest.raises(ValueError, match="Expected n_simulations to be"):
            simulation_based_calibration(exact.model, exact.guide(), value)
    with pytest.raises(ValueError, match="Expected n_draws to be a whole number >= 1, actual 0"):
        simulation_based_calibration(exact.model, exact.guide(), 100, 0)
    exact.model.likelihood = likelihoods.IndexConditionedNormal(0.1)
    with pytest.raises(
        ValueError,
        match=r"Simulation-based calibration needs a normalised likelihood, actual IndexConditionedNormal",
    ):
        simulation_based_calibration(exact.model, exact.guide())
