"""What estimators of rows have in common: rows in and out, names of columns, scores, and models on disk."""
# ruff: noqa: N803 -- X is scikit-learn's name

import math
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from pyro_ricvae._core.isolation import device_named
from pyro_ricvae.data.rows import Rows, as_rows, check_like
from pyro_ricvae.estimators import persistence

_CLASSES: dict[str, type["RowEstimator"]] = {}


class RowEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator of rows, with the conventions of scikit-learn. A subclass is saved and loaded by its name.

    It defines ``fit``, which calls `_remember`; ``score_samples``, and where there is one ``transform``, which call
    `_like_those_of_fit`; for the names of the latter's columns `_n_features_out`; and to be saved `_to_save` and
    `_from_saved`.

    Attributes
    ----------
    n_features_in_ : int
        The number d of features of a row, flattened.
    event_shape_ : tuple of int
        The shape of a row.
    feature_names_in_ : ndarray of str
        The names of a data frame's columns; only where it was fitted on one.
    """

    event_shape_: tuple[int, ...]
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _CLASSES[_name_of(cls)] = cls

    def score(self, X: Any, y: None = None) -> float:
        """Return the mean of ``score_samples(X)``: higher is more normal.

        It compares estimators of one likelihood, floor and scaling. Those of others have other units, and a profile
        likelihood has a higher score by construction: a search over these finds nothing; see `compare`.

        Parameters
        ----------
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
            Rows like those of ``fit``.
        y : None
            Not used; there for scikit-learn's searches and pipelines.

        Returns
        -------
        float
            In the units of ``score_samples``.
        """
        scores: Any = self.score_samples(X)
        return float(np.mean(scores))

    def save(self, folder: str | Path) -> None:
        """Write the fitted estimator to `folder`, as safetensors and JSON; see `pyro_ricvae.load`.

        The folder appears whole or not at all.

        Raises
        ------
        FileExistsError
            If the folder is there and not empty.
        """
        check_is_fitted(self)
        description, tensors = self._to_save()
        names = getattr(self, "feature_names_in_", None)
        rows = {
            "event_shape": list(self.event_shape_),
            "feature_names": None if names is None else list(names),
        }
        persistence.write(folder, {"estimator": _name_of(type(self)), **rows, **description}, tensors)

    def _to_save(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return what a saved estimator is made of: what JSON can hold, and tensors."""
        raise NotImplementedError(f"{type(self).__name__} cannot be saved.")

    @classmethod
    def _from_saved(cls, description: dict[str, Any], tensors: dict[str, torch.Tensor], **given: Any) -> Self:
        """Return the fitted estimator that `_to_save` was of; `given` are the arguments of `load`.

        A KeyError, TypeError or ValueError where they do not describe one.
        """
        raise NotImplementedError(f"{cls.__name__} cannot be loaded.")

    @property
    def _n_features_out(self) -> int:
        """The number of columns of ``transform``; scikit-learn names them after the class."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many columns it makes.")

    def _remember(self, rows: Rows) -> None:
        """Remember what the rows of fit look like."""
        self._remember_shape(rows.event_shape, rows.columns)

    def _remember_shape(self, event_shape: tuple[int, ...], columns: list[str] | None) -> None:
        self.event_shape_, self.n_features_in_ = event_shape, math.prod(event_shape)
        if columns is not None:
            self.feature_names_in_ = np.asarray(columns, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _like_those_of_fit(self, data: Any) -> Rows:
        """Return checked rows, or raise a ValueError if they are not like those of fit."""
        check_is_fitted(self)
        rows = as_rows(data)
        check_like(rows, self.event_shape_, getattr(self, "feature_names_in_", None), type(self).__name__)
        return rows


def _name_of(cls: type) -> str:
    """Return what a class is saved as: the package's by their names, others with their modules."""
    inside = cls.__module__.startswith("pyro_ricvae.")
    return cls.__name__ if inside else f"{cls.__module__}.{cls.__qualname__}"


def load(
    folder: str | Path,
    *,
    likelihood: Any = None,
    prior: Any = None,
    pair: tuple[Any, Any] | None = None,
    device: str | torch.device = "auto",
) -> Any:
    """Read a fitted estimator that its ``save`` wrote.

    Parameters
    ----------
    folder : str or Path
        Where it was saved.
    likelihood, prior : optional
        Where a `RiCVAE` was given an object: one of the same class (or a function, or a distribution, as there),
        which is copied, and its values then filled in. Code is not saved.
    pair : tuple of (pair.Model, pair.Guide), optional
        Where a `RiCVAE` was made by `RiCVAE.from_pair` of networks that are not its own: such a pair, into which the
        saved values are filled.
    device : str or torch.device, default="auto"
        Where to put the model. "auto" is CUDA where there is such a device, else the CPU.

    Returns
    -------
    RowEstimator
        A fitted estimator of the class that was saved; its results are those of the one that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no saved estimator in the folder.
    ValueError
        If there is no such device, or the files are damaged, of a newer format, or do not fit the likelihood, prior or
        pair given.
    """
    given = {"likelihood": likelihood, "prior": prior, "pair": pair, "device": device_named(device)}
    description, tensors = persistence.read(folder)
    name = description["estimator"]
    if name not in _CLASSES:
        raise ValueError(f"Expected the class {name!r}, with which {folder} was saved, actual none: import its module.")
    with persistence.damaged(folder):
        estimator = _CLASSES[name]._from_saved(description, tensors, folder=Path(folder), **given)
        estimator._remember_shape(tuple(description["event_shape"]), description["feature_names"])
    return estimator
