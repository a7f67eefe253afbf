"""Likelihoods and priors as an estimator takes them: by name, or as objects."""

import inspect
from copy import deepcopy
from typing import Any

from torch import nn
from torch.distributions import Distribution, constraints

from pyro_ricvae._core.checks import is_auto
from pyro_ricvae._core.isolation import own_parameters
from pyro_ricvae.estimators.persistence import DoesNotFitError
from pyro_ricvae.likelihoods import (
    Bernoulli,
    ContaminatedNormal,
    FixedNormal,
    IndexConditionedNormal,
    InverseGammaNormal,
    Laplace,
    LearnedNormal,
    SharedNormal,
    SpikeAndSlab,
    StudentT,
    as_likelihood,
)
from pyro_ricvae.likelihoods.likelihood import Ends, ends_of
from pyro_ricvae.priors import GaussianMixture, StandardNormal, as_prior

#: Likelihoods by name. Their arguments say what an estimator gives them: a ``floor``, a ``scale``, or nothing.
LIKELIHOODS: dict[str, Any] = {
    "index_conditioned": IndexConditionedNormal,
    "spike_and_slab": SpikeAndSlab,
    "inverse_gamma": InverseGammaNormal,
    "fixed_normal": FixedNormal,
    "student_t": StudentT,
    "laplace": Laplace,
    "contaminated_normal": ContaminatedNormal,
    "learned_normal": LearnedNormal,
    "shared_normal": SharedNormal,
    "bernoulli": Bernoulli,
}

#: What likelihood="auto" stands for.
AUTOMATIC = "spike_and_slab"

#: Priors by name, made of the number of latents.
PRIORS: dict[str, Any] = {"standard_normal": StandardNormal, "gaussian_mixture": GaussianMixture}


def resolved(likelihood: Any) -> Any:
    """Return what an estimator is given as its likelihood, with a name in the place of "auto"."""
    return AUTOMATIC if is_auto(likelihood) else likelihood


def takes(likelihood: Any, argument: str) -> bool:
    """Return whether a likelihood's name stands for a class that takes an argument; False for an object."""
    return isinstance(likelihood, str) and argument in inspect.signature(LIKELIHOODS[likelihood]).parameters


def likelihood_name(value: Any) -> str:
    """Return the name of a likelihood, that of its class where it is an object; a ValueError where it is neither."""
    return _name("likelihood", value, LIKELIHOODS, as_likelihood)


def prior_name(value: Any) -> str:
    """Return the name of a prior, that of its class where it is an object; a ValueError where it is neither."""
    return _name("prior", value, PRIORS, as_prior)


def template(likelihood: Any) -> Any:
    """Return a likelihood to read the contract's attributes of."""
    return LIKELIHOODS[likelihood] if isinstance(likelihood, str) else as_likelihood(likelihood)


def make_likelihood(argument: Any, ends: Ends | None, learn_scale: bool, **others: Any) -> Any:
    """Return a new likelihood, or a copy of the object given.

    `ends` are those of its floor, or twice its scale; `others` are further arguments of the class.
    """
    if isinstance(argument, str):
        given = {"floor": ends, "scale": ends and ends[0], "learn_scale": learn_scale}
        chosen = {name: value for name, value in given.items() if value is not None and takes(argument, name)}
        return LIKELIHOODS[argument](**chosen, **others)
    made: Any = deepcopy(as_likelihood(argument))
    if ends is not None:
        made.schedule = {**made.schedule, "floor": ends}
        made.floor.fill_(ends[0])
    return made


def make_prior(argument: Any, n_latent: int) -> nn.Module:
    """Return a new prior, or a copy of the object given."""
    made: nn.Module = PRIORS[argument](n_latent) if isinstance(argument, str) else deepcopy(as_prior(argument))
    return made


