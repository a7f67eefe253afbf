"""How an estimator tells dirty cells from clean ones: by its likelihood, or by two components of its residuals."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import boolean

from pyro_ricvae._core.distributions import base_of
from pyro_ricvae.estimators.defaults import automatic_spike
from pyro_ricvae.inference import predictive
from pyro_ricvae.likelihoods import SpikeAndSlab
from pyro_ricvae.pair import Guide, Model, likelihood_of

# Looked at, and of EM.
_MOST_CELLS, _STEPS = 100_000, 100


def residuals_of(model: Model, guide: Guide, x: Tensor, passes: int) -> Tensor | None:
    """Return the residuals of evenly spaced rows, of about 100,000 cells, after so many passes.

    None where there are none: the likelihood has no mean, or is one of yes and no.
    """
    support = base_of(getattr(likelihood_of(model), "support", None))
    if isinstance(support, type(boolean)):  # not that object: it is copied with the likelihood
        return None
    rows = x[:: max(1, x.numel() // _MOST_CELLS)]
    try:
        return rows - predictive.reconstruct(model, guide, rows, passes)
    except ValueError:  # there is no mean, and so nothing to clean with either
        return None


def components(model: Model, residuals: Tensor, floor: float, *, images: bool) -> SpikeAndSlab:
    """Return what tells dirty cells from clean ones: the model's likelihood if it does, else one fitted to residuals.

    Parameters
    ----------
    model : pair.Model
        A trained one.
    residuals : Tensor, shape (n, d)
        Of rows of training, in standardised units.
    floor : float
        The end of the automatic floor, the unit of how wide dirt is.
    images : bool
        Whether the rows are images; see `defaults.automatic_spike`.

    Returns
    -------
    SpikeAndSlab
        In evaluation mode; of residuals, around 0.
    """
    likelihood = likelihood_of(model)
    if isinstance(likelihood, SpikeAndSlab):
        return likelihood
    found = SpikeAndSlab(floor, **automatic_spike(floor, images=images)).to(residuals.device)
    squares = residuals.square()
    for _ in range(_STEPS):
        found.follow(squares, momentum=1.0)
    return found.eval()


def saved_components(description: dict[str, Any], model: Model) -> SpikeAndSlab | None:
    """Return those that `description_of` described; None for a model that was saved before there were any."""
    likelihood = likelihood_of(model)
    if isinstance(likelihood, SpikeAndSlab):
        return likelihood
    saved = description.get("dirt")
    if saved is None:
        return None
    found = SpikeAndSlab(saved["floor"], ratio=saved.get("ratio", 10.0), clean_df=saved.get("clean_df"))
    for name in ("scale", "share", "spread"):
        getattr(found, name).fill_(saved[name])
    return found.eval()


def description_of(found: SpikeAndSlab | None) -> dict[str, float | None] | None:
    """Return them as JSON can hold them."""
    if found is None:
        return None
    numbers = {name: float(getattr(found, name)) for name in ("scale", "share", "spread")}
    return numbers | {"floor": float(found.floor), "ratio": found.ratio, "clean_df": found.clean_df}


def probability(found: SpikeAndSlab, residuals: Tensor) -> Tensor:
    """Return the probability that cells are dirty, by their residuals, of any shape, in standardised units."""
    with torch.no_grad():
        cells: Any = found.to(residuals.device)(torch.zeros_like(residuals), None)
        result: Tensor = cells.dirt_probability(residuals)
    return result
