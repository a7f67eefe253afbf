"""One graph for any ELBOModule: equal to the eager loss, captured once, and nothing else changed.

Most tests run the captured graph uncompiled, which is made in half a second and must equal the eager loss to the last
bit; the compiled one is compared in a few.
"""

import itertools
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from process_state import state
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.elbo import ELBOModule
from reference import OwnEncoder, make_pair
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.inference import CompilationWarning, CompiledELBO, RecyclingELBO, compile_elbo
from pyro_ricvae.inference.compile import making

UNROLLED = "the length of the batch is part of the graph"


def captured(module: ELBOModule, **options: Any) -> CompiledELBO:
    return CompiledELBO(module, compiled=False, **options)


def eagerly(module: ELBOModule) -> Callable[..., Tensor]:
    """Return the loss as Pyro computes it, with a backward that is done where Pyro does it itself."""
    if hasattr(module.elbo, "differentiable_loss"):
        return module

    def loss(*args: Any) -> Tensor:
        value = module.elbo.loss_and_grads(module.model, module.guide, *args)
        return torch.tensor(value, requires_grad=True)

    return loss


def evaluate(
    loss: Callable[..., Tensor], tensors: list[Tensor], *args: Any, **kwargs: Any
) -> tuple[Tensor, list[Tensor | None]]:
    """Return the loss under one seed and its gradients for `tensors`, which are cleared."""
    torch.manual_seed(1)
    value = loss(*args, **kwargs)
    value.backward()
    gradients = [None if tensor.grad is None else tensor.grad.clone() for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    return value.detach(), gradients


def assert_equal(compiled: CompiledELBO, *args: Any, hidden: tuple[Tensor, ...] = (), **kwargs: Any) -> None:
    """Fail unless loss, every gradient and the random numbers used are those of the eager loss, to the last bit."""
    compiled.prepare(*args, **kwargs)
    tensors = [*compiled.module.parameters(), *hidden]
    actual, gradients = evaluate(compiled, tensors, *args, **kwargs)
    used = torch.get_rng_state()
    expected, eager_gradients = evaluate(eagerly(compiled.module), tensors, *args, **kwargs)
    assert torch.equal(used, torch.get_rng_state())
    assert expected.isfinite()
    # Where Pyro sums terms as Python numbers, in double precision, the value may be another in the last bit.
    exact = isinstance(compiled.module.elbo, TraceMeanField_ELBO)
    assert (actual - expected).abs() <= (0.0 if exact else 2.5e-7) * expected.abs()
    assert any(gradient is not None for gradient in eager_gradients)
    for one, other in zip(gradients, eager_gradients, strict=True):
        assert one is other is None or (one is not None and other is not None and torch.equal(one, other))


def assert_close(compiled: CompiledELBO, *args: Any) -> None:
    """Fail unless loss and every gradient are those of the eager loss, as near as is promised."""
    compiled.prepare(*args)
    parameters = list(compiled.module.parameters())
    actual, gradients = evaluate(compiled, parameters, *args)
    expected, eager_gradients = evaluate(compiled.module, parameters, *args)
    assert (actual - expected).abs() <= 2e-6 * expected.abs()
    for one, other in zip(gradients, eager_gradients, strict=True):
        assert one is not None
        assert other is not None
        assert torch.linalg.norm(one - other) <= 2e-5 * torch.linalg.norm(other)


def graphs_compiled() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.fixture(scope="module", autouse=True)
def _imports_are_done() -> None:
    """Import what torch imports at its first capture, which adds warnings filters: not the package's doing."""
    torch.export.export(nn.Linear(2, 2), (torch.zeros(3, 2),), strict=False)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that grows by one with every capture."""
    found: list[Any] = []
    capture = making.capture

    def counted(*args: Any, **kwargs: Any) -> Any:
        found.append(args)
        return capture(*args, **kwargs)

    monkeypatch.setattr(making, "capture", counted)
    return found


# Captured: equal to the last bit


TWO: dict[str, Any] = {"num_particles": 2}
VECTORISED: dict[str, Any] = {"num_particles": 2, "vectorize_particles": True}
PAIRS: list[tuple[str, torch.dtype, int | None, dict[str, Any]]] = [
    ("index_conditioned", torch.float32, None, {"passes": 1}),
    ("index_conditioned", torch.float32, None, {"passes": 3}),
    ("index_conditioned", torch.float64, 50, {"passes": 2, "recycle": "mean", **TWO}),
    ("index_conditioned", torch.float32, 50, {"passes": 2, "detach": True, **VECTORISED}),
    ("fixed", torch.float64, None, {"passes": 2}),
    ("fixed", torch.float32, 50, {"passes": 3, "recycle": "mean", "detach": True}),
    ("learned", torch.float64, 50, {"passes": 1, **TWO}),
    ("learned", torch.float32, None, {"passes": 2, "recycle": "mean", **VECTORISED}),
]


@pytest.mark.parametrize(("kind", "dtype", "size", "options"), PAIRS, ids=str)
def test_the_graph_of_our_pairs_is_the_eager_loss(
    kind: str, dtype: torch.dtype, size: int | None, options: dict[str, Any]
) -> None:
    loss = captured(RecyclingELBO(**options)(*make_pair(kind, size=size, dtype=dtype)))
    for rows in (6, 9, 5, 2):  # 5 is the number of features too
        assert_equal(loss, torch.randn(2 * rows, 5, dtype=dtype)[rows:])  # a view
    assert loss.engines == ["captured"]


@pytest.mark.parametrize("objective", [RecyclingELBO(passes=2), Trace_ELBO(), TraceMeanField_ELBO(num_particles=2)])
@pytest.mark.parametrize("validate", [True, False])
def test_no_value_is_waited_for_within_a_graph(objective: Any, validate: bool) -> None:
    with pyro.validation_enabled(validate):
        loss = captured(objective(*make_pair())).prepare(torch.randn(6, 5))
    (program,) = loss._graphs.programs
    assert not program.graph.module.graph.find_nodes(op="call_function", target=torch.ops.aten.item.default)


@pytest.mark.parametrize(
    ("objective", "particles"),
    [(TraceMeanField_ELBO, TWO), (Trace_ELBO, {}), (Trace_ELBO, VECTORISED), (RenyiELBO, TWO), (RenyiELBO, VECTORISED)],
)
def test_the_graph_of_stock_objectives_is_the_eager_loss(objective: Any, particles: dict[str, Any]) -> None:
    model, guide = make_pair(size=50)
    loss = captured(objective(**particles, max_plate_nesting=1)(model, guide))
    assert_equal(loss, torch.randn(6, 5))
    assert_equal(loss, torch.randn(9, 5))
    assert loss.engines == ["captured"]


@pytest.mark.parametrize("what", ["depth of the plates", "parts of the guide"])
def test_what_pyro_finds_out_in_the_first_call_is_no_change(what: str, builds: list[Any]) -> None:
    model, guide = make_pair()
    if what == "depth of the plates":
        loss = captured(Trace_ELBO(**VECTORISED)(model, guide))
    else:
        loss = captured(Trace_ELBO()(lambda x: model(torch.ones(6, 5)), AutoNormal(model)))
    x = torch.randn(6, 5)
    assert loss.captures(x)
    assert_equal(loss, x)
    assert len(builds) == 1


class OwnPrior(pyro.nn.PyroModule):
    """A user's prior, with a scale kept positive by Pyro."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = pyro.nn.PyroParam(torch.ones(2), dist.constraints.positive)

    def forward(self) -> Any:
        return dist.Normal(torch.zeros(2), self.scale).to_event(1)


class OwnLikelihood(nn.Module):
    """A user's likelihood, with a scale that is learned."""

    n_outputs = 1
    normalised = True
    support = dist.constraints.real

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(5))

    def forward(self, location: Tensor, x: Tensor) -> Any:
        return dist.Laplace(location, self.log_scale.exp())


