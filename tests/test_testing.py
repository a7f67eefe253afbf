"""The contract tests: silent on our own parts, and loud on wrong ones."""

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from reference import make_pair
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.estimators.registry import LIKELIHOODS, PRIORS, make_likelihood
from pyro_ricvae.testing import check_likelihood, check_pair, check_prior


@pytest.mark.parametrize("learn_scale", [False, True])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_our_likelihoods_meet_the_contract(name: str, learn_scale: bool) -> None:
    check_likelihood(make_likelihood(name, (0.5, 0.1), learn_scale))


@pytest.mark.parametrize("name", PRIORS)
def test_our_priors_meet_the_contract(name: str) -> None:
    check_prior(PRIORS[name](3))


def test_a_distribution_is_a_prior() -> None:
    check_prior(dist.Laplace(torch.zeros(3), 1.0).to_event(1))
    check_prior(dist.LogNormal(torch.zeros(3), 1.0).to_event(1))


def test_the_heaviest_tails_integrate_to_one() -> None:
    check_likelihood(rv.likelihoods.InverseGammaNormal(floor=0.1, shape=1e-3))
    check_likelihood(rv.likelihoods.StudentT(1.0, df=0.05))


@pytest.mark.parametrize("kind", ["index_conditioned", "fixed", "learned"])
def test_our_pairs_meet_the_contract(kind: str) -> None:
    model, guide = make_pair(kind)
    check_pair(model, guide, torch.randn(6, 5))


class Mine(rv.likelihoods.Likelihood):
    """Right; those below are not."""

    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        return dist.Normal(decoder_output, 1.0)


class ByColumn(Mine):
    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        return dist.Normal(decoder_output, torch.tensor([0.5, 1.0, 2.0]))


class OfRows(Mine):
    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        return super().forward(decoder_output, x).to_event(1)


class NoReplicates(Mine):
    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        return dist.Normal(decoder_output, torch.ones_like(x))


class Moving(Mine):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0.0))

    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        self.calls += 1
        return super().forward(decoder_output, x)


class Unnormalised(Mine):
    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        class Twice(dist.Normal):  # type: ignore[misc]
            def log_prob(self, value: Tensor) -> Any:
                return super().log_prob(value) + 0.7

        return Twice(decoder_output, 1.0)


class Detached(Mine):
    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        return super().forward(decoder_output.detach(), x)


class Undrawable(Mine):
    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        return dist.Poisson(decoder_output.exp(), validate_args=False)


class OfTheRow(Mine):
    """A scale that a cell has of the others of its row, and of itself."""

    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        return dist.Normal(decoder_output, 1.0 if x is None else 0.1 + x.abs().mean(-1, keepdim=True))


class OfTheBatch(Mine):
    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        return dist.Normal(decoder_output, float(len(decoder_output)))


class Single(Mine):
    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        cells = dist.Normal(decoder_output.float(), 1.0)
        cells.log_prob = lambda value: dist.Normal.log_prob(cells, value.float())
        return cells


class Strange(Mine):
    recycle = "median"  # type: ignore[assignment]


class Scheduled(Mine):
    schedule = {"width": (1.0, 0.1)}  # noqa: RUF012


class TooManyShapes(Mine):
    def parameter_shapes(self, n_features: int) -> Any:
        return (n_features,), (n_features,)


class NextOfRows(Mine):
    def next_input(self, cells: Any, x: Tensor, observed: Tensor | None = None) -> Tensor:
        return cells.mean.sum(-1)


def test_a_right_likelihood_is_let_through_and_left_alone() -> None:
    likelihood = Mine()
    check_likelihood(likelihood)
    check_likelihood(rv.likelihoods.FromFunction(lambda loc, x: dist.Cauchy(loc, 0.1), normalised=True))
    check_likelihood(ByColumn(), n_features=3)
    moving = rv.likelihoods.SharedNormal()
    check_likelihood(moving)
    assert moving.n_batches == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (OfRows(), r"the cells of batch shape \(4, 5\) and event shape \(\), actual Independent"),
        (NoReplicates(), "NoReplicates fails"),
        (Moving(), "to leave buffers alone, actual that they change"),
        (Unnormalised(), r"integrates to one over a cell, or normalised = False, actual 2\.01"),
        (Detached(), "does not require grad"),
        (Undrawable(), "no reparameterised sampler"),
        (Scheduled(), "names of its buffers of shape"),
        (OfTheRow(), "integrates to one over a cell"),
        (OfTheBatch(), "in evaluation mode a density by row"),
        (Single(), "log-densities in torch.float64"),
        (Strange(), "recycle='median'"),
        (TooManyShapes(), "n_outputs=1 shapes"),
        (NextOfRows(), r"a next input of shape \(4, 5\), actual \(4,\)"),
        (nn.Identity(), "no n_outputs"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_likelihood_is_named(wrong: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check_likelihood(wrong)


class Prior(nn.Module):
    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self) -> Any:
        return self.make()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Prior(lambda: dist.Normal(torch.zeros(3), 1.0)), r"batch shape \(\) and event shape"),
        (Prior(lambda: dist.Normal(torch.zeros(2, 3), 1.0).to_event(2)), r"event shape \(n_latent,\), actual"),
        (Prior(lambda: dist.Normal(torch.zeros(3), 1.0).to_event(1)), r"draws in float64 after .double\(\)"),
        (Prior(lambda: torch.distributions.Normal(0.0, 1.0)), "a distribution of pyro.distributions"),
        (3, "expected prior to be a Pyro distribution"),
    ],
    ids=["event", "rank", "dtype", "torch", "number"],
)
def test_a_wrong_prior_is_named(wrong: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_prior(wrong)


def test_a_wrong_pair_is_named() -> None:
    x = torch.randn(6, 5)
    model, guide = make_pair()
    with pytest.raises(AssertionError, match=r"(?s)in which check finds nothing, actual .* the same n_latent"):
        check_pair(model, make_pair(n_latent=3)[1], x)

    class Blind(rv.guides.AmortizedNormal):
        def encode(self, x: Tensor, observed: Tensor | None = None) -> Any:
            return super().encode(x)

    with pytest.raises(AssertionError, match="encode not to depend on cells that are not observed, actual"):
        check_pair(model, Blind(guide.encoder), x)

    class Deaf(rv.models.VAE):
        def forward(self, x: Tensor, observed: Tensor | None = None) -> Any:
            return super().forward(x)

    with pytest.raises(AssertionError, match="the model not to depend on cells that are not observed"):
        check_pair(Deaf(model.decoder, model.likelihood, model.prior), guide, x)

    class OfRows(rv.models.VAE):
        def decode(self, z: Tensor, x: Tensor | None = None, observed: Tensor | None = None) -> Any:
            rows = super().decode(z, x)
            return rows if observed is None else rows.mask(observed.all(-1))

    with pytest.raises(AssertionError, match="the log-density of observed cells"):
        check_pair(OfRows(model.decoder, model.likelihood, model.prior), guide, x)

    class Old(rv.models.VAE):
        def decode(self, z: Tensor, x: Tensor | None = None) -> Any:  # type: ignore[override]
            return super().decode(z, x)

        def forward(self, x: Tensor) -> Any:  # type: ignore[override]
            with rv.pair.data_plate(x, None):
                import pyro

                z = pyro.sample("z", self.prior())
                return pyro.sample("x", self.decode(z, x), obs=x)

    with pytest.raises(AssertionError, match=r"Old fails: TypeError: .*decode"):
        check_pair(Old(model.decoder, model.likelihood, model.prior), guide, x)
