"""From an estimator's arguments and the data to settings, and from settings to a pair."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn

from pyro_ricvae._param_store import own_parameters
from pyro_ricvae._validation import positive_finite, positive_int, positive_ints
from pyro_ricvae.data.containers import Rows, as_rows, check_for_training
from pyro_ricvae.data.scaling import Kind, Scaling, quantisation_step
from pyro_ricvae.guides import AmortizedNormal
from pyro_ricvae.inference import Recipe, automatic_epochs, automatic_floor, automatic_hidden, automatic_n_latent
from pyro_ricvae.inference.engine import Engine
from pyro_ricvae.inference.precision import Precision
from pyro_ricvae.likelihoods import FixedNormal, IndexConditionedNormal, LearnedNormal
from pyro_ricvae.models import VAE
from pyro_ricvae.networks import MLPDecoder, MLPEncoder
from pyro_ricvae.priors import StandardNormal

LIKELIHOODS = ("index_conditioned", "fixed_normal", "learned_normal")
PRIORS = ("standard_normal",)

# In standardised units: a cell that lies farther out is taken to lie there. Squares of squares of it fit in float32.
_FARTHEST = 1e9


@dataclass(frozen=True)
class Settings:
    """Everything that was chosen, by the user or by "auto"; `to_json` is what an estimator shows and saves."""

    n_latent: int
    hidden: tuple[int, ...]
    train_passes: int
    test_passes: int
    epochs: int
    likelihood: str
    prior: str
    floor: tuple[float, float] | None
    scaling: Kind
    quantisation_step: float
    device: torch.device
    recipe: Recipe
    engine: Engine = "auto"
    precision: Precision = "auto"
    engine_reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the settings as what JSON can hold."""
        start, end = self.floor or (None, None)
        plain = {name: value for name, value in asdict(self).items() if name not in ("floor", "device", "hidden")}
        return plain | {
            "hidden": list(self.hidden),
            "floor_start": start,
            "floor_end": end,
            "device": str(self.device),
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any], device: torch.device) -> "Settings":
        """Return the settings that `to_json` gave, on another device."""
        floor = None if plain["floor_start"] is None else (plain["floor_start"], plain["floor_end"])
        recipe, hidden = Recipe(**plain["recipe"]), tuple(plain["hidden"])
        other = {name: value for name, value in plain.items() if name not in ("floor_start", "floor_end")}
        return cls(**(other | {"floor": floor, "recipe": recipe, "hidden": hidden, "device": device}))


@dataclass(frozen=True)
class Task:
    """What there is to train: the data, as they came and standardised on the device, and a new pair for them."""

    rows: Rows
    settings: Settings
    scaling: Scaling
    x: Tensor
    model: VAE
    guide: AmortizedNormal
    seed: int


def prepare(arguments: Any, data: Any) -> Task:
    """Return what there is to train, for an estimator's arguments: checked and standardised rows, and a new pair.

    Raises
    ------
    TypeError, ValueError
        If the data or an argument are not as `RiCVAE` says.
    """
    rows = as_rows(data)
    check_for_training(rows)
    settings, scaling, x, center = choose_settings(arguments, rows)
    seed = check_random_state(arguments.random_state).randint(2**31)
    device = settings.device
    with random_numbers(seed, device):
        model, guide = build_pair(settings, arguments, center)
    return Task(rows, settings, scaling, x.to(device), model.to(device), guide.to(device), seed)


def choose_settings(arguments: Any, rows: Rows) -> tuple[Settings, Scaling, Tensor, Tensor]:
    """Return the settings for the data, their scaling, the standardised rows and their median, float32 on the CPU.

    Parameters
    ----------
    arguments
        The estimator, or whatever has its attributes.
    rows : Rows
        The data.

    Raises
    ------
    ValueError
        If an argument is not as the estimator says.
    """
    recipe = _recipe(arguments.recipe)
    n_rows, n_features = rows.values.shape
    images = len(rows.event_shape) > 1 or rows.values.dtype == np.uint8
    n_latent, hidden, epochs = arguments.n_latent, arguments.hidden, arguments.epochs
    likelihood = _name_of("likelihood", arguments.likelihood, LIKELIHOODS)
    prior = _name_of("prior", arguments.prior, PRIORS)
    if isinstance(arguments.prior, nn.Module):
        n_latent = _n_latent_of(arguments.prior, n_latent)
    elif n_latent == "auto":
        n_latent = automatic_n_latent(n_rows, n_features)
    if isinstance(hidden, str):
        if hidden != "auto":
            raise ValueError(f"Expected hidden to be 'auto' or a sequence such as (256, 128), actual {hidden!r}.")
        hidden = automatic_hidden(n_features)
    if isinstance(epochs, str) and epochs == "auto":
        epochs = automatic_epochs(n_rows, recipe.batch_size)
    n_latent, hidden, epochs = (
        positive_int("n_latent", n_latent),
        positive_ints("hidden", hidden),
        positive_int("epochs", epochs),
    )
    passes = positive_int("train_passes", arguments.train_passes), positive_int("test_passes", arguments.test_passes)
    floor = _floor_argument(arguments.floor, arguments.likelihood)
    device = device_named(arguments.device)

    kind = arguments.scaling
    scaling = _scaling(("range" if images else "robust") if kind == "auto" else kind, rows.values)
    x = standardised(scaling, rows.values)
    center = x.median(0).values
    step = quantisation_step(rows.values, scaling)
    if floor == "auto":
        floor = automatic_floor(x, center, step, images=scaling.kind == "range")
    if floor is not None and likelihood == "fixed_normal":
        floor = (floor[1], floor[1])  # one scale, which does not move
    settings = Settings(
        n_latent,
        hidden,
        *passes,
        epochs,
        likelihood,
        prior,
        floor,
        scaling.kind,
        step,
        device,
        recipe,
        arguments.engine,
        arguments.precision,
    )
    return settings, scaling, x, center