@pytest.mark.parametrize("module_local_params", [False, True])
@pytest.mark.parametrize("elbo", [RecyclingELBO(passes=2), Trace_ELBO()], ids=["ours", "stock"])
def test_the_graph_of_a_users_own_parts_is_the_eager_loss(elbo: Any, module_local_params: bool) -> None:
    with pyro.settings.context(module_local_params=module_local_params):
        decoder = rv.networks.MLPDecoder(2, 5, (8,))
        model = rv.models.VAE(decoder, OwnLikelihood(), OwnPrior())
        loss = captured(elbo(model, rv.guides.AmortizedNormal(OwnEncoder())))
        # Before the eager loss, which may put parameters in Pyro's store.
        loss.prepare(torch.randn(6, 5))
        assert dict(pyro.get_param_store()) == {}
        assert_equal(loss, torch.randn(9, 5))
        assert loss.engines == ["captured"]


def mean_model(x: Tensor) -> None:
    """A user's model, with one parameter in Pyro's store."""
    with pyro.plate("data", x.shape[0]):
        pyro.sample("x", dist.Normal(pyro.param("mean", lambda: torch.zeros(5)), 1.0).to_event(1), obs=x)


def no_guide(*_: Any, **__: Any) -> None:
    """The guide of a model without latents."""


