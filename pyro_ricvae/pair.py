"""The contract of a pair: what model and guide have, the plate over their rows, and the step from pass to pass.

`inference`, `diagnostics` and estimators take any pair of this shape; `models.VAE` with `guides.AmortizedNormal` is
one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import pyro
import torch
from pyro.distributions import TorchDistribution
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyro_ricvae._core.checks import between_0_and_1, check_rows
from pyro_ricvae._core.distributions import inner, mean_of
from pyro_ricvae._core.isolation import ModuleLike

#: How a pass feeds the next one: a draw, the mean, the first row repaired, or what the likelihood says (`next_input`).
Recycle = Literal["sample", "mean", "repair", "likelihood"]


@dataclass(frozen=True)
class Switch:
    """In a likelihood's schedule: 0 before the share `at` of the training, and 1 from there on."""

    at: float

    def __post_init__(self) -> None:
        between_0_and_1("the share of a training", self.at)


class Model(ModuleLike, Protocol):
    """The model of a pair: a `torch.nn.Module` that samples "z" and "x", with "x" observed, in the plate "data".

    What a pair's ``likelihood`` says of itself (see `likelihoods.Likelihood`) is read where the model has one.
    """

    @property
    def prior(self) -> Callable[..., Any]:
        """Called without arguments, the distribution of a row's latents: batch shape (), event shape (n_latent,)."""

    def decode(self, z: Tensor, x: Tensor | None = None, observed: Tensor | None = None) -> TorchDistribution:
        """Return the distribution of rows given their latents.

        Parameters
        ----------
        z : Tensor, shape (..., B, n_latent)
            Latents.
        x : Tensor, shape (..., B, d), optional
            The rows, for a likelihood that looks at them. None asks for that of replicates.
        observed : Tensor of bool, shape (..., B, d), optional
            Which cells count: those that are False have no part in the log-density. None is all.

        Returns
        -------
        TorchDistribution, batch shape (..., B), event shape (d,)
            Of the rows.
        """


class Guide(ModuleLike, Protocol):
    """The guide of a pair: a `torch.nn.Module` that samples "z", in the plate "data"."""

    def encode(self, x: Tensor, observed: Tensor | None = None) -> TorchDistribution:
        """Return q(z | x), batch shape (..., B), event shape (n_latent,); arguments are as in `Model.decode`."""


def data_plate(x: Tensor, size: int | None) -> pyro.plate:
    """Return the plate "data" over the rows of `x`.

    Parameters
    ----------
    x : Tensor, shape (..., B, d)
        The rows of a batch. Dimensions before the rows are particles or draws.
    size : int or None
        The number of rows in the whole data set: the log-densities inside the plate are scaled by ``size / B``.
        None takes the batch for the whole.

    Returns
    -------
    pyro.plate
        At dimension -1. Its length comes from dimension -2 of `x`: with vectorised particles the first dimension of a
        recycled `x` is that of the particles.

    Raises
    ------
    TypeError
        If `x` is not a tensor.
    ValueError
        If `x` has not the shape (..., B, d), no rows, or more rows than `size`, or is not of a floating-point type.
    """
    check_rows(x)
    # Not while validation is off: under torch.export it would bound the size of a batch.
    if size is not None and is_validation_enabled() and size < x.shape[-2]:
        raise ValueError(
            f"Expected a batch of at most size={size} rows, actual {x.shape[-2]}: "
            "size is the number of rows in the whole data set."
        )
    # `subsample` is read for its length only: torch moves the rows to the front without copying them.
    return pyro.plate("data", size or x.shape[-2], subsample=x.movedim(-2, 0), dim=-1)


def likelihood_of(model: Any) -> Any:
    """Return the model's likelihood, None where it has none: what it says of itself is then by default."""
    return getattr(model, "likelihood", None)


def likelihood_name(model: Any) -> str:
    """Return what the model's likelihood is called in messages: its class, or the model's where it has none."""
    likelihood = likelihood_of(model)
    return type(model if likelihood is None else likelihood).__name__


def recycle_in_training(model: Any) -> Recycle:
    """Return how the model's likelihood asks to be recycled in training."""
    likelihood = likelihood_of(model)
    how: Any = getattr(likelihood, "recycle_in_training", getattr(likelihood, "recycle", "sample"))
    how = "likelihood" if hasattr(likelihood, "next_input") else how
    if how not in get_args(Recycle):
        raise ValueError(
            f"Expected recycle of {likelihood_name(model)} to be 'sample', 'mean' or 'repair', actual {how!r}: for "
            "another way, define next_input(cells, x, observed=None)."
        )
    chosen: Recycle = how
    return chosen


