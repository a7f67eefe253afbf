"""From an estimator's arguments and the data to settings, and from settings to a new pair."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from pyro_ricvae._core.checks import is_auto, positive_int
from pyro_ricvae._core.distributions import check_support
from pyro_ricvae._core.isolation import device_named, random_numbers
from pyro_ricvae.data.rows import Rows, as_rows, check_for_training
from pyro_ricvae.data.scaling import Kind, Scaling, fit_scaling, quantisation_step, standardised
from pyro_ricvae.estimators import registry
from pyro_ricvae.estimators.defaults import (
    automatic_floor,
    automatic_sizes,
    automatic_spike,
    automatic_test_passes,
)
from pyro_ricvae.estimators.outliers import check_contamination
from pyro_ricvae.guides import AmortizedNormal
from pyro_ricvae.inference import Recipe
from pyro_ricvae.inference.compile.precision import Precision
from pyro_ricvae.inference.training.engine import Engine
from pyro_ricvae.likelihoods.likelihood import shapes_of
from pyro_ricvae.models import VAE
from pyro_ricvae.networks import MLPDecoder, MLPEncoder

# What models that were saved before have beside the other settings, and now is in "spike".
_ONCE_BESIDE = ("takeover", "clean_df", "widest", "narrowest", "ratio", "draws")


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
    likelihood_reason: str = ""
    spike: dict[str, Any] = field(default_factory=dict)
    contamination: float | Literal["auto"] = "auto"

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
        once = {name: other.pop(name) for name in _ONCE_BESIDE if name in other}
        if once:
            other["spike"] = {name: value for name, value in once.items() if value is not None}
        return cls(**(other | {"floor": floor, "recipe": recipe, "hidden": hidden, "device": device}))


@dataclass(frozen=True)
class Prepared:
    """What is ready to be trained: the data, as they came and standardised on the device, and a new pair for them.

    `center` is the standardised rows' median, of shape (d,), on the device.
    """

    rows: Rows
    settings: Settings
    scaling: Scaling
    x: Tensor
    center: Tensor
    model: VAE
    guide: AmortizedNormal
    seed: int


def prepare(arguments: Any, data: Any) -> Prepared:
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
    return Prepared(rows, settings, scaling, x.to(device), center.to(device), model.to(device), guide.to(device), seed)


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
    is_image = len(rows.event_shape) > 1 or rows.values.dtype == np.uint8
    given = registry.resolved(arguments.likelihood)
    likelihood, prior = registry.likelihood_name(given), registry.prior_name(arguments.prior)
    train_passes = positive_int("train_passes", arguments.train_passes)
    test_passes = arguments.test_passes
    contamination = check_contamination(arguments.contamination)
    floor = registry.floor_argument(arguments.floor, given)
    learn_scale = floor == "auto" and registry.takes(given, "learn_scale")
    device = device_named(arguments.device)

    template = registry.template(given)
    if is_auto(test_passes):
        test_passes = automatic_test_passes(train_passes, repairs=getattr(template, "recycle", None) == "repair")
    scaling = fit_scaling(arguments.scaling, rows.values, template.support, is_image)
    x = standardised(scaling, rows.values)
    check_support(template, x)
    center = x.median(0).values
    step = quantisation_step(rows.values, scaling)
    images = scaling.kind == "range"
    n_latent, hidden, epochs = _sizes(arguments, rows.values.shape, recipe.batch_size, is_image or images)
    if floor == "auto":
        floor = automatic_floor(x, center, step, images=images)
    spike = automatic_spike(floor[1], images=images) if registry.takes(given, "takeover") else {}
    if floor is not None and registry.takes(given, "scale"):
        floor = (floor[0], floor[0]) if learn_scale else (floor[1], floor[1])  # one scale, which no schedule moves
    settings = Settings(
        n_latent,
        hidden,
        train_passes,
        positive_int("test_passes", test_passes),
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
        likelihood_reason="as given" if given is arguments.likelihood else _reason(spike["takeover"]),
        spike=spike,
        contamination=contamination,
    )
    return settings, scaling, x, center


def build_pair(settings: Settings, arguments: Any, center: Tensor) -> tuple[VAE, AmortizedNormal]:
    """Return a new, untrained pair. `center`, of shape (d,), is the standardised rows' median."""
    recipe = settings.recipe
    n_features = len(center)
    given = registry.resolved(arguments.likelihood)
    likelihood = registry.make_likelihood(given, settings.floor, settings.learn_scale, **settings.spike)
    prior = registry.make_prior(arguments.prior, settings.n_latent)
    paths: dict[str, Any] = {"affine_path": recipe.affine_path}
    centred: dict[str, Any] = {"center": center if recipe.center else None}
    bound = None if recipe.clip is None else (1.0 if settings.scaling == "range" else recipe.clip)
    encoder = MLPEncoder(n_features, settings.n_latent, settings.hidden, bound=bound, **centred, **paths)
    shapes = shapes_of(likelihood, n_features)
    decoder = MLPDecoder(
        settings.n_latent,
        n_features,
        settings.hidden[::-1],
        shapes=shapes,
        sigmoid=registry.is_unit(likelihood.support),
        **(centred if shapes[0] == (n_features,) else {}),
        **paths,
    )
    return VAE(decoder, likelihood, prior), AmortizedNormal(encoder)


def _sizes(arguments: Any, shape: tuple[int, ...], batch_size: int, images: bool) -> tuple[int, tuple[int, ...], int]:
    """Return the number of latents, the sizes of the hidden layers and the number of epochs."""
    n_latent = arguments.n_latent
    if not isinstance(arguments.prior, str):
        n_latent = registry.n_latent_of(arguments.prior, n_latent)
    return automatic_sizes(
        n_latent, arguments.hidden, arguments.epochs, shape=shape, batch_size=batch_size, images=images
    )


def _reason(takeover: float) -> str:
    """Return why "auto" is the likelihood that it is."""
    return (
        "auto: cells are clean, with one scale, or dirty, each with its own; the share of each is found in training. "
        f"The index-conditioned likelihood stands in its place for the first {takeover:.0%}, and after that while "
        "clean cells cannot be told from dirty ones."
    )


def _recipe(recipe: Any) -> Recipe:
    if recipe is None:
        return Recipe()
    if not isinstance(recipe, Recipe):
        raise ValueError(f"Expected recipe to be a pyro_ricvae.inference.Recipe, actual {recipe!r}.")
    return recipe
