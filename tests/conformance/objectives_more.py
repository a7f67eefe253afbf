"""Objectives and optimizers of every kind, and how they are given to SVI."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.contrib.gp import kernels
from pyro.infer import (
    EnergyDistance,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    Trace_MMD,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
)
from torch import Tensor, nn

from conformance.harness import Setup
from conformance.parts import VAE, batches, binary, no_guide, normal_guide, same, setup

unit = dist.constraints.unit_interval


def _normal(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x), dim=-1):
        pyro.sample("x", dist.Normal(mean, 0.5), obs=x)


def _by(loss: Any, **others: Any) -> Setup:
    return setup(_normal, normal_guide("mean"), batches(torch.randn(20)), loss=loss, **others)


def _vae(loss: Any, **others: Any) -> Setup:
    vae = VAE()
    return setup(vae.model, vae.guide, batches(binary()), loss=loss, watched=[vae], **others)


def particles_evaluated() -> Setup:
    """Two particles; the loss evaluated after every third step."""
    return _by(Trace_ELBO(num_particles=2), evaluate_every=3)


def _with_particles(vae: VAE) -> Any:
    """Return the model of a VAE whose rows may have particles before them."""

    def model(x: Tensor) -> None:
        pyro.module("decoder", vae.decoder)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=vae.decoder(z)).to_event(1), obs=x)

    return model


def particles_of_vae() -> Setup:
    """Five vectorised particles of a VAE, mini-batches."""

    def guide(x: Tensor) -> None:
        pyro.module("encoder", vae.encoder)
        with pyro.plate("data", len(x), dim=-1):
            loc, log_scale = vae.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    vae = VAE()
    loss = Trace_ELBO(num_particles=5, vectorize_particles=True)
    return setup(_with_particles(vae), guide, batches(binary()), loss=loss)


def mean_field_fallback() -> Setup:
    """TraceMeanField_ELBO, a latent without KL in closed form."""

    def model(x: Tensor) -> None:
        scale = pyro.sample("scale", dist.HalfCauchy(1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(0.0, scale), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("scale", dist.LogNormal(pyro.param("loc", torch.tensor(0.0)), 0.3))

    return setup(model, guide, same(torch.randn(6)), loss=TraceMeanField_ELBO(), evaluate_every=5)


def iwae() -> Setup:
    """RenyiELBO with alpha 0, five vectorised particles, of a VAE; evaluated too."""
    loss = RenyiELBO(alpha=0.0, num_particles=5, vectorize_particles=True, max_plate_nesting=1)

    vae = VAE()
    return setup(_with_particles(vae), vae.guide, batches(binary()), loss=loss, evaluate_every=6)


def renyi_score_function() -> Setup:
    """RenyiELBO with alpha 2, a latent that needs a score function: Pyro's own terms."""

    def model(x: Tensor) -> None:
        kind = pyro.sample("kind", dist.Bernoulli(0.4))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(kind, 0.5), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("kind", dist.Bernoulli(pyro.param("p", torch.tensor(0.3), constraint=unit)))

    return setup(model, guide, same(torch.randn(5) + 1), loss=RenyiELBO(alpha=2.0, num_particles=3))


def tail_adaptive_vectorised() -> Setup:
    """TraceTailAdaptive_ELBO, ten vectorised particles, a guide that covers the posterior."""
    loss = TraceTailAdaptive_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=1)
    return setup(_normal, normal_guide("mean", scale=1.5), same(torch.randn(4)), loss=loss)


def wake_sleep_tuple() -> Setup:
    """ReweightedWakeSleep with a sleep phase: steps return tuples."""

    def model(observations: dict[str, Tensor] | None = None) -> None:
        given: dict[str, Any] = observations or {"x": None}
        kind = pyro.sample("kind", dist.Bernoulli(pyro.param("prior", torch.tensor(0.5), constraint=unit)))
        pyro.sample("x", dist.Normal(2.0 * kind, 1.0), obs=given["x"])

    def guide(observations: dict[str, Tensor] | None = None) -> None:
        given: dict[str, Any] = observations or {"x": torch.zeros(())}
        pyro.module("network", network)
        pyro.sample("kind", dist.Bernoulli(logits=network(given["x"].unsqueeze(-1)).squeeze(-1)))

    network = nn.Linear(1, 1)
    loss = ReweightedWakeSleep(num_particles=4, insomnia=0.7, num_sleep_particles=3)
    return setup(model, guide, same(observations={"x": torch.tensor(1.4)}), loss=loss, evaluate_every=4)


def graph_of_plates() -> Setup:
    """TraceGraph_ELBO, discrete latents in nested plates, a decaying average for each."""

    def model(x: Tensor) -> None:
        with pyro.plate("groups", x.shape[1], dim=-1):
            group = pyro.sample("group", dist.Bernoulli(0.5))
            with pyro.plate("rows", x.shape[0], dim=-2):
                kind = pyro.sample("kind", dist.Bernoulli(0.2 + 0.6 * group))
                pyro.sample("x", dist.Normal(kind, 0.5), obs=x)

    def guide(x: Tensor) -> None:
        baseline = {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.8}}
        with pyro.plate("groups", x.shape[1], dim=-1):
            p = pyro.param("p", torch.full((3,), 0.4), constraint=unit)
            pyro.sample("group", dist.Bernoulli(p), infer=baseline)
            with pyro.plate("rows", x.shape[0], dim=-2):
                q = pyro.param("q", torch.full((4, 3), 0.4), constraint=unit)
                pyro.sample("kind", dist.Bernoulli(q), infer=baseline)

    return setup(model, guide, same(torch.randn(4, 3)), loss=TraceGraph_ELBO())