def saved_part(what: str, name: str, given: Any) -> Any:
    """Return the likelihood or prior to build with: the saved name, or the user's object in its place.

    Raises
    ------
    DoesNotFitError
        If one is given where none is needed, or is missing, or of another class.
    """
    try:
        part = None if given is None else {"likelihood": as_likelihood, "prior": as_prior}[what](given)
    except ValueError as error:
        raise DoesNotFitError(f"{what}: {error}") from error
    if "." not in name:  # one of the names that an estimator takes, not a class
        if part is not None:
            raise DoesNotFitError(
                f"Expected no {what}, as the model was saved with {name!r}, actual {part!r}: leave it out."
            )
        return name
    if part is None:
        raise DoesNotFitError(
            f"The model was saved with an object as {what}, of {name}, whose code is not saved: give "
            f"load(folder, {what}=...) an object of that class."
        )
    # The module is not compared: classes move, and that of a script is __main__ only while the script runs.
    if type(part).__name__ != name.rpartition(".")[2]:
        raise DoesNotFitError(
            f"Expected as {what} an object of {name}, with which the model was saved, actual {part!r}."
        )
    return part


def likelihood_arguments(likelihood: Any) -> dict[str, Any]:
    """Return the arguments of an estimator that build such a likelihood: by name, where it is one of those."""
    names = {cls: name for name, cls in LIKELIHOODS.items()}
    name = names.get(type(likelihood))
    if name is None:
        return {"likelihood": likelihood}
    learned = getattr(likelihood, "log_scale", None) is not None
    ends = getattr(likelihood, "floor", getattr(likelihood, "scale", None))
    return {"likelihood": name, "floor": "auto" if ends is None or learned else float(ends)}


def prior_arguments(prior: Any) -> dict[str, Any]:
    """Return the arguments of an estimator that build such a prior: by name, where it is one of those."""
    names = {cls: name for name, cls in PRIORS.items()}
    if type(prior) in names:
        return {"prior": names[type(prior)], "n_latent": prior().event_shape[-1]}
    return {"prior": prior} if isinstance(prior, nn.Module | Distribution) else {}


def is_unit(support: constraints.Constraint) -> bool:
    """Return whether a support is that of numbers between 0 and 1, for which a decoder ends with a sigmoid."""
    ends = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    return ends == (0, 1) or isinstance(support, type(constraints.boolean))


def floor_argument(floor: Any, likelihood: Any) -> Any:
    """Return the ends of the floor, None where the likelihood has none or keeps its own, or "auto"."""
    by_name = takes(likelihood, "floor") or takes(likelihood, "scale")
    if is_auto(floor):
        return "auto" if by_name else None
    if not by_name and (isinstance(likelihood, str) or "floor" not in getattr(likelihood, "schedule", {})):
        raise ValueError(f"Expected floor='auto' with a likelihood that has no floor, actual {floor!r}.")
    if isinstance(floor, tuple | list) and len(floor) != 2:
        raise ValueError(f"Expected floor to be 'auto', a number, or (start, end), actual {floor!r}.")
    return ends_of("floor", floor)


def n_latent_of(prior: Any, n_latent: Any) -> Any:
    """Return the number of latents that a prior given as an object has, which `n_latent` may repeat."""
    with own_parameters():
        try:
            shape = as_prior(prior)().event_shape
        except (AttributeError, TypeError) as error:
            raise ValueError(
                "Expected prior to be a Pyro distribution or a torch.nn.Module whose forward() returns one, actual "
                f"{prior!r}."
            ) from error
    if len(shape) != 1 or n_latent not in ("auto", shape[0]):
        raise ValueError(
            f"Expected a prior of event shape (n_latent,), actual {tuple(shape)} and n_latent={n_latent!r}: "
            + ("leave n_latent='auto'." if len(shape) == 1 else "end it with .to_event(1), and leave n_latent='auto'.")
        )
    return shape[0]


def _name(what: str, value: Any, names: dict[str, Any], convert: Any) -> str:
    if not isinstance(value, str) and (callable(value) or isinstance(value, Distribution)):
        value = convert(value)
        return f"{type(value).__module__}.{type(value).__qualname__}"
    if not isinstance(value, str) or value not in names:
        known = tuple(names) if what == "prior" else ("auto", *names)
        raise ValueError(f"Expected {what} to be one of {known} or a torch.nn.Module, actual {value!r}.")
    return value