@pytest.mark.parametrize("how", ["cleared", "replaced", "loaded"])
def test_a_pyro_param_gets_its_gradient_and_another_one_is_noticed(how: str, tmp_path: Path) -> None:
    loss = captured(Trace_ELBO()(mean_model, no_guide)).prepare(torch.randn(6, 5))
    assert_equal(loss, torch.randn(9, 5), hidden=(pyro.param("mean"),))
    with torch.no_grad():
        pyro.param("mean").add_(3.0)
    pyro.get_param_store().save(str(tmp_path / "store"))
    pyro.clear_param_store()
    if how == "replaced":
        pyro.param("mean", torch.ones(5))
    elif how == "loaded":
        pyro.get_param_store().load(str(tmp_path / "store"))
    x = torch.randn(9, 5)
    mean = {"cleared": 0.0, "replaced": 1.0, "loaded": 3.0}[how]
    expected = -dist.Normal(mean, 1.0).log_prob(x).sum().item()
    assert loss(x).item() == pytest.approx(expected, rel=1e-5)
    assert_equal(loss, x, hidden=(pyro.param("mean"),))
    assert loss.engines == ["captured", "captured"]


def test_a_tensor_that_is_no_parameter_gets_its_gradient() -> None:
    hidden = torch.ones(5, requires_grad=True)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", dist.Normal(hidden, 1.0).to_event(1), obs=x)

    loss = captured(Trace_ELBO()(model, no_guide)).prepare(torch.randn(6, 5))
    with torch.no_grad():
        hidden += 0.5  # in place, as an optimizer does
    assert_equal(loss, torch.randn(9, 5), hidden=(hidden,))
    assert loss.engines == ["captured"]
    x = torch.randn(9, 5, requires_grad=True)
    assert_equal(loss, x, hidden=(hidden, x))
    assert loss.engines == ["captured", "captured"]


