"""Pyro's other examples, small: regressions, Gaussian processes, mixtures, flows, deep exponential families."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

from conformance.harness import Setup
from conformance.parts import batches, no_guide, same, setup

constraints = dist.constraints


def bayesian_regression() -> Setup:
    """Bayesian regression of Pyro's tutorial, with a factor between two columns and AutoDiagonalNormal."""

    class Regression(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.linear = PyroModule[nn.Linear](3, 1)
            self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))
            self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))

        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            scale = pyro.sample("scale", dist.Uniform(0.0, 10.0))
            mean: Tensor = self.linear(x).squeeze(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(mean, scale), obs=y)
            return mean

    model = Regression()
    x = torch.randn(12, 3)
    return setup(model, AutoDiagonalNormal(model), same(x, x.sum(-1)), watched=[model])


def eight_schools() -> Setup:
    """Eight schools, not centred by a reparametriser."""
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    @poutine.reparam(config={"theta": LocScaleReparam(0.0)})  # type: ignore[untyped-decorator]
    def model() -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        tau = pyro.sample("tau", dist.HalfCauchy(scale=25.0))
        with pyro.plate("schools", 8):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    return setup(model, AutoMultivariateNormal(model, init_scale=0.1), same())


def logistic_regression() -> Setup:
    """Logistic regression with a horseshoe prior, mini-batches of numbers drawn by the plate."""

    def model(x: Tensor, y: Tensor) -> None:
        tau = pyro.sample("tau", dist.HalfCauchy(1.0))
        with pyro.plate("columns", 4):
            local = pyro.sample("local", dist.HalfCauchy(1.0))
            weights = pyro.sample("weights", dist.Normal(0.0, local * tau))
        with pyro.plate("rows", len(x), subsample_size=5) as rows:
            pyro.sample("y", dist.Bernoulli(logits=x[rows] @ weights), obs=y[rows])

    x = torch.randn(12, 4)
    return setup(model, AutoNormal(model), same(x, (x[:, 0] > 0).float()))


def mixture() -> Setup:
    """Gaussian mixture of Pyro's tutorial: AutoDelta of all but the assignments, initialised by a function."""
    x = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0])

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(x: Tensor) -> None:
        weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            kind = pyro.sample("kind", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(locs[kind], scale), obs=x)

    def init(site: dict[str, Any]) -> Tensor:
        if site["name"] == "locs":
            return x[torch.multinomial(torch.ones(5) / 5, 2)]
        return torch.ones(2) / 2 if site["name"] == "weights" else x.var() / 2

    guide = AutoDelta(poutine.block(model, expose=["weights", "locs", "scale"]), init_loc_fn=init)
    return setup(model, guide, same(x), loss=TraceEnum_ELBO(max_plate_nesting=1))


def mixture_full_guide() -> Setup:
    """Gaussian mixture with a guide of assignments, summed over in the guide."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def guide(x: Tensor) -> None:
        globals_(x)
        with pyro.plate("data", len(x)):
            shares = pyro.param("shares", torch.ones(len(x), 2) / 2, constraint=constraints.simplex)
            pyro.sample("kind", dist.Categorical(shares))

    def model(x: Tensor) -> None:
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            kind = pyro.sample("kind", dist.Categorical(torch.ones(2)))
            pyro.sample("x", dist.Normal(locs[kind], 1.0), obs=x)

    globals_ = AutoNormal(poutine.block(model, expose=["locs"]))
    return setup(model, guide, same(torch.randn(6)), loss=TraceEnum_ELBO(max_plate_nesting=1))


def toy_mixture() -> Setup:
    """Mixture that branches on a drawn value, the number of sites by the value (Pyro's toy mixture)."""

    def model(x: Tensor) -> None:
        kind = pyro.sample("kind", dist.Bernoulli(0.5))
        if kind.item() > 0.5:
            loc = pyro.sample("high", dist.Normal(2.0, 0.5))
        else:
            loc = pyro.sample("low", dist.Normal(-2.0, 0.5)) + pyro.sample("shift", dist.Normal(0.0, 0.1))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        p = pyro.param("p", torch.tensor(0.5), constraint=constraints.unit_interval)
        if pyro.sample("kind", dist.Bernoulli(p)).item() > 0.5:
            pyro.sample("high", dist.Normal(pyro.param("high_loc", torch.tensor(1.0)), 0.5))
        else:
            pyro.sample("low", dist.Normal(pyro.param("low_loc", torch.tensor(-1.0)), 0.5))
            pyro.sample("shift", dist.Normal(0.0, 0.1))

    return setup(model, guide, same(torch.randn(4) + 2), loss=TraceGraph_ELBO())


def exponential_family() -> Setup:
    """Sparse gamma deep exponential family, its guide of shapes and means by softplus, AdagradRMSProp."""

    def model(x: Tensor) -> None:
        weights = pyro.sample("weights", dist.Gamma(torch.full((3, 2), 0.3), 0.3).to_event(2))
        with pyro.plate("data", len(x)):
            top = pyro.sample("top", dist.Gamma(torch.full((3,), 0.3), 0.3).to_event(1))
            bottom = pyro.sample("bottom", dist.Gamma(0.3, 0.3 / (top @ weights)).to_event(1))
            pyro.sample("x", dist.Poisson(bottom.sum(-1) + 0.1), obs=x)

    def gamma(name: str, *shape: int) -> dist.Distribution:
        alpha = pyro.param(f"alpha_{name}", lambda: torch.rand(shape) + 0.5, constraint=constraints.softplus_positive)
        mean = pyro.param(f"mean_{name}", lambda: torch.rand(shape) + 0.5, constraint=constraints.softplus_positive)
        return dist.Gamma(alpha, alpha / mean)

    def guide(x: Tensor) -> None:
        pyro.sample("weights", gamma("weights", 3, 2).to_event(2))
        with pyro.plate("data", len(x)):
            pyro.sample("top", gamma("top", len(x), 3).to_event(1))
            pyro.sample("bottom", gamma("bottom", len(x), 2).to_event(1))

    optim = pyro.optim.AdagradRMSProp({"eta": 0.1, "t": 0.1})
    return setup(model, guide, same(torch.poisson(torch.full((4,), 2.0))), optim=optim)


def flow_density() -> Setup:
    """Density estimation by spline and affine coupling flows, transforms as modules, batches."""
    spline = dist.transforms.spline_coupling(2, hidden_dims=[4], count_bins=3)
    affine = dist.transforms.affine_coupling(2, hidden_dims=[4])

    def model(x: Tensor) -> None:
        pyro.module("spline", spline)
        pyro.module("affine", affine)
        base = dist.Normal(torch.zeros(2), 1.0)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.TransformedDistribution(base, [spline, affine]), obs=x)

    return setup(model, no_guide, batches(torch.randn(20, 2)))


def flow_with_batch_norm() -> Setup:
    """A flow with batch normalisation of its own (buffers written in training), conditional on a column."""
    norm = dist.transforms.batchnorm(2)
    conditional = dist.transforms.conditional_affine_coupling(2, 1, hidden_dims=[3])

    def model(x: Tensor, y: Tensor) -> None:
        pyro.module("norm", norm)
        pyro.module("conditional", conditional)
        base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.ConditionalTransformedDistribution(base, [conditional]).condition(y))
            pyro.sample("x", dist.TransformedDistribution(dist.Normal(z, 1.0).to_event(1), [norm]), obs=x)

    def guide(x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(2)), 0.5).to_event(1))

    return setup(model, guide, batches(torch.randn(20, 2), torch.randn(20, 1)), watched=[norm])
