"""Simulation-based calibration: the guide's posteriors, on rows that the model makes itself."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_ricvae._core.checks import positive_int
from pyro_ricvae._core.extras import extra
from pyro_ricvae._core.isolation import device_of, evaluation, random_numbers
from pyro_ricvae.diagnostics.guide.weights import check_normalised
from pyro_ricvae.diagnostics.replicates.replicate import rows_at_once
from pyro_ricvae.pair import Guide, Model

#: `SimulationBasedCalibration.alarm` rings at a corrected p-value below this.
ALARM_P = 0.01

_MOST_BINS = 20
_FEWEST_PER_BIN = 10
_QUARTILES = 1.349  # between the quartiles of a standard normal
# A shift or spread is named if it is off by more than so many standard errors.
_CLEARLY = 3.0
_LISTED = 5  # units in a summary


@dataclass(frozen=True)
class SimulationBasedCalibration:
    """Ranks of true latents among draws of the guide, one a simulation and latent unit.

    Parameters
    ----------
    ranks : ndarray of int, shape (n_simulations, n_latent)
        How many of the guide's draws lie below the true value: uniform on 0, ..., `n_draws` if the guide is right.
    n_draws : int
        The number of the guide's draws.
    """

    ranks: NDArray[np.int64]
    n_draws: int

    @property
    def n_bins(self) -> int:
        """The number of bins of the ranks: at most 20, of 10 expected ranks or more."""
        return max(2, min(_MOST_BINS, self.n_draws + 1, len(self.ranks) // _FEWEST_PER_BIN))

    def histogram(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the counts of the ranks, of shape (n_latent, n_bins), and those expected, of shape (n_bins,)."""
        edges = np.rint(np.linspace(0, self.n_draws + 1, self.n_bins + 1))
        counts = np.stack([np.histogram(unit, edges - 0.5)[0] for unit in self.ranks.T])
        return counts, len(self.ranks) * np.diff(edges) / (self.n_draws + 1)

    @property
    def p_values(self) -> NDArray[np.float64]:
        """The p-values of chi-square tests of uniform ranks, one a unit, times the number of units (Bonferroni)."""
        counts, expected = self.histogram()
        with extra("estimators"):
            from scipy import stats

        corrected: NDArray[np.float64] = np.minimum(1.0, len(counts) * stats.chisquare(counts, expected, axis=1).pvalue)
        return corrected

    @property
    def alarm(self) -> bool:
        """Whether the posterior of some unit is wrong: a corrected p-value below 0.01."""
        return bool((self.p_values < ALARM_P).any())

    def faults(self) -> dict[int, str]:
        """Return what is wrong with each unit whose ranks are not uniform, in words, with estimates of the size."""
        units = np.flatnonzero(self.p_values < ALARM_P)
        return {int(unit): _fault(self.ranks[:, unit], self.n_draws) for unit in units}

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Return how many units are wrong, which way, and what to do, in words."""
        n, n_latent = self.ranks.shape
        faults = self.faults()
        found = (
            f"{len(faults)} of {n_latent} latent units are not calibrated, on {n} simulated rows (smallest corrected "
            f"p = {self.p_values.min():.2g})"
        )
        if not faults:
            return (
                found + ": the guide is right on rows that the model makes. That says nothing of whether data are such."
            )
        worst = sorted(faults, key=lambda unit: self.p_values[unit])[:_LISTED]
        listed = "; ".join(f"unit {unit}: posterior {faults[unit]}" for unit in worst)
        return (
            f"{found}. {'The worst: ' if len(faults) > len(worst) else ''}{listed}. Do not use the guide's scales as "
            "they are: train for longer or give the encoder wider layers. If aggregate_posterior_test rings too, many "
            "of the simulated rows are unlike those it was trained on: give a prior that follows the rows."
        )


def _fault(ranks: NDArray[np.int64], n_draws: int) -> str:
    """Return what the ranks of a unit, which are not uniform, say of its posterior."""
    # Probits of the ranks are normal if truth and guide are: their median and spread are then those of the true value
    # in the guide's terms. Quartiles, since ranks end at the most extreme draw, beyond which nothing is known.
    with extra("estimators"):
        from scipy import stats

    end = stats.norm.ppf((n_draws + 0.5) / (n_draws + 1))
    low, shift, high = np.quantile(stats.norm.ppf((ranks + 0.5) / (n_draws + 1)), [0.25, 0.5, 0.75])
    way = "low" if shift > 0 else "high"
    if abs(shift) >= end:
        least = 2 / (n_draws + 1)  # twice what either end should have
        if min((ranks == 0).mean(), (ranks == n_draws).mean()) > least:
            return f"too narrow, and more often too {way} than too {'high' if shift > 0 else 'low'}"
        return f"too {way}, by more than {end:.2g} of its scales"
    spread = (high - low) / _QUARTILES
    words = []
    # Standard errors of a median, and of the logarithm of a distance between quartiles, of a normal.
    if abs(shift) > _CLEARLY * 1.253 * spread / np.sqrt(len(ranks)):
        words.append(f"too {way}, by about {abs(shift):.2g} of its scales")
    is_bound = max(-low, high) >= end
    if spread > 0 and abs(np.log(spread)) > _CLEARLY * 1.167 / np.sqrt(len(ranks)):
        if spread > 1:
            words.append(
                f"too narrow, its scale {'at most' if is_bound else 'about'} {1 / spread:.2g} of the right one"
            )
        elif not is_bound:
            words.append(f"too wide, its scale about {1 / spread:.2g} of the right one")
    return " and ".join(words) or "of another shape"


def simulation_based_calibration(
    model: Model,
    guide: Guide,
    n_simulations: int = 1000,
    n_draws: int = 99,
    *,
    random_state: int | None = None,
    batch_size: int = 1024,
) -> SimulationBasedCalibration:
    r"""Rank true latents among the guide's draws, on rows simulated from the model (Talts et al., 2018).

    .. math:: z \sim p(z), \quad x \sim p(x \mid z), \quad z_s \sim q(z \mid x), \qquad
        \mathrm{rank}_k = \#\{s : z_{sk} < z_k\}

    Parameters
    ----------
    model : pair.Model
        The generative model; its likelihood is normalised, since rows are drawn from it.
    guide : pair.Guide
        Its guide.
    n_simulations : int, default=1000
        The number of simulated rows, at least 100.
    n_draws : int, default=99
        The number of the guide's draws a row.
    random_state : int, optional
        A seed. By default random numbers come from torch's global generator.
    batch_size : int, default=1024
        The number of rows in a chunk at most; fewer where there are many draws.

    Returns
    -------
    SimulationBasedCalibration
        The ranks, tests of them, and what they mean in words.

    Raises
    ------
    ValueError
        If the likelihood is not normalised, `n_simulations` is not a whole number >= 100, or another argument is not as
        said.

    Notes
    -----
    The rows are the model's own: this is a check of the guide against the model, over the prior and one unit at a
    time, and no check of the model against data. A guide trained on data that do not fill the prior (see
    `aggregate_posterior_test`) has not seen some of these rows.
    """
    n_simulations, n_draws = positive_int("n_simulations", n_simulations), positive_int("n_draws", n_draws)
    if n_simulations < _MOST_BINS * 5:
        raise ValueError(f"Expected n_simulations to be at least 100, enough to test, actual {n_simulations}.")
    seeded = nullcontext() if random_state is None else random_numbers(random_state, device_of(guide))
    with evaluation(model, guide), seeded:
        prior = model.prior()
        probe = model.decode(prior.sample((1,))).sample()
        check_normalised(model, guide, probe, "Simulation-based calibration")
        rows = rows_at_once(batch_size, n_draws, probe)
        ranks = []
        for start in range(0, n_simulations, rows):
            z = prior.sample((min(rows, n_simulations - start),))
            x = model.decode(z).sample()
            ranks.append((guide.encode(x).sample((n_draws,)) < z).sum(0).cpu())
    return SimulationBasedCalibration(torch.cat(ranks).numpy(), n_draws)
