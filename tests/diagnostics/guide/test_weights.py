"""Importance weights and their bound, against a linear-Gaussian model whose evidence is known."""

import numpy as np
import pytest
import torch

from experiments.linear_gaussian import LinearGaussian
from pyro_ricvae import diagnostics, likelihoods


@pytest.fixture
def exact() -> LinearGaussian:
    return LinearGaussian(n_features=6, n_latent=2, scale=0.5, seed=0)


def test_the_weights_are_the_densities_of_the_pair(exact: LinearGaussian) -> None:
    x = exact.sample(5, seed=1)
    weights = diagnostics.importance_weights(exact.model, exact.guide(), x, 7, batch_size=2)
    assert weights.z.shape == (7, 5, 2)
    expected = torch.distributions.Normal(exact.decode(weights.z), exact.scale).log_prob(x).sum(-1)
    torch.testing.assert_close(weights.log_likelihood, expected)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(weights.z).sum(-1)
    torch.testing.assert_close(weights.log_prior, expected)
    posterior = exact.guide().encode(x)
    torch.testing.assert_close(weights.log_guide, posterior.log_prob(weights.z))
    torch.testing.assert_close(weights.log_weights, weights.log_likelihood + weights.log_prior - weights.log_guide)


def test_under_the_exact_posterior_every_weight_is_the_evidence(exact: LinearGaussian) -> None:
    x = exact.sample(5, seed=1)
    bound = diagnostics.importance_weighted_bound(exact.model, exact.guide(), x, 3)
    np.testing.assert_allclose(bound, exact.log_evidence(x), rtol=1e-4)


def test_the_bound_lies_between_the_elbo_and_the_evidence(exact: LinearGaussian) -> None:
    x = exact.sample(200, seed=1)
    guide = exact.guide(scale=0.7, shift=0.5)
    bounds = [diagnostics.importance_weighted_bound(exact.model, guide, x, n).mean().item() for n in (1, 10, 2000)]
    evidence = exact.log_evidence(x).mean().item()
    assert bounds[0] < bounds[1] < bounds[2]
    assert bounds[2] == pytest.approx(evidence, abs=0.02)
    assert bounds[0] < evidence - 0.1


def test_a_profile_likelihood_has_no_bound(exact: LinearGaussian) -> None:
    exact.model.likelihood = likelihoods.IndexConditionedNormal(0.1)
    with pytest.raises(ValueError, match="needs a normalised likelihood, actual IndexConditionedNormal"):
        diagnostics.importance_weighted_bound(exact.model, exact.guide(), exact.sample(5, seed=1))


@pytest.mark.parametrize("n_draws", [0, -1, 1.5])
def test_the_number_of_draws_is_checked(exact: LinearGaussian, n_draws: float) -> None:
    with pytest.raises(ValueError, match=f"Expected n_draws to be a whole number >= 1, actual {n_draws}"):
        diagnostics.importance_weights(exact.model, exact.guide(), exact.sample(5, seed=1), n_draws)  # type: ignore[arg-type]
