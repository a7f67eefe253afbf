"""Data sets with dirt of known truth, and what cleaning is worth on them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from pyro_ricvae.data import corruption, load_breast_cancer, load_digits, load_frey_faces, load_mnist
from pyro_ricvae.data.datasets import find
from pyro_ricvae.data.scaling import Scaling

Array = NDArray[Any]


@dataclass(frozen=True)
class Scenario:
    """A data set, the same with dirt on it, and where that is.

    Parameters
    ----------
    name : str
        The data set and the dirt.
    clean, dirty : ndarray, shape (n, *event_shape)
        In data units.
    touched : ndarray of bool, shape (n, *event_shape)
        The cells that were overwritten.
    by_row : bool, optional
        Whether a row is dirty or clean as a whole; by default where it is an image.
    """

    name: str
    clean: Array
    dirty: Array
    touched: NDArray[np.bool_]
    by_row: bool | None = None

    @property
    def images(self) -> bool:
        """Whether rows are images."""
        return self.dirty.ndim > 2

    @property
    def rowwise(self) -> bool:
        """Whether rows are dirty or clean as a whole, and not cell by cell."""
        return self.images if self.by_row is None else self.by_row

    @cached_property
    def scaling(self) -> Scaling:
        """The units of errors, common to all models: those that the dirty data are standardised to."""
        return Scaling.fit(self.dirty.reshape(len(self.dirty), -1), "range" if self.images else "robust")

    def standardise(self, x: Array) -> NDArray[np.float32]:
        """Return rows of any shape as standardised rows of shape (n, d)."""
        return self.scaling.standardise(x.reshape(len(x), -1))

    def errors(self, cleaned: Array) -> dict[str, float]:
        """Return the errors of cleaned data, in data units, against the clean truth.

        Returns
        -------
        dict
            Mean squared errors "dirty" and "clean", in squared standardised units: over all cells of the rows that are
            dirty or clean, or over the cells that were touched or not (see `rowwise`). NaN where there are none,
            "dirty" also where whole rows were replaced, which nothing can bring back. "all": over all cells. "median":
            the median absolute error over all cells, in standardised units.
        """
        residual = np.abs(self.standardise(cleaned) - self.standardise(self.clean), dtype=np.float64)
        error = np.square(residual)
        touched = self.touched.reshape(error.shape)
        where = np.broadcast_to(touched.any(axis=1, keepdims=True), error.shape) if self.rowwise else touched
        replaced = np.array_equal(touched.any(axis=1), touched.all(axis=1))
        masks = {"dirty": where & (not replaced), "clean": ~where, "all": np.ones_like(where)}
        means = {name: float(error[mask].mean()) if mask.any() else float("nan") for name, mask in masks.items()}
        return means | {"median": float(np.median(residual))}

    def average_precision(self, row_scores: Array, cell_scores: Array) -> float:
        """Return the average precision in finding the dirty rows, or the touched cells.

        Parameters
        ----------
        row_scores : ndarray, shape (n,)
            Higher is more normal.
        cell_scores : ndarray, shape (n, d)
            Higher is more outlying.
        """
        touched = self.touched.reshape(len(self.touched), -1)
        if self.rowwise:
            dirty = np.asarray(touched.any(axis=1))
            return float(average_precision_score(dirty, -row_scores)) if 0 < dirty.sum() < len(dirty) else float("nan")
        return float(average_precision_score(touched.ravel(), cell_scores.reshape(touched.shape).ravel()))


def _digits(dirt: Callable[..., tuple[Array, Array]], **options: Any) -> Callable[[int], tuple[Array, Array, Array]]:
    def make(seed: int) -> tuple[Array, Array, Array]:
        clean = load_digits()
        return clean, *dirt(clean, share=0.4, random_state=seed, **options)

    return make


def blocks_and_lines(images: Array, *, share: float, random_state: int) -> tuple[Array, NDArray[np.bool_]]:
    """Return images of which `share` are under a bright 3 x 3 block or a bright line, in equal parts, and the mask."""
    rng = np.random.default_rng(random_state)
    dirty, touched = images.copy(), np.zeros(images.shape, dtype=bool)
    halves = np.array_split(rng.permutation(len(images)), 2)
    kinds: list[Callable[..., tuple[Array, Array]]] = [corruption.blocks, corruption.lines]
    for rows, dirt in zip(halves, kinds, strict=True):
        dirty[rows], touched[rows] = dirt(images[rows], share=share, random_state=rng)
    return dirty, touched


def _faces(dirt: str) -> Callable[[int], tuple[Array, Array, Array]]:
    def make(seed: int) -> tuple[Array, Array, Array]:
        clean = load_frey_faces()
        if dirt == "discs":  # dark, of radius 2 to 7 pixels, on 60% of the images
            return clean, *corruption.discs(clean, share=0.6, random_state=seed)
        if dirt == "bars":  # bright, of random place, angle and width, on half of them
            return clean, *corruption.lines(clean, share=0.5, width=(2, 6), random_state=seed)
        return clean, clean.copy(), np.zeros(clean.shape, dtype=bool)

    return make


def _mnist(noisy: bool) -> Callable[[int], tuple[Array, Array, Array]]:
    def make(seed: int) -> tuple[Array, Array, Array]:
        clean = load_mnist()
        if not noisy:
            return clean, clean, np.zeros(clean.shape, dtype=bool)
        return clean, *corruption.salt_and_pepper(clean, cell_share=0.4, random_state=seed)

    return make


def _table(share: float) -> Callable[[int], tuple[Array, Array, Array]]:
    def make(seed: int) -> tuple[Array, Array, Array]:
        clean = load_breast_cancer().to_numpy()
        return clean, *corruption.gross_errors(clean, share=share, random_state=seed)

    return make


def load_adbench(name: str) -> tuple[Array, NDArray[np.bool_]]:
    """Return the rows of a data set of ADBench, of shape (n, d), and which of them are outlying, of shape (n,)."""
    path = find(f"adbench/{name}.npz")
    if path is None:
        raise FileNotFoundError(f"Expected adbench/{name}.npz in the folder that PYRO_RICVAE_DATA names.")
    with np.load(path) as arrays:
        return arrays["X"].astype(np.float64), arrays["y"].ravel() == 1


def load_satellite() -> Array:
    """Return 1,500 rows of the ADBench table satimage-2, without its outliers: 9 pixels in 4 bands of a satellite."""
    rows, outlying = load_adbench("31_satimage-2")
    return rows[~outlying][:1500]


#: The data sets on which likelihoods are compared, by name, and how many of their cells or rows are dirty.
DATA_SETS: dict[str, Callable[[], Array]] = {
    "digits": load_digits,
    "faces": load_frey_faces,
    "cancer": lambda: load_breast_cancer().to_numpy(),
    "satellite": load_satellite,
}
CONTAMINATIONS = ("none", "cells-10", "cells-40", "rows-10", "rows-40")


def _contaminated(data: str, contamination: str) -> Callable[[int], tuple[Array, Array, Array, bool]]:
    """Return the maker of a data set with dirt on cells (noise in images, gross errors in tables) or in whole rows."""
    kind, _, percent = contamination.partition("-")

    def make(seed: int) -> tuple[Array, Array, Array, bool]:
        clean = DATA_SETS[data]()
        if kind == "none":
            return clean, clean.copy(), np.zeros(clean.shape, dtype=bool), False
        share = int(percent) / 100
        if kind == "rows":
            return clean, *corruption.replace_rows(clean, share=share, random_state=seed), True
        if clean.ndim > 2:
            return clean, *corruption.salt_and_pepper(clean, cell_share=share, random_state=seed), False
        return clean, *corruption.gross_errors(clean, share=share, random_state=seed), False

    return make


_MAKERS: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "digits-demo": _digits(blocks_and_lines),
    "digits-block": _digits(corruption.blocks),
    "digits-line": _digits(corruption.lines),
    "digits-salt-and-pepper": _digits(corruption.salt_and_pepper, cell_share=0.25),
    "faces-discs": _faces("discs"),
    "faces-bars": _faces("bars"),
    "faces-clean": _faces("clean"),
    "mnist-clean": _mnist(noisy=False),
    "mnist-noise": _mnist(noisy=True),
    "table-10": _table(0.1),
    "table-40": _table(0.4),
    **{f"{data}-{dirt}": _contaminated(data, dirt) for data in DATA_SETS for dirt in CONTAMINATIONS},
}

#: The names that `make_scenario` takes.
SCENARIOS = tuple(_MAKERS)


def make_scenario(name: str, seed: int) -> Scenario:
    """Return a scenario by its name, one of `SCENARIOS`, its dirt drawn with `seed`."""
    return Scenario(name, *_MAKERS[name](seed))
