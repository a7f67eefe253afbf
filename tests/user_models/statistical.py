"""Regressions, mixtures, time series: what statisticians write."""

from typing import Any

import pyro
import pyro.contrib.gp as gp
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoIAFNormal, AutoMultivariateNormal, AutoNormal
from torch import Tensor
from torch.distributions import constraints

from user_models.case import Case, fewer


def hierarchical_regression() -> Case:
    """Hierarchical regression (radon), AutoNormal."""
    n_counties, rows = 12, 120

    def model(county: Tensor, floor: Tensor, radon: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
        spread = pyro.sample("spread", dist.HalfCauchy(2.0))
        with pyro.plate("counties", n_counties):
            intercept = pyro.sample("intercept", dist.Normal(mean, spread))
            slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
        noise = pyro.sample("noise", dist.HalfCauchy(2.0))
        expected = intercept[county] + slope[county] * floor
        with pyro.plate("data", len(radon)):
            pyro.sample("radon", dist.Normal(expected, noise), obs=radon)

    data = torch.randint(n_counties, (rows,)), torch.randint(2, (rows,)).float(), torch.randn(rows) + 1
    return Case(model, AutoNormal(model), Trace_ELBO(), *fewer(*data))


def subsampled_logistic_regression() -> Case:
    """Logistic regression, a plate that draws 32 rows, AutoDiagonalNormal."""

    def model(x: Tensor, y: Tensor) -> None:
        weight = pyro.sample("weight", dist.Normal(0.0, 1.0).expand([x.shape[-1]]).to_event(1))
        bias = pyro.sample("bias", dist.Normal(0.0, 10.0))
        with pyro.plate("data", x.shape[0], subsample_size=32) as rows:
            pyro.sample("y", dist.Bernoulli(logits=x[rows] @ weight + bias), obs=y[rows])

    x = torch.randn(1000, 5)
    return Case(model, AutoDiagonalNormal(model), Trace_ELBO(), *fewer(x, (x[:, 0] > 0).float(), rows=500))


def parameters_and_own_guide() -> Case:
    """Student-t regression, pyro.param with constraints, own guide."""

    def model(x: Tensor, y: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        df = pyro.param("df", torch.tensor(4.0), constraint=constraints.interval(2.0, 30.0))
        slope = pyro.sample("slope", dist.Normal(torch.zeros(x.shape[-1]), 3.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.StudentT(df, x @ slope, scale), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        loc = pyro.param("loc", lambda: torch.randn(x.shape[-1]))
        tril = pyro.param("tril", lambda: torch.eye(x.shape[-1]), constraint=constraints.lower_cholesky)
        pyro.sample("slope", dist.MultivariateNormal(loc, scale_tril=tril))

    return Case(model, guide, Trace_ELBO(num_particles=2), *fewer(torch.randn(100, 3), torch.randn(100)))


def poisson_regression() -> Case:
    """Poisson regression, batches of a larger data set (poutine.scale), Rényi's ELBO."""

    def model(x: Tensor, y: Tensor) -> None:
        weight = pyro.sample("weight", dist.Normal(torch.zeros(x.shape[-1]), 1.0).to_event(1))
        with pyro.plate("data", len(x)), poutine.scale(scale=200 / len(x)):
            pyro.sample("y", dist.Poisson((x * weight).sum(-1).exp()), obs=y)

    elbo = RenyiELBO(alpha=0.5, num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    return Case(model, AutoNormal(model), elbo, *fewer(0.3 * torch.randn(100, 3), torch.randint(5, (100,)).float()))


def horseshoe_regression() -> Case:
    """Horseshoe regression, AutoIAFNormal (a normalising flow)."""

    def model(x: Tensor, y: Tensor) -> None:
        overall = pyro.sample("overall", dist.HalfCauchy(1.0))
        with pyro.plate("features", x.shape[-1]):
            local = pyro.sample("local", dist.HalfCauchy(1.0))
            weight = pyro.sample("weight", dist.Normal(0.0, overall * local))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(x @ weight, 1.0), obs=y)

    guide = AutoIAFNormal(model, hidden_dim=[32], num_transforms=2)
    return Case(model, guide, Trace_ELBO(), *fewer(torch.randn(100, 8), torch.randn(100)))


def correlated_returns() -> Case:
    """Covariance with an LKJ prior, AutoMultivariateNormal."""

    def model(x: Tensor) -> None:
        scale = pyro.sample("scale", dist.HalfCauchy(1.0).expand([4]).to_event(1))
        correlation = pyro.sample("correlation", dist.LKJCholesky(4, 2.0))
        with pyro.plate("data", len(x)):
            tril = scale.unsqueeze(-1) * correlation
            pyro.sample("x", dist.MultivariateNormal(torch.zeros(4), scale_tril=tril), obs=x)

    return Case(model, AutoMultivariateNormal(model), Trace_ELBO(), *fewer(torch.randn(100, 4)))


def gaussian_mixture() -> Case:
    """Gaussian mixture, components enumerated, AutoNormal."""

    def model(x: Tensor) -> None:
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("components", 3):
            loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("data", len(x)):
            component = pyro.sample("component", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(loc[component], scale), obs=x)

    guide = AutoNormal(poutine.block(model, hide=["component"]))
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    return Case(config_enumerate(model), guide, elbo, *fewer(torch.randn(100) * 3))


def hidden_markov_model() -> Case:
    """Hidden Markov model, states enumerated under pyro.markov, sequences masked by length, AutoDelta."""
    n_states = 3

    def model(sequences: Tensor, lengths: Tensor) -> None:
        n_sequences, n_steps, n_tones = sequences.shape
        switch = pyro.sample("switch", dist.Dirichlet(0.9 * torch.eye(n_states) + 0.1).to_event(1))
        play = pyro.sample("play", dist.Beta(0.5, 0.9).expand([n_states, n_tones]).to_event(2))
        tones = pyro.plate("tones", n_tones, dim=-1)
        with pyro.plate("sequences", n_sequences, dim=-2):
            state: Any = 0
            for t in pyro.markov(range(n_steps)):
                with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                    state = pyro.sample(f"state_{t}", dist.Categorical(switch[state]))
                    with tones as tone:
                        pyro.sample(f"tone_{t}", dist.Bernoulli(play[state, tone]), obs=sequences[:, t])

    guide = AutoDelta(poutine.block(model, expose=["switch", "play"]))
    data = torch.bernoulli(torch.full((24, 4, 4), 0.4)), torch.randint(1, 5, (24,))
    return Case(config_enumerate(model), guide, TraceEnum_ELBO(max_plate_nesting=2), *fewer(*data))


def state_space_model() -> Case:
    """Local linear trend, latents integrated out (GaussianHMM), AutoNormal."""

    def model(y: Tensor) -> None:
        drift = pyro.sample("drift", dist.LogNormal(-1.0, 1.0).expand([2]).to_event(1))
        noise = pyro.sample("noise", dist.LogNormal(0.0, 1.0))
        start, step = dist.Normal(torch.zeros(2), 3.0).to_event(1), dist.Normal(torch.zeros(2), drift).to_event(1)
        seen = dist.Normal(torch.zeros(1), noise).to_event(1)
        trend, level = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0], [0.0]])
        with pyro.plate("series", len(y)):
            pyro.sample("y", dist.GaussianHMM(start, trend, step, level, seen, duration=y.shape[1]), obs=y)

    return Case(model, AutoNormal(model), Trace_ELBO(), *fewer(torch.randn(24, 8, 1).cumsum(1)))


def gaussian_process() -> Case:
    """Sparse variational Gaussian process, minibatches (pyro.contrib.gp)."""
    x = torch.rand(100, 2)
    y = torch.sin(6 * x[:, 0])
    process = gp.models.VariationalSparseGP(
        x, y, gp.kernels.RBF(2), x[:10].clone(), gp.likelihoods.Gaussian(), num_data=1000, whiten=True
    )

    def model(x: Tensor, y: Tensor) -> None:
        process.set_data(x, y)
        process.model()

    def guide(x: Tensor, y: Tensor) -> None:
        process.set_data(x, y)
        process.guide()

    return Case(model, guide, TraceMeanField_ELBO(), *fewer(x, y))
