"""The data that experiments name, and what tells whether they are still the same."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray

from pyro_ricvae.data import load_breast_cancer, load_digits, load_frey_faces, load_mnist
from pyro_ricvae.data.datasets import find
from pyro_ricvae.demo.scenarios import load_adbench

SYNTHETIC = "synthetic"  # drawn by the experiment itself, from its seed

_LOADERS: dict[str, Callable[[], object]] = {
    "digits": load_digits,
    "cancer": lambda: load_breast_cancer().to_numpy(),
    "faces": load_frey_faces,
    "mnist": lambda: (load_mnist(), load_mnist("test", return_labels=True)),
    SYNTHETIC: lambda: np.zeros(0),
}
_ADBENCH = "adbench/"


def names() -> list[str]:
    """Return the names of data sets that are known: ADBench's only where they are."""
    return [*_LOADERS, *(_ADBENCH + name for name in (*adbench(images=False), *adbench(images=True)))]


def adbench(*, images: bool) -> list[str]:
    """Return the names of ADBench's tables, or of its image sets (features of a network), none where they are not."""
    one = find("adbench/14_glass.npz")
    folder = Path() if one is None else one.parent
    stems = sorted(file.stem for file in folder.glob("*.npz")) if one is not None else []
    return [stem for stem in stems if stem.startswith("MVTec") == images]


@cache
def fingerprint(name: str) -> str:
    """Return a digest of a data set's values.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists those that are known.
    OSError
        If its file is nowhere; the message says where to put it.
    """
    if name.startswith(_ADBENCH):
        return str(joblib.hash(outlying_rows(name)))
    if name not in _LOADERS:
        raise ValueError(f"Expected one of the data sets {', '.join(names())}, actual {name!r}.")
    return str(joblib.hash(_LOADERS[name]()))


def outlying_rows(name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the rows of a data set "adbench/...", of shape (n, d), and which of them are outlying."""
    return load_adbench(name.removeprefix(_ADBENCH))


def as_bytes(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return images on [0, 255] as a run keeps them for a picture: rounded, what lies outside at the ends."""
    return np.round(images).clip(0, 255).astype(np.uint8)
