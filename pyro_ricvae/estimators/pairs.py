"""Pairs that are given, or saved: whether they are pairs, fit the rows and the settings, and what is known of them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyro_ricvae._core.distributions import closed_form_kl, describe
from pyro_ricvae._core.isolation import evaluation
from pyro_ricvae.estimators.persistence import DESCRIPTION, DoesNotFitError
from pyro_ricvae.estimators.settings import Prepared, Settings, build_pair
from pyro_ricvae.likelihoods import SpikeAndSlab
from pyro_ricvae.pair import likelihood_of

# Rows on which two pairs are compared, and how far out too.
_TRIED, _FAR = 64, 1e3


def form_of_kl(model: Any, guide: Any, x: Tensor) -> str:
    """Return how the KL of a pair is computed, for rows `x` of shape (n, d): "closed form" or "Monte Carlo"."""
    with evaluation(model, guide):
        kl = closed_form_kl(guide.encode(x[:1]), model.prior())
    return "Monte Carlo" if kl is None else "closed form"


def check_pair(model: Any, guide: Any) -> None:
    """Raise a TypeError unless these are a pair, as `pyro_ricvae.pair` says."""
    if not (isinstance(model, nn.Module) and hasattr(model, "decode") and hasattr(model, "prior")):
        raise TypeError(f"Expected a model with decode and prior, a torch.nn.Module, actual {type(model).__name__}.")
    if not (isinstance(guide, nn.Module) and hasattr(guide, "encode")):
        raise TypeError(f"Expected a guide with encode, a torch.nn.Module, actual {type(guide).__name__}.")


def check_saved_pair(pair: Any) -> None:
    """Raise a DoesNotFitError unless this is (model, guide)."""
    try:
        check_pair(*pair)
    except TypeError as error:
        raise DoesNotFitError(f"Expected pair=(model, guide), actual {type(pair).__name__}: {error}") from error


def check_pair_fits(model: Any, guide: Any, new: Prepared) -> None:
    """Raise a ValueError unless a pair is one for such rows, and as the settings say."""
    with evaluation(model, guide):
        latents, posterior = tuple(model.prior().event_shape), guide.encode(new.x[:1])
        rows = model.decode(posterior.mean, new.x[:1])
    if tuple(rows.batch_shape + rows.event_shape) != (1, new.x.shape[1]):
        raise ValueError(f"Expected a pair for rows of {new.x.shape[1]} features, actual a model of {describe(rows)}.")
    if latents != tuple(posterior.event_shape):
        raise ValueError(f"Expected latents of one shape in model and guide, actual {latents} and {posterior}.")
    for what, built in (("likelihood", likelihood_of(new.model)), ("prior", new.model.prior)):
        given = getattr(model, what, None)
        if isinstance(given, nn.Module) and type(given) is not type(built):
            raise ValueError(
                f"Expected as {what} the model's, {type(given).__name__}, actual {type(built).__name__}: leave it out."
            )
    likelihood, floor = likelihood_of(model), new.settings.floor
    theirs = getattr(likelihood, "floor", getattr(likelihood, "scale", None))
    if not isinstance(theirs, Tensor) or floor is None or new.settings.learn_scale:
        return
    if not math.isclose(float(theirs), floor[1], rel_tol=1e-6):  # the end of the one, rounded to float32
        raise ValueError(f"Expected as floor the model's, {theirs:g}, actual {floor[1]:g}: leave it out.")


def settings_of_pair(settings: Settings, model: Any, guide: Any, x: Tensor, is_own: bool) -> Settings:
    """Return the settings of a pair that was trained elsewhere: what is known of it."""
    likelihood = likelihood_of(model)
    known: dict[str, Any] = {"n_latent": model.prior().event_shape[-1], "kl": form_of_kl(model, guide, x)}
    if settings.spike and isinstance(likelihood, SpikeAndSlab):  # what "auto" would take, before
        switch: Any = likelihood.schedule["mixed"]
        named = {name: getattr(likelihood, name) for name in settings.spike if name != "takeover"}
        known["spike"] = {"takeover": switch.at, **named}
    if likelihood is None:
        known["likelihood"] = f"{type(model).__module__}.{type(model).__qualname__}"
    if not is_own:
        known["hidden"] = ()
    return replace(settings, **known)


def builds_alike(new: Prepared, model: Any, guide: Any) -> bool:
    """Return whether the pair of `new`, whose values are lost, becomes another one when it is given that one's values.

    By its modules, and by what both make of rows near and far.
    """
    ours, theirs = (new.model, new.guide), (model, guide)
    for one, other in zip(ours, theirs, strict=True):
        if [type(each) for each in one.modules()] != [type(each) for each in other.modules()]:
            return False
        try:
            one.load_state_dict(other.state_dict())
        except RuntimeError:
            return False
    with evaluation(*ours, *theirs):
        for rows in (new.x[:_TRIED], _FAR * new.x[:_TRIED]):
            made: list[tuple[Tensor, ...]] = []
            for one, other in (ours, theirs):
                posterior = other.encode(rows)
                made.append((posterior.mean, posterior.stddev, one.decode(posterior.mean, rows).log_prob(rows)))
            if not all(map(torch.equal, *made)):
                return False
    return True


def saved_pair(
    settings: Settings, estimator: Any, tensors: dict[str, Tensor], given: Any, folder: Path
) -> tuple[Any, Any]:
    """Return a pair with saved values: a new one as the settings say, or the user's, where one is given.

    Parameters
    ----------
    settings : Settings
        Those saved.
    estimator
        With the likelihood and the prior to build with.
    tensors : dict of str to Tensor
        The values, under "model." and "guide.".
    given : tuple or None
        The user's pair.
    folder : Path
        Where it was saved, for the error.

    Raises
    ------
    DoesNotFitError
        If the values are those of another pair.
    """
    n_features = len(tensors["scaling.center"])
    pair: Any = build_pair(settings, estimator, torch.zeros(n_features)) if given is None else given
    for name, module in zip(("model", "guide"), pair, strict=True):
        state = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise DoesNotFitError(
                f"Expected in {folder} the tensors of the {name} that {DESCRIPTION} describes, actual others: {error}"
            ) from error
    return tuple(module.to(settings.device).eval() for module in pair)
