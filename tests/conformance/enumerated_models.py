"""Latents summed over: what TraceEnum_ELBO and its kin do beyond one plate."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceTMC_ELBO, config_enumerate
from pyro.ops.indexing import Vindex
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import batches, no_guide, normal_guide, positive, same, setup

simplex, unit = dist.constraints.simplex, dist.constraints.unit_interval


def _enum(nesting: int, **others: Any) -> dict[str, Any]:
    return {"loss": TraceEnum_ELBO(max_plate_nesting=nesting, **others)}


def mixture_with_priors() -> Setup:
    """A mixture whose weights and means have guides, assignments summed over in mini-batches."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(x: Tensor) -> None:
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("components", 3):
            means = pyro.sample("means", dist.Normal(0.0, 2.0))
        with pyro.plate("rows", 20, subsample=x):
            kind = pyro.sample("kind", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(means[kind], 0.5), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("weights", dist.Dirichlet(pyro.param("b", torch.ones(3), constraint=positive)))
        with pyro.plate("components", 3):
            pyro.sample("means", dist.Normal(pyro.param("locs", torch.tensor([-1.0, 0.0, 1.0])), 0.3))

    return setup(model, guide, batches(torch.randn(20)), **_enum(1))


def guide_enumerated_sequentially() -> Setup:
    """Guide's latents summed over one value at a time, by Trace_ELBO's kin for enumeration."""

    def model(x: Tensor) -> None:
        kind = pyro.sample("kind", dist.Bernoulli(0.5))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(kind, 0.5), obs=x)

    @config_enumerate(default="sequential")  # type: ignore[untyped-decorator]
    def guide(x: Tensor) -> None:
        pyro.sample("kind", dist.Bernoulli(pyro.param("p", torch.tensor(0.3), constraint=unit)))

    return setup(model, guide, same(torch.randn(5) + 1), **_enum(1))


def guide_enumerated_by_row() -> Setup:
    """Latents of each row of a plate that is drawn, summed over in the guide: sums follow the order in memory."""
    kinds = torch.tensor([-1.0, 0.0, 1.0])

    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x), subsample_size=3) as rows:
            kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
            pyro.sample(
                "x", dist.StudentT(4.0, pyro.param("loc", torch.tensor(0.1)) + kinds[kind.long()], 0.5), obs=x[rows]
            )

    def guide(x: Tensor) -> None:
        logits = pyro.param("logits", torch.tensor([0.2, -0.5, 0.0]).repeat(len(x), 1))
        with pyro.plate("rows", len(x), subsample_size=3) as rows:
            pyro.sample("kind", dist.Categorical(logits=logits[rows]), infer={"enumerate": "parallel"})

    return setup(model, guide, same(torch.randn(6)), **_enum(1))


def enumeration_ignored() -> Setup:
    """The same by Trace_ELBO, which draws what is marked for a sum."""
    made = guide_enumerated_sequentially()
    made.loss = Trace_ELBO()
    return made


def enumerated_in_nested_plates() -> Setup:
    """Latents summed over in a plate and in one within it."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(x: Tensor) -> None:
        p = pyro.param("p", torch.tensor([[0.2, 0.7], [0.6, 0.4]]), constraint=unit)
        locs = pyro.param("locs", torch.tensor([-1.0, 1.0]))
        with pyro.plate("groups", x.shape[0], dim=-2):
            group = pyro.sample("group", dist.Bernoulli(0.4))
            with pyro.plate("rows", x.shape[1], dim=-1):
                kind = pyro.sample("kind", dist.Bernoulli(p[group.long(), 1]))
                pyro.sample("x", dist.Normal(locs[kind.long()], 1.0), obs=x)

    return setup(model, no_guide, same(torch.randn(3, 4)), **_enum(2))


def enumerated_expanded() -> Setup:
    """Latents of the guide summed over with expand=True, a latent that is drawn beside them."""

    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            kind = pyro.sample("kind", dist.OneHotCategorical(torch.ones(3) / 3))
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + kind[..., 1], 0.5), obs=x)

    @config_enumerate(expand=True)  # type: ignore[untyped-decorator]
    def guide(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            pyro.sample("kind", dist.OneHotCategorical(logits=pyro.param("logits", torch.zeros(3))))
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return setup(model, guide, batches(torch.randn(16)), **_enum(1))


def enumerated_particles() -> Setup:
    """Latents summed over, with three vectorised particles."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x), dim=-1):
            kind = pyro.sample("kind", dist.Bernoulli(0.3))
            pyro.sample("x", dist.Normal(mean + kind, 0.5), obs=x)

    loss = _enum(1, num_particles=3, vectorize_particles=True)
    return setup(model, normal_guide("mean"), same(torch.randn(6)), **loss)


