"""Every call of CompiledSVI gives what SVI gives, or raises what it raises: each fault that was once found here."""

import copy
import math
import pickle
import sys
import threading
import types
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from conformance.harness import Record, Setup, compare
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.poutine.indep_messenger import CondIndepStackFrame
from reference import make_pair
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.inference import CompilationWarning, CompiledELBO, CompiledSVI, RecyclingELBO, compile_elbo
from pyro_ricvae.inference.compile.patches import capturing

positive = dist.constraints.positive
ROWS = torch.arange(1.0, 6.0)


def no_guide(*_: Any, **__: Any) -> None:
    """The guide of a model without latents."""


def setup(model: Any, call: Callable[[int], tuple[Any, ...]] = lambda step: (ROWS,), **others: Any) -> Setup:
    """Return what is trained, by arguments given by position."""
    optim = pyro.optim.Adam({"lr": 0.01})
    parts = {"guide": no_guide, "optim": optim, "loss": Trace_ELBO(), "call": lambda step: (call(step), {})}
    return Setup(model, **{**parts, **others})


def observe(x: Tensor, scale: Any = 1.0) -> None:
    """A user's model of rows with one parameter."""
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(pyro.param("mean", torch.tensor(0.3)), scale), obs=x)


def assert_as_svi(make: Callable[[], Setup], steps: int = 12, **options: Any) -> Record:
    record, found = compare(make, steps, **options)
    assert found == []
    return record


def with_network(network: nn.Module) -> Callable[[Tensor], None]:
    def model(x: Tensor) -> None:
        pyro.module("network", network)
        observe(network(x[:, None])[:, 0])

    return model


# 1. Schedules


@pytest.mark.parametrize("every", [1, 5, 1000])
@pytest.mark.parametrize("kind", ["temperature", "weight of the KL"])
def test_slow_schedules_are_followed(kind: str, every: int) -> None:
    def make() -> Setup:
        schedule = types.SimpleNamespace(value=1.0)

        def before(step: int) -> None:
            number = step // every
            schedule.value = max(0.5, math.exp(-1e-4 * number)) if kind == "temperature" else (2000 + number) / 5000

        return setup(lambda x: observe(x, schedule.value), before=before)

    record = assert_as_svi(make, 30)
    assert record.engines == ([] if every == 1 else ["captured"] * (1 if every == 1000 else len(record.engines)))
    assert len(record.compilation_warnings) == (every == 1)
    if every == 1:
        assert "schedule.value changes (0.9" in record.compilation_warnings[0] or kind != "temperature"


def test_a_drift_is_noticed_at_the_first_call_however_late_it_begins() -> None:
    schedule = types.SimpleNamespace(value=1.0)
    svi = CompiledSVI(
        lambda x: observe(x, schedule.value), no_guide, pyro.optim.SGD({"lr": 0.0}), Trace_ELBO(), compiled=False
    )
    expected = svi.step(ROWS)
    assert {svi.step(ROWS) for _ in range(100)} == {expected}
    assert svi.engines == ["captured"]
    for number in range(1, 3):
        schedule.value = 1.0 - number * 1e-6
        exact = SVI(lambda x: observe(x, schedule.value), no_guide, pyro.optim.SGD({"lr": 0.0}), Trace_ELBO())
        assert svi.step(ROWS) == exact.step(ROWS) != expected


def test_what_no_guard_sees_is_found_by_verifying_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def model(x: Tensor) -> None:
        observe(x, torch.hidden)  # type: ignore[attr-defined]

    monkeypatch.setattr(torch, "hidden", 1.0, raising=False)  # a library's own variables are taken for constants
    svi = CompiledSVI(model, no_guide, pyro.optim.SGD({"lr": 0.0}), Trace_ELBO(), compiled=False)
    losses = [svi.step(ROWS) for _ in range(20)]
    assert svi.engines == ["captured"]
    monkeypatch.setattr(torch, "hidden", 2.0)
    with pytest.warns(CompilationWarning, match="after 32 calls another one than Pyro's in its value") as found:
        losses += [svi.step(ROWS) for _ in range(40)]
    assert len(found) == 1
    assert svi.engines == ["eager"]
    monkeypatch.undo()
    assert losses[-1] == pytest.approx(SVI(lambda x: observe(x, 2.0), no_guide, svi.optim, Trace_ELBO()).step(ROWS))
    assert losses[-1] != losses[0]


