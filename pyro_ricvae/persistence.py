"""Fitted estimators on disk: safetensors and JSON, so that nothing is unpickled."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pyro_ricvae._settings import Settings, build_pair, device_named
from pyro_ricvae.data.scaling import Scaling
from pyro_ricvae.inference import Recipe

if TYPE_CHECKING:
    from pyro_ricvae.estimator import RiCVAE

#: The version of the format that is written; older ones can be read, newer ones cannot.
FORMAT_VERSION = 1
_TENSORS, _DESCRIPTION = "model.safetensors", "model.json"


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
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / _TENSORS)
    names = getattr(estimator, "feature_names_in_", None)
    description = {
        "format_version": FORMAT_VERSION,
        "pyro_ricvae": __version__,
        "settings": estimator.settings_,
        "random_state": estimator.random_state if isinstance(estimator.random_state, int) else None,
        "event_shape": list(estimator.event_shape_),
        "feature_names": None if names is None else list(names),
        "warnings": estimator.warnings_,
        "history": estimator.history_,
    }
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")


def load(
    folder: str | Path,
    *,
    likelihood: nn.Module | None = None,
    prior: nn.Module | None = None,
    device: str | torch.device = "auto",
) -> "RiCVAE":
    """Read a fitted estimator that `RiCVAE.save` wrote.

    Parameters
    ----------
    folder : str or Path
        Where it was saved.
    likelihood, prior : torch.nn.Module, optional
        Where the estimator was given objects of your own: objects of the same kind, whose values are then filled in.
        Code is not saved.
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

    folder, device = Path(folder), device_named(device)
    described, tensors = _read(folder)
    settings = dict(described["settings"])
    recipe = Recipe(**settings.pop("recipe"))
    start, end = settings.pop("floor_start"), settings.pop("floor_end")
    estimator = RiCVAE(
        settings["n_latent"],
        hidden=tuple(settings["hidden"]),
        train_passes=settings["train_passes"],
        test_passes=settings["test_passes"],
        likelihood=_part("likelihood", settings["likelihood"], likelihood),
        prior=_part("prior", settings["prior"], prior),
        floor="auto" if start is None else (start, end),
        epochs=settings["epochs"],
        scaling=settings["scaling"],
        recipe=recipe,
        device=device,
        random_state=described["random_state"],
    )
    settings |= {"hidden": tuple(settings["hidden"]), "device": device}
    chosen = Settings(floor=None if start is None else (start, end), recipe=recipe, **settings)
    center, scale = (tensors.pop(f"scaling.{name}").numpy().astype(np.float64) for name in ("center", "scale"))
    model, guide = build_pair(chosen, estimator, torch.zeros(len(center)))
    for name, module in (("model", model), ("guide", guide)):
        state = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                f"Expected in {folder} the tensors of the {name} that {_DESCRIPTION} describes, actual others: {error}"
            ) from error
    estimator.model_, estimator.guide_ = model.to(device), guide.to(device)
    estimator.scaling_ = Scaling(chosen.scaling, center, scale)
    estimator.settings_ = chosen.to_json()
    estimator.history_, estimator.warnings_ = described["history"], described["warnings"]
    estimator.event_shape_, estimator.n_features_in_ = tuple(described["event_shape"]), len(center)
    if described["feature_names"] is not None:
        estimator.feature_names_in_ = np.asarray(described["feature_names"], dtype=object)
    return estimator


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    missing = [name for name in (_DESCRIPTION, _TENSORS) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"Expected a folder with a saved model, {_DESCRIPTION} and {_TENSORS}, actual {folder}, which lacks "
            f"{' and '.join(missing)}: give the folder that RiCVAE.save was given (the folder model of an output)."
        )
    try:
        described = json.loads((folder / _DESCRIPTION).read_text())
        version = described["format_version"]
        tensors = load_file(folder / _TENSORS)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"Expected a saved model in {folder}, actual damaged files ({error}): save it again."
        ) from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"Expected a model of format {FORMAT_VERSION} or older, actual {version}, saved by pyro_ricvae "
            f"{described.get('pyro_ricvae')}: install that version or a newer one."
        )
    return described, tensors


def _part(what: str, name: str, given: nn.Module | None) -> Any:
    """Return the likelihood or prior to build with: the saved name, or the user's object in its place."""
    own = "." in name  # a class of the user's, not one of the names an estimator takes
    if own and given is None:
        raise ValueError(
            f"The model was saved with a {what} of your own, {name}, whose code is not saved: give "
            f"load(folder, {what}=...) an object of that kind."
        )
    return given if own else name