class Scaled(torch.autograd.Function):
    """A user's function, with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 1.0 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 3.0 * gradient


class Then(nn.Module):
    """A decoder, and a function of what goes into it."""

    def __init__(self, decoder: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.decoder, self.function = decoder, function

    def forward(self, z: Tensor) -> Any:
        return self.decoder(self.function(z))


def make_loss(function: Callable[[Tensor], Tensor]) -> ELBOModule:
    model, guide = make_pair()
    model.decoder = Then(model.decoder, function)
    module: ELBOModule = RecyclingELBO()(model, guide)
    return module


@pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.CompilationWarning")
def test_a_function_with_a_gradient_of_its_own_keeps_it() -> None:
    assert_equal(captured(make_loss(Scaled.apply)), torch.randn(6, 5))


# Compiled


@pytest.fixture(scope="module")
def compiled() -> CompiledELBO:
    torch.manual_seed(0)
    return compile_elbo(RecyclingELBO()(*make_pair()), torch.randn(6, 5), fallback_random=True)


@pytest.mark.slow
@pytest.mark.parametrize("passes", [1, 2])
def test_with_fallback_random_one_seed_gives_the_eager_loss(compiled: CompiledELBO, passes: int) -> None:
    compiled.module.elbo.passes = passes
    assert_close(compiled, torch.randn(6, 5))
    assert set(compiled.engines) == {"compiled"}
    before = graphs_compiled()
    elbo, floor = compiled.module.elbo, compiled.module.model.likelihood.floor
    try:
        for rows, weight, value in ((9, 0.5, 0.1), (2, 2.0, 2.0), (7, 0.0, 0.5)):
            elbo.kl_weight = weight
            floor.fill_(value)
            assert_close(compiled, torch.randn(rows, 5))
    finally:
        elbo.kl_weight = 1.0
        floor.fill_(0.5)
    x = torch.randn(6, 5)
    with torch.no_grad():
        torch.manual_seed(1)
        actual = compiled(x)
        torch.manual_seed(1)
        assert actual == compiled.module(x)
    elbo.passes = 1  # as at first: kept
    assert_close(compiled, torch.randn(6, 5))
    assert graphs_compiled() == before
    assert compiled.engines == ["compiled"] * passes


def test_other_strides_are_no_other_graph(compiled: CompiledELBO) -> None:
    compiled.module.elbo.passes = 1
    compiled.prepare(torch.randn(6, 5))
    before = graphs_compiled()
    for x in (torch.randn(5, 6).T, torch.randn(12, 5)[::2], torch.randn(6, 7)[:, 1:6]):
        assert_close(compiled, x)
    assert graphs_compiled() == before


def test_other_strides_are_captured_as_they_are() -> None:
    loss = captured(RecyclingELBO()(*make_pair()))
    for x in (torch.randn(6, 5), torch.randn(5, 6).T, torch.randn(12, 5)[::2], torch.randn(6, 7)[:, 1:6]):
        assert_equal(loss, x)
    assert loss.engines == ["captured"] * 4


@pytest.mark.slow
def test_a_compiled_graph_may_be_made_of_other_strides() -> None:
    loss = compile_elbo(RecyclingELBO()(*make_pair()), torch.randn(5, 6).T, fallback_random=True)
    for x in (torch.randn(5, 6).T, torch.randn(9, 5)):
        assert_close(loss, x)
    assert loss.engines == ["compiled"]


@pytest.mark.slow
def test_with_its_own_random_numbers_it_repeats_itself_and_draws_from_the_same_distribution() -> None:
    # Two passes draw noise of the same shape twice.
    compiled = compile_elbo(RecyclingELBO(passes=2, recycle="mean")(*make_pair()), torch.randn(6, 5))
    x, parameters = torch.randn(6, 5), list(compiled.module.parameters())
    results = [evaluate(compiled, parameters, x) for _ in range(2)]
    assert results[0][0] == results[1][0]
    assert all(torch.equal(one, other) for one, other in zip(results[0][1], results[1][1], strict=True))  # type: ignore[arg-type]
    moments = []
    for loss in (compiled, compiled.module):
        draws = []
        for _ in range(400):
            value = loss(x)
            terms = [value, *(gradient.sum() for gradient in torch.autograd.grad(value, parameters))]
            draws.append(torch.stack(terms).detach())
        sample = torch.stack(draws)
        moments.append((sample.mean(0), sample.var(0) / len(draws)))
    (mean, variance), (eager_mean, eager_variance) = moments
    # 4 standard errors; and the variances themselves are alike, so that there is noise at all.
    assert bool(((mean - eager_mean).abs() <= 4 * (variance + eager_variance).sqrt()).all())
    assert variance[0].item() == pytest.approx(eager_variance[0].item(), rel=0.3)
    assert compiled.engines == ["compiled"]


@pytest.mark.slow
def test_equal_draws_are_not_one_draw() -> None:
    def model(x: Tensor) -> None:
        loc = torch.randn_like(x) - torch.randn_like(x)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", dist.Normal(loc, weight.exp()).to_event(1), obs=x)

    weight = nn.Parameter(torch.zeros(()))
    loss = compile_elbo(Trace_ELBO()(model, no_guide), torch.randn(6, 5), fallback_random=True)
    x = torch.randn(6, 5)
    (actual, (gradient,)), (expected, (eager,)) = (evaluate(each, [weight], x) for each in (loss, loss.module))
    torch.testing.assert_close((actual, gradient), (expected, eager), rtol=1e-5, atol=0.0)
    assert loss.engines == ["compiled"]


def test_what_cannot_be_compiled_runs_as_the_captured_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("no compiler\nmore of it")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(CompilationWarning) as found:
        loss = compile_elbo(RecyclingELBO()(*make_pair()), torch.randn(6, 5), dynamic=False)
    assert len(found) == 1
    assert "cannot be compiled, and runs as it is: NotImplementedError: no compiler more of it" in str(found[0].message)
    assert loss.engines == ["captured"]
    assert not loss.options.dynamic
    assert_equal(loss, torch.randn(6, 5))


@pytest.mark.slow
def test_without_a_compiler_it_runs_as_the_captured_graph(tmp_path: Path) -> None:
    script = """if True:
        import warnings, torch
        from reference import make_pair
        from pyro_ricvae.inference import CompilationWarning, RecyclingELBO, compile_elbo
        torch.set_num_threads(1)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            loss = compile_elbo(RecyclingELBO()(*make_pair()), torch.randn(6, 5))
        assert [each.category for each in found if issubclass(each.category, CompilationWarning)], found
        assert loss.engines == ["captured"], loss.engines
        x = torch.randn(9, 5)
        torch.manual_seed(1)
        expected = loss.module(x)
        torch.manual_seed(1)
        assert torch.equal(loss(x), expected)
        assert torch.distributions.Distribution._validate_args
    """
    tests = str(Path(__file__).parents[2])
    path = os.pathsep.join([tests, *(folder for folder in sys.path if folder and folder != tests)])
    own = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | own)


# What changes in place, and what is captured anew


@pytest.mark.parametrize("kind", ["index_conditioned", "fixed"])
def test_constants_changed_in_place_take_effect(kind: str, builds: list[Any]) -> None:
    loss = captured(RecyclingELBO()(*make_pair(kind))).prepare(torch.randn(6, 5))
    elbo, likelihood = loss.module.elbo, loss.module.model.likelihood
    elbo.kl_weight = 0.5
    assert_equal(loss, torch.randn(6, 5))
    elbo.kl_weight.fill_(0.0)
    assert_equal(loss, torch.randn(6, 5))
    (likelihood.floor if kind == "index_conditioned" else likelihood.scale).fill_(0.05)
    assert_equal(loss, torch.randn(6, 5))
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter += 0.1
    assert_equal(loss, torch.randn(9, 5))
    assert len(builds) == 1


def test_a_batch_of_one_and_a_change_of_passes_are_captured_once(builds: list[Any]) -> None:
    loss = captured(RecyclingELBO()(*make_pair()))
    seen = set()
    for rows, passes in ((6, 1), (1, 1), (9, 1), (9, 2), (1, 2), (6, 1), (1, 1), (4, 2)):
        seen.add((rows == 1, passes))
        loss.module.elbo.passes = passes
        assert_equal(loss, torch.randn(rows, 5))
        assert len(builds) == len(loss.engines) == len(seen)


@pytest.mark.parametrize("which", ["loss", "model"])
def test_a_change_of_mode_is_captured_once(which: str, builds: list[Any]) -> None:
    loss = captured(make_loss(nn.Dropout(0.5)))
    whose = {"loss": loss, "model": loss.module.model}[which]
    for training in (True, False, True, False):
        whose.train(training)
        assert_equal(loss, torch.randn(6, 5))
    assert len(builds) == 2


def test_a_length_that_is_part_of_the_graph_is_captured_anew_and_said() -> None:
    def model(x: Tensor) -> None:
        mean = pyro.param("mean", torch.zeros(5))
        for i in pyro.plate("data", x.shape[0]):
            pyro.sample(f"x_{i}", dist.Normal(mean, 1.0).to_event(1), obs=x[i])

    loss = captured(Trace_ELBO()(model, no_guide)).prepare(torch.randn(6, 5))
    hidden = (pyro.param("mean"),)
    assert_equal(loss, torch.randn(6, 5), hidden=hidden)
    with pytest.warns(CompilationWarning, match=f"A batch of 9 rows is captured anew, since {UNROLLED}"):
        assert_equal(loss, torch.randn(9, 5), hidden=hidden)
    assert_equal(loss, torch.randn(6, 5), hidden=hidden)
    assert loss.engines == ["captured", "captured"]


# Parameters, gradients, buffers


def test_parameters_are_the_modules_own_and_gradients_accumulate() -> None:
    loss = captured(RecyclingELBO()(*make_pair()))
    own = [*loss.module.model.parameters(), *loss.module.guide.parameters()]
    assert {id(parameter) for parameter in loss.parameters()} == {id(parameter) for parameter in own}
    x = torch.randn(6, 5)
    own[0].grad = torch.ones_like(own[0])
    loss.prepare(x)
    assert torch.equal(own[0].grad, torch.ones_like(own[0]))
    assert all(parameter.grad is None for parameter in own[1:])
    sums = []
    for each in (loss, loss.module):
        torch.manual_seed(1)
        own[0].grad = torch.ones_like(own[0])
        each(x).backward()
        each(x).backward()
        sums.append([parameter.grad for parameter in own])
        for parameter in own:
            parameter.grad = None
    assert all(torch.equal(one, other) for one, other in zip(*sums, strict=True))  # type: ignore[arg-type]


def test_running_statistics_move_in_a_call_and_not_before() -> None:
    normalise = nn.BatchNorm1d(2)
    loss = captured(make_loss(normalise))
    initial = [buffer.clone() for buffer in normalise.buffers()]
    x, moved = torch.randn(6, 5), []
    loss.prepare(x)
    for each in (loss, loss.module):
        assert all(torch.equal(one, other) for one, other in zip(normalise.buffers(), initial, strict=True))
        torch.manual_seed(1)
        each(x)
        moved.append([buffer.clone() for buffer in normalise.buffers()])
        for buffer, value in zip(normalise.buffers(), initial, strict=True):
            buffer.copy_(value)
    assert not torch.equal(moved[0][0], initial[0])
    assert all(torch.equal(one, other) for one, other in zip(*moved, strict=True))


def test_a_capture_leaves_a_backward_that_is_to_come_alone() -> None:
    module = RecyclingELBO()(*make_pair())
    loss = captured(module)
    total = sum(loss(torch.randn(rows, 5)) for rows in (6, 1, 6, 1, 6, 1))
    total.backward()
    assert loss.engines == ["captured", "captured"]


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_the_first_call_may_be_without_gradients(without: Any) -> None:
    loss = captured(Trace_ELBO()(mean_model, no_guide))
    pyro.param("mean", torch.zeros(5))
    with without():
        assert not loss(torch.randn(6, 5)).requires_grad
    assert_equal(loss, torch.randn(9, 5), hidden=(pyro.param("mean"),))
    assert loss.engines == ["captured"]


# Arguments


def regression(x: Tensor, rest: list[Any], power: float, *, offset: dict[str, Tensor]) -> None:
    """A user's model of many arguments: rows, nested rows and weights, a number, and a keyword."""
    (y,), weights = rest
    torch.randn(3)  # a draw that nobody uses moves the random numbers all the same
    bias = pyro.param("bias", lambda: torch.zeros(()))
    with pyro.plate("data", x.shape[0]):
        pyro.sample("y", dist.Normal(x @ weights + bias + offset["value"] ** power, 1.0), obs=y)


