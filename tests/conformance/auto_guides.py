"""Every automatic guide of Pyro, and easyguide."""

from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.contrib.easyguide import EasyGuide, easy_guide
from pyro.infer import TraceEnum_ELBO, TraceMeanField_ELBO, autoguide, config_enumerate
from pyro.infer.autoguide import initialization
from pyro.infer.autoguide.guides import AutoGuideList
from pyro.infer.autoguide.structured import AutoStructured
from pyro.nn import PyroModule, PyroSample
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import batches, line, positive, same, setup


def _model(x: Tensor, y: Tensor) -> None:
    """Regression with a scale, a latent for each of two weights and one for each group."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
    bias = pyro.sample("bias", dist.Normal(0.0, 1.0))
    with pyro.plate("weights", 2):
        weights = pyro.sample("weight", dist.Normal(0.0, scale))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(weights[0] * x + weights[1] * x**2 + bias, 0.3), obs=y)


def _auto(guide: Any, **others: Any) -> Setup:
    return setup(_model, guide, same(*line(12)), **others)


def auto_normal_batches() -> Setup:
    """AutoNormal, mini-batches, TraceMeanField_ELBO."""
    return setup(_model, autoguide.AutoNormal(_model), batches(*line()), loss=TraceMeanField_ELBO())


def auto_diagonal_normal() -> Setup:
    """AutoDiagonalNormal, its initial scale given."""
    return _auto(autoguide.AutoDiagonalNormal(_model, init_scale=0.05))


def auto_multivariate_normal() -> Setup:
    """AutoMultivariateNormal."""
    return _auto(autoguide.AutoMultivariateNormal(_model))


def auto_low_rank_normal() -> Setup:
    """AutoLowRankMultivariateNormal of rank 2."""
    return _auto(autoguide.AutoLowRankMultivariateNormal(_model, rank=2))


def auto_delta_of_medians() -> Setup:
    """AutoDelta (maximum a posteriori), from the medians of draws."""
    return _auto(autoguide.AutoDelta(_model, init_loc_fn=initialization.init_to_median(num_samples=5)))


def auto_laplace_approximation() -> Setup:
    """AutoLaplaceApproximation."""
    return _auto(autoguide.AutoLaplaceApproximation(_model))


def auto_iaf_normal() -> Setup:
    """AutoIAFNormal, two flows."""
    return _auto(autoguide.AutoIAFNormal(_model, hidden_dim=[6], num_transforms=2))


def auto_flow() -> Setup:
    """AutoNormalizingFlow of coupling layers."""
    coupling = partial(dist.transforms.iterated, 2, dist.transforms.affine_coupling, hidden_dims=[5])
    return _auto(autoguide.AutoNormalizingFlow(_model, coupling))


def auto_structured_dependent() -> Setup:
    """AutoStructured with normals, a delta, and a linear dependency."""
    conditionals = {"scale": "normal", "bias": "delta", "weight": "mvn"}
    return _auto(AutoStructured(_model, conditionals=conditionals, dependencies={"weight": {"scale": "linear"}}))


def auto_list_blocked() -> Setup:
    """AutoGuideList of AutoNormal and AutoDelta, each with blocked sites."""
    guide = AutoGuideList(_model)
    guide.append(autoguide.AutoNormal(pyro.poutine.block(_model, hide=["scale"])))
    guide.append(autoguide.AutoDelta(pyro.poutine.block(_model, expose=["scale"])))
    return _auto(guide)


def auto_list_with_function() -> Setup:
    """AutoGuideList of AutoDiagonalNormal and a user's function."""

    def function(x: Tensor, y: Tensor) -> None:
        loc = pyro.param("scale_loc", torch.tensor(0.0))
        pyro.sample("scale", dist.LogNormal(loc, pyro.param("spread", torch.tensor(0.2), constraint=positive)))

    guide = AutoGuideList(_model)
    guide.append(autoguide.AutoDiagonalNormal(pyro.poutine.block(_model, hide=["scale"])))
    guide.append(function)
    return _auto(guide)


def auto_normal_messenger() -> Setup:
    """AutoNormalMessenger."""
    return _auto(autoguide.AutoNormalMessenger(_model))


