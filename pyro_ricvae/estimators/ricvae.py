"""The recurrent iConditional variational autoencoder as an estimator: its arguments, fitting, saving."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_ricvae._core.isolation import random_numbers
from pyro_ricvae.data.columns import not_judged, repeated
from pyro_ricvae.data.scaling import Kind, Scaling
from pyro_ricvae.estimators import dirt
from pyro_ricvae.estimators.defaults import automatic_floor
from pyro_ricvae.estimators.outliers import RowOutliers, offset_of
from pyro_ricvae.estimators.pair_estimator import PairEstimator
from pyro_ricvae.estimators.pairs import (
    builds_alike,
    check_pair,
    check_pair_fits,
    check_saved_pair,
    form_of_kl,
    saved_pair,
    settings_of_pair,
)
from pyro_ricvae.estimators.persistence import DoesNotFitError, saved_seed
from pyro_ricvae.estimators.registry import likelihood_arguments, prior_arguments, saved_part
from pyro_ricvae.estimators.settings import Prepared, Settings, prepare
from pyro_ricvae.inference import Recipe, Trainer
from pyro_ricvae.inference.compile.precision import Precision
from pyro_ricvae.inference.training.engine import Engine
from pyro_ricvae.inference.training.progress import Progress
from pyro_ricvae.pair import Guide, Model, likelihood_of


class RiCVAE(RowOutliers, PairEstimator):
    r"""A recurrent iConditional variational autoencoder with the conventions of scikit-learn.

    Trained on dirty data, without labels, it gives back cleaned data, scores by row and by cell, and new clean samples.
    Data are standardised inside, and results are in the units of the data. The paper's models are arguments:
    ``likelihood="index_conditioned"`` is its RiC-VAE, with ``train_passes=1`` its iC-VAE, with "fixed_normal" its l2-
    and with "learned_normal" its LC-VAE; so are other likelihoods and priors.

    Parameters
    ----------
    n_latent : int or "auto", default="auto"
        The number of latent units; by size: `estimators.automatic_n_latent`.
    hidden : sequence of int or "auto", default="auto"
        Sizes of the encoder's hidden layers, which the decoder mirrors; by size: `estimators.automatic_hidden`. Empty
        is affine.
    train_passes : int, default=2
        The number N of passes in training. 1 is the iC-VAE.
    test_passes : int or "auto", default="auto"
        The number M of passes at test time; "auto": `estimators.automatic_test_passes`.
    likelihood : str, torch.nn.Module or callable, default="auto"
        "auto" is "spike_and_slab", which finds by itself how much is dirty and how precise clean cells are. Or one of
        "index_conditioned" (the paper's), "inverse_gamma", "fixed_normal", "shared_normal",
        "learned_normal", "student_t", "laplace", "contaminated_normal" and "bernoulli" (data between 0 and 1), or an
        object under the contract of `likelihoods.Likelihood`, in standardised units. It is copied.
    prior : str, torch.nn.Module or pyro.distributions.TorchDistribution, default="standard_normal"
        "standard_normal", "gaussian_mixture", a distribution of a row's latents, or a module whose ``forward()``
        returns one. It is copied.
    floor : float, tuple of float or "auto", default="auto"
        The floor of the index-conditioned and the inverse-gamma likelihood, constant or (start, end), in standardised
        units; "auto": `estimators.automatic_floor`. Of a likelihood with one scale for all cells, that scale; "auto" is
        the end of the automatic floor for "fixed_normal", and for the others where a learned scale starts. Of a
        likelihood given as an object, "auto" leaves its own.
    epochs : int or "auto", default="auto"
        The total: 0.3 of them of one pass, then steps of one and of `train_passes` in turn (see `recipe`); by size:
        `estimators.automatic_epochs`.
    contamination : float or "auto", default="auto"
        The share of *rows* that ``predict`` takes for outlying, of those of `fit`, above 0 and up to 0.5; "auto" are
        those that score more than 2.5 robust standard deviations below the median. It changes nothing else.
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
        What was chosen, by you or by "auto"; "kl" says whether there is a "closed form" of the KL, or "Monte Carlo";
        "spike" has the arguments of a `likelihoods.SpikeAndSlab` that is taken by name.
    scaling_ : data.scaling.Scaling
        From data units to standardised units and back.
    history_ : list of dict
        What training looked like: see `inference.Trainer`.
    warnings_ : list of str
        What the watch on the run said.
    column_notes_ : list of str
        What there is to know about columns: see `not_judged_` and `data.columns.repeated`.
    offset_ : float
        The score below which ``predict`` takes a row for outlying, in the units of ``score_samples``.
    contamination_ : float
        The share of dirty *cells* in the data, the mean of their probabilities; see `cell_probabilities`. NaN where
        there are none.
    not_judged_ : dict of int to str
        Columns in which dirt cannot be told from what is right, as constant ones and names of rows, and why: their
        cells have the probability 0, and are never replaced.
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
        test_passes: int | Literal["auto"] = "auto",
        likelihood: str | nn.Module | Callable[..., Any] = "auto",
        prior: str | nn.Module | TorchDistribution = "standard_normal",
        floor: float | tuple[float, float] | Literal["auto"] = "auto",
        epochs: int | Literal["auto"] = "auto",
        contamination: float | Literal["auto"] = "auto",
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
        self.contamination = contamination
        self.scaling = scaling
        self.recipe = recipe
        self.engine: Engine = engine
        self.precision: Precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    warnings_: list[str]
    column_notes_: list[str]

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
        n_rows = len(new.x) * settings.epochs
        with random_numbers(new.seed, settings.device), Progress(n_rows, self.verbose) as trainer.on_log:
            trainer.fit(new.x)
        choice = trainer.choice
        kl = form_of_kl(new.model, new.guide, new.x)
        chosen = replace(settings, engine=choice.engine, precision=choice.precision, engine_reason=choice.reason, kl=kl)
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
            The pair, trained on rows in standardised units. It is taken over, not copied, and moved to the device.
        X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
            The data, in data units: what rows look like, and how they are standardised, is learned from them.
        history : sequence of dict, default=()
            What the training looked like.
        **arguments
            Of the estimator, such as ``scaling="none"``, ``test_passes=2`` (1 by default), ``random_state=0``.
            Likelihood, prior, floor and n_latent are the model's, which these may repeat. Where a new estimator of
            these arguments would build such a pair (give it the networks' ``hidden``), `load` needs no more than any
            estimator; otherwise it asks for ``pair=``.

        Returns
        -------
        RiCVAE
            Fitted. ``fit`` and scikit-learn's ``clone`` make networks of its own, as of any estimator.

        Raises
        ------
        TypeError, ValueError
            If the data or an argument are not as said, or the pair does not fit the rows or the arguments.

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
        check_pair(model, guide)
        likelihood = likelihood_of(model)
        parts = {} if likelihood is None else likelihood_arguments(likelihood)
        if arguments.get("floor") == "auto":
            del arguments["floor"]  # the model's
        arguments.setdefault("test_passes", 1)  # it may not have been trained to take more
        estimator = cls(**{**parts, **prior_arguments(model.prior), **arguments})
        new = prepare(estimator, X)
        taken = replace(new, model=model.to(new.settings.device), guide=guide.to(new.settings.device))
        check_pair_fits(taken.model, taken.guide, new)
        is_own = builds_alike(new, taken.model, taken.guide)
        chosen = settings_of_pair(new.settings, taken.model, taken.guide, new.x, is_own)
        estimator._take_over(replace(taken, settings=chosen), is_own_pair=is_own)
        estimator.history_ = [{name: _plain(value) for name, value in entry.items()} for entry in history]
        estimator.warnings_ = []
        return estimator

    def _take_over(self, new: Prepared, is_own_pair: bool = True) -> None:
        """Take over a trained pair, one that the estimator builds or another."""
        self.model_, self.guide_, self.scaling_ = new.model.eval(), new.guide.eval(), new.scaling
        self.settings_, self._is_own_pair = new.settings.to_json(), is_own_pair
        self._remember(new.rows)
        self._tell_dirt(new)
        self.offset_ = offset_of(self._normality(new.x, new.settings.test_passes), new.settings.contamination)

    def _tell_dirt(self, new: Prepared) -> None:
        """Find what tells dirty cells from clean ones, and the columns in which nothing can."""
        images = new.scaling.kind == "range"
        names = getattr(self, "feature_names_in_", None)
        self.not_judged_ = {} if images else not_judged(new.rows.values, names)
        left_alone = [f"{why}; its cells are left as they are." for why in self.not_judged_.values()]
        self.column_notes_ = [] if images else [*repeated(new.rows.values, names), *left_alone]
        self._dirt, self.contamination_ = None, math.nan
        residuals = dirt.residuals_of(self.model_, self.guide_, new.x, new.settings.test_passes)
        floor = automatic_floor(new.x, new.center, new.settings.quantisation_step, images=images)[1]
        self._resolution = floor, new.center.cpu()
        if residuals is not None:
            self._dirt = dirt.components(self.model_, residuals, floor, images=images)
            self.contamination_ = float(self._probability(self._dirt, residuals).double().mean())

    def _to_save(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = {f"model.{name}": value for name, value in self.model_.state_dict().items()}
        tensors |= {f"guide.{name}": value for name, value in self.guide_.state_dict().items()}
        tensors["scaling.center"] = torch.as_tensor(self.scaling_.center)
        tensors["scaling.scale"] = torch.as_tensor(self.scaling_.scale)
        if self._resolution is not None:
            tensors["scaling.median"] = self._resolution[1]
        if type(self).__init__ is not RiCVAE.__init__ and type(self)._to_save is RiCVAE._to_save:
            raise NotImplementedError(
                f"Expected of {type(self).__name__}, which has arguments of its own, that it saves them, actual not: "
                "define _to_save and _from_saved."
            )
        description = {
            "settings": self.settings_ | {"test_passes": self._passes(None)},  # it may have been set since
            "is_own_pair": self._is_own_pair,
            "random_state": saved_seed(self.random_state),
            "warnings": self.warnings_,
            "column_notes": self.column_notes_,
            "history": self.history_,
            "dirt": dirt.description_of(self._dirt),
            "not_judged": {str(column): why for column, why in self.not_judged_.items()},
            "floor": None if self._resolution is None else self._resolution[0],
            "offset": self.offset_,
            "contamination": None if math.isnan(self.contamination_) else self.contamination_,
        }
        return description, tensors

    @classmethod
    def _from_saved(cls, description: dict[str, Any], tensors: dict[str, Tensor], **given: Any) -> Self:
        settings, pair = Settings.from_json(description["settings"], given["device"]), given["pair"]
        if pair is not None:
            check_saved_pair(pair)
        if (pair is None) != description.get("is_own_pair", True):
            raise DoesNotFitError(
                "Expected no pair, as the networks are the estimator's own: leave it out."
                if pair is not None
                else "The model was made by RiCVAE.from_pair of networks whose code is not saved: give load(folder, "
                "pair=(model, guide)) such a pair."
            )
        if pair is None:
            parts = {name: saved_part(name, getattr(settings, name), given[name]) for name in ("likelihood", "prior")}
        else:
            likelihood = likelihood_of(pair[0])
            parts = {} if likelihood is None else {"likelihood": likelihood}
        center, scale = (tensors[f"scaling.{name}"].numpy().astype(np.float64) for name in ("center", "scale"))
        estimator = cls(
            settings.n_latent,
            hidden=settings.hidden,
            train_passes=settings.train_passes,
            test_passes=settings.test_passes,
            **parts,
            floor="auto" if settings.floor is None or settings.learn_scale else settings.floor,
            epochs=settings.epochs,
            contamination=settings.contamination,
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
        estimator.column_notes_ = description.get("column_notes", [])
        estimator._dirt = dirt.saved_components(description, estimator.model_)
        estimator.not_judged_ = {int(column): why for column, why in description.get("not_judged", {}).items()}
        floor = description.get("floor")
        estimator._resolution = None if floor is None else (floor, tensors["scaling.median"])
        estimator.offset_ = description.get("offset", math.nan)
        share = description.get("contamination")
        estimator.contamination_ = math.nan if share is None else share
        return estimator


def _plain(value: Any) -> Any:
    """Return a value of a history as JSON can hold it."""
    return value if isinstance(value, str | int | bool | None) else float(value)