def arguments(rows: int, *, power: Any = 2.0, features: int = 5, dtype: torch.dtype = torch.float32) -> Any:
    x, y, weights = (torch.randn(shape, dtype=dtype) for shape in ((rows, features), (rows,), (features,)))
    return (x, [[y], weights], power), {"offset": {"value": torch.tensor(0.5, dtype=dtype)}}


def test_arguments_of_all_kinds(builds: list[Any]) -> None:
    loss = captured(Trace_ELBO()(regression, no_guide))
    for rows in (6, 9, 1):
        args, kwargs = arguments(rows)
        loss.prepare(*args, **kwargs)
        assert_equal(loss, *args, **kwargs, hidden=(pyro.param("bias"),))
    assert len(builds) == 2


@pytest.mark.parametrize("length", [5, 1])
def test_a_batch_may_be_as_long_as_an_argument_that_holds_none(length: int) -> None:
    loss = captured(Trace_ELBO()(regression, no_guide))
    for rows in (6, length, 7):
        args, kwargs = arguments(rows, features=length)
        loss.prepare(*args, **kwargs)
        assert_equal(loss, *args, **kwargs, hidden=(pyro.param("bias"),))


def test_arguments_of_another_kind_get_a_graph_of_their_own(builds: list[Any]) -> None:
    loss = captured(Trace_ELBO()(regression, no_guide))
    (x, rest, power), kwargs = arguments(6)
    for _ in range(2):
        for args in (
            (x, rest, power),
            (x, rest, 3.0),
            (x, rest, 2),
            (x, rest, torch.tensor(2.0)),
            arguments(6, features=4)[0],
            arguments(1, power=3.0)[0],
        ):
            loss.prepare(*args, **kwargs)
            assert_equal(loss, *args, **kwargs, hidden=(pyro.param("bias"),))
    assert loss.engines == ["captured"] * len(builds) == ["captured"] * 6