def auto_hierarchical_messenger() -> Setup:
    """AutoHierarchicalNormalMessenger."""
    return _auto(autoguide.AutoHierarchicalNormalMessenger(_model))


def auto_regressive_messenger() -> Setup:
    """AutoRegressiveMessenger."""
    return _auto(autoguide.AutoRegressiveMessenger(_model))


def auto_gaussian() -> Setup:
    """AutoGaussian, dense."""
    return _auto(autoguide.AutoGaussian(_model, backend="dense"))


def auto_made_before() -> Setup:
    """AutoNormal that the user has called before training, on other data."""
    guide = autoguide.AutoNormal(_model, init_loc_fn=initialization.init_to_value(values={"bias": torch.tensor(0.5)}))
    guide(*line(4))
    return _auto(guide)


def _subsampled(x: Tensor) -> None:
    """Latents of each row, in a plate that draws some."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x), subsample_size=4):
        batch = pyro.subsample(x, event_dim=0)
        z = pyro.sample("z", dist.Normal(mean, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=batch)


def auto_subsampled() -> Setup:
    """AutoNormal with create_plates, for rows that a plate draws, with latents of each row."""

    def plates(x: Tensor) -> Any:
        return pyro.plate("rows", len(x), subsample_size=4)

    return setup(_subsampled, autoguide.AutoNormal(_subsampled, create_plates=plates), same(torch.randn(10)))


def auto_discrete() -> Setup:
    """AutoDiscreteParallel beside AutoNormal, its latents summed over."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        kind = pyro.sample("kind", dist.Bernoulli(0.3))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean + kind, 0.5), obs=x)

    guide = AutoGuideList(model)
    guide.append(autoguide.AutoNormal(pyro.poutine.block(model, hide=["kind"])))
    guide.append(autoguide.AutoDiscreteParallel(pyro.poutine.block(model, expose=["kind"])))
    return setup(model, guide, same(torch.randn(5)), loss=TraceEnum_ELBO(max_plate_nesting=1))


def auto_on_module() -> Setup:
    """AutoDiagonalNormal on a Bayesian linear layer, PyroModule with PyroSample."""

    class Regression(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.linear = PyroModule[torch.nn.Linear](1, 1)
            self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 1]).to_event(2))
            self.linear.bias = PyroSample(dist.Normal(0.0, 1.0).expand([1]).to_event(1))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            mean: Tensor = self.linear(x[:, None])[:, 0]
            with pyro.plate("rows", len(x)):
                pyro.sample("y", dist.Normal(mean, 0.3), obs=y)
            return mean

    model = Regression()
    guide = autoguide.AutoDiagonalNormal(model)
    return setup(model, guide, same(*line(12)), watched=[model, guide])


def auto_fallback_to_errors() -> Setup:
    """AutoNormal on a model with a discrete latent: Pyro raises at each call."""

    def model(x: Tensor) -> None:
        kind = pyro.sample("kind", dist.Bernoulli(0.3))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(kind, 0.5), obs=x)

    return setup(model, autoguide.AutoNormal(model), same(torch.randn(5)))


def easy() -> Setup:
    """`easy_guide` with a group and a MAP estimate."""

    @easy_guide(_model)  # type: ignore[untyped-decorator]
    def guide(self: Any, x: Tensor, y: Tensor) -> None:
        self.map_estimate("scale")
        group = self.group(match="bias|weight")
        loc = pyro.param("loc", torch.zeros(group.event_shape))
        spread = pyro.param("spread", torch.full(group.event_shape, 0.2), constraint=positive)
        group.sample("both", dist.Normal(loc, spread).to_event(1))

    return setup(_model, guide, same(*line(12)))


def easy_subsampled() -> Setup:
    """EasyGuide with a plate that is drawn."""

    class Guide(EasyGuide):
        def init(self, site: Any) -> Any:
            return torch.zeros(()) if site["name"] == "mean" else super().init(site)

        def guide(self, x: Tensor) -> None:
            self.map_estimate("mean")
            group = self.group(match="z")
            with self.plate("rows", len(x), subsample_size=4):
                loc = pyro.param("locs", torch.zeros(len(x), 1), event_dim=1)
                group.sample("z_all", dist.Normal(loc, 0.4).to_event(1))

    return setup(_subsampled, Guide(_subsampled), same(torch.randn(10)))
