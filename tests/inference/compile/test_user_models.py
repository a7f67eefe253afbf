import random
import re
import warnings
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from user_models import MODELS
from user_models.comparison import differences, parameters

from pyro_ricvae.inference import CompilationWarning, CompiledELBO, compile_elbo

# Where the graph holds for one length of the batch only, and where there is none: the line of code that is at fault.
ONE_LENGTH = {
    "subsampled_logistic_regression": "Constraints violated",
    "coin": "Constraints violated",
}
EAGER = {
    "belief_network_with_baseline": r"ProvenanceTensor.*neural\.py.*dist\.Bernoulli\(logits=recognition\(x\)",
    "autoregressive_flow": r"affine_autoregressive\.py.*x\[idx\] =",
    "branch_on_data": r"coins\.py.*if tosses\.mean\(\) > 0\.9",
    "rows_drawn_by_numpy": "draws random numbers from NumPy",
}


def state() -> dict[str, Any]:
    """Return what a capture could leave behind."""
    store = pyro.get_param_store()
    return {
        "settings": pyro.settings.get(),
        "validation": torch.distributions.Distribution._validate_args,
        "random state": torch.get_rng_state().tolist(),
        "Python's random state": random.getstate(),
        "NumPy's random state": repr(np.random.get_state()),  # noqa: NPY002  # the legacy one is what is global
        "gradient mode": torch.is_grad_enabled(),
        "handlers": list(pyro.poutine.runtime._PYRO_STACK),
        "warnings filters": list(warnings.filters),
        "parameters": {name: id(value) for name, value in store.named_parameters()},
        "values": {name: value.tolist() for name, value in store.items()},
        "gradients": {name: value.grad for name, value in store.named_parameters()},
    }


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_pyros_and_the_outcome_is_known(name: str) -> None:
    case = MODELS[name]()
    trained = parameters(case)
    for parameter in trained:
        parameter.grad = None
    loss = CompiledELBO(case.elbo(case.model, case.guide), fallback_random=True, compiled=False)
    before = state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss.prepare(*case.args).prepare(*case.other)
    assert state() == before

    expected = ONE_LENGTH | EAGER
    assert [each.category for each in caught] == [CompilationWarning] * (name in expected)
    if name in expected:
        assert re.search(expected[name], str(caught[0].message)), caught[0].message
    assert loss.engines == (["eager"] if name in EAGER else ["captured"] * (1 + (name in ONE_LENGTH)))

    for args in (case.args, case.other):
        value, gradient = differences(case, loss, args, trained)
        assert value <= 1e-6
        assert gradient <= 1e-6
    seeded = ("random state", "Python's random state", "NumPy's random state")
    assert {**state(), **dict.fromkeys(seeded)} == {**before, **dict.fromkeys(seeded)}


# Each has an operation that torch.compile takes only after some help: Gamma's gradient, and draws without one.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["poisson_factors", "belief_network"])
def test_compiled_loss_and_gradients_are_pyros(name: str) -> None:
    case = MODELS[name]()
    trained = parameters(case)
    loss = compile_elbo(case.elbo(case.model, case.guide), *case.args, fallback_random=True)
    for args in (case.args, case.other):
        value, gradient = differences(case, loss, args, trained)
        assert value <= 2e-6
        assert gradient <= 2e-5
    assert loss.engines == ["compiled"]


def test_modules_own_their_parameters_under_module_local_params() -> None:
    with pyro.settings.context(module_local_params=True):
        case = MODELS["bayesian_network"]()
        module = case.elbo(case.model, case.guide)
        module(*case.args)  # draws initial values
        loss = CompiledELBO(module, fallback_random=True, compiled=False)
        for args in (case.args, case.other):
            results = []
            loss.prepare(*args)
            for each in (module, loss):
                torch.manual_seed(1)
                value = each(*args)
                results.append([value.detach(), *torch.autograd.grad(value, list(module.parameters()))])
            assert len(results[0]) == 4
            for expected, actual in zip(*results, strict=True):
                assert (actual - expected).norm() <= 1e-6 * expected.norm()
        assert loss.engines == ["captured"]
        assert not dict(pyro.get_param_store().items())


def test_running_statistics_of_a_network_that_only_the_model_knows() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))

    def model(x: Tensor) -> None:
        pyro.module("network", network)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(network(x), 1.0).to_event(1), obs=x)

    x = torch.randn(20, 3) + 1
    loss = CompiledELBO(Trace_ELBO()(model, lambda x: None), compiled=False).prepare(x)
    assert network[0].num_batches_tracked == 0
    assert torch.equal(network[0].running_mean, torch.zeros(3))

    loss(x)
    assert network[0].num_batches_tracked == 1
    torch.testing.assert_close(network[0].running_mean, 0.1 * x.mean(0))


def test_a_parameter_that_every_call_makes_anew_is_named() -> None:
    def model(x: Tensor) -> None:
        layer = nn.Linear(3, 1)
        pyro.sample("x", dist.Normal(layer(x), 1.0).to_event(2), obs=x)

    loss = CompiledELBO(Trace_ELBO()(model, lambda x: None), compiled=False)
    with pytest.warns(CompilationWarning, match=r"a parameter of shape \(.*\) is made anew at every call"):
        loss.prepare(torch.randn(5, 3))
