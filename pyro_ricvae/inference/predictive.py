"""Passes at test time: reconstruction, generation and posterior draws, in chunks of rows.

Memory beyond the result grows with ``batch_size``, neither with the number of rows nor with that of passes. The modules
are put in evaluation mode for the time of a call, and no gradients are kept.

The functions take any pair of the shape that `pyro_ricvae.pair` says.
Random numbers come from torch's global generator; which row gets which of them depends on ``batch_size``.
"""

from collections.abc import Callable

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae._core.checks import check_finite, check_rows, positive_int
from pyro_ricvae._core.distributions import mean_of
from pyro_ricvae._core.isolation import ModuleLike, device_of, evaluation
from pyro_ricvae.pair import Guide, Model, Recycle, dirt_probability, next_input, recycle_at_test_time, repaired


def reconstruct(
    model: Model, guide: Guide, x: Tensor, passes: int = 1, *, sample: bool = False, batch_size: int = 1024
) -> Tensor:
    r"""Return the rows after M passes through guide and model: the cleaned data.

    By means, :math:`x_{k+1} = E[x \mid z = \mu_z(x_k)]` (or what the likelihood makes of it, where it says how it is
    recycled; see `likelihoods.Likelihood`); by sampling, :math:`z_k \sim q(z \mid x_k)` and :math:`x_{k+1}
    \sim p(x \mid z_k, i)`, so that one pass gives a replicate from the posterior predictive. The result is
    :math:`x_{M+1}`.

    Parameters
    ----------
    model : pair.Model
        The generative model.
    guide : pair.Guide
        Its guide.
    x : Tensor, shape (..., n, d)
        The rows, in data units, on any device.
    passes : int, default=1
        The number M of passes.
    sample : bool, default=False
        Whether to sample instead of taking means.
    batch_size : int, default=1024
        The number of rows in a chunk.

    Returns
    -------
    Tensor, shape (..., n, d)
        In data units, on the device of `x`.

    Raises
    ------
    ValueError
        If `passes` or `batch_size` is not a whole number >= 1, or `x` has not the shape (..., n, d) or is not of a
        floating-point type.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae import guides, inference, likelihoods, models, networks, priors
    >>> model = models.VAE(networks.MLPDecoder(2, 5, ()), likelihoods.FixedNormal(1.0), priors.StandardNormal(2))
    >>> guide = guides.AmortizedNormal(networks.MLPEncoder(5, 2, ()))
    >>> inference.reconstruct(model, guide, torch.zeros(8, 5), passes=3).shape
    torch.Size([8, 5])
    """
    passes = positive_int("passes", passes)
    return in_chunks((model, guide), x, batch_size, lambda chunk: _reconstructed(model, guide, chunk, passes, sample))


def repair(model: Model, guide: Guide, x: Tensor, passes: int = 1, *, batch_size: int = 1024) -> tuple[Tensor, Tensor]:
    r"""Return rows in which only what is dirty has been replaced, and the probability that each cell is.

    .. math:: w \mu + (1 - w) x

    with :math:`\mu` what the last of M passes makes of the rows, and w how probable dirt is given that, as the model's
    likelihood has it. Passes before read repaired rows, always of the original `x`, where it is recycled so.

    Parameters
    ----------
    model, guide, x, passes, batch_size
        As in `reconstruct`.

    Returns
    -------
    rows : Tensor, shape (..., n, d)
        In data units, on the device of `x`.
    probability : Tensor, shape (..., n, d)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the likelihood does not say how probable dirt is, or an argument is not as said.
    """
    passes = positive_int("passes", passes)

    def both(chunk: Tensor) -> Tensor:
        encoded = recycle(model, guide, chunk, passes - 1)
        rows = model.decode(_values(guide.encode(encoded), False), encoded)
        probability = dirt_probability(model, rows, chunk)
        return torch.stack([repaired(mean_of(rows, "Repair"), chunk, probability), probability])

    made, probability = in_chunks((model, guide), x, batch_size, both)
    return made, probability


