import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from reference import KINDS, Returns, cells_by_hand, make_pair
from torch.distributions import kl_divergence

from pyro_ricvae.inference import row_loss_terms

X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def pair() -> tuple[Any, Any]:
    return make_pair("fixed", dtype=torch.float64)


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def log_ratio(guide: Any, prior: Any) -> torch.Tensor:
    """Return log q - log p at the posterior mean, with the normal density at its mean by hand."""
    loc, scale = guide.encoder(X)
    return -(scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1) - prior.log_prob(loc)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_terms_by_hand(kind: str, lead: tuple[int, ...]) -> None:
    model, guide = make_pair(kind, dtype=torch.float64)
    x, encoded = torch.randn(2, *lead, 6, 5, dtype=torch.float64)
    for given, seen in ((None, x), (encoded, encoded)):
        reconstruction, kl = row_loss_terms(model, guide, x, given)
        loc, scale = guide.encoder(seen)
        cells, _, _ = cells_by_hand(kind, model.likelihood, model.decoder(loc), x)
        torch.testing.assert_close(reconstruction, cells.sum(-1))
        torch.testing.assert_close(kl, 0.5 * (scale**2 + loc**2 - 1) - torch.log(scale))
        assert kl.shape == (*lead, 6, 2)


def test_units_that_are_not_independent_have_one_kl(pair: tuple[Any, Any]) -> None:
    model, guide = pair
    covariance = torch.tensor([[1.0, 0.5], [0.5, 2.0]], dtype=torch.float64)
    prior = dist.MultivariateNormal(zeros(2), covariance)
    model.prior = Returns(prior)
    _, kl = row_loss_terms(model, guide, X)
    loc, scale = guide.encoder(X)
    posterior = torch.distributions.MultivariateNormal(loc, torch.diag_embed(scale**2))
    torch.testing.assert_close(
        kl, kl_divergence(posterior, torch.distributions.MultivariateNormal(zeros(2), covariance))
    )
    assert kl.shape == (6,)


def priors_without_closed_form() -> dict[str, Any]:
    normal = dist.Normal(zeros(2), 1.0).to_event(1)
    components = dist.Normal(torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64), 1.0).to_event(1)
    return {
        "mixture": dist.MixtureSameFamily(dist.Categorical(logits=zeros(2)), components),
        "independent mixtures": dist.MixtureSameFamily(
            dist.Categorical(logits=zeros(2, 2)), dist.Normal(zeros(2, 2), 1.0)
        ).to_event(1),
        "Student": dist.StudentT(zeros(2) + 3.0, zeros(2), 1.0).to_event(1),
        # It has a base_dist, which is not what it is.
        "flow": dist.TransformedDistribution(normal, [dist.transforms.AffineTransform(3.0, 2.0, event_dim=1)]),
    }


@pytest.mark.parametrize("name", list(priors_without_closed_form()))
def test_without_a_closed_form_it_is_the_log_ratio_at_the_mean(pair: tuple[Any, Any], name: str) -> None:
    model, guide = pair
    prior = priors_without_closed_form()[name]
    model.prior = Returns(prior)
    _, kl = row_loss_terms(model, guide, X)
    torch.testing.assert_close(kl, log_ratio(guide, prior))
    assert kl.shape == (6,)


def test_a_flow_is_judged_by_its_own_density(pair: tuple[Any, Any]) -> None:
    """The same prior, as a flow and as a normal."""
    _, guide = pair
    flow = priors_without_closed_form()["flow"]
    torch.testing.assert_close(log_ratio(guide, flow), log_ratio(guide, dist.Normal(zeros(2) + 3.0, 2.0).to_event(1)))
