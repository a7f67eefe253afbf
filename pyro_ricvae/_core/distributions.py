"""Distributions: what is inside them, their support, mean and closed-form KL, and what they are called in errors."""

import re
from typing import Any

import torch
from pyro.distributions import MaskedDistribution
from pyro.infer.util import is_validation_enabled
from torch import Tensor
from torch.distributions import Cauchy, Distribution, Independent, StudentT, constraints, kl_divergence


def inner(distribution: Any) -> Any:
    """Return a distribution without what makes an event of it or masks it."""
    while isinstance(distribution, Independent | MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def distribution_name(distribution: Any) -> str:
    """Return the name of a distribution's class."""
    return type(inner(distribution)).__name__


def support_of(distribution: Any) -> Any:
    """Return the constraint that the values of a distribution meet, None where it does not say."""
    try:
        return distribution.support
    except (AttributeError, NotImplementedError):
        return None


def base_of(constraint: Any) -> Any:
    """Return the constraint on one value of a constraint on an event."""
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    return constraint


def support_name(constraint: Any) -> str:
    """Return the constraint on one value in short."""
    return re.sub(r"\(\)$|(lower|upper)_bound=", "", repr(base_of(constraint)))


def mean_of(distribution: Any, whose: str) -> Tensor:
    """Return the mean of `distribution`, or raise a ValueError that begins with `whose` if it has none.

    Of a Student-t or a Cauchy, whose mean need not exist, it is the location.
    """
    base = inner(distribution)
    try:
        mean: Tensor | None = base.mode if isinstance(base, StudentT | Cauchy) else distribution.mean
    except NotImplementedError:
        mean = None
    if mean is None or (is_validation_enabled() and mean.isnan().any()):
        raise ValueError(f"{whose}: expected a distribution with a mean, actual {distribution}: take samples instead.")
    return mean


def describe(output: object) -> str:
    """Return the shapes of what a network or a likelihood returned, or its type, for an error."""
    if isinstance(output, tuple | list):
        return f"{type(output).__name__}({', '.join(map(describe, output))})"
    if isinstance(output, Distribution):
        return f"{output} of batch shape {tuple(output.batch_shape)} and event shape {tuple(output.event_shape)}"
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__


def check_support(likelihood: Any, x: Tensor, observed: Tensor | None = None) -> None:
    """Raise a ValueError if values of `x`, of any shape, lie outside the support of a likelihood, or of its class.

    Where `observed` is False they may be anything.
    """
    if likelihood.support is constraints.real:
        return
    outside = ~likelihood.support.check(x)
    if observed is not None:
        outside = outside & observed
    if outside.any():
        name = (likelihood if isinstance(likelihood, type) else type(likelihood)).__name__
        raise ValueError(
            f"Site 'x': expected values in the support of {name}, {likelihood.support}, actual "
            f"{int(outside.sum())} of {outside.numel()} outside it, in x of shape {tuple(x.shape)}, from {x.min():g} "
            f"to {x.max():g}: scale the data to it, or take another likelihood."
        )


class ObservedCells(MaskedDistribution):
    """The distribution of cells of which some are not observed: these have no part, whatever value stands there.

    Parameters
    ----------
    cells : TorchDistribution, batch shape (..., B, d), event shape ()
        That of all cells.
    observed : Tensor of bool, shape (..., B, d)
        Which of them count.
    filler : Tensor, shape (..., B, d)
        The values in the places of the others, so that neither they nor their gradients are computed from.
    """

    def __init__(self, cells: Any, observed: Tensor, filler: Tensor) -> None:
        super().__init__(cells, observed.expand(cells.batch_shape))  # type: ignore[no-untyped-call]
        self.observed, self.filler = observed, filler

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ObservedCells":
        """Return the distribution with another batch shape."""
        return type(self)(self.base_dist.expand(batch_shape), self.observed, self.filler)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of each cell, in nats, 0 where it is not observed."""
        filled = torch.where(self.observed, value, self.filler)
        log_prob: Tensor = super().log_prob(filled)  # type: ignore[no-untyped-call]
        return log_prob


def kl_or_none(q: Any, p: Any) -> Any:
    """Return KL[q || p] in nats, None where there is no closed form."""
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def closed_form_kl(posterior: Any, prior: Any) -> Tensor | None:
    """Return KL[posterior || prior] in nats, by units where both are independent over them; None without a closed form.

    `RecyclingELBO` takes log q - log p at its draws where this is None.
    """
    pairs = [(posterior, prior)]
    # A transformed distribution has a base_dist too, but another one.
    if isinstance(posterior, Independent) and isinstance(prior, Independent):
        pairs.insert(0, (posterior.base_dist, prior.base_dist))
    for q, p in pairs:
        kl: Tensor | None = kl_or_none(q, p)
        if kl is not None:
            return kl
    return None
