"""The estimator: dirty data in, clean data and a trained generative model out."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pyro.distributions import TorchDistribution
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pyro_ricvae._core.checks import positive_int
from pyro_ricvae._core.distributions import closed_form_kl, describe, mean_of
from pyro_ricvae._core.isolation import device_of, evaluation, random_numbers
from pyro_ricvae.data.rows import Rows, as_rows
from pyro_ricvae.data.scaling import Kind, Scaling, standardised
from pyro_ricvae.diagnostics import scores
from pyro_ricvae.diagnostics.to_arviz import to_arviz
from pyro_ricvae.estimators.base import RowEstimator
from pyro_ricvae.estimators.persistence import DoesNotFitError
from pyro_ricvae.estimators.registry import saved_part
from pyro_ricvae.estimators.settings import Prepared, Settings, prepare, saved_pair
from pyro_ricvae.inference import Recipe, Trainer, predictive
from pyro_ricvae.inference.compile.precision import Precision
from pyro_ricvae.inference.training.engine import Engine
from pyro_ricvae.inference.training.progress import Progress
from pyro_ricvae.pair import Guide, Model


class RiCVAE(RowEstimator):
    r"""A recurrent iConditional variational autoencoder with the conventions of scikit-learn.

    Trained on dirty data, without labels, it gives back cleaned data, scores by row and by cell, and new clean samples.
    Data are standardised inside, and results are in the units of the data. l2-, LC- and iC-VAEs are arguments:
    ``likelihood="fixed_normal"``, ``likelihood="learned_normal"``, ``train_passes=1``; so are other likelihoods and
    priors.

    Parameters
    ----------
    n_latent : int or "auto", default="auto"
        The number of latent units; by size: `estimators.automatic_n_latent`.
    hidden : sequence of int or "auto", default="auto"
        Sizes of the encoder's hidden layers, which the decoder mirrors; by size: `estimators.automatic_hidden`. Empty
        is affine.
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
        units; "auto": `estimators.automatic_floor`. Of a likelihood with one scale for all cells, that scale; "auto" is
        the end of the automatic floor for "fixed_normal", and for the others where a learned scale starts. Of a
        likelihood given as an object, "auto" leaves its own.
    epochs : int or "auto", default="auto"
        The total, two thirds with one pass, then one third with `train_passes` (see `recipe`); by size:
        `estimators.automatic_epochs`.
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
    n_features_in_, event_shape_, feature_names_in_
        What rows look like; see `RowEstimator`.

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

    model_: Any
    guide_: Any
    settings_: dict[str, Any]
    scaling_: Scaling
    history_: list[dict[str, Any]]
    warnings_: list[str]

    def fit(self, X: Any, y: None = None) -> Self:  # noqa: N803
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
        new = prepare(self, X)
        settings = new.settings
        trainer = Trainer(
            new.model,
            new.guide,
            epochs=settings.epochs,
            passes=settings.train_passes,
            recipe=settings.recipe,
            engine=settings.engine,
            precision=settings.precision,
        )
        n_rows = len(new.x) * sum(phase.epochs * phase.passes for phase in trainer.phases)
        with random_numbers(new.seed, settings.device), Progress(n_rows, self.verbose) as trainer.on_log:
            trainer.fit(new.x)
        choice = trainer.choice
        chosen = replace(
            settings, engine=choice.engine, precision=choice.precision, engine_reason=choice.reason, kl=_kl(new)
        )
        self._take_over(replace(new, settings=chosen))
        self.history_, self.warnings_ = trainer.history, trainer.messages
        return self

    @classmethod
    def from_pair(
        cls,
        model: Model,
        guide: Guide,
        X: Any,  # noqa: N803
        *,
        history: Sequence[dict[str, Any]] = (),
        **arguments: Any,
    ) -> Self:
        """Return a fitted estimator of a pair that was trained elsewhere, as by `pyro.infer.SVI`.

        Parameters
        ----------
        model, guide : pair.Model, pair.Guide
            The pair, trained on rows in standardised units. It is taken over, not copied.
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
            The data, in data units: what rows look like, and how they are standardised, is learned from them.
        history : sequence of dict, default=()
            What the training looked like.
        **arguments
            Of the estimator, such as ``scaling="none"``, ``test_passes=2``, ``random_state=0``. Its likelihood and
            prior are by default the model's. Where a new estimator of these arguments would build such a pair, `load`
            needs no more than the folder; otherwise it asks for ``pair=``.

        Returns
        -------
        RiCVAE
            Fitted.

        Raises
        ------
        TypeError, ValueError
            If the data or an argument are not as said, or the pair does not fit the rows.

        Examples
        --------
        >>> import torch
        >>> import pyro_ricvae as rv
        >>> x = torch.randn(100, 5)
        >>> decoder, encoder = rv.networks.MLPDecoder(2, 5, (8,)), rv.networks.MLPEncoder(5, 2, (8,))
        >>> model = rv.models.VAE(decoder, rv.likelihoods.StudentT(0.5), rv.priors.StandardNormal(2))
        >>> guide = rv.guides.AmortizedNormal(encoder)
        >>> est = rv.RiCVAE.from_pair(model, guide, x, scaling="none")
        >>> est.clean(x).shape
        torch.Size([100, 5])
        """
        parts = {name: getattr(model, name) for name in ("likelihood", "prior") if hasattr(model, name)}
        estimator = cls(**{**parts, **arguments})
        new = prepare(estimator, X)
        own = [{name: value.shape for name, value in each.state_dict().items()} for each in (new.model, new.guide)]
        theirs = [{name: value.shape for name, value in each.state_dict().items()} for each in (model, guide)]
        taken: Any = replace(new, model=cast(Any, model), guide=cast(Any, guide))
        with evaluation(model, guide):
            row = new.x[:1].to(device_of(guide))
            rows = model.decode(guide.encode(row).mean, row)
        if tuple(rows.batch_shape + rows.event_shape) != tuple(row.shape):
            raise ValueError(
                f"Expected a pair for rows of {row.shape[1]} features, actual a model that gives {describe(rows)}."
            )
        estimator._take_over(replace(taken, settings=replace(new.settings, kl=_kl(taken))), is_own_pair=own == theirs)
        estimator.history_, estimator.warnings_ = list(history), []
        return estimator

    def _take_over(self, new: Prepared, is_own_pair: bool = True) -> None:
        """Take over a trained pair, one that the estimator builds or another."""
        self.model_, self.guide_, self.scaling_ = new.model.eval(), new.guide.eval(), new.scaling
        self.settings_, self._is_own_pair = new.settings.to_json(), is_own_pair
        self._remember(new.rows)

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
        return rows.like(scores.cell_scores(self.model_, self.guide_, x, self._passes(passes)).numpy())

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
        rows: NDArray[np.float32] = scores.row_scores(self.model_, self.guide_, x, self._passes(passes)).numpy()
        return rows

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

    def transform(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the posterior means of the latents, an ndarray of shape (n, n_latent), of rows as in `clean`.

        Of the floating-point type of `X`, float32 at least; the model computes in float32.
        """
        rows, x = self._standardised(X)
        means = predictive.in_chunks((self.guide_,), x, 1024, lambda chunk: self.guide_.encode(chunk).mean)
        return means.numpy().astype(rows.dtype, copy=False)

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

    def _to_save(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = {f"model.{name}": value for name, value in self.model_.state_dict().items()}
        tensors |= {f"guide.{name}": value for name, value in self.guide_.state_dict().items()}
        tensors["scaling.center"] = torch.as_tensor(self.scaling_.center)
        tensors["scaling.scale"] = torch.as_tensor(self.scaling_.scale)
        description = {
            "settings": self.settings_ | {"test_passes": self.test_passes},  # it may have been set since
            "is_own_pair": self._is_own_pair,
            "random_state": int(self.random_state) if isinstance(self.random_state, Integral) else None,
            "warnings": self.warnings_,
            "history": self.history_,
        }
        return description, tensors

    @classmethod
    def _from_saved(cls, description: dict[str, Any], tensors: dict[str, Tensor], **given: Any) -> Self:
        settings, pair = Settings.from_json(description["settings"], given["device"]), given["pair"]
        if (pair is None) != description["is_own_pair"]:
            raise DoesNotFitError(
                "Expected no pair, as the networks are the estimator's own: leave it out."
                if pair is not None
                else "The model was made by RiCVAE.from_pair of networks whose code is not saved: give load(folder, "
                "pair=(model, guide)) such a pair."
            )
        center, scale = (tensors[f"scaling.{name}"].numpy().astype(np.float64) for name in ("center", "scale"))
        estimator = cls(
            settings.n_latent,
            hidden=settings.hidden,
            train_passes=settings.train_passes,
            test_passes=settings.test_passes,
            likelihood=pair[0].likelihood
            if pair
            else saved_part("likelihood", settings.likelihood, given["likelihood"]),
            prior=pair[0].prior if pair else saved_part("prior", settings.prior, given["prior"]),
            floor="auto" if settings.floor is None or settings.learn_scale else settings.floor,
            epochs=settings.epochs,
            scaling=settings.scaling,
            recipe=settings.recipe,
            engine=settings.engine,
            precision=settings.precision,
            device=settings.device,
            random_state=description["random_state"],
        )
        estimator.model_, estimator.guide_ = saved_pair(settings, estimator, tensors, pair, given["folder"])
        estimator._is_own_pair = pair is None
        estimator.scaling_, estimator.settings_ = Scaling(settings.scaling, center, scale), settings.to_json()
        estimator.history_, estimator.warnings_ = description["history"], description["warnings"]
        return estimator

    @property
    def _n_features_out(self) -> int:
        n_latent: int = self.settings_["n_latent"]
        return n_latent

    def _passes(self, passes: int | None) -> int:
        return positive_int("passes", self.test_passes if passes is None else passes)

    def _standardised(self, data: Any) -> tuple[Rows, Tensor]:
        """Return checked rows, as they came and in standardised units."""
        rows = self._like_those_of_fit(data)
        return rows, standardised(self.scaling_, rows.values)

    def _restored(self, rows: Tensor) -> NDArray[np.float64]:
        return self.scaling_.restore(rows.numpy()).reshape(len(rows), *self.event_shape_)


def _kl(new: Prepared) -> str:
    """Return how the KL of a pair is computed."""
    with evaluation(new.model, new.guide):
        kl = closed_form_kl(new.guide.encode(new.x[:1]), new.model.prior())
    return "Monte Carlo" if kl is None else "closed form"