@pytest.mark.parametrize("engine", ["captured", "eager"])
def test_wrong_arguments_get_pyros_own_error(engine: str) -> None:
    def model(*args: Any, **kwargs: Any) -> None:
        if engine == "eager":
            random.random()
        regression(*args, **kwargs)

    loss = captured(Trace_ELBO()(model, no_guide))
    (x, rest, power), kwargs = arguments(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompilationWarning)
        loss.prepare(x, rest, power, **kwargs)
    assert loss.engines == [engine]
    for args, keywords in (
        ((x[:, :4], rest, 2.0), kwargs),
        ((x, rest, "two"), kwargs),
        ((x, rest), kwargs),
        ((x, rest, power), {}),
        ((x[:4], rest, power), kwargs),
    ):
        errors = []
        for each in (loss.module, loss, loss):
            with pytest.raises((TypeError, ValueError, RuntimeError)) as error:
                each(*args, **keywords)
            errors.append((error.type, str(error.value)))
        assert errors[0] == errors[1] == errors[2]


def test_after_a_first_call_with_an_error_nothing_is_fixed() -> None:
    loss = captured(RecyclingELBO()(*make_pair()))
    for wrong in (torch.randn(6, 4), torch.randn(6, 5).double()):
        with pytest.raises((ValueError, RuntimeError)):
            loss(wrong)
    assert_equal(loss, torch.randn(6, 5))


