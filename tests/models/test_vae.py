from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from reference import KINDS, Returns, make_likelihood, make_pair
from torch import nn

import pyro_ricvae as rv
from pyro_ricvae.inference import RecyclingELBO


def vae(outputs: Any, kind: str) -> Any:
    return rv.models.VAE(Returns(outputs), make_likelihood(kind), rv.priors.StandardNormal(2))


def test_children_have_the_names_that_pyro_users_expect() -> None:
    model, guide = make_pair()
    assert [name for name, _ in model.named_children()] == ["decoder", "likelihood", "prior"]
    assert [name for name, _ in guide.named_children()] == ["encoder"]
    assert "likelihood.floor" in model.state_dict()
    assert "decoder.center" in model.state_dict()
    assert "encoder.center" in guide.state_dict()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_decode_takes_any_leading_dimensions(kind: str, lead: tuple[int, ...]) -> None:
    model, _ = make_pair(kind)
    distribution = model.decode(torch.randn(*lead, 4, 2), torch.randn(4, 5))
    assert distribution.batch_shape == (*lead, 4)
    assert distribution.event_shape == (5,)


def test_rows_yet_to_be_generated_lie_at_the_decoder_s_location() -> None:
    for kind in KINDS:
        model, _ = make_pair(kind)
        z = torch.randn(4, 2)
        output = model.decoder(z)
        location = output[0] if kind == "learned" else output
        torch.testing.assert_close(model.decode(z).mean, location)
    model, _ = make_pair("index_conditioned")
    assert (model.decode(z).base_dist.scale == model.likelihood.floor).all()


@pytest.mark.parametrize(
    ("outputs", "kind", "message"),
    [
        (
            torch.zeros(4, 3),
            "fixed",
            r"Site 'x': expected 1 output\(s\) of shape \(4, 5\).*FixedNormal.*actual \(4, 3\)",
        ),
        (torch.zeros(4, 1), "fixed", r"expected 1 output\(s\) of shape \(4, 5\).*actual \(4, 1\)"),
        (torch.zeros(1, 5), "fixed", r"expected 1 output\(s\) of shape \(4, 5\).*actual \(1, 5\)"),
        (
            (torch.zeros(4, 5),) * 2,
            "index_conditioned",
            r"expected 1 output\(s\) .* actual tuple\(\(4, 5\), \(4, 5\)\)",
        ),
        (torch.zeros(4, 5), "learned", r"expected 2 output\(s\) of shape \(4, 5\).*LearnedNormal.*actual \(4, 5\)"),
        (
            (torch.zeros(4, 5),) * 3,
            "learned",
            r"expected 2 output\(s\) .* actual tuple\(\(4, 5\), \(4, 5\), \(4, 5\)\)",
        ),
        (
            (torch.zeros(4, 5), torch.ones(4, 3)),
            "learned",
            r"expected 2 output\(s\) .* actual tuple\(\(4, 5\), \(4, 3\)\)",
        ),
        (None, "fixed", r"expected 1 output\(s\) .* actual NoneType"),
    ],
)
def test_wrong_decoder_outputs(outputs: Any, kind: str, message: str) -> None:
    guide = make_pair()[1]
    with pytest.raises(ValueError, match=message):
        RecyclingELBO().loss(vae(outputs, kind), guide, torch.zeros(4, 5))


def test_a_decoder_s_scale_must_be_positive() -> None:
    model = vae((torch.zeros(4, 5), torch.zeros(4, 5)), "learned")
    with pytest.raises(
        ValueError, match=r"Site 'x': expected from the decoder what LearnedNormal .* positive .* softplus"
    ):
        RecyclingELBO().loss(model, make_pair()[1], torch.zeros(4, 5))


def test_encoder_and_prior_must_agree() -> None:
    model, guide = make_pair(n_latent=2)[0], make_pair(n_latent=3)[1]
    with pytest.raises(ValueError, match=r"Site 'z': expected latents .* = \(2,\), actual \(4, 3\)"):
        RecyclingELBO().loss(model, guide, torch.zeros(4, 5))


