"""Calls in which Pyro or the user's code raises an error or warns, and the training goes on."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import VAE, adam, batches, binary, no_guide, normal_guide, positive, same, setup

_AT = 8


def _outside(family: Callable[[Tensor], Any], inside: Tensor, outside: float, **others: Any) -> Setup:
    """Return a setup whose data leave the support of a family at step 8 only."""

    def model(x: Tensor) -> None:
        rate = pyro.param("rate", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", family(rate), obs=x)

    wrong = inside.clone()
    wrong[0] = outside
    return setup(model, no_guide, lambda step: ((wrong if step == _AT else inside,), {}), **others)


def negative_for_gamma() -> Setup:
    """A negative number for a Gamma at step 8."""
    return _outside(lambda rate: dist.Gamma(2.0, rate), torch.rand(4) + 0.1, -1.0)


def negative_for_exponential() -> Setup:
    """A negative number for an Exponential at step 8, its loss a number all the same."""
    return _outside(dist.Exponential, torch.rand(4), -1.0)


def negative_for_poisson() -> Setup:
    """A negative count for a Poisson at step 8."""
    return _outside(dist.Poisson, torch.tensor([1.0, 2.0]), -1.0)


def fraction_for_poisson() -> Setup:
    """A fraction for a Poisson at step 8."""
    return _outside(dist.Poisson, torch.tensor([1.0, 2.0]), 0.5)


def two_for_bernoulli() -> Setup:
    """2.0 for a Bernoulli at step 8, its loss a number all the same."""
    return _outside(dist.Bernoulli, torch.tensor([1.0, 0.0]), 2.0)


def nan_for_normal() -> Setup:
    """A nan for a Normal at step 8."""
    return _outside(lambda rate: dist.Normal(rate, 1.0), torch.randn(4), float("nan"))


def infinite_for_normal() -> Setup:
    """An infinite number for a Normal at step 8."""
    return _outside(lambda rate: dist.Normal(rate, 1.0), torch.randn(4), float("inf"))


def class_unknown() -> Setup:
    """A class that there is not for a Categorical at step 8."""
    return _outside(lambda rate: dist.Categorical(rate.expand(3)), torch.tensor([0, 2, 1]), 5)


def outside_a_uniform() -> Setup:
    """A number outside of a Uniform, whose end is learnt, at step 8."""
    return _outside(lambda rate: dist.Uniform(0.0, 1.0 + rate), torch.rand(4), 3.0)


def outside_unvalidated() -> Setup:
    """2.0 for a Bernoulli at step 8, Pyro's validation off: no error."""
    pyro.enable_validation(False)
    return _outside(dist.Bernoulli, torch.tensor([1.0, 0.0]), 2.0)


def outside_unvalidated_later() -> Setup:
    """Validation turned off at step 5, and on again at step 12; -1.0 for an Exponential at steps 8 and 15."""

    def model(x: Tensor) -> None:
        rate = pyro.param("rate", torch.tensor(0.5), constraint=positive)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Exponential(rate), obs=x)

    def before(step: int) -> None:
        if step in (5, 12):
            pyro.enable_validation(step == 12)

    good, bad = torch.rand(4), torch.tensor([0.1, -1.0, 0.2, 0.3])
    return setup(model, no_guide, lambda step: ((bad if step in (8, 15) else good,), {}), before=before)


def unvalidated_distribution() -> Setup:
    """One distribution with validate_args=False, another with True, -1.0 for both at step 8."""

    def model(x: Tensor) -> None:
        rate = pyro.param("rate", torch.tensor(0.5), constraint=positive)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Exponential(rate, validate_args=False), obs=x)
            pyro.sample("y", dist.Gamma(2.0, rate, validate_args=True), obs=x.abs() + 0.1)

    good, bad = torch.rand(4), torch.tensor([0.1, -1.0, 0.2, 0.3])
    return setup(model, no_guide, lambda step: ((bad if step == _AT else good,), {}))


def argument_out_of_its_constraint() -> Setup:
    """A scale that is an argument, and not positive at step 8."""

    def model(x: Tensor, scale: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.5))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc, scale), obs=x)

    x = torch.randn(4)
    return setup(model, no_guide, lambda step: ((x, torch.tensor(-1.0 if step == _AT else 1.0)), {}))


