"""How an estimator tells dirty cells from clean ones: by its likelihood, or by two components of its residuals."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import boolean

from pyro_ricvae._core.distributions import base_of
from pyro_ricvae.estimators.defaults import automatic_floor
from pyro_ricvae.inference import predictive
from pyro_ricvae.likelihoods import SpikeAndSlab
from pyro_ricvae.pair import Guide, Model, likelihood_of

# Looked at, and of EM.
_MOST_CELLS, _STEPS = 100_000, 100


def components(
    model: Model, guide: Guide, x: Tensor, center: Tensor, step: float, *, images: bool
) -> SpikeAndSlab | None:
    """Return what tells dirty cells from clean ones: the model's likelihood if it does, else one fitted to residuals.

    Parameters
    ----------
    model, guide
        A trained pair.
    x : Tensor, shape (n, d)
        The rows of training, in standardised units; of more than 100,000 cells, evenly spaced rows are looked at.
    center, step, images
        As in `automatic_floor`, whose end is the unit of how wide dirt is.

    Returns
    -------
    SpikeAndSlab or None
        In evaluation mode; of residuals, around 0. None where there are no residuals: the likelihood has no mean, or is
        one of yes and no.
    """
    likelihood = likelihood_of(model)
    if isinstance(likelihood, SpikeAndSlab):
        return likelihood
    if isinstance(base_of(getattr(likelihood, "support", None)), type(boolean)):  # copied with the likelihood
        return None
    rows = some_rows(x)
    try:
        squares = (rows - predictive.reconstruct(model, guide, rows)).square()
    except ValueError:  # there is no mean, and so nothing to clean with either
        return None
    found = SpikeAndSlab(automatic_floor(x, center, step, images=images)[1]).to(x.device)
    for _ in range(_STEPS):
        found.follow(squares, momentum=1.0)
    return found.eval()


def some_rows(x: Tensor) -> Tensor:
    """Return evenly spaced rows of about 100,000 cells."""
    return x[:: max(1, x.numel() // _MOST_CELLS)]


def saved_components(description: dict[str, Any], model: Model) -> SpikeAndSlab | None:
    """Return those that `description_of` described; None for a model that was saved before there were any."""
    likelihood = likelihood_of(model)
    if isinstance(likelihood, SpikeAndSlab):
        return likelihood
    saved = description.get("dirt")
    if saved is None:
        return None
    found = SpikeAndSlab(saved["floor"])
    for name in ("scale", "share", "spread"):
        getattr(found, name).fill_(saved[name])
    return found.eval()


def description_of(found: SpikeAndSlab | None) -> dict[str, float] | None:
    """Return them as JSON can hold them."""
    if found is None:
        return None
    numbers = {name: float(getattr(found, name)) for name in ("scale", "share", "spread")}
    return numbers | {"floor": float(found.floor)}


def probability(found: SpikeAndSlab, residuals: Tensor) -> Tensor:
    """Return the probability that cells are dirty, by their residuals, of any shape, in standardised units."""
    with torch.no_grad():
        cells: Any = found.to(residuals.device)(torch.zeros_like(residuals), None)
        result: Tensor = cells.dirt_probability(residuals)
    return result
