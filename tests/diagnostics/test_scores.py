"""Scores against formulas by hand, and scipy's densities."""

import math
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from reference import KINDS, Returns, cells_by_hand, log_penalty, make_pair
from scipy import stats
from torch import Tensor, nn

from pyro_ricvae.diagnostics import cell_scores, outlier_scores, row_scores
from pyro_ricvae.inference.predictive import reconstruct


def pair_around(location: Any, kind: str = "index_conditioned") -> tuple[Any, Any]:
    """Return a pair that expects the same rows whatever it sees."""
    model, guide = make_pair(kind)
    model.decoder = Returns(location)
    return model, guide


def double(kind: str) -> tuple[Any, Any]:
    return make_pair(kind, dtype=torch.float64)


@pytest.fixture
def x() -> Tensor:
    return 2 * torch.randn(7, 5, dtype=torch.float64)


# Cells

FLOOR = 0.5
RESIDUALS = torch.tensor([[0.0, 1e-3, -0.2, 0.4999, -0.5], [0.5001, -1.0, 3.0, 1e4, -1e8]])


def test_cells_of_the_index_conditioned_likelihood() -> None:
    location = torch.randn(2, 5).double()
    model, guide = pair_around(location)
    model, guide = model.double(), guide.double()
    r = RESIDUALS.double().abs()
    scores = cell_scores(model, guide, location + RESIDUALS.double())
    torch.testing.assert_close(scores[0], 0.5 * r[0] ** 2 / FLOOR**2)
    torch.testing.assert_close(scores[1], 0.5 + torch.log(r[1] / FLOOR))
    assert scores[0, 0] == 0
    assert scores.flatten()[[1, 2, 3, 4, 5, 6, 7, 8, 9]].diff().min() > 0  # higher is more outlying


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_that_is_as_expected_scores_zero(kind: str) -> None:
    location = torch.randn(7, 5)
    model, guide = pair_around((location, torch.full_like(location, 0.1)) if kind == "learned" else location, kind)
    assert torch.equal(cell_scores(model, guide, location), torch.zeros(7, 5))


@pytest.mark.parametrize("kind", ["fixed", "learned"])
def test_cells_of_normal_likelihoods(kind: str, x: Tensor) -> None:
    model, guide = double(kind)
    output = model.decoder(guide.encoder(x)[0])
    loc, scale = output if kind == "learned" else (output, model.likelihood.scale)
    loc, scale = loc.detach().numpy(), np.broadcast_to(scale.detach().numpy(), (7, 5))
    expected = stats.norm.logpdf(loc, loc, scale) - stats.norm.logpdf(x, loc, scale)
    np.testing.assert_allclose(cell_scores(model, guide, x), expected, rtol=1e-9)


class OfCells(nn.Module):
    """A likelihood that is independent over the cells."""

    n_outputs = 1
    normalised = True
    support = dist.constraints.real

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, output: Tensor, x: Tensor) -> Any:
        return self.make(output)


def test_cells_of_other_likelihoods(x: Tensor) -> None:
    model, guide = double("fixed")
    location = model.decoder(guide.encoder(x)[0]).detach().numpy()
    model.likelihood = OfCells(lambda output: dist.StudentT(3.0, output, 0.5))
    expected = stats.t.logpdf(0, 3, scale=0.5) - stats.t.logpdf(x.numpy() - location, 3, scale=0.5)
    np.testing.assert_allclose(cell_scores(model, guide, x), expected, rtol=1e-9)

    model.likelihood = OfCells(lambda output: dist.Bernoulli(logits=output))
    ones = (x > 0).double()
    logits = model.decoder(guide.encoder(ones)[0]).detach()
    p = torch.sigmoid(logits)
    expected = torch.maximum(p, 1 - p).log() - torch.where(ones == 1, p, 1 - p).log()
    torch.testing.assert_close(cell_scores(model, guide, ones), expected)

    model.decoder = Returns(torch.zeros(7, 5).double())  # either value is as likely
    model.likelihood = OfCells(lambda output: dist.Bernoulli(logits=output))
    assert torch.equal(cell_scores(model, guide, ones), torch.zeros(7, 5).double())

    # This one says no mode: its mean stands for it, and a cell that is likelier than the mean scores 0.
    logits = 3 * torch.randn(7, 5).double()
    model.decoder = Returns(logits)
    model.likelihood = OfCells(lambda output: dist.ContinuousBernoulli(logits=output))
    mean = dist.ContinuousBernoulli(logits=logits).mean
    scores = cell_scores(model, guide, ones)
    assert torch.equal(scores == 0, ones == (logits > 0))
    torch.testing.assert_close(scores, (logits * (mean - ones)).clamp(min=0))


