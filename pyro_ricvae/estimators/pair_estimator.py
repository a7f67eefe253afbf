"""What an estimator gives by the pair it has fitted: cleaned rows, scores, latents, samples, ArviZ."""
# ruff: noqa: N803 -- X and Z are scikit-learn's names

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pyro_ricvae._core.checks import between_0_and_1, positive_int
from pyro_ricvae._core.distributions import mean_of
from pyro_ricvae._core.isolation import device_of, random_numbers
from pyro_ricvae.data.rows import Rows, as_rows, with_cells
from pyro_ricvae.data.scaling import Scaling, standardised
from pyro_ricvae.diagnostics import scores
from pyro_ricvae.diagnostics.to_arviz import to_arviz
from pyro_ricvae.estimators import dirt
from pyro_ricvae.estimators.base import RowEstimator
from pyro_ricvae.inference import predictive
from pyro_ricvae.likelihoods import SpikeAndSlab
from pyro_ricvae.pair import repaired


class PairEstimator(RowEstimator):
    """An estimator of rows that fits a pair. A subclass defines ``fit``, which sets what is said here.

    Attributes
    ----------
    model_, guide_ : pair.Model, pair.Guide
        The fitted pair, in standardised units, in evaluation mode.
    scaling_ : data.scaling.Scaling
        From data units to standardised units and back.
    settings_ : dict
        What was chosen, among it "n_latent".
    history_ : list of dict
        What training looked like.
    contamination_ : float
        The share of dirty cells in the data of `fit`: the mean of their probabilities.
    """

    model_: Any
    guide_: Any
    scaling_: Scaling
    settings_: dict[str, Any]
    history_: list[dict[str, Any]]
    contamination_: float
    test_passes: int | Literal["auto"]
    random_state: Any
    _dirt: SpikeAndSlab | None
    _resolution: tuple[float, Tensor] | None
    not_judged_: dict[int, str]

    def clean(self, X: Any, passes: int | None = None) -> Any:
        """Return what the model makes of the rows: the cleaned data.

        Parameters
        ----------
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
            Rows like those of `fit`.
        passes : int, optional
            The number M of passes; None is `test_passes`.

        Returns
        -------
        of the type and shape of `X`
            In data units. Integers give floating-point numbers.

        Raises
        ------
        ValueError
            If the rows are not of the shape of those of `fit`, or not finite.
        """
        rows, x = self._standardised(X)
        cleaned = predictive.reconstruct(self.model_, self.guide_, x, self._passes(passes))
        return rows.like(self.scaling_.restore(cleaned.numpy()))

    def cell_probabilities(self, X: Any, passes: int | None = None) -> Any:
        """Return the probability that each cell is dirty.

        As the likelihood has it where it is a `likelihoods.SpikeAndSlab`; else by two components, clean and dirty, that
        are fitted to the residuals of the training data, `contamination_` of them dirty.

        Parameters
        ----------
        X, passes
            As in `clean`.

        Returns
        -------
        of the type and shape of `X`
            Between 0 and 1; 0 in the columns of `not_judged_`.

        Raises
        ------
        ValueError
            As in `clean`; or if the likelihood is of yes and no.
        """
        rows, x = self._standardised(X)
        return rows.like(self._mean_and_probability(x, passes)[1].numpy())

    def repair(self, X: Any, threshold: float | None = None, passes: int | None = None) -> Any:
        r"""Return the rows with the model's values where they are dirty, and the data themselves where they are not.

        Parameters
        ----------
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
            Rows like those of `fit`.
        threshold : float, optional
            Between 0 and 1: cells that are dirty with a higher probability get what the model expects, whole numbers
            where there were such, and all others stay as they came, to the last bit. None mixes both in every cell,
            :math:`w \mu + (1 - w) x`, w being the probability, which has the smaller error.
        passes : int, optional
            The number M of passes; None is `test_passes`.

        Returns
        -------
        of the type and shape of `X`
            In data units; without a threshold integers give floating-point numbers.

        Raises
        ------
        ValueError
            As in `cell_probabilities`, or if `threshold` does not lie between 0 and 1.
        """
        if threshold is not None:
            threshold = between_0_and_1("threshold", threshold)
        rows, x = self._standardised(X)
        mean, probability = self._mean_and_probability(x, passes)
        expected = self.scaling_.restore(mean.numpy())
        if threshold is not None:
            return with_cells(X, probability.numpy() > threshold, expected)
        values = torch.from_numpy(rows.values.astype(np.float64))
        return rows.like(repaired(torch.from_numpy(expected), values, probability).numpy())

    def cell_scores(self, X: Any, passes: int | None = None) -> Any:
        """Return how outlying each cell is, in nats; see `diagnostics.cell_scores`.

        Parameters
        ----------
        X, passes
            As in `clean`.

        Returns
        -------
        of the type and shape of `X`
            At least 0; 0 where a cell is exactly as expected, higher is more outlying. Under the index-conditioned
            likelihood 0.5 is a residual of one floor, and above it log(residual / floor) + 0.5.
        """
        rows, x = self._standardised(X)
        return rows.like(scores.cell_scores(self.model_, self.guide_, x, self._passes(passes)).numpy())

    def score_samples(self, X: Any, passes: int | None = None) -> NDArray[np.float64]:
        """Return how normal each row is, in nats of the standardised data: minus `diagnostics.outlier_scores`.

        That is the log penalty at the resolution of the data, the KL, and the distance from the centre, and not the
        model's own loss, `diagnostics.row_scores`: a model gives a high density to outlying rows that it has learned by
        heart. It is the model's own loss where a likelihood has no mean, or is of yes and no.

        Parameters
        ----------
        X, passes
            As in `clean`.

        Returns
        -------
        ndarray, shape (n,)
            Higher is more normal.
        """
        return self._normality(self._standardised(X)[1], passes)

    def standardise(self, X: Any) -> Tensor:
        """Return rows as the model sees them, for `diagnostics` and for Pyro.

        ``est.model_``, ``est.guide_`` and ``est.standardise(X)`` are what functions of a pair and its rows take.

        Parameters
        ----------
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
            Rows like those of `fit`.

        Returns
        -------
        Tensor, shape (n, d)
            float32, in standardised units, on the CPU. A log-density of them is higher than that in data units by
            ``np.log(est.scaling_.scale).sum()`` a row.

        Raises
        ------
        ValueError
            If the rows are not of the shape of those of `fit`, or not finite.
        """
        return self._standardised(X)[1]

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the posterior means of the latents, an ndarray of shape (n, n_latent), of rows as in `clean`.

        Of the floating-point type of `X`, float32 at least; the model computes in float32.
        """
        rows, x = self._standardised(X)
        means = predictive.in_chunks((self.guide_,), x, 1024, lambda chunk: self.guide_.encode(chunk).mean)
        return means.numpy().astype(rows.dtype, copy=False)

    def inverse_transform(self, Z: Any) -> NDArray[np.float64]:
        """Return the rows that the model expects at latents.

        Parameters
        ----------
        Z : array-like or Tensor, shape (n, n_latent)
            Latents.

        Returns
        -------
        ndarray, shape (n, *event_shape)
            In data units.

        Raises
        ------
        ValueError
            If `Z` has another number of columns, or values that are not finite.
        """
        check_is_fitted(self)
        z = torch.tensor(as_rows(Z).values, dtype=torch.float32)
        if z.shape[1] != self.settings_["n_latent"]:
            raise ValueError(f"Expected {self.settings_['n_latent']} latents a row, actual {z.shape[1]}.")
        rows = predictive.in_chunks((self.model_,), z, 1024, lambda chunk: mean_of(self.model_.decode(chunk), "A row"))
        return self._restored(rows)

    def sample(self, n: int = 1, passes: int | None = None) -> NDArray[np.float64]:
        """Return new rows from the model; see `inference.generate`.

        Parameters
        ----------
        n : int, default=1
            The number of rows.
        passes : int, optional
            The number M of passes; None is `test_passes`.

        Returns
        -------
        ndarray, shape (n, *event_shape)
            In data units. An int as `random_state` gives the same rows every time.
        """
        check_is_fitted(self)
        seed = check_random_state(self.random_state).randint(2**31)
        with random_numbers(seed, device_of(self.model_)):
            rows = predictive.generate(self.model_, self.guide_, positive_int("n", n), self._passes(passes))
        return self._restored(rows)

    def to_arviz(
        self,
        X: Any,
        *,
        n_draws: int = 100,
        log_likelihood: Any = "auto",
        constant_data: Mapping[str, Any] | None = None,
        coords: Mapping[str, Any] | None = None,
        reference: Any = None,
        batch_size: int = 1024,
    ) -> Any:
        """Return draws, replicates and log-densities of rows in ArviZ's container; see `diagnostics.to_arviz`.

        Parameters
        ----------
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
            Rows like those of `fit`. The index of a data frame gives the coordinates of row, the names of its columns,
            or of those of `fit`, the coordinates of feature.
        n_draws, log_likelihood, constant_data, coords, batch_size
            As in `diagnostics.to_arviz`.
        reference : array-like, Tensor or DataFrame, shape (m, d) or (m, *event_shape), optional
            Rows over which the scales of a profile likelihood's replicates are aggregated; None is `X`. Give the
            training data where `X` are few rows.

        Returns
        -------
        arviz.InferenceData or xarray.DataTree
            Of one pass, whatever `test_passes` is; in data units, log-densities as well, with the scaling in
            constant_data, the history of training, and `settings_` as JSON in the attribute ``settings``. An int as
            `random_state` gives the same draws every time.

        Raises
        ------
        ValueError
            If an argument is not as said, or a log-likelihood is asked for where there is none.
        """
        rows, x = self._standardised(X)
        named = {"row": X.index} if rows.columns is not None else {}
        columns = getattr(self, "feature_names_in_", rows.columns)
        seed = check_random_state(self.random_state).randint(2**31)
        with random_numbers(seed, device_of(self.model_)):
            return to_arviz(
                self.model_,
                self.guide_,
                x,
                n_draws=n_draws,
                log_likelihood=log_likelihood,
                observed=rows.values.reshape(len(x), *self.event_shape_),
                scaling=self.scaling_,
                coords={**named, **({} if columns is None else {"feature": columns}), **(coords or {})},
                constant_data=constant_data,
                history=self.history_,
                attrs={"settings": json.dumps(self.settings_)},
                reference=None if reference is None else self.standardise(reference),
                batch_size=batch_size,
            )

    @property
    def _n_features_out(self) -> int:
        n_latent: int = self.settings_["n_latent"]
        return n_latent

    def _mean_and_probability(self, x: Tensor, passes: int | None) -> tuple[Tensor, Tensor]:
        """Return what the model expects of standardised rows, and how probable dirt is in each cell."""
        if self._dirt is None:
            raise ValueError(
                "Expected a model that tells dirty cells from clean ones, actual one whose likelihood has no mean or "
                "is of yes and no, or that an older version saved: take another likelihood, or fit it again."
            )
        mean = predictive.reconstruct(self.model_, self.guide_, x, self._passes(passes))
        return mean, self._probability(self._dirt, x - mean)

    def _probability(self, found: SpikeAndSlab, residuals: Tensor) -> Tensor:
        """Return how probable dirt is by residuals, of shape (n, d); 0 in columns that cannot be judged."""
        probability = dirt.probability(found, residuals)
        probability[:, list(self.not_judged_)] = 0.0
        return probability

    def _normality(self, x: Tensor, passes: int | None) -> NDArray[np.float64]:
        """Return how normal standardised rows are."""
        pair, number = (self.model_, self.guide_), self._passes(passes)
        if self._dirt is None or self._resolution is None:  # the second in a model that an older version has saved
            found = scores.row_scores(*pair, x, number)
        else:
            floor, center = self._resolution
            found = -scores.outlier_scores(*pair, x, number, floor=floor, center=center)
        normality: NDArray[np.float64] = found.double().cpu().numpy()
        return normality

    def _passes(self, passes: int | None) -> int:
        chosen = self.test_passes if passes is None else passes
        return positive_int("passes", self.settings_["test_passes"] if chosen == "auto" else chosen)

    def _standardised(self, data: Any) -> tuple[Rows, Tensor]:
        """Return checked rows, as they came and in standardised units."""
        rows = self._like_those_of_fit(data)
        return rows, standardised(self.scaling_, rows.values)

    def _restored(self, rows: Tensor) -> NDArray[np.float64]:
        return self.scaling_.restore(rows.numpy()).reshape(len(rows), *self.event_shape_)
