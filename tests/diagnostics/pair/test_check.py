import random
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import config_enumerate
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.distributions import constraints
from user_models import MODELS

from pyro_ricvae import guides, likelihoods, models, networks, priors
from pyro_ricvae.diagnostics.pair.check import check
from pyro_ricvae.likelihoods import Likelihood

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
Words = list[str]


def guide(x: Tensor) -> None:
    """The right guide, of the pair that the wrong ones below differ from in one thing."""
    loc = pyro.param("loc", torch.zeros(2))
    with pyro.plate("data", x.shape[-2], dim=-1):
        pyro.sample("z", dist.Normal(loc + x[..., :2], 1.0).to_event(1))


def model(x: Tensor) -> None:
    weight = pyro.param("weight", torch.ones(2, 4))
    with pyro.plate("data", x.shape[-2], dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ weight, 1.0).to_event(1), obs=x)


def latents(make: Callable[[Tensor], Any], name: str = "z", **kwargs: Any) -> Callable[[Tensor], None]:
    """Return a guide whose site in the plate has the distribution that `make` gives."""

    def wrong(x: Tensor) -> None:
        with pyro.plate("data", x.shape[-2], dim=-1):
            pyro.sample(name, make(x), **kwargs)

    return wrong


def observing(make: Callable[[Tensor, Tensor], Any], obs: Callable[[Tensor], Tensor] = lambda x: x) -> Any:
    """Return a model that observes x under the distribution that `make` gives for z and x."""

    def wrong(x: Tensor) -> None:
        with pyro.plate("data", x.shape[-2], dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", make(z @ torch.ones(2, 4), x), obs=obs(x))

    return wrong


def with_prior(prior: Any) -> Any:
    def wrong(x: Tensor) -> None:
        with pyro.plate("data", x.shape[-2], dim=-1):
            pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(torch.zeros(4), 1.0).to_event(1), obs=x)

    return wrong


def failing(x: Tensor) -> None:
    model(x)
    raise RuntimeError("out of luck")


def without_plate(x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z @ torch.ones(2, 4), 1.0).to_event(1), obs=x)


