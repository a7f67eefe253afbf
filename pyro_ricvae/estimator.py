"""The estimator: dirty data in, clean data and a trained generative model out."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pyro.distributions import TorchDistribution
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pyro_ricvae import diagnostics, predictive
from pyro_ricvae._evaluation import evaluation
from pyro_ricvae._settings import Task, prepare, random_numbers, standardised
from pyro_ricvae._validation import mean_of, positive_int
from pyro_ricvae.data.containers import Rows, as_rows
from pyro_ricvae.data.scaling import Kind, Scaling
from pyro_ricvae.guides import AmortizedNormal
from pyro_ricvae.inference import Recipe, Trainer
from pyro_ricvae.inference.engine import Engine
from pyro_ricvae.inference.precision import Precision
from pyro_ricvae.inference.progress import Progress
from pyro_ricvae.inference.row_loss import closed_form_kl
from pyro_ricvae.models import VAE


class RiCVAE(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    r"""A recurrent iConditional variational autoencoder with the conventions of scikit-learn.

    Trained on dirty data, without labels, it gives back cleaned data, scores by row and by cell, and new clean samples.
    Data are standardised inside, and results are in the units of the data. l2-, LC- and iC-VAEs are arguments:
    ``likelihood="fixed_normal"``, ``likelihood="learned_normal"``, ``train_passes=1``; so are other likelihoods and
    priors.

    Parameters
    ----------
    n_latent : int or "auto", default="auto"
        The number of latent units; by size: `inference.automatic_n_latent`.
    hidden : sequence of int or "auto", default="auto"
        Sizes of the encoder's hidden layers, which the decoder mirrors; by size: `inference.automatic_hidden`. Empty is
        affine.
    train_passes : int, default=2
        The number N of passes in training. 1 is the iC-VAE.
    test_passes : int, default=1
        The number M of passes at test time.
    likelihood : str, torch.nn.Module or callable, default="index_conditioned"
        One of "index_conditioned", "inverse_gamma", "fixed_normal", "shared_normal", "learned_normal", "student_t",
        "laplace", "contaminated_normal" and "bernoulli" (data between 0 and 1), or an object under the contract of
        `likelihoods.Likelihood`, in standardised units. It is copied.
    prior : str, torch.nn.Module or pyro.distributions.TorchDistribution, default="standard_normal"
        "standard_normal", "gaussian_mixture", a distribution of a row's latents, or a module whose ``forward()``
        returns one. It is copied.
    floor : float, tuple of float or "auto", default="auto"
        The floor of the index-conditioned and the inverse-gamma likelihood, constant or (start, end), in standardised
        units; "auto": `inference.automatic_floor`. Of a likelihood with one scale for all cells, that scale; "auto" is
        the end of the automatic floor for "fixed_normal", and for the others where a learned scale starts. Of a
        likelihood given as an object, "auto" leaves its own.
    epochs : int or "auto", default="auto"
        The total, two thirds with one pass, then one third with `train_passes` (see `recipe`); by size:
        `inference.automatic_epochs`.
    scaling : {"auto", "range", "robust", "none"}, default="auto"
        How data are standardised: by their range (images), by the median and a robust standard deviation a column
        (tables), or not. "auto" takes rows of more than one dimension, and unsigned 8-bit values, for images. A cell
        farther out than 1e9 standardised units is taken to lie there.
    recipe : inference.Recipe, optional
        The other parts of the training recipe, each with its reason. ``Recipe.plain()`` is the paper's procedure.
    engine : {"auto", "compiled", "captured", "eager"}, default="auto"
        How training runs: as one compiled graph, as a graph that is not compiled, or as Pyro does; by what each takes
        and saves: `inference.choose_engine`.
    precision : {"auto", "fp32", "bf16"}, default="auto"
        Of the matrix products in training; "auto" is bfloat16 where that is faster.
    device : str or torch.device, default="auto"
        Where to train. "auto" is CUDA where there is such a device, else the CPU.
    random_state : int, RandomState or None, default=None
        The seed of networks, batches, latents and samples. An int gives the same results every time.
    verbose : bool or "auto", default="auto"
        Whether to show a progress bar on standard error; "auto" where that is a terminal.

    Attributes
    ----------
    model_ : models.VAE
        The fitted generative model, in standardised units, in evaluation mode.
    guide_ : guides.AmortizedNormal
        Its guide.
    settings_ : dict
        What was chosen, by you or by "auto"; "kl" says whether there is a "closed form" of the KL, or "Monte Carlo".
    scaling_ : data.scaling.Scaling
        From data units to standardised units and back.
    history_ : list of dict
        What training looked like: see `inference.Trainer`.
    warnings_ : list of str
        What the watch on the run said.
    n_features_in_ : int
        The number d of features of a row, flattened.
    event_shape_ : tuple of int
        The shape of a row.
    feature_names_in_ : ndarray of str
        The names of a data frame's columns; only where it was fitted on one.

    Examples
    --------
    >>> import numpy as np
    >>> import pyro_ricvae as rv
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6))  # two latent factors
    >>> x[::5, 0] += 10  # and a broken sensor, now and then
    >>> est = rv.RiCVAE(n_latent=2, hidden=(16,), epochs=30, random_state=0).fit(x)
    >>> est.clean(x).shape, est.cell_scores(x).argmax(axis=1)[0]
    ((200, 6), np.int64(0))
    """

    def __init__(
        self,
        n_latent: int | Literal["auto"] = "auto",
        *,
        hidden: Sequence[int] | Literal["auto"] = "auto",
        train_passes: int = 2,
        test_passes: int = 1,
        likelihood: str | nn.Module | Callable[..., Any] = "index_conditioned",
        prior: str | nn.Module | TorchDistribution = "standard_normal",
        floor: float | tuple[float, float] | Literal["auto"] = "auto",
        epochs: int | Literal["auto"] = "auto",
        scaling: Kind | Literal["auto"] = "auto",
        recipe: Recipe | None = None,
        engine: Engine = "auto",
        precision: Precision = "auto",
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: bool | Literal["auto"] = "auto",
    ) -> None:
        self.n_latent = n_latent
        self.hidden = hidden
        self.train_passes = train_passes
        self.test_passes = test_passes
        self.likelihood = likelihood
        self.prior = prior
        self.floor = floor
        self.epochs = epochs
        self.scaling = scaling
        self.recipe = recipe
        self.engine: Engine = engine
        self.precision: Precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    model_: VAE
    guide_: AmortizedNormal
    settings_: dict[str, Any]
    scaling_: Scaling
    history_: list[dict[str, Any]]
    warnings_: list[str]
    event_shape_: tuple[int, ...]
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    def fit(self, X: Any, y: None = None) -> "RiCVAE":  # noqa: N803
        """Learn a clean generative model from the rows of `X`.

        Parameters
        ----------
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
            The dirty data: two rows or more, finite.
        y : None
            Not used; there for scikit-learn's pipelines.

        Returns
        -------
        RiCVAE
            Itself.

        Raises
        ------
        TypeError
            If the data are not numeric.
        ValueError
            If the data or an argument are not as said; before training starts.
        inference.TrainingError
            If the loss is not finite again and again.

        Warns
        -----
        inference.TrainingWarning
            What the watch on the run has to say.
        """
        task = prepare(self, X)
        trainer = Trainer(
            task.model,
            task.guide,
            epochs=task.settings.epochs,
            passes=task.settings.train_passes,
            floor=task.settings.floor if hasattr(task.model.likelihood, "floor") else None,
            recipe=task.settings.recipe,
            engine=task.settings.engine,
            precision=task.settings.precision,
        )
        n_rows = len(task.x) * sum(phase.epochs * phase.passes for phase in trainer.phases)
        with (
            random_numbers(task.seed, task.settings.device),
            Progress(n_rows, self.verbose) as trainer.on_log,
        ):
            trainer.fit(task.x)
        choice = trainer.choice
        chosen = replace(
            task.settings,
            engine=choice.engine,
            precision=choice.precision,
            engine_reason=choice.reason,
            kl=_form_of_kl(task),
        )
        return self._take_over(replace(task, settings=chosen), trainer.history, trainer.messages)

    def _take_over(self, task: Task, history: list[dict[str, Any]], messages: list[str]) -> "RiCVAE":
        """Take over a trained pair."""
        self.model_, self.guide_, self.scaling_ = task.model.eval(), task.guide.eval(), task.scaling
        self.settings_ = task.settings.to_json()
        self.history_, self.warnings_ = history, messages
        self.event_shape_, self.n_features_in_ = task.rows.event_shape, task.x.shape[1]
        if task.rows.columns is not None:
            self.feature_names_in_ = np.asarray(task.rows.columns, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    def clean(self, X: Any, passes: int | None = None) -> Any:  # noqa: N803
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

    def cell_scores(self, X: Any, passes: int | None = None) -> Any:  # noqa: N803
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
        return rows.like(diagnostics.cell_scores(self.model_, self.guide_, x, self._passes(passes)).numpy())

    def score_samples(self, X: Any, passes: int | None = None) -> NDArray[np.float32]:  # noqa: N803
        """Return how normal each row is, in nats of the standardised data; see `diagnostics.row_scores`.

        Parameters
        ----------
        X, passes
            As in `clean`.

        Returns
        -------
        ndarray, shape (n,)
            Higher is more normal.
        """
        _, x = self._standardised(X)
        scores: NDArray[np.float32] = diagnostics.row_scores(self.model_, self.guide_, x, self._passes(passes)).numpy()
        return scores

    def standardise(self, X: Any) -> Tensor:  # noqa: N803
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

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Return the posterior means of the latents, an ndarray of shape (n, n_latent), of rows as in `clean`."""
        _, x = self._standardised(X)
        means: NDArray[np.float32] = predictive.in_chunks(
            (self.guide_,), x, 1024, lambda chunk: self.guide_.encode(chunk).mean
        ).numpy()
        return means

    def inverse_transform(self, Z: Any) -> NDArray[np.float64]:  # noqa: N803
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
        z = torch.as_tensor(as_rows(Z).values, dtype=torch.float32)
        if z.shape[1] != self.settings_["n_latent"]:
            raise ValueError(f"Expected {self.settings_['n_latent']} latents a row, actual {z.shape[1]}.")
        rows = predictive.in_chunks((self.model_,), z, 1024, lambda chunk: mean_of(self.model_.decode(chunk), "A row"))
        return self._restored(rows)

    def sample(self, n: int = 1, passes: int | None = None) -> NDArray[np.float64]:
        """Return new rows from the model; see `predictive.generate`.

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
        with random_numbers(seed, predictive.device_of(self.model_)):
            rows = predictive.generate(self.model_, self.guide_, positive_int("n", n), self._passes(passes))
        return self._restored(rows)

    def to_arviz(
        self,
        X: Any,  # noqa: N803
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
        from pyro_ricvae.diagnostics.bridge import to_arviz

        rows, x = self._standardised(X)
        named = {"row": X.index} if rows.columns is not None else {}
        columns = getattr(self, "feature_names_in_", rows.columns)
        seed = check_random_state(self.random_state).randint(2**31)
        with random_numbers(seed, predictive.device_of(self.model_)):
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

    def save(self, folder: str | Path) -> None:
        """Write the fitted model to `folder`, as safetensors and JSON; see `pyro_ricvae.load`.

        Raises
        ------
        FileExistsError
            If the folder is there and not empty.
        """
        from pyro_ricvae.persistence import save

        save(self, folder)

    def _passes(self, passes: int | None) -> int:
        return positive_int("passes", self.test_passes if passes is None else passes)

    def _standardised(self, data: Any) -> tuple[Rows, Tensor]:
        """Return checked rows, as they came and in standardised units."""
        check_is_fitted(self)
        rows = as_rows(data)
        if rows.event_shape != self.event_shape_:
            raise ValueError(
                f"Expected rows of shape {self.event_shape_}, as in fit, actual {rows.event_shape}: give the same "
                "columns, or images of the same size."
            )
        names = getattr(self, "feature_names_in_", None)
        if names is not None and rows.columns is not None and list(names) != rows.columns:
            wrong = next((a, b) for a, b in zip(names, rows.columns, strict=True) if a != b)
            raise ValueError(
                f"Expected the columns of fit, in their order, actual {wrong[1]!r} in the place of {wrong[0]!r}: give "
                "X[est.feature_names_in_]."
            )
        return rows, standardised(self.scaling_, rows.values)

    def _restored(self, rows: Tensor) -> NDArray[np.float64]:
        return self.scaling_.restore(rows.numpy()).reshape(len(rows), *self.event_shape_)


def _form_of_kl(task: Task) -> str:
    with evaluation(task.model, task.guide):
        kl = closed_form_kl(task.guide.encode(task.x[:1]), task.model.prior())
    return "Monte Carlo" if kl is None else "closed form"