# 2. Arguments


@pytest.mark.parametrize("eager", [False, True])
def test_arguments_may_be_others(eager: bool) -> None:
    def model(x: Tensor, scale: Any = 1.0, *, offset: Any = None) -> None:
        if eager and x.sum() > 1e9:
            return
        observe(x if offset is None else x + offset, scale() if callable(scale) else scale)

    calls = [
        ((ROWS,), {}),
        ((ROWS, 0.5), {}),
        ((ROWS, partial(float, 0.7)), {}),
        ((ROWS[:3],), {"offset": torch.ones(3)}),
        ((ROWS.double(),), {}),
        ((ROWS[:1],), {"offset": 1}),
        ((ROWS, lambda: 0.7), {}),
    ]

    def make() -> Setup:
        return Setup(model, no_guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(), lambda step: calls[step % 7])

    record = assert_as_svi(make, 40)
    assert set(record.engines) == {"eager" if eager else "captured"}


# 3. Values that Python reads


def names_sites(x: Tensor) -> None:
    for number in torch.arange(3):
        pyro.sample(f"x_{number}", dist.Normal(pyro.param(f"mean_{number}", torch.tensor(0.0)), 1.0), obs=x[number])


@pytest.mark.parametrize(
    "loss", [Trace_ELBO, TraceGraph_ELBO, lambda: RenyiELBO(num_particles=2)], ids=["Trace", "TraceGraph", "Renyi"]
)
def test_values_in_the_names_of_sites(loss: Any) -> None:
    assert assert_as_svi(lambda: setup(names_sites, loss=loss())).engines == ["eager"]


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceGraph_ELBO], ids=["Trace", "TraceGraph"])
def test_values_that_are_kept_or_looked_up(loss: Any) -> None:
    def make() -> Setup:
        log: list[float] = []

        def model(x: Tensor) -> None:
            log.append(x.sum().item())
            observe(x, {15.0: 1.0, 10.0: 2.0}[x.sum().item()])

        return setup(model, lambda step: (ROWS if step % 2 else ROWS - 1,), loss=loss(), state=lambda: list(log))

    assert set(assert_as_svi(make).engines) == {"eager"}


def test_a_value_outside_of_the_arguments() -> None:
    def make() -> Setup:
        scale = torch.tensor(2.0)
        return setup(lambda x: observe(x, scale.item()), before=lambda step: scale.fill_(2.0 - 0.01 * step) and None)

    assert assert_as_svi(make).engines == ["eager"]


def test_the_users_code_sees_what_it_always_sees() -> None:
    seen: list[Any] = []

    def model(x: Tensor) -> None:
        seen.append((Tensor.item(torch.tensor(2.0)), type(torch.tensor(2.0).item()), torch.distributions.Normal(0, 1)))
        del seen[0]
        observe(x)

    seen.append(None)
    svi = CompiledSVI(model, no_guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(), compiled=False)
    for _ in range(5):
        svi.step(ROWS)
        assert seen[0][:2] == (2.0, float)


# 4. Modes of networks that functions know


def test_modes_of_a_network_of_a_closure() -> None:
    def make() -> Setup:
        network = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        return setup(with_network(network), before=lambda step: network.train(step % 8 < 4) and None, watched=[network])

    assert assert_as_svi(make, 32).engines == ["captured", "captured"]


# 5. Copies, and backwards


def test_a_copy_has_its_own_parameters() -> None:
    loss = CompiledELBO(RecyclingELBO()(*make_pair()), compiled=False).prepare(torch.randn(6, 5))
    x = torch.randn(6, 5)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.add_(0.1)
        assert twin.engines == []
        for _ in range(4):
            torch.manual_seed(1)
            actual = twin(x)
            torch.manual_seed(1)
            assert actual == twin.module(x) != loss(x)
        assert (twin.engines, loss.engines) == (["captured"], ["captured"])


def test_a_copy_of_an_svi_has_its_own_parameters() -> None:
    model, guide = make_pair()
    svi = CompiledSVI(model, guide, pyro.optim.Adam({"lr": 0.01}), RecyclingELBO(), compiled=False)
    twin = copy.deepcopy(svi)
    assert twin.model is not svi.model
    assert twin._steps._namespace["model"] is twin.model