def _scaling(kind: Any, values: NDArray[Any]) -> Scaling:
    with np.errstate(over="ignore"):
        scaling = Scaling.fit(values, kind)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(scaling.scale).all() or (kind == "none" and max(-low, high) > _FARTHEST):
        raise ValueError(
            f"Expected data that scaling={kind!r} brings near 1, actual ones from {low:g} to {high:g}, too far for "
            "their squares: leave out such rows, or use another scaling."
        )
    return scaling


def standardised(scaling: Scaling, values: NDArray[Any]) -> Tensor:
    """Return the rows `values`, of shape (n, d), in standardised units, no cell farther out than squares allow."""
    with np.errstate(over="ignore"):
        x = torch.as_tensor(scaling.standardise(values))
    return x.clamp_(-_FARTHEST, _FARTHEST)


def build_pair(settings: Settings, arguments: Any, center: Tensor) -> tuple[VAE, AmortizedNormal]:
    """Return a new, untrained pair. `center`, of shape (d,), is the standardised rows' median."""
    recipe = settings.recipe
    n_features = len(center)
    likelihood = _likelihood(settings, arguments.likelihood)
    prior = StandardNormal(settings.n_latent) if isinstance(arguments.prior, str) else deepcopy(arguments.prior)
    shared: dict[str, Any] = {"affine_path": recipe.affine_path, "center": center if recipe.center else None}
    bound = None if recipe.clip is None else (1.0 if settings.scaling == "range" else recipe.clip)
    encoder = MLPEncoder(n_features, settings.n_latent, settings.hidden, bound=bound, **shared)
    n_outputs: Any = getattr(likelihood, "n_outputs", 1)  # where it is missing, the VAE says so
    decoder = MLPDecoder(settings.n_latent, n_features, settings.hidden[::-1], n_outputs=n_outputs, **shared)
    return VAE(decoder, likelihood, prior), AmortizedNormal(encoder)


def _likelihood(settings: Settings, argument: str | nn.Module) -> nn.Module:
    if not isinstance(argument, str):
        return deepcopy(argument)
    if argument == "learned_normal":
        return LearnedNormal()
    assert settings.floor is not None
    return (
        IndexConditionedNormal(settings.floor[0]) if argument == "index_conditioned" else FixedNormal(settings.floor[1])
    )


def _name_of(what: str, value: Any, names: tuple[str, ...]) -> str:
    if isinstance(value, nn.Module):
        return f"{type(value).__module__}.{type(value).__qualname__}"
    if value not in names:
        raise ValueError(f"Expected {what} to be one of {names} or a torch.nn.Module, actual {value!r}.")
    return str(value)


def _n_latent_of(prior: nn.Module, n_latent: Any) -> Any:
    """Return the number of latents that a prior given as an object has, which `n_latent` may repeat."""
    with own_parameters():
        try:
            shape = prior().event_shape
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"Expected prior to be a torch.nn.Module whose forward() returns a distribution, actual {prior!r}."
            ) from error
    if len(shape) != 1 or n_latent not in ("auto", shape[0]):
        raise ValueError(
            f"Expected a prior of event shape (n_latent,), actual {tuple(shape)} and n_latent={n_latent!r}: end it "
            "with .to_event(1), and leave n_latent='auto'."
        )
    return shape[0]


def _floor_argument(floor: Any, likelihood: str | nn.Module) -> Any:
    """Return the ends of the floor, None where the likelihood has none or keeps its own, or "auto"."""
    has_floor = likelihood in ("index_conditioned", "fixed_normal") or hasattr(likelihood, "floor")
    if isinstance(floor, str) and floor == "auto":
        return "auto" if isinstance(likelihood, str) and has_floor else None
    if not has_floor:
        raise ValueError(f"Expected floor='auto' with a likelihood that has no floor, actual {floor!r}.")
    ends = tuple(floor) if isinstance(floor, tuple | list) else (floor, floor)
    if len(ends) != 2:
        raise ValueError(f"Expected floor to be 'auto', a number, or (start, end), actual {floor!r}.")
    for end in ends:
        positive_finite("floor", end)
    return tuple(float(end) for end in ends)  # as given: positive_finite rounds to float32


def _recipe(recipe: Any) -> Recipe:
    if recipe is None:
        return Recipe()
    if not isinstance(recipe, Recipe):
        raise ValueError(f"Expected recipe to be a pyro_ricvae.inference.Recipe, actual {recipe!r}.")
    return recipe


def device_named(device: Any) -> torch.device:
    """Return the device of this machine that a name stands for, or raise a ValueError; "auto" is CUDA or the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()  # the device "meta" has no values
    except (RuntimeError, AssertionError, TypeError) as error:  # torch raises any of these, by device
        raise ValueError(
            f"Expected a device of this machine, actual {device!r} ({str(error).splitlines()[0]}): use 'cpu' or 'auto'."
        ) from error
    return found


@contextmanager
def random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of the CPU and the device for the time of the block.

    Those of the CPU and of a CUDA device are left as they were; torch offers no such thing for the others.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed those of all other devices too
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
        yield