def generate(
    model: Model, guide: Guide, n: int, passes: int = 1, *, sample: bool = False, batch_size: int = 1024
) -> Tensor:
    """Return new rows: latents from the prior, through the decoder, then M - 1 passes through guide and model.

    Parameters
    ----------
    model : pair.Model
        The generative model.
    guide : pair.Guide
        Its guide, used from the second pass on.
    n : int
        The number of rows.
    passes : int, default=1
        The number M of passes.
    sample : bool, default=False
        Whether rows are drawn from p(x | z) and latents from q(z | x), instead of taking means. In the first pass an
        index-conditioned row is drawn at its floor: there is nothing to differ from yet.
    batch_size : int, default=1024
        The number of rows in a chunk.

    Returns
    -------
    Tensor, shape (n, d)
        In data units, on the CPU.

    Raises
    ------
    ValueError
        If `n`, `passes` or `batch_size` is not a whole number >= 1.
    """
    passes, n, batch_size = positive_int("passes", passes), positive_int("n", n), positive_int("batch_size", batch_size)
    chunks = []
    with evaluation(model, guide):
        prior = model.prior()
        for start in range(0, n, batch_size):
            rows = model.decode(prior.sample((min(batch_size, n - start),)))
            how = _without_repair(model)  # a new row has no dirt
            chunks.append(recycle(model, guide, _values(rows, sample), passes - 1, sample, how).cpu())
    return torch.cat(chunks)


def draw_posterior(guide: Guide, x: Tensor, num_draws: int, *, batch_size: int = 1024) -> Tensor:
    """Return draws of the latents from q(z | x).

    Parameters
    ----------
    guide : pair.Guide
        The guide.
    x : Tensor, shape (..., n, d)
        The rows, in data units, on any device.
    num_draws : int
        The number S of draws a row.
    batch_size : int, default=1024
        The number of rows in a chunk.

    Returns
    -------
    Tensor, shape (S, ..., n, n_latent)
        On the device of `x`.

    Raises
    ------
    ValueError
        If `num_draws` or `batch_size` is not a whole number >= 1, or `x` has not the shape (..., n, d) or is not of a
        floating-point type.
    """
    num_draws = positive_int("num_draws", num_draws)
    return in_chunks((guide,), x, batch_size, lambda chunk: guide.encode(chunk).sample((num_draws,)))


def in_chunks(
    modules: tuple[ModuleLike, ...], x: Tensor, batch_size: int, function: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return `function` of the rows, computed in chunks of them on the modules' device, in evaluation mode.

    Parameters
    ----------
    modules : tuple of torch.nn.Module
        What `function` uses; the last one's device is where it runs.
    x : Tensor, shape (..., n, d)
        The rows, on any device.
    batch_size : int
        The number of rows in a chunk.
    function : callable
        From rows (..., B, d) to a tensor (..., B, k).

    Returns
    -------
    Tensor, shape (..., n, k)
        On the device of `x`.

    Raises
    ------
    ValueError
        If `batch_size` is not a whole number >= 1, or `x` has not the shape (..., n, d), is not of a floating-point
        type, or holds values that are not finite.
    """
    chunks = _row_chunks(x, batch_size)
    with evaluation(*modules):
        device = device_of(modules[-1])
        return torch.cat([function(chunk.to(device)).to(x.device) for chunk in chunks], dim=-2)


def recycle(
    model: Model, guide: Guide, x: Tensor, passes: int, sample: bool = False, how: Recycle | None = None
) -> Tensor:
    """Return the rows `x`, of shape (..., B, d), after `passes` passes (0 returns them), by sampling or by means.

    `how` they are passed on, where they are not drawn, is as the likelihood says by default.
    """
    chosen: Recycle = "sample" if sample else how or recycle_at_test_time(model)
    first = x
    for _ in range(passes):
        rows = model.decode(_values(guide.encode(x), sample), x)
        x = next_input(rows, x, chosen, model=model, first=first, differentiable=False, whose="A pass by means")
    return x


def _reconstructed(model: Model, guide: Guide, x: Tensor, passes: int, sample: bool) -> Tensor:
    """Return what the last of so many passes makes of every cell."""
    x = recycle(model, guide, x, passes - 1, sample)
    return recycle(model, guide, x, 1, sample, _without_repair(model))


def _without_repair(model: Model) -> Recycle:
    """Return how rows are passed on at test time, with the mean of every cell in the place of a repair."""
    how = recycle_at_test_time(model)
    return "mean" if how == "repair" else how


def _values(distribution: TorchDistribution, sample: bool) -> Tensor:
    values: Tensor = distribution.sample() if sample else mean_of(distribution, "A pass by means")
    return values


def _row_chunks(x: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    check_rows(x)
    chunks: tuple[Tensor, ...] = torch.split(x, positive_int("batch_size", batch_size), dim=-2)
    if not all(chunk.isfinite().all() for chunk in chunks):
        check_finite(x)  # of all rows at once: only to say where
    return chunks