def recycle_at_test_time(model: Any) -> Recycle:
    """Return how rows are passed on at test time, where they are not drawn: as the likelihood says, else by means."""
    likelihood = likelihood_of(model)
    if hasattr(likelihood, "next_input"):
        return "likelihood"
    return "repair" if getattr(likelihood, "recycle", None) == "repair" else "mean"


@contextmanager
def later_pass(model: Any) -> Iterator[None]:
    """Have a likelihood with running estimates leave them alone: a recycled row is no data."""
    likelihood = likelihood_of(model)
    if not hasattr(likelihood, "first_pass"):
        yield
        return
    likelihood.first_pass = False
    try:
        yield
    finally:
        likelihood.first_pass = True


def dirt_probability(model: Any, distribution: Any, x: Tensor, whose: str = "Repair") -> Tensor:
    """Return the probability that each cell of rows is dirty, as the model's likelihood has it.

    Parameters
    ----------
    model : Model
        The model.
    distribution : TorchDistribution, batch shape (..., B), event shape (d,)
        What `decode` returned: for these rows, or for what an earlier pass made of them.
    x : Tensor, shape (..., B, d)
        The rows.
    whose : str
        What an error begins with.

    Returns
    -------
    Tensor, shape (..., B, d)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the likelihood does not say.
    """
    likelihood = likelihood_of(model)
    if not hasattr(likelihood, "dirt_probability"):
        raise ValueError(
            f"{whose}: expected a likelihood that says how probable dirt is, dirt_probability(cells, x), actual "
            f"{likelihood_name(model)}: take likelihoods.SpikeAndSlab, or recycle a 'sample' or the 'mean'."
        )
    probability: Tensor = likelihood.dirt_probability(inner(distribution), x)
    return probability


def repaired(mean: Tensor, x: Tensor, probability: Tensor, observed: Tensor | None = None) -> Tensor:
    """Return rows with the mean in the place of what is dirty, in part where that is uncertain: w mean + (1 - w) x."""
    mixed = torch.lerp(x.expand_as(mean), mean, probability.to(mean.dtype))
    return mixed if observed is None else torch.where(observed, mixed, mean)


def next_input(
    distribution: Any,
    x: Tensor,
    how: Recycle,
    *,
    model: Any,
    first: Tensor | None = None,
    observed: Tensor | None = None,
    differentiable: bool = True,
    whose: str = "A pass",
) -> Tensor:
    """Return the next pass's input: the one recycling step, of training and of test time.

    Parameters
    ----------
    distribution : TorchDistribution, batch shape (..., B), event shape (d,)
        That of the rows given this pass's latents.
    x : Tensor, shape (..., B, d)
        This pass's input.
    how : {"sample", "mean", "repair", "likelihood"}
        A draw, the mean, the first pass's row with the mean in the place of what is dirty, or what the model's
        likelihood says.
    model : Model
        The model, asked for its likelihood under "repair" and "likelihood" alone.
    first : Tensor, shape (..., B, d), optional
        The first pass's input, which "repair" always begins with; None is `x`.
    observed : Tensor of bool, shape (..., B, d), optional
        Which cells of `x` count.
    differentiable : bool, default=True
        Whether a draw is reparameterised.
    whose : str
        What an error begins with.

    Returns
    -------
    Tensor, shape (..., B, d)
        :math:`x_{k+1}` of equation 15 of the paper.

    Raises
    ------
    ValueError
        If there is no mean, no reparameterised draw, or no likelihood that says how.
    """
    if how == "likelihood":
        likelihood = likelihood_of(model)
        if not hasattr(likelihood, "next_input"):
            raise ValueError(
                f"{whose}: expected a model with a likelihood that has next_input(cells, x, observed), actual "
                f"{type(likelihood).__name__}: recycle a 'sample' or the 'mean'."
            )
        recycled: Tensor = likelihood.next_input(inner(distribution), x, observed)
    elif how == "mean":
        recycled = mean_of(distribution, whose)
    elif how == "repair":
        given = x if first is None else first
        probability = dirt_probability(model, distribution, given, whose)
        recycled = repaired(mean_of(distribution, whose), given, probability, observed)
    elif not differentiable:
        recycled = distribution.sample()
    elif distribution.has_rsample:
        recycled = distribution.rsample()
    else:
        raise ValueError(
            f"{whose}: its distribution {distribution} has no reparameterised "
            "sampler (rsample). Recycle its mean, RecyclingELBO(recycle='mean'), or for an estimator recycle = "
            "'mean' in the class of the likelihood, and build a discrete distribution with validate_args=False, "
            "since its mean need not be one of its values."
        )
    return recycled
