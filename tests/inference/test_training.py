"""The pair in Pyro's own hands: SVI, torch optimizers, the handlers and Predictive."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, TraceMeanField_ELBO
from reference import OwnEncoder, make_pair
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.inference import RecyclingELBO


def low_rank_rows(n: int = 200, n_features: int = 5) -> Tensor:
    return torch.randn(n, 2) @ torch.randn(2, n_features) + 0.1 * torch.randn(n, n_features)


def make_trainable_pair(kind: str) -> tuple[Any, Any]:
    """Return a pair whose floor or scale is the noise of `low_rank_rows`."""
    model, guide = make_pair(kind)
    for constant in model.likelihood.buffers():
        constant.fill_(0.1)
    return model, guide


def train_by_svi(model: Any, guide: Any, x: Tensor, elbo: Any, steps: int = 300) -> list[float]:
    with pyro.get_param_store().scope():
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), elbo)
        return [svi.step(x) for _ in range(steps)]


def train_by_torch(model: Any, guide: Any, x: Tensor, elbo: Any, steps: int = 300) -> list[float]:
    loss = elbo(model, guide)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(x)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def error(model: Any, guide: Any, x: Tensor) -> float:
    return (rv.inference.reconstruct(model, guide, x) - x).square().mean().item()


@pytest.mark.parametrize("kinds", [("fixed", "index_conditioned"), ("index_conditioned", "learned")])
@pytest.mark.parametrize("passes", [1, 2])
def test_svi_trains_two_models_one_after_the_other(kinds: tuple[str, str], passes: int) -> None:
    x = low_rank_rows()
    for kind in kinds:
        model, guide = make_trainable_pair(kind)
        before = error(model, guide, x)
        for n in range(1, passes + 1):  # recycling starts from a trained model
            train_by_svi(model, guide, x, RecyclingELBO(passes=n))
        assert error(model, guide, x) < 0.3 * before


@pytest.mark.parametrize("module_local_params", [False, True])
@pytest.mark.parametrize("passes", [1, 2])
def test_torch_optimizers_train_two_models_one_after_the_other(module_local_params: bool, passes: int) -> None:
    x = low_rank_rows()
    with pyro.settings.context(module_local_params=module_local_params):
        for _ in range(2):
            model, guide = make_trainable_pair("index_conditioned")
            before = error(model, guide, x)
            for n in range(1, passes + 1):  # recycling starts from a trained model
                train_by_torch(model, guide, x, RecyclingELBO(passes=n))
            assert error(model, guide, x) < 0.3 * before
            assert not list(pyro.get_param_store().keys())


def test_svi_and_torch_take_the_same_steps() -> None:
    x, histories = low_rank_rows(), []
    for train in (train_by_svi, train_by_torch):
        torch.manual_seed(1)
        model, guide = make_trainable_pair("index_conditioned")
        histories.append(train(model, guide, x, RecyclingELBO(passes=2), steps=20))
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


def test_svi_after_torch_learns_without_a_scope() -> None:
    """Training an ELBOModule leaves nothing in Pyro's global store, under whose names SVI would train the old model."""
    x = low_rank_rows()
    train_by_torch(*make_trainable_pair("fixed"), x, RecyclingELBO(), steps=5)
    model, guide = make_trainable_pair("fixed")
    before = error(model, guide, x)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), RecyclingELBO())
    for _ in range(300):
        svi.step(x)
    assert error(model, guide, x) < 0.3 * before


class FunctionalGuide(pyro.nn.PyroModule):
    """A guide whose parameter is a ``pyro.param`` of its forward, unknown to torch."""

    def forward(self, x: Tensor) -> None:
        loc = pyro.param("loc", lambda: torch.tensor(3.0))
        with pyro.plate("data", x.shape[-2], dim=-1):
            pyro.sample("z", dist.Normal(loc, 1.0).expand([2]).to_event(1))


