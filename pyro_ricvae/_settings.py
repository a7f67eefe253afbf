"""From an estimator's arguments and the data to settings, and from settings to a pair."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from sklearn.utils import check_random_state
from torch import Tensor, nn

from pyro_ricvae._validation import positive_finite, positive_int, positive_ints
from pyro_ricvae.data.containers import Rows, as_rows, check_for_training
from pyro_ricvae.data.scaling import Kind, Scaling, quantisation_step
from pyro_ricvae.guides import AmortizedNormal
from pyro_ricvae.inference import Recipe, automatic_epochs, automatic_floor, automatic_hidden, automatic_n_latent
from pyro_ricvae.likelihoods import FixedNormal, IndexConditionedNormal, LearnedNormal
from pyro_ricvae.models import VAE
from pyro_ricvae.networks import MLPDecoder, MLPEncoder
from pyro_ricvae.priors import StandardNormal

LIKELIHOODS = ("index_conditioned", "fixed_normal", "learned_normal")
PRIORS = ("standard_normal",)


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
    settings, scaling, x = choose_settings(arguments, rows)
    seed = check_random_state(arguments.random_state).randint(2**31)
    device = settings.device
    with random_numbers(seed, device):
        model, guide = build_pair(settings, arguments, center=x.median(0).values)
    return Task(rows, settings, scaling, x.to(device), model.to(device), guide.to(device), seed)


def choose_settings(arguments: Any, rows: Rows) -> tuple[Settings, Scaling, Tensor]:
    """Return the settings for the data, their scaling, and the standardised rows, a float32 tensor on the CPU.

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
    images = len(rows.event_shape) > 1 or rows.values.dtype.itemsize == 1
    n_latent, hidden, epochs = arguments.n_latent, arguments.hidden, arguments.epochs
    likelihood = _name_of("likelihood", arguments.likelihood, LIKELIHOODS)
    prior = _name_of("prior", arguments.prior, PRIORS)
    if n_latent == "auto":
        own = arguments.prior().event_shape if isinstance(arguments.prior, nn.Module) else ()
        n_latent = own[-1] if own else automatic_n_latent(n_rows, n_features)
    if isinstance(hidden, str) and hidden == "auto":
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
    scaling = Scaling.fit(rows.values, ("range" if images else "robust") if kind == "auto" else kind)
    step = quantisation_step(rows.values, scaling)
    x = torch.as_tensor(scaling.standardise(rows.values))
    if not x.isfinite().all():
        raise ValueError(
            f"Expected standardised values within float32, actual ones beyond it: the data reach from "
            f"{rows.values.min():g} to {rows.values.max():g}. Use scaling='robust', or leave those rows out."
        )
    if floor == "auto":
        floor = automatic_floor(x, x.median(0).values, step, images=scaling.kind == "range")
    settings = Settings(n_latent, hidden, *passes, epochs, likelihood, prior, floor, scaling.kind, step, device, recipe)
    return settings, scaling, x


def build_pair(settings: Settings, arguments: Any, center: Tensor) -> tuple[VAE, AmortizedNormal]:
    """Return a new, untrained pair. `center`, of shape (d,), is the standardised rows' median."""
    recipe = settings.recipe
    n_features = len(center)
    likelihood = _likelihood(settings, arguments.likelihood)
    prior = StandardNormal(settings.n_latent) if isinstance(arguments.prior, str) else deepcopy(arguments.prior)
    shared: dict[str, Any] = {"affine_path": recipe.affine_path, "center": center if recipe.center else None}
    bound = None if recipe.clip is None else (1.0 if settings.scaling == "range" else recipe.clip)
    encoder = MLPEncoder(n_features, settings.n_latent, settings.hidden, bound=bound, **shared)
    n_outputs: Any = likelihood.n_outputs
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
    return tuple(positive_finite("floor", end).item() for end in ends)


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
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:  # torch raises either, by device
        raise ValueError(
            f"Expected a device of this machine, actual {device!r} ({str(error).splitlines()[0]}): use 'cpu' or 'auto'."
        ) from error
    return found


@contextmanager
def random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators for the time of the block, and leave them as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