def test_a_captured_loss_has_second_derivatives_and_keeps_its_graph() -> None:
    module, x = TraceMeanField_ELBO()(*make_pair("fixed")), torch.randn(6, 5)
    results = []
    for loss in (module, compile_elbo(module, x, compiled=False)):
        torch.manual_seed(1)
        value, parameters = loss(x), list(module.parameters())
        value.backward(retain_graph=True)
        value.backward(retain_graph=True)
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        first = torch.autograd.grad(value, parameters, create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in first), parameters, allow_unused=True)
        results.append([*gradients, *first, *second])
    for one, other in zip(*results, strict=True):
        assert one is other is None or torch.equal(one, other)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_compiled_loss_keeps_its_graph_and_says_that_it_has_no_second_derivatives() -> None:
    x = torch.randn(6, 5)
    loss = compile_elbo(RecyclingELBO()(*make_pair()), x)
    value, parameters = loss(x), list(loss.parameters())
    first = torch.autograd.grad(value, parameters, retain_graph=True)
    again = torch.autograd.grad(value, parameters, retain_graph=True)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    with pytest.raises(RuntimeError, match=r"no second derivatives .* give compile_elbo compiled=False"):
        torch.autograd.grad(value, parameters, create_graph=True)


@pytest.mark.slow
@pytest.mark.parametrize("held", ["buffer", "tensor", "view"])
def test_a_compiled_gradient_is_of_what_the_forward_saw(held: str) -> None:
    """torch.compile computes anew in a backward, from a buffer that has moved since."""

    def make() -> Setup:
        network = nn.Module()
        network.register_buffer("step", torch.zeros(2))
        kept = {"buffer": network.step, "tensor": torch.zeros(2), "view": network.step[:1]}[held]

        def model(x: Tensor) -> None:
            with torch.no_grad():
                kept.add_(0.1)
            observe(x * (pyro.param("slope", torch.tensor(0.3)) * network.step.sum() * kept[0]).exp())

        return setup(model, watched=[network, kept])

    record = assert_as_svi(make, 6, compiled=True, fallback_random=True)
    assert record.engines == (["captured"] if held == "view" else ["compiled"])


# 6. Losses that are no differentiable tensors


def test_an_empty_model() -> None:
    assert_as_svi(lambda: setup(no_guide, lambda step: ()))


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO, lambda: TraceEnum_ELBO(max_plate_nesting=0)])
def test_a_model_without_parameters(loss: Any) -> None:
    def model(x: Tensor) -> None:
        pyro.sample("x", dist.Normal(0.0, 1.0).expand([5]).to_event(1), obs=x)

    assert_as_svi(lambda: setup(model, loss=loss(), evaluate_every=1))


# 7. State that Python code writes