def test_functional_parameters_stay_where_pyro_puts_them() -> None:
    """A ``pyro.param`` in the user's own code lives in the store as ever; no module's parameter does."""
    module, x = RecyclingELBO()(make_pair("fixed")[0], FunctionalGuide()), torch.zeros(4, 5)
    far = module(x)
    assert list(pyro.get_param_store().keys()) == ["loc"]
    pyro.param("loc").unconstrained().data.fill_(0.0)
    near = module(x)
    assert near.item() < far.item() - 20  # the KL alone falls from 4 * 2 * 3**2 / 2 = 36 to 0
    near.backward()
    assert pyro.param("loc").unconstrained().grad is not None


class OwnDecoder(nn.Module):
    """A user's decoder, of layers of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 5))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class OwnLikelihood(nn.Module):
    """A user's likelihood with the contract, not the base class: a Laplace with a learned scale."""

    n_outputs = 1
    normalised = True
    support = dist.constraints.real

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, decoder_output: Tensor, x: Tensor) -> Any:
        return dist.Laplace(decoder_output, self.log_scale.exp())


class OwnPrior(nn.Module):
    """A user's prior with a learned location."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))

    def forward(self) -> Any:
        return dist.Normal(self.loc, 1.0).to_event(1)


@pytest.mark.parametrize("train", [train_by_svi, train_by_torch])
def test_parts_of_ones_own(train: Callable[..., list[float]]) -> None:
    x = low_rank_rows()
    model = rv.models.VAE(OwnDecoder(), OwnLikelihood(), OwnPrior())
    guide = rv.guides.AmortizedNormal(OwnEncoder())
    before = {name: value.clone() for name, value in [*model.named_parameters(), *guide.named_parameters()]}
    losses = train(model, guide, x, RecyclingELBO(passes=2))
    assert losses[-1] < losses[0] - 1
    for name, value in [*model.named_parameters(), *guide.named_parameters()]:
        assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("module_local_params", [False, True])
def test_a_module_s_parameters_are_its_own(module_local_params: bool) -> None:
    """Two models' parameters have the same names, and neither sees the other's, nor does one come back that is gone."""
    x = torch.zeros(4, 5)
    with pyro.settings.context(module_local_params=module_local_params):
        guides = [rv.guides.AmortizedNormal(OwnEncoder()) for _ in range(2)]
        guides[1].encoder.scale = torch.full((2,), 3.0)
        model = rv.models.VAE(OwnDecoder(), OwnLikelihood(), OwnPrior())
        modules = [RecyclingELBO()(model, guide) for guide in guides]
        for guide, module, expected in zip(guides, modules, (0.5, 3.0), strict=True):
            module(x)
            draws = rv.inference.draw_posterior(guide, x, 2000)
            rv.inference.reconstruct(model, guide, x)
            rv.inference.generate(model, guide, 4, passes=2)
            assert draws.std(0).mean().item() == pytest.approx(expected, rel=0.05)
            assert guide.encoder.scale.detach().tolist() == pytest.approx([expected] * 2)
        assert not list(pyro.get_param_store().keys())

        guides[0].encoder = OwnEncoder()
        guides[0].encoder.scale = torch.full((2,), 0.1)
        modules[0](x)
        assert guides[0].encoder.scale.detach().tolist() == pytest.approx([0.1] * 2)
        modules[0].load_state_dict(modules[1].state_dict(), assign=True)
        modules[0](x)
        assert guides[0].encoder.scale.detach().tolist() == pytest.approx([3.0] * 2)


def test_training_and_test_time_leave_other_parameters_alone() -> None:
    pyro.param("someone's", torch.ones(2))
    before = dict(pyro.get_param_store().items())
    model, guide = make_pair()
    x = low_rank_rows(20)
    train_by_torch(model, guide, x, RecyclingELBO(passes=2), steps=3)
    rv.inference.reconstruct(model, guide, x)
    assert dict(pyro.get_param_store().items()) == before


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_torch_compile_of_the_module_runs() -> None:
    """Compiled by torch's own means, it breaks into pieces at Pyro's handlers, but gives the loss."""
    pyro.param("someone's", torch.ones(2))
    module, x = RecyclingELBO(passes=2)(*make_pair()), torch.randn(6, 5)
    torch.manual_seed(1)
    expected = module(x)
    torch.manual_seed(1)
    with pyro.settings.context(validate_distributions_torch=True):  # torch.compile switches it off for the process
        assert torch.compile(module, backend="eager")(x).item() == expected.item()


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_latents_and_replicates(parallel: bool) -> None:
    model, guide = make_pair("index_conditioned")
    x = torch.randn(6, 5)
    draws = Predictive(model, guide=guide, num_samples=2000, parallel=parallel)(x)
    assert draws["z"].shape == (2000, 6, 2)
    posterior = guide.encode(x)
    torch.testing.assert_close(draws["z"].mean(0), posterior.mean, rtol=0, atol=0.15)
    torch.testing.assert_close(draws["z"].std(0), posterior.stddev, rtol=0.15, atol=0)
    assert torch.equal(draws["x"][7], x)  # observed

    replicated = Predictive(poutine.uncondition(model), guide=guide, num_samples=2000, parallel=parallel)(x)
    assert replicated["x"].shape == (2000, 6, 5)
    residual = x - model.decode(replicated["z"], x).mean
    spread = (replicated["x"] - model.decode(replicated["z"], x).mean) / residual.abs().clamp(min=0.5)
    assert spread.std().item() == pytest.approx(1.0, abs=0.02)  # drawn with max(|r|, floor)


def test_trace_condition_and_replay() -> None:
    model, guide = make_pair("index_conditioned", size=60)
    x, z = torch.randn(6, 5), torch.randn(6, 2)
    guide_trace = poutine.trace(guide).get_trace(x)
    trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x)
    trace.compute_log_prob()
    assert trace.nodes["z"]["value"] is guide_trace.nodes["z"]["value"]
    assert trace.nodes["x"]["is_observed"]
    assert trace.nodes["x"]["log_prob"].shape == (6,)
    assert trace.nodes["x"]["scale"] == 10.0
    assert [frame.name for frame in trace.nodes["z"]["cond_indep_stack"]] == ["data"]

    conditioned = poutine.trace(poutine.condition(model, {"z": z})).get_trace(x)
    expected = model.decode(z, x).log_prob(x)
    torch.testing.assert_close(conditioned.nodes["x"]["fn"].log_prob(x), expected)


def test_a_batch_of_the_data_estimates_the_loss_of_all() -> None:
    """With `size` on both sides, the batches' losses are the whole's on average."""
    x = torch.randn(40, 5, dtype=torch.float64)
    model, guide = make_pair("fixed", size=40, dtype=torch.float64)
    guide.encoder.log_scale.weight.data.zero_()
    guide.encoder.log_scale.bias.data.fill_(-40.0)  # next to no noise: the losses can be compared to digits
    loss = RecyclingELBO(recycle="mean", passes=2)(model, guide)
    batches = torch.stack([loss(batch) for batch in x.split(10)])
    assert batches.mean().item() == pytest.approx(loss(x).item(), rel=1e-2)
    assert batches.std().item() > 0


def test_state_travels_by_state_dict() -> None:
    x = torch.randn(6, 5)
    modules = []
    for _ in range(2):
        module = RecyclingELBO(passes=2)(*make_pair("index_conditioned"))
        module.model.likelihood.floor.fill_(0.1 + torch.rand(()).item())
        modules.append(module)
    modules[1].load_state_dict(modules[0].state_dict())
    losses = []
    for module in modules:
        torch.manual_seed(1)
        losses.append(module(x).item())
    assert losses[0] == losses[1]


def test_replacing_the_elbo_needs_nothing_else() -> None:
    """The pair is an ordinary one: Pyro's own ELBO trains it too."""
    x = low_rank_rows()
    model, guide = make_trainable_pair("index_conditioned")
    before = error(model, guide, x)
    train_by_svi(model, guide, x, TraceMeanField_ELBO(max_plate_nesting=1))
    assert error(model, guide, x) < 0.3 * before
