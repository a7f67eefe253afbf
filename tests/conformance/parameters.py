"""Parameters of every kind, and a store that changes while training."""

import io
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam, pyro_method
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import VAE, batches, binary, line, no_guide, normal_guide, positive, same, setup

constraints = dist.constraints


def constrained() -> Setup:
    """Parameters under constraints: positive, simplex, interval, unit_interval, lower_cholesky, ordered, corr."""

    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor([0.5, 1.0]), constraint=positive)
        weights = pyro.param("weights", torch.tensor([0.3, 0.7]), constraint=constraints.simplex)
        inside = pyro.param("inside", torch.tensor(0.4), constraint=constraints.interval(-1.0, 2.0))
        share = pyro.param("share", torch.tensor(0.4), constraint=constraints.unit_interval)
        factor = pyro.param("factor", torch.eye(2), constraint=constraints.lower_cholesky)
        corr = pyro.param("corr", torch.eye(2), constraint=constraints.corr_cholesky)
        ordered = pyro.param("ordered", torch.tensor([0.0, 1.0]), constraint=constraints.ordered_vector)
        above = pyro.param("above", torch.tensor(1.5), constraint=constraints.greater_than(1.0))
        with pyro.plate("rows", len(x)):
            mean = ordered * inside + share * weights
            tril = factor @ (scale[:, None] * corr) * above
            pyro.sample("x", dist.MultivariateNormal(mean, scale_tril=tril), obs=x)

    return setup(model, no_guide, same(torch.randn(8, 2)))


def softplus_constraints() -> Setup:
    """Parameters under Pyro's softplus constraints."""

    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.softplus_positive)
        factor = pyro.param("factor", torch.eye(2), constraint=constraints.softplus_lower_cholesky)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), scale_tril=scale * factor), obs=x)

    return setup(model, no_guide, same(torch.randn(8, 2)))


def made_by_functions() -> Setup:
    """Parameters made by functions, which draw random numbers."""

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", lambda: torch.randn(3))
        scale = pyro.param("scale", lambda: torch.rand(3).exp(), constraint=positive)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc, scale).to_event(1), obs=x)

    return setup(model, no_guide, same(torch.randn(8, 3)))


def initial_values_drawn() -> Setup:
    """Initial values drawn in every call, though only the first counts: `pyro.param("loc", torch.randn(3))`."""

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.randn(3))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    return setup(model, no_guide, same(torch.randn(8, 3)))


def made_of_data() -> Setup:
    """Parameters initialised by the first batch: its mean."""

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", lambda: x.mean(0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    return setup(model, no_guide, batches(torch.randn(20, 3) + 1.0))


def local_parameters() -> Setup:
    """Parameters in a subsampling plate, cut to its rows by `event_dim`."""

    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x), subsample_size=4) as rows:
            loc = pyro.param("loc", torch.zeros(len(x), 2), event_dim=1)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x[rows])

    return setup(model, no_guide, same(torch.randn(10, 2)))


def reached_by_some_calls() -> Setup:
    """A parameter that only calls with labels reach, first at step 9."""

    def model(x: Tensor, y: Tensor | None = None) -> None:
        slope = pyro.param("slope", torch.tensor(0.5))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(slope, 1.0), obs=x)
            if y is not None:
                shift = pyro.param("shift", torch.tensor(0.1))
                pyro.sample("y", dist.Normal(slope * x + shift, 0.5), obs=y)

    x, y = line(10)
    return setup(model, no_guide, lambda step: ((x,), {"y": y if step > 8 and step % 2 else None}))


def without_gradient() -> Setup:
    """A parameter that the loss does not depend on, and a tensor parameter without gradient."""

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.0))
        pyro.param("unused", torch.tensor(1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc, pyro.param("scale", torch.tensor(1.0)).detach()), obs=x)

    return setup(model, no_guide, same(torch.randn(8)))


