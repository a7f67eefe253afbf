"""CompiledSVI beside pyro.infer.SVI: the same losses, the same parameters, under the same names."""

import copy
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from reference import OwnEncoder, make_pair
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.inference import CompiledSVI, RecyclingELBO

positive = dist.constraints.positive


def line(x: Tensor, y: Tensor) -> None:
    """A user's regression."""
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    noise = pyro.sample("noise", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", x.shape[0]):
        pyro.sample("y", dist.Normal(slope * x + pyro.param("offset", torch.zeros(())), noise), obs=y)


def line_guide(x: Tensor, y: Tensor) -> None:
    """Its guide: one of the parameters constrained."""
    scale = pyro.param("slope_scale", torch.tensor(0.3), constraint=positive)
    pyro.sample("slope", dist.Normal(pyro.param("slope_loc", torch.tensor(0.1)), scale))
    pyro.sample("noise", dist.LogNormal(pyro.param("noise_loc", torch.tensor(0.1)), 0.1))


def rows(n: int = 12) -> tuple[Tensor, Tensor]:
    x = torch.linspace(0.0, 1.0, n)
    return x, 2 * x


def scheduled() -> Any:
    return pyro.optim.ExponentialLR({"optimizer": torch.optim.SGD, "optim_args": {"lr": 1e-3}, "gamma": 0.5})


def by_name(name: str) -> dict[str, Any]:
    return {"lr": 0.1 if name in ("slope_loc", "decoder$$$loc.bias") else 1e-3}


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "Adam": lambda: pyro.optim.Adam({"lr": 0.01}),
    "ClippedAdam": lambda: pyro.optim.ClippedAdam({"lr": 0.01, "clip_norm": 0.1, "lrd": 0.9}),
    "scheduler": scheduled,
    "arguments by parameter": lambda: pyro.optim.Adam(by_name),
}
LOSSES: dict[str, Callable[[], Any]] = {
    "Trace": Trace_ELBO,
    "mean field": lambda: TraceMeanField_ELBO(max_plate_nesting=1),
    "Renyi": lambda: RenyiELBO(alpha=0.5, num_particles=2),
    "graph": TraceGraph_ELBO,
    "recycling": lambda: RecyclingELBO(max_plate_nesting=1),
}
CASES = [
    *(("line", optimizer, "Trace") for optimizer in OPTIMIZERS),
    *(("line", "Adam", loss) for loss in LOSSES if loss != "Trace"),
    ("pair", "arguments by parameter", "recycling"),
    ("own encoder", "ClippedAdam", "Trace"),
]


def make(pair: str) -> tuple[Any, Any, list[tuple[Tensor, ...]]]:
    """Return a model, a guide, and the arguments of five steps, of batches that differ in length."""
    lengths = (12, 12, 7, 12, 1)
    if pair == "line":
        return line, line_guide, [rows(n) for n in lengths]
    model, guide = make_pair(size=50)
    if pair == "own encoder":
        guide = rv.guides.AmortizedNormal(OwnEncoder(), size=50)
    return model, guide, [(torch.randn(n, 5),) for n in lengths]


def train(svi: Any, optimizer: Any, batches: list[tuple[Tensor, ...]]) -> tuple[list[float], dict[str, Tensor]]:
    """Return the losses of some steps under one seed, and what is in Pyro's store after them."""
    torch.manual_seed(3)
    losses = []
    for batch in batches:
        losses.append(svi.step(*batch))
        if isinstance(optimizer, pyro.optim.PyroLRScheduler):
            optimizer.step()
    return losses, {name: value.detach().clone() for name, value in pyro.get_param_store().items()}


def both(pair: str, optimizer: str, loss: str, **options: Any) -> list[Any]:
    """Train with SVI and with CompiledSVI, from the same start."""
    model, guide, batches = make(pair)
    results = []
    for cls, more in ((SVI, {}), (CompiledSVI, options)):
        with pyro.get_param_store().scope():
            optim = OPTIMIZERS[optimizer]()
            svi: Any = cls(*copy.deepcopy((model, guide)), optim, LOSSES[loss](), **more)
            results.append(train(svi, optim, batches))
    return results