def hidden_chain_of_pairs() -> Setup:
    """Two hidden chains that both act on what is observed (a factorial HMM)."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(x: Tensor) -> None:
        moves = pyro.param("moves", torch.tensor([[0.8, 0.2], [0.4, 0.6]]), constraint=simplex)
        others = pyro.param("others", torch.tensor([[0.5, 0.5], [0.1, 0.9]]), constraint=simplex)
        levels = pyro.param("levels", torch.tensor([[0.1, 0.9], [0.4, 0.6]]), constraint=unit)
        one, two = torch.tensor(0), torch.tensor(0)
        for t in pyro.markov(range(len(x))):
            one = pyro.sample(f"one_{t}", dist.Categorical(moves[one]))
            two = pyro.sample(f"two_{t}", dist.Categorical(others[two]))
            pyro.sample(f"x_{t}", dist.Bernoulli(Vindex(levels)[one, two]), obs=x[t])

    return setup(model, no_guide, same(torch.bernoulli(torch.full((4,), 0.5))), **_enum(0))


def hidden_chain_of_ragged_sequences() -> Setup:
    """A hidden chain over sequences of one length a batch, another at each step, with tones in a plate."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(tones: Tensor, lengths: Tensor) -> None:
        moves = pyro.param("moves", torch.tensor([[0.8, 0.2], [0.4, 0.6]]), constraint=simplex)
        levels = pyro.param("levels", torch.tensor([[0.1, 0.9, 0.3], [0.4, 0.6, 0.2]]), constraint=unit)
        plate = pyro.plate("tones", tones.shape[-1], dim=-1)
        with pyro.plate("sequences", len(tones), dim=-2):
            state: Any = 0
            for t in pyro.markov(range(int(lengths.max()))):
                with poutine.mask(mask=(t < lengths)[:, None]):
                    state = pyro.sample(f"state_{t}", dist.Categorical(moves[state]))
                    with plate:
                        level = Vindex(levels)[state.squeeze(-1)[..., None], torch.arange(3)]
                        pyro.sample(f"tone_{t}", dist.Bernoulli(level), obs=tones[:, t])

    tones = torch.bernoulli(torch.full((3, 4, 3), 0.5))
    lengths = [torch.tensor([2, 4, 3]), torch.tensor([2, 1, 3])]
    return setup(model, no_guide, lambda step: ((tones, lengths[step // 7 % 2]), {}), **_enum(2))


def hidden_chain_second_order() -> Setup:
    """A hidden chain that remembers two steps, `pyro.markov(history=2)`."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(x: Tensor) -> None:
        moves = pyro.param("moves", torch.full((2, 2, 2), 0.5), constraint=simplex)
        locs = pyro.param("locs", torch.tensor([-1.0, 1.0]))
        before, last = torch.tensor(0), torch.tensor(0)
        for t in pyro.markov(range(len(x)), history=2):
            before, last = last, pyro.sample(f"state_{t}", dist.Categorical(Vindex(moves)[before, last]))
            pyro.sample(f"x_{t}", dist.Normal(locs[last], 1.0), obs=x[t])

    return setup(model, no_guide, same(torch.randn(5)), **_enum(0))


def discrete_hmm() -> Setup:
    """The distribution DiscreteHMM, and mini-batches."""

    def model(x: Tensor) -> None:
        moves = pyro.param("moves", torch.zeros(2, 2))
        locs = pyro.param("locs", torch.tensor([-1.0, 1.0]))
        with pyro.plate("sequences", len(x)):
            pyro.sample("x", dist.DiscreteHMM(torch.zeros(2), moves, dist.Normal(locs, 1.0)), obs=x)

    return setup(model, no_guide, batches(torch.randn(12, 5), size=5))


def gaussian_hmm() -> Setup:
    """The distribution GaussianHMM (a Kalman filter)."""

    def model(x: Tensor) -> None:
        decay = pyro.param("decay", torch.tensor(0.8), constraint=unit)
        noise = pyro.param("noise", torch.tensor(0.5), constraint=positive)
        eye = torch.eye(2)
        first = dist.MultivariateNormal(torch.zeros(2), eye)
        moves = dist.MultivariateNormal(torch.zeros(2), noise * eye)
        seen = dist.MultivariateNormal(torch.zeros(1), eye[:1, :1])
        hmm = dist.GaussianHMM(first, decay * eye, moves, torch.ones(2, 1), seen, duration=len(x))
        pyro.sample("x", hmm, obs=x)

    return setup(model, no_guide, same(torch.randn(6, 1)))


def tensor_monte_carlo() -> Setup:
    """TraceTMC_ELBO, two draws of each latent."""

    def configured(function: Any) -> Any:
        return config_enumerate(function, default="parallel", num_samples=2, expand=False)

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        other = pyro.sample("other", dist.Normal(mean, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(other, 0.5), obs=x)

    guide = configured(normal_guide("mean", "other"))
    return setup(configured(model), guide, same(torch.randn(5)), loss=TraceTMC_ELBO(max_plate_nesting=1))


def nothing_to_enumerate() -> Setup:
    """TraceEnum_ELBO on a model without discrete latents: Pyro warns."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    return setup(model, normal_guide("mean"), same(torch.randn(5)), **_enum(1))


def guessed_nesting() -> Setup:
    """TraceEnum_ELBO that guesses max_plate_nesting in its first call, and mini-batches."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(x: Tensor) -> None:
        locs = pyro.param("locs", torch.tensor([-1.0, 1.0]))
        with pyro.plate("rows", len(x)):
            kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.3, 0.7])))
            pyro.sample("x", dist.Normal(locs[kind], 0.5), obs=x)

    return setup(model, no_guide, batches(torch.randn(20)), loss=TraceEnum_ELBO())


def branch_on_enumerated_first_value() -> Setup:
    """A latent that is summed over changes the number of sites by its shape only."""

    @config_enumerate  # type: ignore[untyped-decorator]
    def model(x: Tensor) -> None:
        kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.3, 0.7])))
        loc = pyro.param("loc", torch.tensor(0.5))
        shift = torch.zeros(kind.shape) if kind.dim() > 1 else loc * kind
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(shift + loc * kind, 0.5), obs=x)

    return setup(model, no_guide, same(torch.randn(5)), **_enum(1))
