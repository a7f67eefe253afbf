"""What estimators of a clean linear subspace have in common: coefficients back to rows, and what is saved."""
# ruff: noqa: N803 -- X and Z are scikit-learn's names

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from pyro_ricvae.data.rows import as_rows
from pyro_ricvae.estimators.base import RowEstimator

Array = NDArray[np.float64]


class SubspaceEstimator(RowEstimator):
    r"""A centre, directions through it, and the training rows in their span.

    A subclass defines what a `RowEstimator` does, and names in `_fitted` the arrays that are saved.

    Attributes
    ----------
    low_rank_, sparse_ : ndarray, shape (n, \*event_shape)
        The clean training rows, centre included, and their errors, in data units.
    components_, singular_values_ : ndarray, shape (k, d) and (k,)
        Orthonormal directions, and the size of the rows along them in data units, the largest first.
    center_ : ndarray, shape (d,)
        In data units.
    """

    _fitted: ClassVar[tuple[str, ...]] = ("low_rank_", "sparse_", "components_", "singular_values_", "center_")

    low_rank_: Array
    sparse_: Array
    components_: Array
    singular_values_: Array
    center_: Array

    def fit_clean(self, X: Any) -> Array:
        """Fit, and return the clean training rows, `low_rank_`."""
        estimator: Any = self
        low_rank: Array = estimator.fit(X).low_rank_
        return low_rank

    def inverse_transform(self, Z: Any) -> Array:
        r"""Return the rows, shape (m, \*event_shape), of coefficients `Z`, shape (m, k), or raise a ValueError."""
        check_is_fitted(self)
        z = Z if isinstance(Z, np.ndarray) and Z.shape[1:] == (0,) else as_rows(Z).values
        if z.shape[1] != len(self.components_):
            raise ValueError(f"Expected {len(self.components_)} coefficients a row, actual {z.shape[1]}.")
        return self._as_events(z @ self.components_ + self.center_)

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def _as_events(self, rows: Array) -> Array:
        return rows.reshape(-1, *self.low_rank_.shape[1:])

    def _fitted_tensors(self) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(getattr(self, name)) for name in self._fitted}

    def _restore(self, tensors: dict[str, torch.Tensor]) -> None:
        for name in self._fitted:
            setattr(self, name, tensors[name].numpy())
