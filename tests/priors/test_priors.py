"""Priors beyond the standard normal: their densities, and the KL from a guide, in closed form or by Monte Carlo."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from reference import make_pair
from torch import nn

from pyro_ricvae import guides, inference, likelihoods, models, networks, priors
from pyro_ricvae._core.distributions import closed_form_kl

N_LATENT = 2


class Scaled(nn.Module):
    """A user's prior: a normal with scales that are trained."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self) -> Any:
        return dist.Normal(torch.zeros(N_LATENT), self.log_scale.exp()).to_event(1)


def _mixture() -> priors.GaussianMixture:
    prior = priors.GaussianMixture(N_LATENT, n_components=3)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.0, 1.0, -1.0]))
        prior.loc.copy_(torch.tensor([[0.0, 1.0], [1.0, -1.0], [-2.0, 0.0]]))
        prior.log_scale.copy_(torch.tensor([[0.1, -0.2], [0.3, -0.4], [0.0, 0.2]]))
    return prior


PRIORS: dict[str, tuple[Callable[[], Any], bool]] = {
    "standard normal": (lambda: priors.StandardNormal(N_LATENT), True),
    "mixture": (_mixture, False),
    "a user's module": (Scaled, True),
    "a normal with correlations": (
        lambda: dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]])),
        True,
    ),
    "Laplace": (lambda: dist.Laplace(torch.zeros(2), torch.tensor([1.0, 0.5])).to_event(1), True),
    "Student-t": (lambda: dist.StudentT(4.0, torch.zeros(2), 1.0).to_event(1), False),
}


@pytest.mark.parametrize("name", PRIORS)
def test_the_kl_agrees_with_monte_carlo_and_is_in_closed_form_where_there_is_one(name: str) -> None:
    make, closed = PRIORS[name]
    prior = priors.as_prior(make())()
    posterior = dist.Normal(torch.tensor([0.5, -1.0]), torch.tensor([0.7, 0.3])).to_event(1)
    kl = closed_form_kl(posterior, prior)
    assert (kl is not None) == closed
    z = posterior.sample((400_000,))
    terms = posterior.log_prob(z) - prior.log_prob(z)
    error = terms.std().item() / len(z) ** 0.5
    if kl is not None:
        assert kl.sum().item() == pytest.approx(terms.mean().item(), abs=4 * error)
    decoder = networks.MLPDecoder(N_LATENT, 5, ())
    model = models.VAE(decoder, likelihoods.FixedNormal(1.0), make())
    guide = guides.AmortizedNormal(_Fixed())
    rows = torch.zeros(20_000, 5)
    elbo = inference.RecyclingELBO()
    with_kl = elbo(model, guide)(rows).item()
    elbo.kl_weight = 0.0
    torch.manual_seed(1)
    without = elbo(model, guide)(rows).item()
    elbo.kl_weight = 1.0
    torch.manual_seed(1)
    assert (elbo(model, guide)(rows).item() - without) / len(rows) == pytest.approx(
        terms.mean().item(), abs=max(4 * terms.std().item() / len(rows) ** 0.5, 1e-3)
    )
    assert with_kl > 0


class _Fixed(nn.Module):
    """An encoder that gives every row the same posterior."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (*x.shape[:-1], N_LATENT)
        return torch.tensor([0.5, -1.0]).expand(shape), torch.tensor([0.7, 0.3]).expand(shape)


def test_the_mixture_is_a_density_and_its_responsibilities_are_bayes() -> None:
    prior = _mixture()
    z = torch.randn(7, 3, N_LATENT)
    weights = prior.logits.softmax(0)
    parts = torch.stack(
        [weights[c].log() + dist.Normal(prior.loc[c], prior.log_scale[c].exp()).log_prob(z).sum(-1) for c in range(3)],
        -1,
    )
    torch.testing.assert_close(prior().log_prob(z), parts.logsumexp(-1))
    torch.testing.assert_close(prior.responsibilities(z), parts.softmax(-1))
    assert prior().sample((4,)).shape == (4, N_LATENT)


@pytest.mark.parametrize("name", ["mixture", "a user's module"])
def test_a_prior_with_parameters_is_trained(name: str) -> None:
    decoder = networks.MLPDecoder(N_LATENT, 5, (8,))
    model = models.VAE(decoder, likelihoods.FixedNormal(1.0), PRIORS[name][0]())
    loss = inference.RecyclingELBO(passes=2)(model, make_pair()[1])
    loss(torch.randn(6, 5)).backward()
    for parameter_name, parameter in model.prior.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_a_distribution_moves_with_the_model_however_deep_its_tensors_lie() -> None:
    base = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
    for distribution in (
        base,
        dist.TransformedDistribution(base, [dist.transforms.AffineTransform(torch.ones(2), 2.0, event_dim=1)]),
        dist.MixtureSameFamily(
            dist.Categorical(logits=torch.zeros(3)), dist.Normal(torch.zeros(3, 2), 1.0).to_event(1)
        ),
    ):
        prior = priors.FromDistribution(distribution).double()
        z = prior().sample((3,))
        assert z.dtype == torch.float64
        assert prior().log_prob(z).dtype == torch.float64
        assert distribution.sample().dtype == torch.float32  # the user's own is left alone
        assert not prior.state_dict()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dist.Normal(torch.zeros(2), 1.0), r"actual \(2,\) and \(\): end it with .to_event\(1\)"),
        (dist.Normal(torch.zeros(3, 2), 1.0).to_event(1), r"actual \(3,\) and \(2,\)"),
        (dist.Normal(0.0, 1.0), r"actual \(\) and \(\)"),
        (torch.distributions.Normal(torch.zeros(2), 1.0), "Site 'z': expected prior to be a Pyro distribution"),
        (lambda: 1, "Site 'z': expected prior to be a Pyro distribution"),
        ("gaussian_mixture", "Site 'z': expected prior to be a Pyro distribution"),
    ],
)
def test_what_is_no_prior_is_an_error_that_says_what_would_be(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.VAE(networks.MLPDecoder(2, 5, ()), likelihoods.FixedNormal(1.0), wrong)


@pytest.mark.parametrize("arguments", [(0,), (2, 0), (2, 1.5), (True,)])
def test_sizes_of_a_mixture_are_checked(arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected n_(latent|components) to be a whole number >= 1"):
        priors.GaussianMixture(*arguments)
