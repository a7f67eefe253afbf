"""From an estimator's arguments and the data to settings, and from settings to a pair."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor

from pyro_ricvae import _parts
from pyro_ricvae._validation import check_support, positive_int, positive_ints
from pyro_ricvae.data.containers import Rows, as_rows, check_for_training
from pyro_ricvae.data.scaling import Kind, Scaling, quantisation_step
from pyro_ricvae.guides import AmortizedNormal
from pyro_ricvae.inference import Recipe, automatic_epochs, automatic_floor, automatic_hidden, automatic_n_latent
from pyro_ricvae.inference.engine import Engine
from pyro_ricvae.inference.precision import Precision
from pyro_ricvae.models import VAE
from pyro_ricvae.networks import MLPDecoder, MLPEncoder

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
    learn_scale: bool = False
    kl: str = ""

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
    likelihood, prior = _parts.likelihood_name(arguments.likelihood), _parts.prior_name(arguments.prior)
    if not isinstance(arguments.prior, str):
        n_latent = _parts.n_latent_of(arguments.prior, n_latent)
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
    floor = _parts.floor_argument(arguments.floor, arguments.likelihood)
    learn_scale = floor == "auto" and likelihood in _parts.LEARNABLE
    device = device_named(arguments.device)

    kind = arguments.scaling
    if kind == "auto":
        kind = _parts.automatic_scaling(arguments.likelihood, rows.values, images)
    scaling = _scaling(kind, rows.values)
    x = standardised(scaling, rows.values)
    check_support(_parts.template(arguments.likelihood), x)
    center = x.median(0).values
    step = quantisation_step(rows.values, scaling)
    if floor == "auto":
        floor = automatic_floor(x, center, step, images=scaling.kind == "range")
    if floor is not None and likelihood in _parts.WITH_SCALE:
        floor = (floor[0], floor[0]) if learn_scale else (floor[1], floor[1])  # one scale, which no schedule moves
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
        learn_scale=learn_scale,
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
    floor = None if settings.floor is None else settings.floor[0]
    likelihood = _parts.make_likelihood(arguments.likelihood, floor, settings.learn_scale)
    prior = _parts.make_prior(arguments.prior, settings.n_latent)
    shared: dict[str, Any] = {"affine_path": recipe.affine_path, "center": center if recipe.center else None}
    bound = None if recipe.clip is None else (1.0 if settings.scaling == "range" else recipe.clip)
    encoder = MLPEncoder(n_features, settings.n_latent, settings.hidden, bound=bound, **shared)
    sigmoid = _parts.is_unit(likelihood.support)
    decoder = MLPDecoder(
        settings.n_latent, n_features, settings.hidden[::-1], n_outputs=likelihood.n_outputs, sigmoid=sigmoid, **shared
    )
    return VAE(decoder, likelihood, prior), AmortizedNormal(encoder)


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
