"""scikit-learn's conventions for finding outlying rows, by any estimator that scores them."""
# ruff: noqa: N803 -- X is scikit-learn's name

import math
from typing import Any, Literal, SupportsFloat

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from pyro_ricvae._core.checks import is_auto
from pyro_ricvae._core.robust import robust_deviation

_FAR = 2.5  # robust deviations; Leys et al. (2013)


class RowOutliers(OutlierMixin):  # type: ignore[misc]
    """An estimator that tells outlying rows by its ``score_samples`` and a threshold that ``fit`` has set.

    Attributes
    ----------
    offset_ : float
        The threshold, in the units of ``score_samples``; NaN in a model that an older version has saved.
    """

    offset_: float

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return how far each row is from being outlying, ``score_samples(X) - offset_``.

        Parameters
        ----------
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
            Rows like those of ``fit``.

        Returns
        -------
        ndarray, shape (n,)
            In the units of ``score_samples``; negative where a row is outlying.

        Raises
        ------
        ValueError
            As in ``score_samples``; or if an older version has saved the model, and so no threshold.
        """
        check_is_fitted(self)
        if math.isnan(self.offset_):
            raise ValueError(
                "Expected a model with a threshold for rows, actual one of an older version: fit it again."
            )
        estimator: Any = self
        scores: NDArray[np.float64] = np.asarray(estimator.score_samples(X), dtype=np.float64) - self.offset_
        return scores

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return -1 for rows that are outlying and 1 for all others, an ndarray of shape (n,); X, errors: see above."""
        return np.where(self.decision_function(X) < 0, -1, 1)


def check_contamination(contamination: Any) -> float | Literal["auto"]:
    """Return the share of rows that are outlying, or "auto"; a ValueError where it is neither."""
    if is_auto(contamination):
        return "auto"
    is_number = isinstance(contamination, SupportsFloat) and not isinstance(contamination, bool)
    if not (is_number and 0 < float(contamination) <= 0.5):
        raise ValueError(
            "Expected contamination to be 'auto', or a share of the rows above 0 and up to 0.5, actual "
            f"{contamination!r}."
        )
    return float(contamination)


def offset_of(scores: NDArray[Any], contamination: float | Literal["auto"]) -> float:
    """Return the score below which rows are outlying.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Of the rows of training; lower is more outlying.
    contamination : float or "auto"
        Which share of them is to lie below; "auto" are those that lie more than 2.5 robust standard deviations below
        the median (Leys et al., 2013).

    Returns
    -------
    float
        In the units of the scores.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if contamination == "auto":
        return float(np.median(scores) - _FAR * robust_deviation(scores))
    return float(np.quantile(scores, contamination))