@pytest.mark.parametrize("shape", [(5,), ()])
def test_rows_and_features_are_needed(shape: tuple[int, ...]) -> None:
    model, _ = make_pair()
    with pytest.raises(ValueError, match=r"Expected x of shape \(..., rows, features\), actual"):
        model(torch.zeros(shape))


def test_whole_numbers_are_not_taken_for_data() -> None:
    for part in make_pair():
        with pytest.raises(ValueError, match=r"Expected x of a floating-point type, actual torch.uint8: give x.float"):
            part(torch.zeros(4, 5, dtype=torch.uint8))


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_wrong_size(size: Any) -> None:
    with pytest.raises(ValueError, match="Expected size to be a whole number >= 1"):
        make_pair(size=size)
    with pytest.raises(ValueError, match="Expected size to be a whole number >= 1"):
        rv.guides.AmortizedNormal(nn.Identity(), size=size)


def test_a_batch_larger_than_size() -> None:
    model, guide = make_pair(size=3)
    for part in (model, guide):
        with pytest.raises(ValueError, match="Expected a batch of at most size=3 rows, actual 4"):
            part(torch.zeros(4, 5))
        with pyro.validation_enabled(False):  # as during a capture, where the check would bound the batch
            part(torch.zeros(4, 5))


def test_a_likelihood_without_the_contract() -> None:
    with pytest.raises(
        ValueError, match=r"Site 'x': expected likelihood .* contract .* with no n_outputs, no normalised, no"
    ):
        rv.models.VAE(nn.Identity(), nn.Identity(), rv.priors.StandardNormal(2))
    with pytest.raises(ValueError, match=r"FixedNormal'> with all of them: give an object"):
        rv.models.VAE(nn.Identity(), rv.likelihoods.FixedNormal, rv.priors.StandardNormal(2))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            dist.Normal(torch.zeros(4, 5), 1.0).to_event(1),  # as the contract once had it
            r".* of the cells, of batch shape \(4, 5\) and without .* actual .* leave out .to_event\(1\), which",
        ),
        (dist.MultivariateNormal(torch.zeros(4, 5), torch.eye(5)), r".* give each cell a distribution of its own"),
        (dist.Normal(torch.zeros(4, 1), 1.0), r".* of batch shape \(4, 5\) .* actual .* of batch shape \(4, 1\)"),
        (torch.zeros(4, 5), r"to return a distribution of pyro.distributions, actual \(4, 5\)"),
    ],
)
def test_a_likelihood_that_is_not_of_cells_or_no_distribution(value: Any, message: str) -> None:
    model = rv.models.VAE(nn.Linear(2, 5), Returns(value), rv.priors.StandardNormal(2))
    with pytest.raises(ValueError, match=rf"Site 'x': expected Returns {message}"):
        model(torch.zeros(4, 5))


def test_wrong_priors() -> None:
    likelihood = rv.likelihoods.FixedNormal(1.0)
    with pytest.raises(ValueError, match=r"Expected a prior of batch shape \(\) .* actual \(4,\) and \(\): end it"):
        rv.models.VAE(nn.Linear(4, 5), likelihood, dist.Normal(torch.zeros(4), 1.0))
    model = rv.models.VAE(nn.Linear(4, 5), likelihood, Returns(dist.Normal(torch.zeros(4), 1.0)))
    with pytest.raises(ValueError, match=r"Site 'z': expected latents .* = \(\), actual \(4,\).*to_event\(1\)"):
        model(torch.zeros(4, 5))


def test_what_is_not_a_tensor() -> None:
    for part in make_pair():
        with pytest.raises(
            TypeError, match=r"Expected x to be a tensor, actual list: .*a batch that is a tuple or list"
        ):
            part([torch.zeros(4, 5)])