class _Baseline(nn.Module):
    """A number predicted of all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.network(x).squeeze(-1)
        return found


def graph_network_baseline() -> Setup:
    """TraceGraph_ELBO, a network as baseline, with its own learning rate by a function of the parameter."""
    network = _Baseline()

    def model(x: Tensor) -> None:
        kind = pyro.sample("kind", dist.Bernoulli(0.5))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(kind, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("baseline", network)
        p = pyro.param("p", torch.tensor(0.4), constraint=unit)
        baseline = {"nn_baseline": network, "nn_baseline_input": x, "use_decaying_avg_baseline": True}
        pyro.sample("kind", dist.Bernoulli(p), infer={"baseline": baseline})

    def rates(name: str) -> dict[str, float]:
        return {"lr": 0.1 if "baseline" in name else 0.01}

    optim = pyro.optim.Adam(rates)
    return setup(model, guide, same(torch.randn(5)), loss=TraceGraph_ELBO(), optim=optim, watched=[network])


def energy_distance_of_rows() -> Setup:
    """EnergyDistance with a prior's weight, latents, mini-batches."""

    def model(x: Tensor | None = None, rows: int = 10) -> None:
        mean = pyro.sample("mean", dist.Normal(pyro.param("prior", torch.tensor(0.2)), 1.0))
        with pyro.plate("rows", rows):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    loss = EnergyDistance(beta=1.0, prior_scale=0.1, num_particles=3)
    return setup(model, normal_guide("mean"), same(torch.randn(10)), loss=loss)


def maximum_mean_discrepancy() -> Setup:
    """Trace_MMD with a kernel of pyro.contrib.gp."""

    vae, kernel = VAE(), kernels.RBF(2, lengthscale=torch.ones(2))
    loss = Trace_MMD(kernel=kernel, vectorize_particles=True, num_particles=2, mmd_scale=10)
    return setup(_with_particles(vae), vae.guide, same(binary()), loss=loss)


def loss_of_user() -> Setup:
    """A user's function as loss: a weighted KL by hand, its weight a global object's."""
    weights = {"kl": 0.5}

    def loss(model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        seen = poutine.trace(guide).get_trace(*args, **kwargs)
        joint = poutine.trace(poutine.replay(model, trace=seen)).get_trace(*args, **kwargs)
        joint.compute_log_prob()
        seen.compute_log_prob()
        rows = joint.nodes["x"]["log_prob"].sum()
        kl = seen.nodes["mean"]["log_prob"].sum() - joint.nodes["mean"]["log_prob"].sum()
        return weights["kl"] * kl - rows

    def before(step: int) -> None:
        weights["kl"] = 0.5 + 0.1 * (step // 8)

    return _by(loss, before=before)


def loss_and_gradients_of_user() -> Setup:
    """A user's subclass of Trace_ELBO with loss_and_grads that adds a penalty and returns a float."""

    class Penalised(Trace_ELBO):
        def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
            loss = super().differentiable_loss(model, guide, *args, **kwargs)
            loss = loss + 0.1 * pyro.param("mean_loc").pow(2)
            loss.backward()
            return float(loss.item())

    return _by(Penalised())


def loss_and_gradients_given() -> Setup:
    """SVI's loss_and_grads is a function of the user's, which clips and takes the gradient by itself."""

    def loss_and_grads(model: Any, guide: Any, *args: Any) -> float:
        loss = elbo.differentiable_loss(model, guide, *args)
        (10.0 * torch.tanh(loss / 10.0)).backward()
        return float(loss.detach())

    elbo = Trace_ELBO()
    return _by(elbo.loss, loss_and_grads=loss_and_grads, evaluate_every=5)


def differentiable_losses() -> Setup:
    """`TraceEnum_ELBO().differentiable_loss` of a VAE as the loss."""
    return _vae(TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss)


def objective_of_several() -> Setup:
    """A user's loss that is the sum of two objectives."""
    one, two = Trace_ELBO(num_particles=2), TraceMeanField_ELBO()

    def loss(*args: Any) -> Any:
        return one.differentiable_loss(*args) + 0.5 * two.differentiable_loss(*args)

    return _by(loss)


def loss_changed() -> Setup:
    """The number of particles of the objective raised at step 9."""
    loss = Trace_ELBO(num_particles=1)

    def before(step: int) -> None:
        loss.num_particles = 1 if step < 9 else 3

    return _by(loss, before=before)


def no_particle_of_finite_loss() -> Setup:
    """A loss that is not finite in some steps (log of a negative number, validation off)."""

    def model(x: Tensor, shift: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            loc = pyro.param("loc", torch.tensor(0.1))
            pyro.factor("term", (shift * loc + 1.0).log() - (x - loc) ** 2)

    shifts = [torch.tensor(-30.0 if step in (8, 12) else 0.5) for step in range(20)]
    return setup(model, no_guide, lambda step: ((torch.ones(3), shifts[step]), {}))