class Counting(nn.Module):
    """A network that counts, used without its ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(0))
        self.weight = nn.Parameter(torch.ones(1))
        self.calls = 0

    def apply_to(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * self.weight


def test_buffers_of_a_class_whose_forward_is_not_called() -> None:
    def make() -> Setup:
        network = Counting()

        def model(x: Tensor) -> None:
            pyro.module("network", network)
            observe(network.apply_to(x))

        return setup(model, watched=[network])

    assert assert_as_svi(make).engines == ["captured"]


def test_a_model_that_counts_its_calls_runs_as_pyro() -> None:
    def make() -> Setup:
        counting = Counting()

        def model(x: Tensor) -> None:
            counting.calls += 1
            observe(x, 1.0 + 0.1 * counting.calls)

        return setup(model, state=lambda: counting.calls)

    record = assert_as_svi(make)
    assert record.engines == ["eager"]
    assert "counting.calls changes" in record.compilation_warnings[0]


def test_the_objects_that_hold_state_stay_the_same() -> None:
    model, guide = make_pair()
    held = model.held = {"list": [1.0]}
    svi = CompiledSVI(model, guide, pyro.optim.Adam({"lr": 0.01}), RecyclingELBO(), compiled=False)
    for _ in range(4):
        svi.step(torch.randn(6, 5))
    assert svi.engines == ["captured"]
    assert model.held is held  # an export puts copies in their place


class Slotted:
    __slots__ = ("length",)


class Shared:
    length = 5


def writers() -> dict[str, tuple[Callable[[int], None], Callable[[], Any]]]:
    """Return places in which code may write, each with what writes there and what reads it."""
    full, row, table, plain, slotted = deque([5, 5], maxlen=2), [5], {"length": 5}, types.SimpleNamespace(), Slotted()
    module, cell, places = nn.Linear(1, 1), 5, {"length": 5}
    plain.length = module.length = slotted.length = 5

    def enclosed(length: int) -> None:
        nonlocal cell
        cell = length

    def of_class(length: int) -> None:
        Shared.length = length

    return {
        "deque": (full.append, lambda: full[-1]),
        "list": (partial(row.__setitem__, 0), lambda: row[0]),
        "dictionary": (partial(table.__setitem__, "length"), lambda: table["length"]),
        "union": (lambda length: places.update(length=length), lambda: places["length"]),
        "object": (lambda length: setattr(plain, "length", length), lambda: plain.length),
        "slot": (lambda length: setattr(slotted, "length", length), lambda: slotted.length),
        "module": (lambda length: setattr(module, "length", length), lambda: module.length),
        "closure": (enclosed, lambda: cell),
        "class": (of_class, lambda: Shared.length),
    }


@pytest.mark.parametrize("place", list(writers()))
def test_what_is_written_again_and_again_is_no_stand_in(place: str) -> None:
    write, read = writers()[place]

    def model(x: Tensor) -> None:
        write(len(x))  # of a batch whose length may vary, which a capture has a stand-in for
        observe(x + 0 * read())

    svi = CompiledSVI(model, no_guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(), compiled=False)
    for _ in range(6):
        svi.step(ROWS)
    assert svi.engines == ["captured"]
    assert type(read()) is int


@pytest.mark.parametrize("place", list(writers()))
def test_a_length_that_is_kept_follows_the_batch(place: str) -> None:
    def make() -> Setup:
        write, read = writers()[place]
        write(5)  # a class stays from one training to the other

        def model(x: Tensor) -> None:
            write(len(x))  # the same in the calls that a graph is made after, and then another one
            observe(x + read())  # which a graph for all lengths can do

        rows = [ROWS] * 6 + [ROWS[:3]] * 5 + [ROWS, ROWS[:3]] * 3
        return setup(model, lambda step: (rows[step],), state=lambda: read())

    assert_as_svi(make, steps=17)


def test_a_decaying_baseline() -> None:
    def model(x: Tensor) -> None:
        z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(z, 1.0).expand([5]).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        probability = pyro.param("p", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
        infer = {"baseline": {"use_decaying_avg_baseline": True}}
        pyro.sample("z", dist.Bernoulli(probability), infer=infer)

    assert_as_svi(lambda: setup(model, guide=guide, loss=TraceGraph_ELBO()))


# 8. Threads


def process() -> dict[str, Any]:
    """Return what captures in several threads could leave behind."""
    return {
        "streams": (sys.stdout, sys.stderr),
        "tensors": (Tensor.item, Tensor.backward, Tensor.__format__, torch._is_all_true),
        "filters": list(warnings.filters),
        "settings": pyro.settings.get(),
        "handlers": list(pyro.poutine.runtime._PYRO_STACK),
        "len": "len" in globals(),
    }


def test_eight_threads_that_train() -> None:
    expected, errors, results = {}, [], {}

    def pair(number: int) -> tuple[Any, Any]:
        def model(x: Tensor) -> None:
            z = pyro.sample("z", dist.Normal(pyro.param(f"mean_{number}", torch.tensor(0.0)), 1.0))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(x: Tensor) -> None:
            pyro.sample("z", dist.Delta(pyro.param(f"z_{number}", torch.tensor(float(number)))))

        return model, guide

    def losses(number: int) -> list[float]:
        svi = CompiledSVI(*pair(number), pyro.optim.Adam({"lr": 0.05}), Trace_ELBO(), compiled=False)
        found = [svi.step(torch.full((10,), float(number))) for _ in range(40)]
        assert svi.engines == ["captured"]
        return found

    def work(number: int) -> None:
        try:
            results[number] = losses(number)
        except BaseException as error:
            errors.append(error)

    for number in range(8):
        with pyro.get_param_store().scope():
            expected[number] = losses(number)
    before = process()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert results == expected  # without random numbers, which all threads take from one generator
    assert process() == before


@pytest.mark.filterwarnings("error::pyro_ricvae.inference.CompilationWarning")
def test_an_error_in_one_thread_leaves_the_others_alone() -> None:
    before = process()
    errors = []

    def work() -> None:
        def model(x: Tensor) -> None:
            print("drawn")
            observe(x if x.mean() > 0 else -x)

        svi = CompiledSVI(model, no_guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(), compiled=False)
        for _ in range(8):
            for x in (ROWS, torch.full((5,), torch.nan)):
                try:
                    svi.step(x)
                except (ValueError, CompilationWarning) as error:
                    errors.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # SVI's own for each step with a nan; and the warning, here an error, once a thread.
    assert (errors.count(ValueError), errors.count(CompilationWarning)) == (32, 4)
    assert process() == before


# 9. Validation


def exponential(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Exponential(pyro.param("rate", torch.tensor(1.0), constraint=positive)), obs=x)


def coins(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))), obs=x)


def covariance(x: Tensor) -> None:
    scale = pyro.param("matrix", torch.eye(2))
    pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), scale).expand([5]).to_event(1), obs=x)


def masked(x: Tensor) -> None:
    with pyro.plate("data", len(x)), pyro.poutine.mask(mask=torch.arange(5) > 2):
        pyro.sample("x", dist.Normal(pyro.param("mean", torch.tensor(0.0)), 1.0), obs=x)


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    ("model", "good", "bad"),
    [
        (exponential, ROWS, -ROWS),
        (coins, torch.ones(5), torch.full((5,), 2.0)),
        (observe, ROWS, ROWS * torch.nan),
        (masked, ROWS, torch.tensor([torch.nan, 1.0, 1.0, 1.0, 1.0])),
        (covariance, torch.ones(5, 2), torch.full((5, 2), torch.inf)),
    ],
    ids=["negative", "not a bit", "nan", "nan that is masked", "infinite"],
)
def test_data_outside_of_the_support_get_svis_error_at_any_step(
    model: Any, good: Tensor, bad: Tensor, validate: bool
) -> None:
    with pyro.validation_enabled(validate):
        record = assert_as_svi(lambda: setup(model, lambda step: (bad if step in (8, 9) else good,)), 14)
    assert record.engines == ["captured"]
    assert record.steps[7].error is None
    if model is not covariance:
        assert (record.steps[8].error is not None) == validate


def test_a_step_that_svi_refuses_gives_no_gradient_to_what_the_arguments_are_made_of() -> None:
    def make() -> Setup:
        leaves: list[Tensor] = []

        def call(step: int) -> tuple[Tensor]:
            leaves.append(torch.ones(5, requires_grad=True))
            return (leaves[-1] * (torch.nan if step in (8, 9) else 1.0),)

        return setup(observe, call, state=lambda: [leaf.grad for leaf in leaves])

    record = assert_as_svi(make, 12)
    assert record.engines == ["captured"]
    assert record.steps[8].error is not None
    assert [gradient is None for gradient in record.steps[-1].state] == [step in (8, 9) for step in range(12)]


def test_a_parameter_that_training_makes_invalid() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, pyro.param("scale", torch.tensor(1.0))), obs=x)

    record = assert_as_svi(
        lambda: setup(model, lambda step: (torch.full((5,), 0.1),), optim=pyro.optim.SGD({"lr": 0.05})), 30
    )
    assert record.engines == ["captured"]
    assert record.steps[-1].error is not None


# 10. Models without tensors among their arguments


def test_a_model_without_arguments() -> None:
    def make() -> Setup:
        rows = torch.randn(10)
        return setup(lambda: observe(rows), lambda step: ())

    assert assert_as_svi(make).engines == ["captured"]


@pytest.mark.parametrize("passes", [1, 2])
def test_a_likelihood_that_averages_over_batches(passes: int) -> None:
    def make() -> Setup:
        decoder = rv.networks.MLPDecoder(2, 5, (8,))
        model = rv.models.VAE(decoder, rv.likelihoods.SharedNormal(), rv.priors.StandardNormal(2))
        guide = rv.guides.AmortizedNormal(rv.networks.MLPEncoder(5, 2, (8,)))
        x = torch.randn(8, 5)
        return setup(model, lambda step: (x,), guide=guide, loss=RecyclingELBO(passes=passes), watched=[model, guide])

    assert assert_as_svi(make).engines == ["captured"]


def test_a_loss_that_would_take_minutes_to_capture_is_left_to_pyro(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_ricvae.inference.compile.patches._MOST_VALIDATED", 20)

    def chain(x: Tensor) -> None:
        for number in range(8):
            pyro.sample(f"x_{number}", dist.Normal(pyro.param("mean", torch.tensor(0.3)), 1.0), obs=x[0])

    record = assert_as_svi(lambda: setup(chain))
    assert record.engines == ["eager"]
    assert ["would take minutes to capture" in message for message in record.compilation_warnings] == [True]


def test_plates_come_in_the_order_that_pyro_has_them_in() -> None:
    """Pyro sums over sets of plates: in the order of hashes, of names and of sizes."""
    for number in range(40):
        plates = [CondIndepStackFrame(f"{name} {number}", dim, 8, 0) for name, dim in (("rows", -2), ("columns", -1))]
        with capturing():
            captured = list(frozenset(plates))
        assert captured == list(frozenset(plates))


def test_nested_plates_of_batches_of_many_lengths() -> None:
    """The order in which they are summed over depends on the length: there is a graph for each."""
    lengths = (8, 5, 7)

    def model(x: Tensor) -> None:
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        loc = pyro.param("loc", torch.randn(3))[z.long()]
        with pyro.plate("rows", len(x), dim=-2), pyro.plate("columns", 3, dim=-1):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("z", dist.Categorical(logits=pyro.param("logits", torch.zeros(3))))

    rows = torch.randn(8, 3)
    record = assert_as_svi(lambda: setup(model, lambda step: (rows[: lengths[step % 3]],), guide=guide), 30)
    assert record.engines == ["captured"] * 3
    one = assert_as_svi(lambda: setup(model, lambda step: (rows,), guide=guide), 12)
    assert one.engines == ["captured"]


def test_a_loss_that_adds_up_the_store_does_so_in_its_order() -> None:
    """Modules come first in it here; a capture has them give their parameters once more."""

    def make() -> Setup:
        torch.manual_seed(3)
        network = nn.Sequential(nn.Linear(1, 7), nn.Tanh(), nn.Linear(7, 1))
        elbo = Trace_ELBO()

        def model(x: Tensor) -> None:
            pyro.module("network", network)
            scale = pyro.param("scale", torch.tensor(0.5), constraint=positive)
            observe(network(x[:, None])[:, 0], scale)

        def loss(model: Any, guide: Any, *args: Any) -> Tensor:
            value = elbo.differentiable_loss(model, guide, *args)
            return value + 0.3 * sum(value.pow(2).sum() for value in pyro.get_param_store().values())  # type: ignore[misc]

        return setup(model, loss=loss)

    assert assert_as_svi(make, 60).engines == ["captured"]


# 11. What SVI has


def test_it_is_an_svi() -> None:
    optim, elbo = pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()
    svi = CompiledSVI(observe, no_guide, optim, elbo, compiled=False)
    assert isinstance(svi, SVI)
    assert (svi.model, svi.guide, svi.optim) == (observe, no_guide, optim)
    assert (svi.loss, svi.loss_and_grads) == (elbo.loss, elbo.loss_and_grads)
    with pytest.warns(FutureWarning):
        svi = CompiledSVI(observe, no_guide, optim, elbo, num_samples=1, num_steps=2, compiled=False)
    with pytest.warns(FutureWarning):
        assert svi.run(ROWS).exec_traces


def test_model_and_objective_may_be_exchanged() -> None:
    svis = [cls(observe, no_guide, pyro.optim.SGD({"lr": 0.0}), Trace_ELBO()) for cls in (SVI, CompiledSVI)]
    svis[1].options.compiled = False
    for model in (observe, coins, observe):
        losses: list[list[float]] = []
        for svi in svis:
            svi.model = model
            losses.append([svi.step(torch.ones(5)) for _ in range(5)])
        assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["method", "function", "function and gradient"])
def test_losses_that_are_functions(kind: str) -> None:
    def loss(model: Any, guide: Any, *args: Any) -> Tensor:
        value: Tensor = -pyro.poutine.trace(model).get_trace(*args).log_prob_sum()
        return value

    def loss_and_grads(model: Any, guide: Any, *args: Any) -> float:
        value = 2 * loss(model, guide, *args)
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    def make(cls: Any, **options: Any) -> Any:
        given = Trace_ELBO().differentiable_loss if kind == "method" else loss
        more = {"loss_and_grads": loss_and_grads} if kind == "function and gradient" else {}
        return cls(observe, no_guide, pyro.optim.Adam({"lr": 0.01}), given, **more, **options)

    results = []
    for cls, options in ((SVI, {}), (CompiledSVI, {"compiled": False})):
        with pyro.get_param_store().scope(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            svi = make(cls, **options)
            results.append([(svi.step(ROWS), svi.evaluate_loss(ROWS), pyro.param("mean").item()) for _ in range(8)])
    assert results[0] == results[1]


def test_momentum_goes_on_where_a_call_gives_no_gradient() -> None:
    def model(x: Tensor, more: Tensor | None = None) -> None:
        weight = pyro.param("weight", torch.tensor(1.0))
        if more is not None:
            pyro.sample("more", dist.Normal(weight, 1.0), obs=more)
        observe(x)

    calls = [(ROWS, torch.tensor(2.0)), (ROWS,), (ROWS,)]
    assert assert_as_svi(lambda: setup(model, lambda step: calls[step % 3]), 30).engines == ["captured", "captured"]


def test_other_keywords_of_the_objective() -> None:
    elbo = RecyclingELBO(retain_graph=True, strict_enumeration_warning=False, ignore_jit_warnings=True)
    assert (elbo.retain_graph, elbo.strict_enumeration_warning, elbo.ignore_jit_warnings) == (True, False, True)
    with pytest.raises(TypeError, match="unexpected keyword"):
        RecyclingELBO(particles=2)


@pytest.mark.parametrize("how", ["clear", "load"])
def test_evaluations_follow_a_store_with_other_parameters(how: str) -> None:
    def make() -> Setup:
        store, kept = pyro.get_param_store(), []

        def before(step: int) -> None:
            if step == 1:
                kept.append(copy.deepcopy(store.get_state()))
            if step == 6 and how == "clear":
                pyro.clear_param_store()
            elif step == 6:
                store.set_state(kept[0])

        return setup(observe, before=before, evaluate_every=1)

    assert assert_as_svi(make).engines == ["captured", "captured"]


def test_a_loss_without_gradient_follows_a_store_with_other_parameters() -> None:
    loss = compile_elbo(Trace_ELBO()(observe, no_guide), ROWS, compiled=False)
    with torch.no_grad():
        before = [float(loss(ROWS)) for _ in range(3)]
        pyro.get_param_store()["mean"] = torch.tensor(2.0)
        for _ in range(3):
            assert float(loss(ROWS)) == float(Trace_ELBO()(observe, no_guide)(ROWS)) != before[0]
    assert loss.engines


# 12. Parts that are replaced


def test_a_layer_that_is_replaced() -> None:
    def make() -> Setup:
        model, guide = make_pair()
        x, fresh = torch.randn(6, 5), make_pair()[0].decoder

        def before(step: int) -> None:
            if step == 6:
                model.decoder = fresh
                pyro.clear_param_store()

        return setup(
            model, lambda step: (x,), guide=guide, loss=RecyclingELBO(), before=before, watched=[model, guide, fresh]
        )

    assert assert_as_svi(make, 20).engines == ["captured", "captured"]


def test_a_hook_and_a_parameter_that_is_frozen() -> None:
    def make() -> Setup:
        network = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))

        def before(step: int) -> None:
            if step == 6:
                network[1].register_forward_hook(lambda module, given, output: 2 * output)
            elif step == 14:
                network[0].weight.requires_grad_(False)

        return setup(with_network(network), before=before, watched=[network])

    # A frozen parameter has Pyro warn, under pytest's filters at every call: that runs as Pyro.
    assert assert_as_svi(make, 26).engines == ["captured"] * 2