def assert_alike(results: list[Any]) -> None:
    (losses, parameters), (own_losses, own_parameters) = results
    assert own_losses == pytest.approx(losses, rel=1e-5)
    assert len(set(losses)) == len(losses)
    assert parameters.keys() == own_parameters.keys() != set()
    for name, value in parameters.items():
        torch.testing.assert_close(own_parameters[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("pair", "optimizer", "loss"), CASES)
def test_five_steps_are_those_of_svi(pair: str, optimizer: str, loss: str) -> None:
    assert_alike(both(pair, optimizer, loss, compiled=False))


@pytest.mark.slow
def test_compiled_steps_are_those_of_svi() -> None:
    assert_alike(both("line", "Adam", "Trace", fallback_random=True))


def test_under_module_local_params_svi_fails_and_this_does_not() -> None:
    batches = make("own encoder")[2]
    with pyro.settings.context(module_local_params=True):
        pair = make_pair()[0], rv.guides.AmortizedNormal(OwnEncoder())
        with pytest.raises(AttributeError, match="unconstrained"):
            SVI(*copy.deepcopy(pair), OPTIMIZERS["Adam"](), Trace_ELBO()).step(*batches[0])
        twin = copy.deepcopy(pair)
        svi = CompiledSVI(*pair, lambda parameters: torch.optim.SGD(parameters, lr=1e-3), Trace_ELBO(), compiled=False)
        losses, store = train(svi, None, batches)
        # By hand, on the modules' own parameters.
        module = Trace_ELBO()(*twin)
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
        torch.manual_seed(3)
        expected = []
        for batch in batches:
            optimizer.zero_grad()
            loss = module(*batch)
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
    assert store == {}
    assert losses == pytest.approx(expected, rel=1e-5)
    for part, other in zip(pair, twin, strict=True):
        for one, two in zip(part.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_a_torch_optimizer_takes_one_step_for_all_parameters() -> None:
    given: list[list[Tensor]] = []

    def factory(parameters: list[Tensor]) -> Any:
        given.append(parameters)
        return torch.optim.Adam(parameters, lr=0.05)

    svi = CompiledSVI(line, line_guide, factory, Trace_ELBO(), compiled=False)
    losses = [svi.step(*rows()) for _ in range(300)]
    assert sum(losses[-50:]) < 0.5 * sum(losses[:50])
    assert pyro.param("slope_loc").item() + pyro.param("offset").item() > 1.0
    (parameters,) = given
    unconstrained = dict(pyro.get_param_store().named_parameters())
    assert {id(parameter) for parameter in parameters} == {id(parameter) for parameter in unconstrained.values()}
    assert not any(parameter.grad.any() for parameter in parameters if parameter.grad is not None)
    assert svi.engines == ["captured"]


def test_an_automatic_guide_is_trained_under_svis_names() -> None:
    def model(x: Tensor, y: Tensor) -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal(slope * x, 0.1), obs=y)

    names = []
    for cls, options in ((SVI, {}), (CompiledSVI, {"compiled": False})):
        with pyro.get_param_store().scope():
            guide = AutoNormal(model)
            svi: Any = cls(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO(), **options)
            losses = [svi.step(*rows()) for _ in range(200)]
            assert losses[-1] < 0.5 * losses[0]
            assert guide.median()["slope"].item() == pytest.approx(2.0, abs=0.3)
            names.append(set(pyro.get_param_store().keys()))
    assert names[0] == names[1] != set()
    assert svi.engines == ["captured"]


@pytest.mark.parametrize("first", ["step", "loss"])
def test_evaluate_loss_takes_no_step(first: str) -> None:
    svi = CompiledSVI(line, line_guide, OPTIMIZERS["Adam"](), Trace_ELBO(), compiled=False)
    if first == "step":
        svi.step(*rows())
    torch.manual_seed(1)
    loss = svi.evaluate_loss(*rows())
    before = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    torch.manual_seed(1)
    assert loss == pytest.approx(SVI(line, line_guide, OPTIMIZERS["Adam"](), Trace_ELBO()).evaluate_loss(*rows()))
    assert all(torch.equal(pyro.param(name), value) for name, value in before.items())
    svi.step(*rows())
    assert not any(torch.equal(pyro.param(name), value) for name, value in before.items())
    for _ in range(3):
        svi.step(*rows())
        torch.manual_seed(1)
        actual = svi.evaluate_loss(*rows())
        torch.manual_seed(1)
        assert actual == SVI.evaluate_loss(svi, *rows())
    assert (svi.engines, svi._evaluations.engines) == (["captured"], ["captured"])


def test_keyword_arguments() -> None:
    def model(x: Tensor, *, y: Tensor, scale: float) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal(pyro.param("slope", torch.tensor(1.0)) * x, scale), obs=y)

    svi = CompiledSVI(model, lambda *_, **__: None, OPTIMIZERS["Adam"](), Trace_ELBO(), compiled=False)
    x, y = rows()
    expected = -dist.Normal(x, 0.5).log_prob(y).sum().item()
    assert svi.step(x, y=y, scale=0.5) == pytest.approx(expected, rel=1e-6)
    assert pyro.param("slope").item() == pytest.approx(1.01)
    for scale in (0.5, 0.5, 0.6, 0.6, 0.6):
        expected = -dist.Normal(pyro.param("slope").detach() * x, scale).log_prob(y).sum().item()
        assert svi.step(x, y=y, scale=scale) == pytest.approx(expected, rel=1e-6)
    assert svi.engines == ["captured", "captured"]