def test_with_dynamic_off_each_length_gets_a_graph_of_its_own() -> None:
    loss = captured(RecyclingELBO()(*make_pair()), dynamic=False)
    for rows in (6, 7, 6):
        assert_equal(loss, torch.randn(rows, 5))
    assert loss.engines == ["captured", "captured"]


@pytest.mark.parametrize(
    "wrong",
    [nn.Linear(2, 2), lambda x: x, None, RecyclingELBO()],
    ids=["module", "function", "None", "ELBO"],
)
def test_only_an_elbo_module_is_compiled(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"Expected an ELBOModule, actual .*: give elbo\(model, guide\)"):
        compile_elbo(wrong, torch.randn(6, 5))


# A model that is wrong


def negative_scale(z: Tensor) -> Tensor:
    dist.Normal(z, -z.abs())
    return z


@pytest.mark.parametrize("function", [negative_scale, lambda z: z[..., :1]], ids=["negative scale", "wrong shape"])
def test_a_wrong_model_gets_pyros_own_error(function: Any) -> None:
    module = make_loss(function)
    x, errors = torch.randn(6, 5), []
    before, states = state(), []
    for loss in (module, captured(module)):
        torch.set_rng_state(torch.tensor(before["torch's random state"], dtype=torch.uint8))
        with pytest.raises((ValueError, RuntimeError)) as error:
            loss(x)
        errors.append((error.type, str(error.value)))
        states.append(state())
        pyro.clear_param_store()
    assert errors[0] == errors[1]
    assert states[1] == before | {"torch's random state": states[0]["torch's random state"]}


def test_without_validation_a_wrong_model_is_wrong_as_eagerly() -> None:
    with pyro.validation_enabled(False):
        module = make_loss(negative_scale)
        loss = captured(module)
        assert_equal(loss, torch.randn(6, 5))
        assert loss.engines == ["captured"]


# What cannot be captured


def depends_on_data(z: Tensor) -> Tensor:
    print("called")
    if z.mean() > 0:
        return 2 * z
    return -z


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("can", [True, False], ids=["can be captured", "cannot be captured"])
def test_nothing_global_changes(can: bool, validate: bool, capfd: pytest.CaptureFixture[str]) -> None:
    module = make_loss(torch.abs if can else depends_on_data)
    x = torch.randn(6, 5)
    pyro.param("someone's", torch.ones(2))
    with pyro.settings.context(validate_distributions_torch=validate), warnings.catch_warnings():
        warnings.simplefilter("ignore", CompilationWarning)
        capfd.readouterr()
        before = state()
        loss = captured(module).prepare(x)
        after = state()
        printed = capfd.readouterr()
        assert [name for name in after if after[name] != before[name]] == []
    assert loss.engines == ["captured" if can else "eager"]
    # The two eager calls print; the capture keeps what is printed to itself.
    assert (printed.out, printed.err) == ("" if can else 2 * "called\n", "")


