"""Fitted estimators on disk: safetensors and JSON, so that nothing is unpickled."""

import json
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pyro_ricvae._settings import Settings, build_pair, device_named
from pyro_ricvae.data.scaling import Scaling
from pyro_ricvae.likelihoods import as_likelihood
from pyro_ricvae.priors import as_prior

if TYPE_CHECKING:
    from pyro_ricvae.estimator import RiCVAE

#: The version of the format that is written; older ones can be read, newer ones cannot.
FORMAT_VERSION = 1
_TENSORS, _DESCRIPTION = "model.safetensors", "model.json"
# What the description says of a fitted estimator beside its settings.
_FITTED = ("random_state", "event_shape", "feature_names", "warnings", "history")


def save(estimator: "RiCVAE", folder: str | Path) -> None:
    """Write a fitted estimator to `folder`; see `RiCVAE.save`."""
    from sklearn.utils.validation import check_is_fitted

    from pyro_ricvae import __version__

    check_is_fitted(estimator)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"Expected a new or an empty folder, actual {folder}: name another, or remove it first.")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value for name, value in estimator.model_.state_dict().items()}
    tensors |= {f"guide.{name}": value for name, value in estimator.guide_.state_dict().items()}
    tensors["scaling.center"] = torch.as_tensor(estimator.scaling_.center)
    tensors["scaling.scale"] = torch.as_tensor(estimator.scaling_.scale)
    # Copies, as safetensors refuses tensors that share memory, which tied parameters do.
    copies = {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    save_file(copies, folder / _TENSORS)
    names, seed = getattr(estimator, "feature_names_in_", None), estimator.random_state
    description = {
        "format_version": FORMAT_VERSION,
        "pyro_ricvae": __version__,
        "settings": estimator.settings_ | {"test_passes": estimator.test_passes},  # it may have been set since
        "random_state": int(seed) if isinstance(seed, Integral) else None,
        "event_shape": list(estimator.event_shape_),
        "feature_names": None if names is None else list(names),
        "warnings": estimator.warnings_,
        "history": estimator.history_,
    }
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")


def load(
    folder: str | Path,
    *,
    likelihood: nn.Module | Callable[..., Any] | None = None,
    prior: nn.Module | TorchDistribution | None = None,
    device: str | torch.device = "auto",
) -> "RiCVAE":
    """Read a fitted estimator that `RiCVAE.save` wrote.

    Parameters
    ----------
    folder : str or Path
        Where it was saved.
    likelihood, prior : optional
        Where the estimator was given an object: one of the same class (or a function, or a distribution, as there),
        which is copied, and its values then filled in. Code is not saved.
    device : str or torch.device, default="auto"
        Where to put the model. "auto" is CUDA where there is such a device, else the CPU.

    Returns
    -------
    RiCVAE
        Fitted; its results are those of the one that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no saved estimator in the folder.
    ValueError
        If there is no such device, or the files are damaged, of a newer format, or do not fit the likelihood or prior
        given.
    """
    from pyro_ricvae.estimator import RiCVAE

    folder = Path(folder)
    described, settings, scaling, tensors = _read(folder, device_named(device))
    estimator = RiCVAE(
        settings.n_latent,
        hidden=settings.hidden,
        train_passes=settings.train_passes,
        test_passes=settings.test_passes,
        likelihood=_part("likelihood", settings.likelihood, None if likelihood is None else as_likelihood(likelihood)),
        prior=_part("prior", settings.prior, None if prior is None else as_prior(prior)),
        floor="auto" if settings.floor is None or settings.learn_scale else settings.floor,
        epochs=settings.epochs,
        scaling=settings.scaling,
        recipe=settings.recipe,
        engine=settings.engine,
        precision=settings.precision,
        device=settings.device,
        random_state=described["random_state"],
    )
    model, guide = build_pair(settings, estimator, torch.zeros(len(scaling.center)))
    for name, module in (("model", model), ("guide", guide)):
        state = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                f"Expected in {folder} the tensors of the {name} that {_DESCRIPTION} describes, actual others: {error}"
            ) from error
    estimator.model_, estimator.guide_ = model.to(settings.device).eval(), guide.to(settings.device).eval()
    estimator.scaling_, estimator.settings_ = scaling, settings.to_json()
    estimator.history_, estimator.warnings_ = described["history"], described["warnings"]
    estimator.event_shape_, estimator.n_features_in_ = tuple(described["event_shape"]), len(scaling.center)
    if described["feature_names"] is not None:
        estimator.feature_names_in_ = np.asarray(described["feature_names"], dtype=object)
    return estimator


def _read(folder: Path, device: torch.device) -> tuple[dict[str, Any], Settings, Scaling, dict[str, torch.Tensor]]:
    missing = [name for name in (_DESCRIPTION, _TENSORS) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"Expected a folder with a saved model, {_DESCRIPTION} and {_TENSORS}, actual {folder}, which lacks "
            f"{' and '.join(missing)}: give the folder that RiCVAE.save was given (the folder model of an output)."
        )
    try:
        described = json.loads((folder / _DESCRIPTION).read_text())
        newer = described["format_version"] > FORMAT_VERSION
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from error
    if newer:
        raise ValueError(
            f"Expected a model of format {FORMAT_VERSION} or older, actual {described['format_version']}, saved by "
            f"pyro_ricvae {described.get('pyro_ricvae')}: install that version or a newer one."
        )
    try:
        tensors = load_file(folder / _TENSORS)
        settings = Settings.from_json(described["settings"], device)
        center, scale = (tensors.pop(f"scaling.{name}").numpy().astype(np.float64) for name in ("center", "scale"))
        described = {name: described[name] for name in _FITTED}
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _damaged(folder, error) from error
    return described, settings, Scaling(settings.scaling, center, scale), tensors


def _damaged(folder: Path, error: Exception) -> ValueError:
    return ValueError(
        f"Expected a saved model in {folder}, actual damaged files ({type(error).__name__}: {error}): save it again."
    )


def _part(what: str, name: str, given: nn.Module | None) -> Any:
    """Return the likelihood or prior to build with: the saved name, or the user's object in its place."""
    if "." not in name:  # one of the names that an estimator takes, not a class
        if given is not None:
            raise ValueError(
                f"Expected no {what}, as the model was saved with {name!r}, actual {given!r}: leave it out."
            )
        return name
    if given is None:
        raise ValueError(
            f"The model was saved with an object as {what}, of {name}, whose code is not saved: give "
            f"load(folder, {what}=...) an object of that class."
        )
    # The module is not compared: classes move, and that of a script is __main__ only while the script runs.
    if type(given).__name__ != name.rpartition(".")[2]:
        raise ValueError(f"Expected as {what} an object of {name}, with which the model was saved, actual {given!r}.")
    return given
