"""Coverage of predictive intervals, on a linear-Gaussian model where it is known."""

import math

import numpy as np
import pytest
import torch
from reference import Returns
from scipy import stats
from torch import Tensor

from experiments.linear_gaussian import LinearGaussian
from pyro_ricvae import guides, likelihoods, models, priors
from pyro_ricvae.diagnostics.replicates.intervals import IntervalCalibration, interval_calibration

LEVELS = np.array([0.5, 0.8, 0.9, 0.95])


@pytest.fixture
def exact() -> LinearGaussian:
    return LinearGaussian(n_features=12, n_latent=4, scale=0.5, seed=0)


def twice(exact: LinearGaussian, n: int) -> tuple[Tensor, Tensor]:
    """Return two measurements of the same rows, with noise of their own."""
    rng = torch.Generator().manual_seed(1)
    location = exact.decode(torch.randn(n, 4, generator=rng))
    noise = exact.scale * torch.randn(2, *location.shape, generator=rng)
    return location + noise[0], location + noise[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_exact_guide_covers_a_second_measurement_as_said(exact: LinearGaussian, seed: int) -> None:
    torch.manual_seed(seed)
    found = interval_calibration(exact.model, exact.guide(), *twice(exact, 600))
    np.testing.assert_allclose(found.coverage, LEVELS, atol=0.025)
    assert found.verdicts() == ["as said"] * 4
    assert found.n_entries == 7200


@pytest.mark.parametrize(
    ("scale", "shift", "verdict"), [(0.5, 0.0, "too narrow"), (1.0, 1.5, "too narrow"), (2.0, 0.0, "too wide")]
)
def test_wrong_guides_do_not(exact: LinearGaussian, scale: float, shift: float, verdict: str) -> None:
    found = interval_calibration(exact.model, exact.guide(scale, shift), *twice(exact, 600))
    assert found.verdicts() == [verdict] * 4


def test_seen_entries_are_covered_more_by_as_much_as_is_known(exact: LinearGaussian) -> None:
    """Replicates spread by the noise and the posterior; what the guide has seen, by the noise less what it took up."""
    x = twice(exact, 1500)[0]
    found = interval_calibration(exact.model, exact.guide(), x)
    posterior = exact.weights.square() @ exact.posterior_scale.square()
    hat = (exact.weights @ exact.to_mean).numpy()
    covariance = (exact.weights @ exact.weights.T).numpy() + exact.scale**2 * np.eye(12)
    left = np.eye(12) - hat
    ratio = np.sqrt((exact.scale**2 + posterior).numpy() / np.diag(left @ covariance @ left.T))
    expected = [np.mean(2 * stats.norm.cdf(stats.norm.ppf((1 + level) / 2) * ratio) - 1) for level in LEVELS]
    assert expected[3] > 0.97
    np.testing.assert_allclose(found.coverage, expected, atol=0.02)
    assert "only what is too narrow counts" in found.summary()


def test_ranks_are_exact_where_they_are_whole() -> None:
    """Values and replicates from one distribution: coverage is the level to the last rank, even with few draws."""
    model = models.VAE(Returns(torch.zeros(5000, 4)), likelihoods.FixedNormal(1.0), priors.StandardNormal(1))
    guide = guides.AmortizedNormal(Returns((torch.zeros(5000, 1), torch.ones(5000, 1))))
    model.decode = lambda z, x=None: torch.distributions.Normal(torch.zeros(*z.shape[:-1], 4), 1.0)  # type: ignore
    x = torch.randn(5000, 4)
    found = interval_calibration(model, guide, x, x, n_draws=19, levels=(0.5, 0.9), batch_size=5000)
    np.testing.assert_allclose(found.coverage, [0.5, 0.9], atol=0.012)  # 3 standard errors, of draws and values
    with pytest.raises(ValueError, match=r"Expected n_draws >= 19 for a level of 0.9, actual 18"):
        interval_calibration(model, guide, x, n_draws=18, levels=(0.9,))


def test_only_entries_of_the_mask_count(exact: LinearGaussian) -> None:
    seen, second = twice(exact, 300)
    dirty = second.clone()
    mask = torch.rand(300, 12) > 0.3
    dirty[~mask] = math.nan
    found = interval_calibration(exact.model, exact.guide(), seen, dirty, mask)
    assert found.n_entries == int(mask.sum())
    assert found.verdicts() == ["as said"] * 4
    wrong = torch.where(mask, 1e6, second)
    assert (interval_calibration(exact.model, exact.guide(), seen, wrong, mask).coverage == 0).all()


def test_the_standard_error_takes_rows_as_independent(exact: LinearGaussian) -> None:
    """Of entries that err on their own it is the binomial one; of copies in a row, that of the rows."""
    seen, second = twice(exact, 400)
    found = interval_calibration(exact.model, exact.guide(), seen, second)
    binomial = np.sqrt(found.coverage * (1 - found.coverage) / found.n_entries)
    assert (found.standard_error / binomial > 0.9).all()
    assert (found.standard_error / binomial < 1.6).all()
    whole_rows = second.clone()
    whole_rows[::2] = 1e6
    whole_rows[1::2] = interval_middle(exact, seen)[1::2]
    found = interval_calibration(exact.model, exact.guide(), seen, whole_rows)
    np.testing.assert_allclose(found.coverage, 0.5)
    np.testing.assert_allclose(found.standard_error, np.sqrt(0.25 / 400))


def interval_middle(exact: LinearGaussian, x: Tensor) -> Tensor:
    return exact.decode((x - exact.bias) @ exact.to_mean.T)


def test_a_profile_likelihood_has_intervals_of_one_scale_a_feature(exact: LinearGaussian) -> None:
    """The scale is that of the residuals of all rows, so that rows with dirt have intervals as wide as the others."""
    exact.model.likelihood = likelihoods.IndexConditionedNormal(0.01)
    seen, second = twice(exact, 600)
    found = interval_calibration(exact.model, exact.guide(), seen, second, batch_size=100)
    np.testing.assert_allclose(found.coverage, LEVELS, atol=0.03)


def test_words_and_wrong_input(exact: LinearGaussian) -> None:
    found = IntervalCalibration(np.array([0.5, 0.9]), np.array([0.4, 0.91]), np.array([0.01, 0.01]), 7700, False)
    assert found.summary().splitlines() == [
        "Of 7700 entries,",
        "  50% intervals hold 40.0% (standard error 1.0%): too narrow",
        "  90% intervals hold 91.0% (standard error 1.0%): as said",
    ]
    x = exact.sample(5, seed=1)
    pair = (exact.model, exact.guide())
    for levels in ((), (0.0,), (1.0, 0.5), 0.5):
        with pytest.raises(ValueError, match="Expected levels between 0 and 1"):
            interval_calibration(*pair, x, levels=levels)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Expected x_clean of x_seen's shape \(5, 12\), actual \(4, 12\)"):
        interval_calibration(*pair, x, x[:4])
    with pytest.raises(ValueError, match=r"Expected mask of x_seen's shape \(5, 12\), actual \(5, 1\)"):
        interval_calibration(*pair, x, mask=torch.ones(5, 1, dtype=torch.bool))
    for mask in (torch.zeros(5, 12, dtype=torch.bool), torch.ones(5, 12)):
        with pytest.raises(ValueError, match="Expected a mask of bool, True for the entries that count, at least one"):
            interval_calibration(*pair, x, mask=mask)
    with pytest.raises(ValueError, match="Expected finite values in x_clean where mask is True"):
        interval_calibration(*pair, x, x / 0)
    with pytest.raises(ValueError, match=r"Expected x_seen of shape \(n, d\) with n >= 2"):
        interval_calibration(*pair, x[:1])


def test_few_entries_are_no_evidence(exact: LinearGaussian) -> None:
    """Five entries all lie within their 95% intervals four times in five: that says nothing."""
    verdicts = []
    for seed in range(20):
        torch.manual_seed(seed)
        x = exact.sample(5, seed=seed)
        z = exact.guide().encode(x).sample()
        again = exact.model.decode(z).sample()
        mask = torch.zeros_like(x, dtype=torch.bool)
        mask[:, 0] = True
        verdicts += interval_calibration(exact.model, exact.guide(), x, again, mask).verdicts()
    assert set(verdicts) == {"as said"}
