"""What to look at while a pair trains, and what it means in words."""

from torch import Tensor

from pyro_ricvae._core.distributions import mean_of
from pyro_ricvae._core.isolation import evaluation
from pyro_ricvae.inference.row_loss import row_loss_terms
from pyro_ricvae.pair import Guide, Model, likelihood_of

#: A latent unit whose posterior mean varies by more than this over the rows is active (Burda et al., 2016).
ACTIVE_VARIANCE = 0.01

# Recycling has diverged where it costs a single pass this many nats a cell: its residuals have grown by a third.
_DIVERGED = 0.3
# Outside these shares of entries under the floor the penalty is no longer what it is meant to be.
_FEW_UNDER_FLOOR, _MOST_UNDER_FLOOR = 0.1, 0.995


def measure(model: Model, guide: Guide, x: Tensor) -> dict[str, float]:
    """Return the terms of a single pass at the posterior mean, averaged over the rows of `x`.

    Parameters
    ----------
    model, guide
        The pair.
    x : Tensor, shape (n, d)
        Rows to look at, two or more.

    Returns
    -------
    dict of str to float
        "reconstruction" and "kl" in nats a row; "active_units", those whose posterior mean has a variance above 0.01
        over the rows; "kl_unit_0" and so on, their KL in nats a row, where the KL is a sum over the units; and
        "under_floor", the share of the entries whose residual is below the likelihood's floor, where it has one and
        goes by it: a `likelihoods.SpikeAndSlab` that explains the data does not.
    """
    with evaluation(model, guide):
        reconstruction, kl = row_loss_terms(model, guide, x)
        z = guide.encode(x).mean
        measured = {
            "reconstruction": reconstruction.mean(),
            "kl": kl.sum() / len(x),
            "active_units": (z.var(0) > ACTIVE_VARIANCE).sum(),
        }
        if kl.dim() > reconstruction.dim():
            measured |= {f"kl_unit_{k}": unit for k, unit in enumerate(kl.mean(0))}
        likelihood = likelihood_of(model)
        floor = getattr(likelihood, "floor", None)
        if floor is not None and not getattr(likelihood, "explains", False):
            measured["under_floor"] = ((x - mean_of(model.decode(z, x), "The watch")).abs() < floor).double().mean()
    return {name: float(value) for name, value in measured.items()}


def recycling_diverged(before: dict[str, float], now: dict[str, float], n_features: int) -> bool:
    """Return whether recycling has undone what single passes had learned, by what `measure` said before and now."""
    grown = now["reconstruction"] + now["kl"] - before["reconstruction"] - before["kl"]
    return not grown <= _DIVERGED * n_features  # also where it is not a number


def advice(measured: dict[str, float], n_latent: int) -> list[str]:
    """Return what is wrong with a trained pair, in words, by what `measure` says of it: an empty list if nothing is."""
    messages = []
    active = int(measured["active_units"])
    if active == 0:
        messages.append(
            "No latent unit is active: the model returns one row whatever the input. Start from a larger floor, train "
            "for more epochs, or see whether the columns have anything to do with each other."
        )
    elif active < n_latent / 2:
        messages.append(
            f"{active} of {n_latent} latent units are active: a smaller n_latent, {active} say, would give the same "
            "model. If the reconstructions miss detail, train for more epochs, or start from a larger floor."
        )
    under = measured.get("under_floor")
    if under is not None and under > _MOST_UNDER_FLOOR:
        messages.append(
            f"{under:.1%} of the residuals lie under the floor: this is a standard VAE with that scale, and it learns "
            "the dirt. Give a smaller floor, unless the data are clean."
        )
    if under is not None and under < _FEW_UNDER_FLOOR:
        messages.append(
            f"{under:.1%} of the residuals lie under the floor: it is below what the model can resolve, and training "
            "may have stopped at a poor fit. Give a larger floor, or a larger n_latent."
        )
    return messages