def features_in_no_plate(x: Tensor) -> None:
    with pyro.plate("data", x.shape[-2], dim=-2):
        z = pyro.sample("z", dist.Normal(torch.zeros(1, 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.squeeze(-2) @ torch.ones(2, 4), 1.0), obs=x)


def guide_of_columns(x: Tensor) -> None:
    with pyro.plate("data", x.shape[-2], dim=-2):
        pyro.sample("z", dist.Normal(x[..., :2].unsqueeze(-2), 1.0).to_event(1))


def of_100_rows(x: Tensor) -> None:
    with pyro.plate("data", 100, subsample=x, dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def scaled(x: Tensor) -> None:
    with pyro.poutine.scale(scale=0.5):
        guide(x)


def counts_from_the_left(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0], dim=-1):
        pyro.sample("z", dist.Normal(x[..., :2], 1.0).to_event(1))


def flattens(x: Tensor) -> None:
    loc = x.reshape(-1, 4)[:, :2]
    with pyro.plate("data", len(loc), dim=-1):
        pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


def unused(x: Tensor) -> None:
    pyro.param("idle", torch.zeros(3))
    pyro.param("cut off", torch.zeros(2)).detach()
    guide(x)


def infinite_gradient(x: Tensor) -> None:
    root = pyro.param("root", torch.zeros(2))
    with pyro.plate("data", x.shape[-2], dim=-1):
        pyro.sample("z", dist.Normal(root.square().sum().sqrt() + x[..., :2], 1.0).to_event(1))


class NoMean(dist.TorchDistribution):
    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return NoMean(batch_shape, torch.Size([4]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return -value.square().sum(-1)


# Of each: the pair, and words that its one problem has.
WRONG: dict[str, tuple[Any, Any, Words]] = {
    "guide fails": (
        model,
        latents(lambda x: x @ torch.ones(5, 1)),
        ["The guide fails, before its first", "RuntimeError: mat1", "lambda x: x @"],
    ),
    "model fails": (failing, guide, ["The model fails, after the site 'x'", "RuntimeError: out of luck", "raise"]),
    "misnamed guide": (
        model,
        latents(lambda x: dist.Normal(x[..., :2], 1.0).to_event(1), "zz"),
        ["Site 'z'", "nearest there is 'zz'", "Site 'zz'", "nearest there is 'z'"],
    ),
    "latent lacking": (model, lambda x: None, ["Site 'z'", "actual none"]),
    "guide's batch": (
        without_plate,
        lambda x: pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1)),
        ["batch shape (6,) and event shape (2,) in the model, () and (2,)", "same plates"],
    ),
    "guide's number of latents": (
        model,
        latents(lambda x: dist.Normal(x[..., :3], 1.0).to_event(1)),
        ["The model fails", "event shape (2,) in the model, (6,) and (3,)", "same number of latents"],
    ),
    "rows in no plate": (without_plate, guide, ["Site 'z' of the model", "(6,) in a plate", "dimension -1"]),
    "features in no plate": (features_in_no_plate, guide_of_columns, ["(6, 4)", ".to_event(1)"]),
    "no to_event": (
        observing(lambda loc, x: dist.Normal(loc, 1.0)),
        guide,
        ["Shape mismatch inside plate", "x", ".to_event"],
    ),
    "sizes of plates": (model, of_100_rows, ["Plate 'data'", "6 in the model and 6 of 100 in the guide"]),
    "scales": (model, scaled, ["Site 'z'", "factor of 1 in the model and 0.5"]),
    "not reparameterised": (
        with_prior(dist.Bernoulli(torch.full((2,), 0.5)).to_event(1)),
        latents(lambda x: dist.Bernoulli(logits=x[..., :2]).to_event(1)),
        ["Site 'z'", "Bernoulli", "TraceGraph_ELBO", "RecyclingELBO"],
    ),
    "normal for positive": (
        with_prior(dist.Gamma(torch.ones(2), 1.0).to_event(1)),
        latents(lambda x: dist.Normal(x[..., :2].abs() + 50, 0.01).to_event(1)),
        ["Site 'z'", "GreaterThan", "Normal over Real, which reaches -1000.7", "LogNormal"],
    ),
    "normal for simplex": (
        with_prior(dist.Dirichlet(torch.ones(2))),
        latents(lambda x: dist.Normal(x[..., :2], 1.0).to_event(1)),
        ["Site 'z'", "Simplex", "of 600 draws"],
    ),
    "observes another value": (
        observing(lambda loc, x: dist.Normal(loc, 1.0).to_event(1), lambda x: x + 1),
        guide,
        ["first argument unchanged"],
    ),
    "Bernoulli": (
        observing(lambda loc, x: dist.Bernoulli(logits=loc).to_event(1)),
        guide,
        ["Site 'x'", "Boolean", "24 of 24 values", f"[{X.min():g}, {X.max():g}]"],
    ),
    "grey Bernoulli": (
        observing(lambda loc, x: dist.Bernoulli(logits=loc, validate_args=False).to_event(1)),
        guide,
        [f"{int(((X < 0) | (X > 1)).sum())} of 24 values"],
    ),
    "infinite log-density": (
        observing(lambda loc, x: dist.Normal(loc, 1e-30).to_event(1)),
        guide,
        ["finite log-density at the data", "of 6"],
    ),
    "neither draws nor mean": (
        observing(lambda loc, x: NoMean(x.shape[:-1], x.shape[-1:], validate_args=False)),
        guide,
        ["with neither"],
    ),
    "second pass not finite": (
        model,
        latents(lambda x: dist.Normal(x[..., :2], x[..., :2].abs().mul(20).exp().clamp(max=1e30)).to_event(1)),
        ["finite loss of two passes"],
    ),
    "len(x)": (model, counts_from_the_left, ["Plate 'data'", "(2, 6, 4)", "x.shape[-2]"]),
    "flattened": (model, flattens, ["Site 'x'", "(2, 6, 4)", "view(-1, ...)"]),
    "unused parameters": (model, unused, ["Parameters 'idle' (3,), 'cut off' (2,)", "requires_grad_(False)"]),
    "gradient not finite": (model, infinite_gradient, ["Parameter 'root' (2,)", "finite gradients"]),
}


def messages(*args: Any, **kwargs: Any) -> tuple[str, ...]:
    return check(*args, **kwargs).problems


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_pair_is_reported_and_how_to_mend_it(name: str) -> None:
    wrong_model, wrong_guide, words = WRONG[name]
    report = check(wrong_model, wrong_guide, X)
    assert not report.ok
    for each in words:
        assert each in "\n".join(report.problems)
    # What only follows from a problem is not reported beside it.
    assert len(report.problems) == EXPECTED.get(name, 1), report.problems


# A misnamed site is wrong in both, and two sites lie in no plate; the model fails on latents of another number.
EXPECTED = {"misnamed guide": 2, "rows in no plate": 2, "guide's batch": 3, "guide's number of latents": 2}


def test_the_right_pair_has_no_problems() -> None:
    report = check(model, guide, X)
    assert report.ok
    assert report.problems == report.notes == ()
    assert [(each.name, each.role, each.distribution, each.guide) for each in report.sites] == [
        ("z", "latent", "Normal", "Normal"),
        ("x", "observed", "Normal", ""),
        ("weight", "param", "", ""),
        ("loc", "param", "", ""),
    ]
    z, x = report.sites[:2]
    assert (z.batch_shape, z.event_shape, z.plates, z.kl) == ((6,), (2,), {"data": 6}, "closed form")
    assert (x.event_shape, x.support, x.reparameterised) == ((4,), "Real", True)


# Models of Pyro's own tutorials and others, and what is said of them when nothing is to be recycled.
@pytest.mark.parametrize("name", MODELS)
def test_users_models_are_right(name: str) -> None:
    case = MODELS[name]()
    report = check(case.model, case.guide, *case.args, site=None)
    assert report.problems == ()
    assert any("Summed out" in note for note in report.notes) == (
        name in ("gaussian_mixture", "hidden_markov_model", "semi_supervised_vae", "topic_model")
    )
    assert any("Not reparameterised" in note for note in report.notes) == ("belief_network" in name)


DECODERS: dict[str, dict[str, Any]] = {"LearnedNormal": {"n_outputs": 2}, "Bernoulli": {"sigmoid": True}}
OWN: dict[str, dict[str, Any]] = {
    "IndexConditionedNormal": {"floor": 0.1},
    "FixedNormal": {"scale": 1.0},
    "LearnedNormal": {},
    "SharedNormal": {},
    "StudentT": {"scale": 1.0},
    "Laplace": {"scale": 1.0},
    "Bernoulli": {},
    "ContaminatedNormal": {"scale": 1.0},
    "InverseGammaNormal": {"floor": 0.1},
}


def amortized() -> guides.AmortizedNormal:
    return guides.AmortizedNormal(networks.MLPEncoder(4, 2, (8,)))


def vae(likelihood: nn.Module, decoder: nn.Module | None = None) -> models.VAE:
    return models.VAE(decoder or networks.MLPDecoder(2, 4, (8,)), likelihood, priors.StandardNormal(2))


@pytest.mark.parametrize("name", OWN)
def test_pairs_of_the_package_are_right(name: str) -> None:
    decoder = networks.MLPDecoder(2, 4, (8,), **DECODERS.get(name, {}))
    grey = name == "Bernoulli"
    report = check(vae(getattr(likelihoods, name)(**OWN[name]), decoder), amortized(), X.sigmoid() if grey else X)
    assert report.problems == ()
    by_mean = [note for note in report.notes if 'recycle="mean"' in note]
    assert len(by_mean) == (name in ("Bernoulli", "InverseGammaNormal"))
    assert any("not normalised" in note for note in report.notes) == (name == "IndexConditionedNormal")


def test_a_mixture_prior_has_its_kl_by_monte_carlo() -> None:
    prior = priors.GaussianMixture(2, 3)
    report = check(models.VAE(networks.MLPDecoder(2, 4, ()), likelihoods.FixedNormal(1.0), prior), amortized(), X)
    assert report.ok
    assert report.sites[0].kl == "Monte Carlo"
    assert "KL of 'z' is by Monte Carlo" in report.notes[0]


def test_data_outside_of_a_likelihoods_support() -> None:
    pair = vae(likelihoods.Bernoulli(), networks.MLPDecoder(2, 4, (8,), sigmoid=True)), amortized()
    outside = int(((X < 0) | (X > 1)).sum())
    (problem,) = messages(*pair, X)
    assert all(each in problem for each in ("Site 'x': expected", "Bernoulli", f"{outside} of 24", f"{X.min():g}"))


def test_a_decoder_with_the_wrong_number_of_outputs() -> None:
    report = check(vae(likelihoods.LearnedNormal()), amortized(), X)
    (problem,) = report.problems
    assert "after the site 'z': Site 'x': expected 2 output(s) of shape (6, 4) from the decoder" in problem
    assert "change the decoder's number of outputs" in problem
    # The model got no further: what is known of its latent is the guide's.
    assert [(each.name, each.role, each.distribution) for each in report.sites[:1]] == [("z", "latent", "")]
    assert "z     latent  guide Normal" in str(report)


class NoContract(nn.Module):
    n_outputs = 1
    support = constraints.real

    def forward(self, loc: Tensor, x: Tensor) -> Any:
        return dist.Normal(loc, 1.0)


def test_a_likelihood_without_the_attributes_of_the_contract() -> None:
    wrong = vae(likelihoods.FixedNormal(1.0))
    wrong.likelihood = NoContract()
    (problem,) = messages(wrong, amortized(), X)
    assert "no normalised" in problem


class TenLines(Likelihood):
    def forward(self, decoder_output: Tensor, x: Tensor) -> Any:
        return dist.Cauchy(decoder_output, 0.1)


def test_a_users_likelihood_without_a_mean_is_right() -> None:
    assert messages(vae(TenLines()), amortized(), X) == ()


def test_data_that_are_not_finite() -> None:
    x = X.clone()
    x[2, 1], x[3, 0] = torch.nan, torch.inf
    (problem,) = messages(vae(likelihoods.FixedNormal(1.0)), amortized(), x)
    assert "actual 2 of 24 NaN or infinite, the first at (2, 1)" in problem
    assert x.isnan().sum() == 1


def images(pictures: Tensor) -> None:
    with pyro.plate("rows", pictures.shape[-2], dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        loc = (z @ torch.ones(2, 4)).sigmoid()
        pyro.sample("image", dist.Bernoulli(loc, validate_args=False).to_event(1), obs=pictures)


def guide_of_images(pictures: Tensor) -> None:
    with pyro.plate("rows", pictures.shape[-2], dim=-1):
        pyro.sample("z", dist.Normal(pictures[..., :2], 1.0).to_event(1))


def test_sites_of_other_names() -> None:
    x = X.sigmoid()
    report = check(images, guide_of_images, x)  # a pair without a site "x" is not asked for it
    assert report.ok
    assert "name the observed site, site=..." in report.notes[-1]
    (problem,) = messages(images, guide_of_images, x, site="picture")
    assert problem.startswith("Site 'picture': expected an observed site of the model, to be recycled, actual no such ")
    assert "observed are ['image']" in problem
    (problem,) = messages(images, guide_of_images, x, site="z")
    assert "actual one that is not observed" in problem
    report = check(images, guide_of_images, x, site="image")
    assert report.ok
    assert report.notes[-1] == "The objective for this pair is RecyclingELBO(site='image', recycle=\"mean\")."


def test_means_that_a_validated_distribution_does_not_take() -> None:
    validated = observing(lambda loc, x: dist.Bernoulli(logits=loc).to_event(1))
    (problem,) = messages(validated, guide, (X > 0).float())
    assert "second pass of RecyclingELBO" in problem
    assert "validate_args=False" in problem


def test_more_arguments_and_latents_of_all_rows() -> None:
    def regression(y: Tensor, covariates: Tensor, *, scale: float) -> None:
        slope = pyro.sample("slope", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        spread = pyro.sample("spread", dist.HalfCauchy(1.0))
        with pyro.plate("data", len(covariates)):
            pyro.sample("y", dist.Normal(covariates @ slope, scale * spread), obs=y)

    report = check(regression, AutoNormal(regression), X[:, 0], X[:, 1:], scale=2.0, site="y")
    assert report.problems == ()
    assert [(each.name, each.role) for each in report.sites[:5]] == [
        ("slope", "latent"),
        ("spread", "latent"),
        ("y", "observed"),
        ("slope_unconstrained", "auxiliary"),
        ("spread_unconstrained", "auxiliary"),
    ]
    assert [each.kl for each in report.sites[:3]] == ["Monte Carlo", "Monte Carlo", ""]


def test_a_batch_of_two_rows_hides_no_plate_counted_from_the_left() -> None:
    (problem,) = messages(model, counts_from_the_left, X[:2])
    assert "actual a size of 3, not 2" in problem


def test_a_guide_that_cannot_reach_what_the_prior_allows_is_noted() -> None:
    narrow = latents(lambda x: dist.Beta(x[..., :2].exp(), 1.0).to_event(1))
    report = check(model, narrow, X)
    assert report.ok
    assert "Site 'z': the prior allows values that the guide cannot reach" in "\n".join(report.notes)


def test_discrete_latents_are_noted_where_they_are_summed_out() -> None:
    def mixture(x: Tensor) -> None:
        with pyro.plate("data", x.shape[-2], dim=-1):
            k = pyro.sample("k", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(k.unsqueeze(-1) * torch.ones(4), 1.0).to_event(1), obs=x)

    assert "Site 'k'" in messages(mixture, lambda x: None, X)[0]
    report = check(config_enumerate(mixture), lambda x: None, X)
    assert report.ok
    assert "Summed out: 'k'" in report.notes[0]


def test_warnings_of_the_pair_are_notes() -> None:
    def noisy(x: Tensor) -> None:
        warnings.warn("mind the gap", UserWarning, stacklevel=1)
        model(x)

    report = check(noisy, guide, X)
    assert report.ok
    assert report.notes == ("It warns: mind the gap",)


class Counting(nn.Module):
    """A network with running statistics and random numbers of all kinds, in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.linear = nn.Linear(4, 4)
        self.n_calls = 0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.n_calls += 1
        random.random()
        loc, log_scale = self.linear(self.norm(x.flatten(0, -2)).reshape(x.shape)).chunk(2, dim=-1)
        return loc, log_scale.exp()


def state(*modules: nn.Module) -> dict[str, Any]:
    store = pyro.get_param_store()
    return {
        "parameters": {name: value.tolist() for name, value in store.items()},
        "random": (torch.get_rng_state().tolist(), random.getstate()),
        "settings": (pyro.settings.get(), torch.distributions.Distribution._validate_args),
        "filters": list(warnings.filters),
        "modes": [each.training for module in modules for each in module.modules()],
        "values": [value.tolist() for module in modules for value in module.state_dict().values()],
        "gradients": [value.grad for module in modules for value in module.parameters()],
    }


def test_nothing_is_left_behind() -> None:
    network = Counting()
    network.linear.eval()
    pair = vae(likelihoods.SharedNormal()), guides.AmortizedNormal(network)
    pyro.param("mine", torch.ones(2))
    before = state(*pair)
    with pyro.validation_enabled(False), torch.no_grad():
        assert messages(*pair, X) == ()
        assert not torch.is_grad_enabled()
    check(model, infinite_gradient, X)
    check(failing, guide, X)
    assert state(*pair) == before
    assert network.n_calls == 0


def test_an_automatic_guide_is_not_set_up() -> None:
    automatic = AutoNormal(images)
    assert check(images, automatic, X.sigmoid(), site=None).ok
    assert automatic.prototype_trace is None
    assert not list(automatic.parameters())
    automatic(X[:2].sigmoid())
    assert automatic.locs.z.shape == (2, 2)


def test_the_report_prints_an_aligned_table_and_the_words() -> None:
    lines = str(check(model, unused, X)).splitlines()
    assert lines[0].split() == ["site", "role", "distribution", "batch", "event", "plates", "rsample", "support", "KL"]
    assert lines[1].startswith(
        "z     latent    Normal, guide Normal  (6,)   (2,)   data: 6  yes      Real     closed form"
    )
    assert lines[2][: lines[2].index("Normal")] == "x     observed  "
    assert lines[3] == "4 parameters of 15 values in all"
    assert lines[5] == "Problems:"
    assert lines[6].startswith("  - Parameters 'idle' (3,), 'cut off' (2,): expected a gradient")
    assert lines[-1] == "Notes: none"
    assert max(map(len, lines)) <= 110


def test_wrong_calls() -> None:
    with pytest.raises(TypeError, match=r"Expected guide to be a module or a function, actual NoneType"):
        check(model, None, X)
    with pytest.raises(TypeError, match=r"Expected the data x, a tensor, .* actual ndarray: .*as_tensor"):
        check(model, guide, X.numpy())
    with pytest.raises(TypeError, match=r"actual none"):
        check(model, guide, x=X)
    with pytest.raises(ValueError, match=r"Expected site to be the name of an observed site or None, actual 3"):
        check(model, guide, X, site=3)