def test_running_statistics_move_once_in_a_step() -> None:
    normalise = nn.BatchNorm1d(5)
    model, guide = make_pair()
    guide.encoder = nn.Sequential(normalise, guide.encoder)
    svi = CompiledSVI(model, guide, OPTIMIZERS["Adam"](), Trace_ELBO(), compiled=False)
    for number in range(1, 6):
        svi.step(torch.randn(6, 5))
        assert normalise.num_batches_tracked == number
    assert svi.engines == ["captured"]


def test_a_cleared_store_is_noticed() -> None:
    svi = CompiledSVI(line, line_guide, OPTIMIZERS["Adam"](), Trace_ELBO(), compiled=False)
    for _ in range(4):
        svi.step(*rows())
    pyro.clear_param_store()
    torch.manual_seed(1)
    actual = [svi.step(*rows()) for _ in range(5)]
    pyro.clear_param_store()
    torch.manual_seed(1)
    fresh = SVI(line, line_guide, OPTIMIZERS["Adam"](), Trace_ELBO())
    assert actual == [fresh.step(*rows()) for _ in range(5)]
    assert svi.engines == ["captured", "captured"]


def test_the_options_are_passed_on() -> None:
    svi = CompiledSVI(
        line, line_guide, OPTIMIZERS["Adam"](), Trace_ELBO(), precision="fp32", fallback_random=True, dynamic=False
    )
    assert (svi.options.precision, svi.options.fallback_random, svi.options.dynamic) == ("fp32", True, False)
    with pytest.raises(ValueError, match="Expected precision to be one of auto, fp32, bf16, actual 'fp16'"):
        CompiledSVI(line, line_guide, OPTIMIZERS["Adam"](), Trace_ELBO(), precision="fp16")  # type: ignore[arg-type]


def test_wrong_optimizers_get_svis_error() -> None:
    weight = torch.zeros(1, requires_grad=True)
    for optim in (torch.optim.Adam([weight]), None, 1e-3):
        errors = []
        for cls in (SVI, CompiledSVI):
            with pytest.raises(ValueError, match="Optimizer should be an instance of") as error:
                cls(line, line_guide, optim, Trace_ELBO())
            errors.append(str(error.value))
        assert errors[0] == errors[1]


def test_a_function_that_makes_no_optimizer() -> None:
    svi = CompiledSVI(line, line_guide, lambda parameters: None, Trace_ELBO(), compiled=False)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"Expected optim to .* a torch optimizer .*, actual .*None"):
        svi.step(*rows())


@pytest.mark.parametrize("first", [True, False])
def test_out_of_memory_is_explained_once(first: bool) -> None:
    def greedy(x: Tensor) -> None:
        much = torch.zeros(x.shape[0] ** 8).sum()
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", dist.Normal(pyro.param("mean", torch.zeros(())), 1.0 + much), obs=x)

    svi = CompiledSVI(greedy, lambda x: None, OPTIMIZERS["Adam"](), Trace_ELBO(), compiled=False)
    if not first:
        svi.step(torch.zeros(3))
    with pytest.raises(torch.OutOfMemoryError, match=r"^Out of memory for a batch of 150 rows. Try .* of 75") as error:
        svi.step(torch.zeros(150))
    assert str(error.value).count("Try a batch") == 1


def test_out_of_memory_in_the_backward_is_explained() -> None:
    svi = CompiledSVI(line, line_guide, OPTIMIZERS["Adam"](), Trace_ELBO(), compiled=False)
    svi.step(*rows(8))
    pyro.get_param_store()._params["offset"].register_hook(lambda gradient: torch.zeros(10**15))
    with pytest.raises(torch.OutOfMemoryError, match=r"^Out of memory for a batch of 8 rows. Try a batch of 4 rows"):
        svi.step(*rows(8))
