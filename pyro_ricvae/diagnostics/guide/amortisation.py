"""The amortisation gap: what each row would gain from a posterior of its own."""

import math

import pyro.distributions as dist
import torch
from pyro.distributions import Independent, Normal, TorchDistribution
from torch import Tensor

from pyro_ricvae._core.checks import check_rows, positive_finite, positive_int
from pyro_ricvae._core.distributions import describe
from pyro_ricvae.diagnostics.replicates.replicate import LEAST_WIDTH
from pyro_ricvae.inference.predictive import in_chunks
from pyro_ricvae.pair import Guide, Model

# Draws times rows times features that are decoded at once, with what gradients need: some hundred MiB in float32.
_CELLS_AT_ONCE = 2**22


def amortisation_gap(
    model: Model,
    guide: Guide,
    x: Tensor,
    *,
    steps: int = 200,
    learning_rate: float = 0.1,
    n_particles: int = 8,
    n_draws: int = 500,
    batch_size: int = 1024,
) -> Tensor:
    r"""Return what the ELBO of each row gains when its q is refined for it alone (Cremer et al., 2018).

    .. math:: \max_{m, s} \mathrm{ELBO}[\mathcal N(m, \mathrm{diag}\, s^2); x_i] - \mathrm{ELBO}[q(\cdot \mid x_i); x_i]

    From the encoder's location and scale a normal of each row climbs by Adam, with steps that shrink to nothing, along
    the gradient of Roeder et al. (2017), which is zero at an exact posterior whatever the draws. Both ELBOs are then
    estimated from the same fresh draws of noise. Model and guide stay as they are.

    Parameters
    ----------
    model : pair.Model
        The generative model. Any likelihood with a gradient in z will do, a profile likelihood too: over a fixed row a
        factor of its density cancels, and the gain is the fall in KL from q to the (pseudo-)posterior.
    guide : pair.Guide
        Its guide: normal, independent over the units.
    x : Tensor, shape (n, d)
        The rows, in the model's units.
    steps : int, default=200
        The number of steps.
    learning_rate : float, default=0.1
        The first step, in the encoder's scale of each unit: steps reach as far as about half of steps times this.
    n_particles : int, default=8
        The number of draws a step.
    n_draws : int, default=500
        The number of draws for the two ELBOs.
    batch_size : int, default=1024
        The number of rows in a chunk at most; fewer where there are many draws.

    Returns
    -------
    Tensor, shape (n,)
        In nats, on the device of `x`: about 0 where the encoder's q is the best normal; by noise a little below 0 for
        some rows. What remains to the posterior after refining, a normal cannot reach, and is not in it.

    Raises
    ------
    ValueError
        If the guide is not an independent normal, or an argument is not as said.
    """
    steps, n_particles, n_draws = (
        positive_int("steps", steps),
        positive_int("n_particles", n_particles),
        positive_int("n_draws", n_draws),
    )
    rate = float(positive_finite("learning_rate", learning_rate))
    check_rows(x)
    most = max(1, _CELLS_AT_ONCE // (max(n_particles, n_draws) * max(LEAST_WIDTH, x.shape[-1])))

    def gain(chunk: Tensor) -> Tensor:
        before = guide.encode(chunk)
        if not (isinstance(before, Independent) and isinstance(before.base_dist, Normal)):
            raise ValueError(
                f"Expected a guide that is normal and independent over the latent units, actual {describe(before)}: "
                "use pareto_k for another one."
            )
        with torch.enable_grad():
            after = _refine(model, before.base_dist, chunk, steps, rate, n_particles)
        noise = torch.randn(n_draws, *before.mean.shape, dtype=before.mean.dtype, device=chunk.device)
        elbo = [_log_weights(model, q, q.mean + q.stddev * noise, chunk).mean(0) for q in (after, before)]
        return (elbo[0] - elbo[1]).unsqueeze(-1)

    return in_chunks((model, guide), x, min(positive_int("batch_size", batch_size), most), gain).squeeze(-1)


def _refine(
    model: Model, start: TorchDistribution, x: Tensor, steps: int, learning_rate: float, n_particles: int
) -> TorchDistribution:
    """Return the normal of each row after `steps` steps up its ELBO, starting from `start`."""
    # In units of the encoder's own scale, so that one learning rate does for all rows and units.
    shift, log_ratio = (torch.zeros_like(start.mean).requires_grad_() for _ in range(2))
    optimizer = torch.optim.Adam([shift, log_ratio], lr=learning_rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        loc, scale = start.mean + start.stddev * shift, start.stddev * log_ratio.exp()
        z = loc + scale * torch.randn(n_particles, *loc.shape, dtype=loc.dtype, device=loc.device)
        # log q as a function of z alone: its own parameters' gradient is zero on average, and would only be noise.
        constant = dist.Normal(loc.detach(), scale.detach()).to_event(1)
        loss = -_log_weights(model, constant, z, x).mean(0).sum()
        # Only of these two: the gradients of model and guide are the user's.
        shift.grad, log_ratio.grad = torch.autograd.grad(loss, [shift, log_ratio])
        optimizer.step()
    with torch.no_grad():
        refined: TorchDistribution = dist.Normal(
            start.mean + start.stddev * shift, start.stddev * log_ratio.exp()
        ).to_event(1)
        return refined


def _log_weights(model: Model, q: TorchDistribution, z: Tensor, x: Tensor) -> Tensor:
    log_weights: Tensor = model.decode(z, x).log_prob(x) + model.prior().log_prob(z) - q.log_prob(z)
    return log_weights
