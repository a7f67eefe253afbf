from typing import Any

import pyro.distributions as dist
import pytest
import torch
from reference import KINDS, Returns, cells_by_hand, make_pair, noise
from torch import Tensor, nn

from pyro_ricvae.inference.predictive import draw_posterior, generate, reconstruct


class Watched(nn.Module):
    """A network that notes how many rows it is given, whether gradients are kept, and in which mode it runs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[tuple[int, bool, bool]] = []

    def forward(self, rows: Tensor) -> Any:
        self.calls.append((rows.shape[:-1].numel(), torch.is_grad_enabled(), self.training))
        return self.network(rows)


@pytest.fixture
def pair() -> tuple[Any, Any]:
    return make_pair("index_conditioned")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("passes", [1, 3])
def test_reconstruction_is_the_loop_by_hand(kind: str, passes: int, sample: bool) -> None:
    model, guide = make_pair(kind)
    x = expected = torch.randn(6, 5)
    torch.manual_seed(1)
    actual = reconstruct(model, guide, x, passes, sample=sample)
    torch.manual_seed(1)
    for _ in range(passes):
        loc_z, scale_z = guide.encoder(expected)
        z = loc_z + scale_z * noise(loc_z.shape, x.dtype) if sample else loc_z
        _, loc_x, scale_x = cells_by_hand(kind, model.likelihood, model.decoder(z), expected)
        expected = loc_x + scale_x * noise(loc_x.shape, x.dtype) if sample else loc_x
    torch.testing.assert_close(actual, expected.detach())


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("passes", [1, 3])
def test_generation_decodes_the_prior_and_recycles(pair: tuple[Any, Any], passes: int, sample: bool) -> None:
    model, guide = pair
    torch.manual_seed(1)
    actual = generate(model, guide, 6, passes, sample=sample)
    torch.manual_seed(1)
    location = model.decoder(noise((6, 2), torch.float32)).detach()
    expected = location + 0.5 * noise((6, 5), torch.float32) if sample else location  # 0.5: the floor
    if passes > 1:
        expected = reconstruct(model, guide, expected, passes - 1, sample=sample)
    torch.testing.assert_close(actual, expected)


def test_posterior_draws(pair: tuple[Any, Any]) -> None:
    _, guide = pair
    x = torch.randn(6, 5)
    draws = draw_posterior(guide, x, 4000, batch_size=4)
    loc, scale = guide.encoder(x)
    assert draws.shape == (4000, 6, 2)
    torch.testing.assert_close(draws.mean(0), loc, rtol=0, atol=0.1)
    torch.testing.assert_close(draws.std(0), scale, rtol=0.1, atol=0)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 1000])
def test_chunks_change_nothing(pair: tuple[Any, Any], batch_size: int) -> None:
    model, guide = pair
    x = torch.randn(2, 10, 5)
    whole = reconstruct(model, guide, x, 2)
    torch.testing.assert_close(reconstruct(model, guide, x, 2, batch_size=batch_size), whole)
    torch.testing.assert_close(reconstruct(model, guide, x[1], 2, batch_size=batch_size), whole[1])
    assert draw_posterior(guide, x, 3, batch_size=batch_size).shape == (3, 2, 10, 2)
    assert generate(model, guide, 10, 2, batch_size=batch_size).shape == (10, 5)


def test_only_a_chunk_is_in_work_whatever_the_rows_and_passes(pair: tuple[Any, Any]) -> None:
    model, guide = pair
    model.decoder, guide.encoder = Watched(model.decoder), Watched(guide.encoder)
    reconstruct(model, guide, torch.randn(100, 5), 7, batch_size=8)
    generate(model, guide, 100, 7, batch_size=8)
    draw_posterior(guide, torch.randn(100, 5), 3, batch_size=8)
    calls = model.decoder.calls + guide.encoder.calls
    assert len(calls) == 13 * (7 + 7 + 7 + 6 + 1)
    assert all(rows <= 8 and not grad and not training for rows, grad, training in calls)


def test_modes_come_back_as_they_were(pair: tuple[Any, Any]) -> None:
    model, guide = pair
    model.train()
    model.decoder.loc.eval()  # a part that the user has frozen
    guide.eval()
    reconstruct(model, guide, torch.randn(4, 5))
    with pytest.raises(ValueError, match="Expected rows of 5 features, actual shape"):
        reconstruct(model, guide, torch.randn(4, 3))
    assert model.training
    assert model.decoder.training
    assert not model.decoder.loc.training
    assert not guide.encoder.training
    assert torch.is_grad_enabled()


def test_wrong_input(pair: tuple[Any, Any]) -> None:
    model, guide = pair
    x = torch.randn(4, 5)
    for name, call in {
        "passes": lambda value: reconstruct(model, guide, x, value),
        "batch_size": lambda value: reconstruct(model, guide, x, batch_size=value),
        "n": lambda value: generate(model, guide, value),
        "num_draws": lambda value: draw_posterior(guide, x, value),
    }.items():
        for value in (0, 1.5):
            with pytest.raises(ValueError, match=f"Expected {name} to be a whole number >= 1, actual {value}"):
                call(value)
    for wrong, message in {
        torch.zeros(5): r"Expected x of shape \(..., rows, features\), actual \(5,\)",
        torch.zeros(0, 5): r"Expected at least one row, actual x of shape \(0, 5\)",
        torch.full((4, 5), torch.inf): r"Expected finite values in x, actual 20 .* the first at \(0, 0\)",
        torch.zeros(4, 5).int(): r"Expected x of a floating-point type, actual torch.int32",
    }.items():
        with pytest.raises(ValueError, match=message):
            reconstruct(model, guide, wrong)
        with pytest.raises(ValueError, match=message):
            draw_posterior(guide, wrong, 3)


class Logistic(nn.Module):
    """A likelihood without a mean."""

    n_outputs = 1
    normalised = True
    support = dist.constraints.real

    def forward(self, loc: Tensor, x: Tensor) -> Any:
        return dist.TransformedDistribution(dist.Normal(loc, 1.0), dist.transforms.SigmoidTransform())


def test_a_likelihood_without_a_mean(pair: tuple[Any, Any]) -> None:
    model, guide = pair
    model.likelihood, x = Logistic(), torch.zeros(4, 5)
    for call in (
        lambda **kwargs: reconstruct(model, guide, x, **kwargs),
        lambda **kwargs: generate(model, guide, 4, **kwargs),
    ):
        with pytest.raises(ValueError, match=r"A pass by means: expected a distribution with a mean, actual .*samples"):
            call()
        assert call(sample=True).shape == (4, 5)


@pytest.mark.parametrize("distribution", [dist.Cauchy(torch.ones(5), 1.0), dist.StudentT(0.5, torch.ones(5), 1.0)])
def test_a_likelihood_whose_mean_does_not_exist_passes_on_its_location(distribution: Any) -> None:
    model, guide = make_pair()
    model.likelihood, x = Returns(distribution.expand((4, 5))), torch.zeros(4, 5)
    assert torch.equal(reconstruct(model, guide, x), torch.ones(4, 5))
