"""Likelihoods and priors as an estimator takes them: by name, or as objects."""

from copy import deepcopy
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.distributions import Distribution, constraints

from pyro_ricvae._param_store import own_parameters
from pyro_ricvae._validation import positive_finite
from pyro_ricvae.data.scaling import Kind
from pyro_ricvae.likelihoods import (
    Bernoulli,
    ContaminatedNormal,
    FixedNormal,
    IndexConditionedNormal,
    InverseGammaNormal,
    Laplace,
    LearnedNormal,
    SharedNormal,
    StudentT,
    as_likelihood,
)
from pyro_ricvae.priors import GaussianMixture, StandardNormal, as_prior

#: Likelihoods by name: with a floor that moves in training, with one scale for all cells, and with neither.
WITH_FLOOR: dict[str, Any] = {"index_conditioned": IndexConditionedNormal, "inverse_gamma": InverseGammaNormal}
LEARNABLE: dict[str, Any] = {"student_t": StudentT, "laplace": Laplace, "contaminated_normal": ContaminatedNormal}
WITH_SCALE: dict[str, Any] = {"fixed_normal": FixedNormal, **LEARNABLE}
PLAIN: dict[str, Any] = {"learned_normal": LearnedNormal, "shared_normal": SharedNormal, "bernoulli": Bernoulli}

LIKELIHOODS: dict[str, Any] = WITH_FLOOR | WITH_SCALE | PLAIN
PRIORS: dict[str, Any] = {"standard_normal": StandardNormal, "gaussian_mixture": GaussianMixture}


def likelihood_name(value: Any) -> str:
    """Return the name of a likelihood, that of its class where it is an object; a ValueError where it is neither."""
    return _name("likelihood", value, LIKELIHOODS, as_likelihood)


def prior_name(value: Any) -> str:
    """Return the name of a prior, that of its class where it is an object; a ValueError where it is neither."""
    return _name("prior", value, PRIORS, as_prior)


def template(likelihood: Any) -> Any:
    """Return a likelihood to read the contract's attributes of."""
    return LIKELIHOODS[likelihood] if isinstance(likelihood, str) else as_likelihood(likelihood)


def make_likelihood(argument: Any, scale: float | None, learn_scale: bool) -> Any:
    """Return a new likelihood, or a copy of the object given; `scale` is its floor or scale, where it has one."""
    if not isinstance(argument, str):
        return deepcopy(as_likelihood(argument))
    if argument in PLAIN:
        return PLAIN[argument]()
    return LIKELIHOODS[argument](scale, **({"learn_scale": True} if learn_scale else {}))


def make_prior(argument: Any, n_latent: int) -> nn.Module:
    """Return a new prior, or a copy of the object given."""
    made: nn.Module = PRIORS[argument](n_latent) if isinstance(argument, str) else deepcopy(as_prior(argument))
    return made


def is_unit(support: constraints.Constraint) -> bool:
    """Return whether a support is that of numbers between 0 and 1, for which a decoder ends with a sigmoid."""
    ends = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    return ends == (0, 1) or isinstance(support, type(constraints.boolean))


def automatic_scaling(likelihood: Any, values: NDArray[Any], images: bool) -> Kind:
    """Return how data of shape (n, d) are scaled where the user does not say."""
    support = template(likelihood).support
    if support is not constraints.real and bool(support.check(torch.tensor(values)).all()):
        return "none"  # they are where they must be
    return "range" if images else "robust"


def floor_argument(floor: Any, likelihood: Any) -> Any:
    """Return the ends of the floor, None where the likelihood has none or keeps its own, or "auto"."""
    by_name = isinstance(likelihood, str)
    has_floor = likelihood not in PLAIN if by_name else hasattr(likelihood, "floor")
    if isinstance(floor, str) and floor == "auto":
        return "auto" if by_name and has_floor else None
    if not has_floor:
        raise ValueError(f"Expected floor='auto' with a likelihood that has no floor, actual {floor!r}.")
    ends = tuple(floor) if isinstance(floor, tuple | list) else (floor, floor)
    if len(ends) != 2:
        raise ValueError(f"Expected floor to be 'auto', a number, or (start, end), actual {floor!r}.")
    for end in ends:
        positive_finite("floor", end)
    return tuple(float(end) for end in ends)  # as given: positive_finite rounds to float32


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
        raise ValueError(f"Expected {what} to be one of {tuple(names)} or a torch.nn.Module, actual {value!r}.")
    return value
