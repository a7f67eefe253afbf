"""Pyro's examples of time series, small: deep Markov models, SIR, filters, forecasts, topic models of documents."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import JitTrace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.infer.reparam import LinearHMMReparam, StableReparam
from torch import Tensor, nn

from conformance.harness import Call, Setup
from conformance.parts import batches, no_guide, normal_guide, perceptron, positive, same, setup

unit = dist.constraints.unit_interval


class _DeepMarkov(nn.Module):
    """A deep Markov model with an RNN over reversed sequences in its guide."""

    def __init__(self, flow: bool = False) -> None:
        super().__init__()
        self.transition, self.emitter = perceptron(2, 4), perceptron(2, 3)
        self.rnn = nn.RNN(3, 4, batch_first=True)
        self.combiner = perceptron(6, 4)
        self.z_0, self.z_q_0 = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
        self.h_0 = nn.Parameter(torch.zeros(1, 1, 4))
        self.flows = nn.ModuleList([dist.transforms.affine_autoregressive(2, hidden_dims=[4])] * flow)

    def model(self, batch: Tensor, mask: Tensor, annealing: float = 1.0) -> None:
        pyro.module("dmm", self)
        z = self.z_0.expand(len(batch), 2)
        with pyro.plate("batch", len(batch)):
            for t in pyro.markov(range(batch.shape[1])):
                loc, log_scale = self.transition(z).chunk(2, -1)
                with poutine.scale(None, annealing):
                    steps = dist.Normal(loc, log_scale.exp()).mask(mask[:, t : t + 1]).to_event(1)
                    z = pyro.sample(f"z_{t}", steps)
                notes = dist.Bernoulli(logits=self.emitter(z)).mask(mask[:, t : t + 1]).to_event(1)
                pyro.sample(f"x_{t}", notes, obs=batch[:, t])

    def guide(self, batch: Tensor, mask: Tensor, annealing: float = 1.0) -> None:
        pyro.module("dmm", self)
        hidden, _ = self.rnn(batch.flip(1), self.h_0.expand(1, len(batch), 4).contiguous())
        hidden = hidden.flip(1)
        z = self.z_q_0.expand(len(batch), 2)
        with pyro.plate("batch", len(batch)):
            for t in pyro.markov(range(batch.shape[1])):
                loc, log_scale = self.combiner(torch.cat([z, hidden[:, t]], -1)).chunk(2, -1)
                steps: Any = dist.Normal(loc, log_scale.exp())
                if len(self.flows):
                    steps = dist.TransformedDistribution(steps, list(self.flows))
                with poutine.scale(None, annealing), poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", steps if len(self.flows) else steps.to_event(1))


def _songs(step: int) -> tuple[Tensor, Tensor]:
    """Return a mini-batch of ragged songs: every third one is shorter and of fewer rows."""
    rows, length = (3, 2) if step % 3 == 2 else (4, 3)
    lengths = torch.arange(rows) % length + 1
    mask = (torch.arange(length) < lengths[:, None]).float()
    return torch.bernoulli(torch.full((rows, length, 3), 0.5)) * mask[:, :, None], mask.bool()


def dmm() -> Setup:
    """Deep Markov model: ragged mini-batches, an annealing number that rises at each step."""
    model = _DeepMarkov()

    def call(step: int) -> Call:
        return (*_songs(step), 0.2 + 0.8 * step / 20), {}

    optim = pyro.optim.ClippedAdam({"lr": 0.01, "clip_norm": 10.0, "lrd": 0.999})
    return setup(model.model, model.guide, call, optim=optim, watched=[model])


def dmm_annealed_by_epochs() -> Setup:
    """Deep Markov model with a flow in its guide, the annealing number a tensor that changes at each epoch."""
    model = _DeepMarkov(flow=True)

    def call(step: int) -> Call:
        return (*_songs(0), torch.tensor(min(1.0, 0.3 * (1 + step // 6)))), {}

    return setup(model.model, model.guide, call, watched=[model])


def epidemic() -> Setup:
    """SIR model in discrete time, latents at each step, by a Euler loop and a Poisson of new cases."""

    def model(cases: Tensor) -> None:
        rate = pyro.sample("rate", dist.LogNormal(-0.5, 0.3))
        recovery = pyro.sample("recovery", dist.Beta(2.0, 5.0))
        susceptible, infected = torch.tensor(100.0), torch.tensor(2.0)
        for t in range(len(cases)):
            new = rate * susceptible * infected / 102.0
            susceptible, infected = susceptible - new, infected + new - recovery * infected
            pyro.sample(f"cases_{t}", dist.Poisson(new.clamp(min=1e-3)), obs=cases[t])

    return setup(model, AutoNormal(model), same(torch.tensor([1.0, 2.0, 2.0, 4.0, 5.0])))


def differential_equation() -> Setup:
    """Lotka-Volterra by fourth-order Runge and Kutta in a loop, its noise learnt."""

    def slope(state: Tensor, rates: Tensor) -> Tensor:
        prey, predators = state.unbind(-1)
        return torch.stack(
            [
                rates[0] * prey - rates[1] * prey * predators,
                rates[2] * prey * predators - rates[3] * predators,
            ]
        )

    def model(seen: Tensor) -> None:
        rates = pyro.sample("rates", dist.LogNormal(torch.full((4,), -1.0), 0.3).to_event(1))
        state, h = torch.tensor([1.0, 0.5]), 0.1
        states = []
        for _ in range(len(seen)):
            one = slope(state, rates)
            two = slope(state + h / 2 * one, rates)
            three = slope(state + h / 2 * two, rates)
            four = slope(state + h * three, rates)
            state = state + h / 6 * (one + 2 * two + 2 * three + four)
            states.append(state)
        with pyro.plate("times", len(seen)):
            pyro.sample("seen", dist.LogNormal(torch.stack(states).log(), 0.2).to_event(1), obs=seen)

    return setup(model, AutoNormal(model, init_scale=0.02), same(torch.rand(5, 2) + 0.5))


def random_walk() -> Setup:
    """A random walk with the plate of times, as forecasts have it: cumsum, missing values, a seasonal part."""

    def model(seen: Tensor, missing: Tensor) -> None:
        drift = pyro.sample("drift", dist.LogNormal(-3.0, 1.0))
        with pyro.plate("season", 3):
            season = pyro.sample("seasonal", dist.Normal(0.0, 1.0))
        with pyro.plate("times", len(seen)):
            steps = pyro.sample("steps", dist.Normal(0.0, drift))
        level = steps.cumsum(-1) + season.repeat(4)[: len(seen)]
        with pyro.plate("seen_times", len(seen)), poutine.mask(mask=~missing):
            pyro.sample("seen", dist.StudentT(4.0, level, 0.3), obs=seen)

    seen = torch.randn(10).cumsum(0)
    return setup(model, AutoNormal(model), same(seen, torch.rand(10) < 0.2))


def local_level() -> Setup:
    """Stable noise and LinearHMM under reparametrisers (Pyro's stochastic volatility)."""

    @poutine.reparam(config={"noise": StableReparam()})  # type: ignore[untyped-decorator]
    def model(seen: Tensor) -> None:
        level = pyro.sample("level", dist.Normal(0.0, 1.0))
        with pyro.plate("times", len(seen)):
            noise = pyro.sample("noise", dist.Stable(1.8, 0.1, 0.3))
            pyro.sample("seen", dist.Normal(level + noise, 0.5), obs=seen)

    return setup(model, AutoNormal(model), same(torch.randn(5)))


def linear_hmm() -> Setup:
    """LinearHMM, turned into a GaussianHMM by LinearHMMReparam."""

    @poutine.reparam(config={"seen": LinearHMMReparam()})  # type: ignore[untyped-decorator]
    def model(seen: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(0.5), constraint=positive)
        first = dist.Normal(torch.zeros(1), 1.0).to_event(1)
        noise = dist.Normal(torch.zeros(1), scale).to_event(1)
        hmm = dist.LinearHMM(first, torch.eye(1), noise, torch.eye(1), noise, duration=len(seen))
        pyro.sample("seen", hmm, obs=seen)

    return setup(model, no_guide, same(torch.randn(5, 1)))


def autoregressive() -> Setup:
    """A sequence whose mean is of the last two observed values, in a loop with scalars and a list."""

    def model(seen: Tensor) -> None:
        weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        values = [torch.zeros(()), torch.zeros(())]
        for t, each in enumerate(seen):
            mean = weights[0] * values[-1] + weights[1] * values[-2]
            values.append(pyro.sample(f"seen_{t}", dist.Normal(mean, 0.5), obs=each))

    return setup(model, normal_guide("weights", shape=(2,)), same(torch.randn(6)))


def poisson_change_point() -> Setup:
    """A point of change, summed over, in counts."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(counts: Tensor) -> None:
        early = pyro.sample("early", dist.Exponential(0.5))
        late = pyro.sample("late", dist.Exponential(0.5))
        change = pyro.sample("change", dist.Categorical(torch.ones(len(counts)) / len(counts)))
        with pyro.plate("times", len(counts)):
            rate = torch.where(torch.arange(len(counts)) < change, early, late)
            pyro.sample("counts", dist.Poisson(rate), obs=counts)

    guide = AutoDelta(poutine.block(model, hide=["change"]))
    return setup(model, guide, same(torch.tensor([1.0, 2.0, 1.0, 5.0, 6.0])), loss=TraceEnum_ELBO(max_plate_nesting=1))


def lda() -> Setup:
    """Topics of documents (amortised), words summed over, a mini-batch of documents drawn by the plate."""
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(-1))

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(words: Tensor) -> None:
        with pyro.plate("topics", 2):
            topics = pyro.sample("topic", dist.Dirichlet(torch.ones(6) / 6))
        with pyro.plate("documents", words.shape[1]) as chosen:
            shares = pyro.sample("shares", dist.Dirichlet(torch.ones(2)))
            with pyro.plate("words", words.shape[0]):
                kind = pyro.sample("kind", dist.Categorical(shares))
                pyro.sample("word", dist.Categorical(topics[kind]), obs=words[:, chosen])

    def guide(words: Tensor) -> None:
        pyro.module("network", network)
        posterior = pyro.param("posterior", lambda: torch.ones(2, 6), constraint=positive)
        with pyro.plate("topics", 2):
            pyro.sample("topic", dist.Dirichlet(posterior))
        with pyro.plate("documents", words.shape[1], 4) as chosen:
            counts = torch.zeros(6, 4).scatter_add(0, words[:, chosen], torch.ones(words[:, chosen].shape))
            pyro.sample("shares", dist.Delta(network(counts.T), event_dim=1))

    loss = TraceEnum_ELBO(max_plate_nesting=2)
    return setup(model, guide, same(torch.randint(6, (5, 8))), loss=loss, watched=[network])


def lda_of_ragged_documents() -> Setup:
    """Topics of a list of documents of ragged lengths, another list at each step; topics drawn, not summed over."""

    def model(documents: list[Tensor]) -> None:
        with pyro.plate("topics", 2):
            topics = pyro.sample("topic", dist.Dirichlet(torch.ones(6)))
        for number in pyro.plate("documents", len(documents)):
            shares = pyro.sample(f"shares_{number}", dist.Dirichlet(torch.ones(2)))
            with pyro.plate(f"words_{number}", len(documents[number])):
                pyro.sample(f"word_{number}", dist.Categorical(shares @ topics), obs=documents[number])

    def guide(documents: list[Tensor]) -> None:
        posterior = pyro.param("posterior", lambda: torch.ones(2, 6), constraint=positive)
        with pyro.plate("topics", 2):
            pyro.sample("topic", dist.Dirichlet(posterior))
        for number in pyro.plate("documents", len(documents)):
            shares = pyro.param(f"amount_{number}", lambda: torch.ones(2), constraint=positive)
            pyro.sample(f"shares_{number}", dist.Dirichlet(shares))

    lists = [[torch.randint(6, (length,)) for length in lengths] for lengths in ((3, 5, 2), (4, 1), (2, 2, 6))]
    loss = TraceMeanField_ELBO()
    return setup(model, guide, lambda step: ((lists[step // 5 % 3],), {}), loss=loss)


def jit_objective() -> Setup:
    """JitTrace_ELBO, which traces the model by itself."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    return setup(model, normal_guide("mean"), batches(torch.randn(16)), loss=JitTrace_ELBO())