def test_control_flow_falls_back_with_one_warning_that_names_it() -> None:
    loss = captured(make_loss(depends_on_data))
    with pytest.warns(CompilationWarning) as found:
        assert not loss.captures(torch.randn(6, 5))
    line = depends_on_data.__code__.co_firstlineno + 2
    message = str(found[0].message)
    assert len(found) == 1
    assert f"{Path(__file__).name}, line {line}: if z.mean() > 0:" in message
    assert "cannot be captured, and runs eagerly: " in message
    for rows in (6, 9):
        assert_equal(loss, torch.randn(rows, 5))
    assert loss.engines == ["eager"]


def test_a_warning_that_is_an_error_leaves_everything_as_it_was() -> None:
    loss, x = captured(make_loss(depends_on_data)), torch.randn(6, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = state()
        with pytest.raises(CompilationWarning):
            loss.prepare(x)
        assert state() == before


@pytest.mark.parametrize("what", ["value", "gradient", "random value"])
def test_what_depends_on_more_than_arguments_and_torchs_random_numbers_falls_back(what: str) -> None:
    calls = itertools.count(1)

    def function(z: Tensor) -> Tensor:
        factor = random.uniform(1.0, 2.0) if "random" in what else next(calls)
        return z + factor * (z - z.detach()) if what == "gradient" else factor * z

    loss, x = captured(make_loss(function)), torch.randn(6, 5)
    before = state()
    with pytest.warns(CompilationWarning, match="cannot be captured, and runs eagerly"):
        loss.prepare(x)
    assert state() == before
    assert loss.engines == ["eager"]
    calls = itertools.count(1)
    random.seed(3)
    torch.manual_seed(1)
    actual = loss(x)
    calls = itertools.count(1)
    random.seed(3)
    torch.manual_seed(1)
    assert actual == loss.module(x)


# Memory


def greedy(x: Tensor) -> None:
    """A user's model that needs rows ** 8 numbers."""
    much = torch.zeros(x.shape[0] ** 8).sum()
    with pyro.plate("data", x.shape[0]):
        pyro.sample("x", dist.Normal(pyro.param("mean", lambda: torch.zeros(5)), 1.0 + much).to_event(1), obs=x)


@pytest.mark.parametrize("first", [True, False, None], ids=["first call", "later call", "prepare"])
def test_out_of_memory_names_the_batch_and_suggests_one(first: bool | None) -> None:
    loss = captured(Trace_ELBO()(greedy, no_guide))
    if first is False:
        loss.prepare(torch.randn(3, 5))
    message = r"^Out of memory for a batch of 150 rows. Try a batch of 75 rows. \(.*can't allocate memory"
    with pytest.raises(torch.OutOfMemoryError, match=message):
        (loss.prepare if first is None else loss)(torch.randn(150, 5))
    loss(torch.randn(3, 5))


def test_out_of_memory_with_one_row_or_none_and_other_errors() -> None:
    def model(*_: Tensor) -> None:
        pyro.sample("x", dist.Normal(torch.zeros(10**15).sum(), 1.0), obs=torch.zeros(()))

    loss = Trace_ELBO()(model, no_guide)
    with pytest.raises(torch.OutOfMemoryError, match="Even one row is too much: give smaller networks, or fewer"):
        captured(loss)(torch.randn(1, 5))
    with pytest.raises(torch.OutOfMemoryError, match=r"^Out of memory. Give fewer data at once"):
        captured(loss)()
    module = make_loss(lambda z: z @ z)
    with pytest.raises(RuntimeError, match="mat1 and mat2") as error:
        captured(module)(torch.randn(6, 5))
    assert not isinstance(error.value, torch.OutOfMemoryError)


# On a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_constants_follow_and_take_effect() -> None:
    """In double precision: in single, a small floor multiplies what CUDA's approximate exponentials differ by."""
    model, guide = (part.to("cuda", torch.float64) for part in make_pair())

    def rows(number: int) -> Tensor:
        return torch.randn(number, 5, device="cuda", dtype=torch.float64)

    loss = compile_elbo(RecyclingELBO()(model, guide), rows(6), fallback_random=True)
    elbo = loss.module.elbo
    assert elbo.kl_weight.is_cuda
    for number, weight, floor in ((6, 1.0, 0.5), (9, 0.1, 0.5), (9, 0.1, 0.01)):
        elbo.kl_weight = weight
        model.likelihood.floor.fill_(floor)
        assert_close(loss, rows(number))
    assert loss.engines == ["compiled"]