def diverging() -> Setup:
    """A learning rate so large that a scale becomes nan: SVI raises from then on."""
    return setup(_mean, normal_guide("mean"), same(torch.randn(5) * 1e3), optim=pyro.optim.SGD({"lr": 10.0}))


def diverging_network() -> Setup:
    """A VAE that diverges under SGD."""
    vae = VAE()
    return setup(vae.model, vae.guide, same(binary()), optim=pyro.optim.SGD({"lr": 1e3}), watched=[vae])


def diverging_unvalidated() -> Setup:
    """The same without validation: the loss is nan, and Pyro warns."""
    pyro.enable_validation(False)
    return diverging()


def nan_in_gradient() -> Setup:
    """A finite loss with a nan in its gradient, at step 8: sqrt at 0."""

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.5))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal((loc * x).sqrt(), 1.0), obs=x)

    x, zero = torch.rand(4) + 0.1, torch.tensor([0.0, 0.5, 0.5, 0.5])
    return setup(model, no_guide, lambda step: ((zero if step == _AT else x,), {}))


def _mean(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mean, 0.5), obs=x)


def wrong_shapes() -> Setup:
    """A site whose shape does not fit its plate: Pyro raises at each call."""

    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(3), 1.0), obs=x)

    return setup(model, no_guide, same(torch.randn(4)))


def wrong_shapes_later() -> Setup:
    """Data of a wrong shape at steps 8 and 9 only."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, 0.5).to_event(1), obs=x)

    x, wrong = torch.randn(5, 3), torch.randn(5, 2)
    guide = normal_guide("mean", shape=(3,))
    return setup(model, guide, lambda step: ((wrong if step in (8, 9) else x,), {}))


def plate_of_another_length() -> Setup:
    """A plate of five rows, and batches of another length at step 8."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 5):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    return setup(model, normal_guide("mean"), lambda step: ((torch.ones(4 if step == _AT else 5),), {}))


def name_twice() -> Setup:
    """Two sites of one name, in calls with a flag only."""

    def model(x: Tensor, twice: bool) -> None:
        _mean(x)
        if twice:
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.1))

    x = torch.randn(4)
    return setup(model, normal_guide("mean"), lambda step: ((x, step == _AT), {}))


def error_of_user() -> Setup:
    """The user's model raises an error at step 8, by a check of its own."""
    step_now = 0

    def model(x: Tensor) -> None:
        if step_now == _AT:
            raise KeyError("a check of the user")
        _mean(x)

    def before(step: int) -> None:
        nonlocal step_now
        step_now = step

    return setup(model, normal_guide("mean"), same(torch.randn(4)), before=before)


def assertion_of_user() -> Setup:
    """The user's model asserts what it expects of the values of its data, which fails at step 8."""

    def model(x: Tensor) -> None:
        assert x.max() < 5
        assert not x.isnan().any()
        _mean(x)

    x = torch.randn(4)
    return setup(model, normal_guide("mean"), lambda step: ((x + 9.0 * (step == _AT),), {}))


def error_within_guide() -> Setup:
    """The guide raises after its first site, at step 8, where it has drawn and made a parameter."""

    def guide(x: Tensor) -> None:
        normal_guide("mean")()
        if len(x) == 3:
            pyro.param("late", torch.tensor(1.0))
            raise ValueError("Expected more than three rows.")

    return setup(_mean, guide, lambda step: ((torch.ones(3 if step == _AT else 4),), {}))


def missing_argument() -> Setup:
    """A call without its argument at step 8."""
    x = torch.randn(4)
    return setup(_mean, normal_guide("mean"), lambda step: (() if step == _AT else (x,), {}))


def site_missing_in_guide() -> Setup:
    """A guide that lacks a site of the model: Pyro warns, and draws from the prior."""
    return setup(_mean, lambda x: pyro.param("unused", torch.tensor(0.0)), same(torch.randn(4)))


def plate_nesting_too_small() -> Setup:
    """max_plate_nesting of TraceEnum_ELBO too small: Pyro raises at each call."""
    loss = TraceEnum_ELBO(max_plate_nesting=0)
    return setup(_mean, normal_guide("mean"), batches(torch.randn(16)), loss=loss)


def particles_without_plates() -> Setup:
    """Vectorised particles of a model whose sum forgets them: Pyro raises at each call."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(mean, 0.5).expand([5]).to_event(1), obs=x)

    loss = Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=0)
    return setup(model, normal_guide("mean"), same(torch.randn(5)), loss=loss, optim=adam(0.1))
