"""Writing samples: as an array, a table, or a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ricvae.cli.files import InputError
from pyro_ricvae.plots.rows import tiles
from pyro_ricvae.plots.style import is_drawable

if TYPE_CHECKING:
    from pyro_ricvae.estimators.ricvae import RiCVAE


def check_generative(estimator: Any, path: Path) -> None:
    """Raise an InputError unless a saved estimator is a generative model, as `ricvae clean` makes it."""
    if not hasattr(estimator, "model_"):
        raise InputError(
            f"Expected a model of ricvae clean in {path}, actual a {type(estimator).__name__}: use Python."
        )


def check_samples_path(estimator: "RiCVAE", path: Path) -> None:
    """Raise an InputError unless samples of the estimator can be written in the format that the name asks for."""
    shape = estimator.event_shape_
    formats = [".npy"] + [".csv"] * (len(shape) == 1) + [".png"] * is_drawable(shape)
    if path.suffix.lower() not in formats:
        raise InputError(
            f"Expected a file for rows of shape {shape} with the ending {' or '.join(formats)}, actual {path}: "
            "choose another name."
        )


def write_samples(estimator: "RiCVAE", samples: NDArray[Any], path: Path) -> None:
    """Write samples of a fitted estimator, in data units, in the format that the file's name asks for.

    Parameters
    ----------
    estimator : RiCVAE
        The estimator, whose columns' names a table gets, and whose range is black to white in a picture.
    samples : ndarray, shape (n, *event_shape)
        The samples.
    path : Path
        A name ending in .npy, .csv (for rows of shape (d,)) or .png (for images).

    Raises
    ------
    InputError
        If the name has another ending.
    """
    check_samples_path(estimator, path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        with path.open("wb") as file:  # numpy.save would add an ending to names such as X.NPY
            np.save(file, samples)
    elif suffix == ".csv":
        names = getattr(estimator, "feature_names_in_", [f"x{i}" for i in range(samples.shape[1])])
        pd.DataFrame(samples, columns=list(names)).to_csv(path, index=False)
    else:
        tiles(samples, limits=data_range(estimator)).save(path, format="PNG")


def data_range(estimator: "RiCVAE") -> tuple[float, float] | None:
    """Return the range of the images an estimator was fitted on, without stray values; None if it did not look."""
    scaling = estimator.scaling_
    if scaling.kind != "range":
        return None
    low = float(scaling.center[0])
    return low, low + float(scaling.scale[0])