def names_that_change() -> Setup:
    """A parameter for each epoch, its name made of a counter."""
    epoch = 0

    def model(x: Tensor) -> None:
        loc = pyro.param(f"loc_{epoch}", torch.tensor(0.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    def before(step: int) -> None:
        nonlocal epoch
        epoch = step // 7

    return setup(model, no_guide, same(torch.randn(8)), before=before)


def shared_names() -> Setup:
    """One parameter read by model and guide."""

    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(1.0), constraint=positive)
        mean = pyro.sample("mean", dist.Normal(0.0, scale))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, scale), obs=x)

    def guide(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(1.0), constraint=positive)
        pyro.sample("mean", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.3 * scale))

    return setup(model, guide, same(torch.randn(8)))


def kept_outside_the_store() -> Setup:
    """A tensor that requires a gradient and is no parameter: no step changes it."""
    free = torch.tensor(0.5, requires_grad=True)

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc + free, 1.0), obs=x)

    def before(step: int) -> None:
        if step == 10:
            with torch.no_grad():
                free.mul_(2.0)

    return setup(
        model, no_guide, same(torch.randn(8)), before=before, watched=[free], state=lambda: free.grad is not None
    )


def pyro_parameters() -> Setup:
    """PyroModule with PyroParam, also made by a function and under constraints, and pyro_method."""

    class Regression(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.slope = PyroParam(torch.tensor(0.5))
            self.scale = PyroParam(torch.tensor(1.0), constraint=positive)

        @PyroParam(constraint=positive)
        def other(self) -> Tensor:
            return torch.tensor(2.0)

        @pyro_method  # type: ignore[untyped-decorator]
        def mean(self, x: Tensor) -> Tensor:
            found: Tensor = self.slope * x * self.other
            return found

        def forward(self, x: Tensor, y: Tensor) -> None:
            with pyro.plate("rows", len(x)):
                pyro.sample("y", dist.Normal(self.mean(x), self.scale), obs=y)

    model = Regression()
    return setup(model, no_guide, batches(*line()), watched=[model])


def store_cleared_at_a_step() -> Setup:
    """The store cleared at step 8: training begins anew."""

    def before(step: int) -> None:
        if step == 8:
            pyro.clear_param_store()

    x, y = line()
    return setup(_line, normal_guide("slope"), same(x, y), before=before)


def _line(x: Tensor, y: Tensor) -> None:
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 0.3), obs=y)


def store_cleared_of_modules() -> Setup:
    """The store cleared at step 8, while the networks keep what they have learnt."""
    vae = VAE()

    def before(step: int) -> None:
        if step == 8:
            pyro.clear_param_store()

    return setup(vae.model, vae.guide, batches(binary()), before=before, watched=[vae])


def store_saved_and_loaded() -> Setup:
    """The store saved to a file at step 5 and loaded from it at step 10."""
    file = io.BytesIO()

    def before(step: int) -> None:
        if step == 5:
            torch.save(pyro.get_param_store().get_state(), file)
        if step == 10:
            file.seek(0)
            pyro.get_param_store().set_state(torch.load(file, weights_only=False))

    return setup(_line, normal_guide("slope"), batches(*line()), before=before)


def parameter_replaced() -> Setup:
    """A parameter deleted from the store at step 7, and set anew."""

    def before(step: int) -> None:
        if step == 7:
            store = pyro.get_param_store()
            del store["slope_scale"]
            pyro.param("slope_scale", torch.tensor(0.8), constraint=constraints.greater_than(0.1))

    return setup(_line, normal_guide("slope"), batches(*line()), before=before)


def parameter_assigned() -> Setup:
    """`pyro.get_param_store()[name] = value` at step 7."""

    def before(step: int) -> None:
        if step == 7:
            pyro.get_param_store()["slope_scale"] = torch.tensor(0.9)

    return setup(_line, normal_guide("slope"), batches(*line()), before=before)


def module_of_lazily_made_layers() -> Setup:
    """A network whose layers are made in the model's first call."""
    made: dict[str, Any] = {}

    def model(x: Tensor, y: Tensor) -> None:
        if "layer" not in made:
            made["layer"] = torch.nn.Linear(1, 1)
        layer = pyro.module("layer", made["layer"])
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(layer(x[:, None])[:, 0], 0.3), obs=y)

    return setup(model, no_guide, batches(*line()))