@pytest.mark.parametrize(
    "likelihood",
    [
        lambda output: dist.MultivariateNormal(output, torch.eye(5, dtype=output.dtype)),
        lambda output: dist.TransformedDistribution(
            dist.Normal(output, 1.0).to_event(1), [dist.transforms.AffineTransform(1.0, 2.0, event_dim=1)]
        ),
    ],
    ids=["multivariate normal", "transformed"],
)
def test_a_likelihood_that_is_not_of_cells(x: Tensor, likelihood: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair of others may have one: of our own likelihoods are of cells."""
    model, guide = double("fixed")
    monkeypatch.setattr(model, "decode", lambda z, x=None, observed=None: likelihood(model.decoder(z)))
    with pytest.raises(
        ValueError,
        match=r"Expected a likelihood that is independent over the cells, actual .* Score whole rows instead",
    ):
        cell_scores(model, guide, x)
    assert row_scores(model, guide, x).shape == (7,)


# Rows


@pytest.mark.parametrize("kind", KINDS)
def test_rows_by_hand(kind: str, x: Tensor) -> None:
    model, guide = double(kind)
    loc, scale = guide.encoder(x)
    cells, _, _ = cells_by_hand(kind, model.likelihood, model.decoder(loc), x)
    kl = (0.5 * (scale**2 + loc**2 - 1) - torch.log(scale)).sum(-1)
    torch.testing.assert_close(row_scores(model, guide, x), -(cells.sum(-1) + kl).detach())


def test_rows_of_one_latent_unit(x: Tensor) -> None:
    """One KL a unit is not taken for one a row."""
    model, guide = make_pair("fixed", n_latent=1, dtype=torch.float64)
    loc, scale = guide.encoder(x)
    cells, _, _ = cells_by_hand("fixed", model.likelihood, model.decoder(loc), x)
    kl = (0.5 * (scale**2 + loc**2 - 1) - torch.log(scale))[:, 0]
    torch.testing.assert_close(row_scores(model, guide, x), -(cells.sum(-1) + kl).detach())


@pytest.mark.parametrize("n_latent", [1, 2])
def test_rows_under_a_prior_without_a_closed_form(n_latent: int, x: Tensor) -> None:
    model, guide = make_pair("fixed", n_latent=n_latent, dtype=torch.float64)
    model.prior = Returns(dist.StudentT(3.0, torch.ones(n_latent).double(), 2.0).expand([n_latent]).to_event(1))
    loc, scale = (each.detach().numpy() for each in guide.encoder(x))
    location = model.decoder(guide.encoder(x)[0]).detach().numpy()
    expected = stats.norm.logpdf(x, location, model.likelihood.scale.item()).sum(1)
    expected -= (stats.norm.logpdf(loc, loc, scale) - stats.t.logpdf(loc, 3, 1.0, 2.0)).sum(1)
    np.testing.assert_allclose(row_scores(model, guide, x), expected, rtol=1e-9)


def test_a_row_that_is_not_like_the_rest_scores_lower(x: Tensor) -> None:
    model, guide = double("fixed")
    x[3] += 30
    assert row_scores(model, guide, x).argmin() == 3


# Both


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passes", [1, 2, 4])
def test_recycled_rows_are_encoded_and_the_original_ones_are_scored(kind: str, passes: int, x: Tensor) -> None:
    model, guide = double(kind)
    seen = x if passes == 1 else reconstruct(model, guide, x, passes - 1)
    loc, scale = guide.encoder(seen)
    output = model.decoder(loc)
    cells, location, _ = cells_by_hand(kind, model.likelihood, output, x)
    kl = (0.5 * (scale**2 + loc**2 - 1) - torch.log(scale)).sum(-1)
    torch.testing.assert_close(row_scores(model, guide, x, passes), -(cells.sum(-1) + kl).detach())
    at_mode, _, _ = cells_by_hand(kind, model.likelihood, output, location)
    torch.testing.assert_close(cell_scores(model, guide, x, passes), (cells - at_mode).detach())


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
@pytest.mark.parametrize("passes", [1, 3])
def test_chunks_and_leading_dimensions_change_nothing(batch_size: int, passes: int) -> None:
    model, guide = double("index_conditioned")
    x = torch.randn(2, 7, 5, dtype=torch.float64)
    for score, shape in ((cell_scores, (2, 7, 5)), (row_scores, (2, 7))):
        whole = score(model, guide, x, passes)
        assert whole.shape == shape
        torch.testing.assert_close(score(model, guide, x, passes, batch_size=batch_size), whole, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(score(model, guide, x[1], passes, batch_size=batch_size), whole[1])


@pytest.mark.parametrize("score", [cell_scores, row_scores])
def test_modes_and_gradients_are_left_as_they_were(score: Any, x: Tensor) -> None:
    model, guide = double("fixed")
    guide.encoder.deep.append(nn.Dropout(0.5))
    first = score(model, guide, x)
    assert torch.equal(score(model, guide, x), first)
    assert not first.requires_grad
    assert all(each.training for module in (model, guide) for each in module.modules())


@pytest.mark.parametrize("score", [cell_scores, row_scores])
def test_wrong_input(score: Any) -> None:
    model, guide = make_pair()
    for value in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"Expected passes to be a whole number >= 1, actual {value}"):
            score(model, guide, torch.zeros(4, 5), value)
        with pytest.raises(ValueError, match=f"Expected batch_size to be a whole number >= 1, actual {value}"):
            score(model, guide, torch.zeros(4, 5), batch_size=value)
    for wrong, message in (
        (torch.zeros(5), r"Expected x of shape \(..., rows, features\), actual \(5,\)"),
        (torch.full((4, 5), math.nan), r"Expected finite values in x, actual 20"),
        (torch.zeros(4, 3), r"Expected rows of 5 features, actual shape \(4, 3\)"),
        (torch.zeros(4, 5).int(), r"floating-point type, actual torch.int32"),
    ):
        with pytest.raises(ValueError, match=message):
            score(model, guide, wrong)


# Outlying rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("center", [0.0, 1.5])
def test_outlying_rows_by_hand(kind: str, center: float, x: Tensor) -> None:
    model, guide = double(kind)
    loc, scale = guide.encoder(x)
    output = model.decoder(loc)
    mean = output[0] if isinstance(output, tuple) else output
    kl = (0.5 * (scale**2 + loc**2 - 1) - torch.log(scale)).sum(-1).detach().numpy()
    expected = (
        log_penalty((x - mean).detach().numpy(), 0.3).sum(-1) + kl + log_penalty(x.numpy() - center, 0.75).sum(-1)
    )
    np.testing.assert_allclose(outlier_scores(model, guide, x, floor=0.3, center=center), expected, rtol=1e-9)
    by_feature = torch.full((5,), center)
    np.testing.assert_allclose(outlier_scores(model, guide, x, floor=0.3, center=by_feature), expected, rtol=1e-9)


def test_rows_that_a_model_knows_by_heart_are_outlying(x: Tensor) -> None:
    """To ten digits or to two is the same: neither is a reason to take a row for a usual one."""
    far, found = x + 20, []
    model, guide = double("index_conditioned")
    for error in (1e-10, 1e-2):
        model.decoder = Returns(far + error)
        found.append(outlier_scores(model, guide, far, floor=0.5))
    torch.testing.assert_close(found[0], found[1], atol=0.01, rtol=0)


def test_passes_change_what_the_guide_sees_and_no_more(x: Tensor) -> None:
    model, guide = double("index_conditioned")
    once, twice = (outlier_scores(model, guide, x, passes, floor=0.5) for passes in (1, 2))
    seen = reconstruct(model, guide, x)
    loc, scale = guide.encoder(seen)
    kl = (0.5 * (scale**2 + loc**2 - 1) - torch.log(scale)).sum(-1).detach().numpy()
    residuals = (x - model.decoder(loc)).detach().numpy()
    np.testing.assert_allclose(
        twice, log_penalty(residuals, 0.5).sum(-1) + kl + log_penalty(x.numpy(), 1.25).sum(-1), rtol=1e-9
    )
    assert not torch.equal(once, twice)


@pytest.mark.parametrize("floor", [0, -1.0, math.inf, math.nan, "auto", True])
def test_floors_of_outlying_rows_that_are_wrong(floor: Any, x: Tensor) -> None:
    with pytest.raises(ValueError, match="Expected floor to be a positive and finite number"):
        outlier_scores(*double("index_conditioned"), x, floor=floor)
