"""What estimators are measured by in a comparison: the data with what is known of them, and the criteria."""
# ruff: noqa: N803 -- X is scikit-learn's name

import time
import warnings
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pyro_ricvae._core.isolation import device_of, evaluation, random_numbers
from pyro_ricvae.data.rows import Rows, as_rows
from pyro_ricvae.data.scaling import Scaling, quantisation_step
from pyro_ricvae.diagnostics import check_normalised, importance_weighted_bound
from pyro_ricvae.estimators.ricvae import RiCVAE
from pyro_ricvae.inference.training.trainer import TrainingWarning

_SMALLEST = 1e-4  # the floor of log errors where the data are not quantised, in standardised units
_KEPT = 0.8  # the share of cells in the trimmed error

Array = NDArray[np.float64]


class Value(NamedTuple):
    """A value, or why there is none; of a mean, the sums and counts of each row, too."""

    value: float = np.nan
    note: str = ""
    sums: tuple[Array, Array] | None = None


@dataclass(frozen=True)
class Data:
    """The data, checked; `scaling` and `floor` are the units of errors, common to all estimators."""

    X: NDArray[Any]
    X_test: NDArray[Any]
    truth: Array | None
    dirty: NDArray[np.bool_] | None
    by_row: bool
    has_cells: bool
    is_tested: bool
    scaling: Scaling
    step: float

    @property
    def floor(self) -> float:
        """The floor of log errors, in standardised units."""
        return self.step or _SMALLEST

    @property
    def criteria(self) -> list[str]:
        """Those that the data allow, beside the mass of discrete likelihoods."""
        names = []
        if self.truth is not None:
            where = self.where()
            names += ["error"] + ["error_dirty"] * bool(where.any()) + ["error_clean"] * (not where.all())
        names += ["bound", "median_log_error", "trimmed_error"]
        if self.dirty is not None:
            names += ["row_average_precision", "row_roc_auc"] * _both(self.dirty.any(axis=1))
            names += ["cell_average_precision", "cell_roc_auc"] * (self.has_cells and _both(self.dirty))
        return [*names, "seconds"]

    def where(self) -> NDArray[np.bool_]:
        """Return what counts as dirty in errors: cells, or of images and dirty rows whole rows."""
        assert self.dirty is not None
        return np.broadcast_to(self.dirty.any(axis=1, keepdims=True), self.dirty.shape) if self.by_row else self.dirty

    def residuals(self, cleaned: Any, target: Array) -> Array:
        """Return what `cleaned` is away from rows, of shape (n, d), in units of the common scaling."""
        return np.asarray((np.asarray(cleaned, np.float64).reshape(target.shape) - target) / self.scaling.scale)

    def notes(self, n_draws: int) -> list[str]:
        """Say how things are measured."""
        per = {"range": "the range of X", "robust": "the columns' robust standard deviations in X"}[self.scaling.kind]
        on = "X_test, which was not fitted" if self.is_tested else "X itself, which was fitted, dirt and all"
        notes = [f"Errors are in units of {per} (squared ones in their squares), the same for all."]
        if self.truth is not None:
            notes.append(f"error_dirty and error_clean are over {'whole rows' if self.by_row else 'single cells'}.")
        if self.dirty is not None and not _both(self.dirty.any(axis=1)):
            notes.append("No rows to find: all are dirty, or none is.")
        return [
            *notes,
            f"bound, median_log_error and trimmed_error are on {on}. The latter two know no truth: copying what is "
            "given, dirt too, makes them small.",
            f"bound: {n_draws} posterior draws a row, in data units; normalised likelihoods only."
            + (" The data are quantised: a scale below their step makes a density high." if self.step else ""),
            f"median_log_error: differences below {self.floor:.3g} count as that, "
            + ("the step at which X is recorded" if self.step else "as X is not quantised")
            + f" (its logarithm is {np.log(self.floor):.3g}).",
            f"seconds: with {torch.get_num_threads()} CPU threads; the first fit of a process bears what is done once.",
        ]


def _both(mask: Any) -> bool:
    return bool(mask.any() and not mask.all())


def check_data(X: Any, truth: Any, X_test: Any, dirty: Any) -> Data:
    """Return the arguments of `compare`, checked, or raise an error that says what to do."""
    rows = as_rows(X)
    n, is_image = len(rows.values), len(rows.event_shape) > 1
    right = None if truth is None else _like("truth", truth, rows, n).values
    test = rows if X_test is None else _like("X_test", X_test, rows, None)
    mask, by_row = None, is_image
    if dirty is not None:
        mask = np.asarray(dirty)
        if mask.dtype != bool or mask.shape not in ((n,), (n, *rows.event_shape)):
            raise ValueError(
                f"Expected dirty to be True or False for every cell, shape {(n, *rows.event_shape)}, or every row, "
                f"shape {(n,)}, actual {mask.dtype} of shape {mask.shape}: give a mask such as X != truth."
            )
        by_row = is_image or mask.ndim == 1
    elif right is not None:
        mask = _differ(rows.values, right)
    has_cells = mask is not None and mask.ndim > 1
    if mask is not None:
        mask = np.broadcast_to(mask.reshape(n, -1), rows.values.shape)
    scaling = Scaling.fit(rows.values, "range" if is_image or rows.values.dtype == np.uint8 else "robust")
    shaped = [each.values.reshape(-1, *rows.event_shape) for each in (rows, test)]
    right = None if right is None else right.astype(np.float64)
    step = quantisation_step(rows.values, scaling)
    return Data(shaped[0], shaped[1], right, mask, by_row, has_cells, X_test is not None, scaling, step)


def _like(what: str, data: Any, rows: Rows, n: int | None) -> Rows:
    """Return other rows of the form of `rows`, and as many as `n` where it is given."""
    try:
        other = as_rows(data)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from error
    expected = ("m" if n is None else n, *rows.event_shape)
    if other.event_shape != rows.event_shape or n not in (None, len(other.values)):
        raise ValueError(
            f"Expected {what} of shape {expected}, as X, actual {(len(other.values), *other.event_shape)}: give the "
            f"same columns, or images of the same size{'' if n is None else ', and the same rows'}."
        )
    if rows.columns and other.columns and rows.columns != other.columns:
        raise ValueError(f"Expected {what} with the columns of X in their order, actual {other.columns}: reorder them.")
    return other


def _differ(x: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where the data differ from the truth, in the coarser of two floating-point types."""
    floating = [each.dtype for each in (x, truth) if each.dtype.kind == "f"]
    if floating:
        coarser = min(floating, key=lambda dtype: dtype.itemsize)
        with np.errstate(over="ignore"):
            x, truth = x.astype(coarser), truth.astype(coarser)
    return np.asarray(x != truth)


def measure(estimator: Any, data: Data, n_draws: int, seed: int) -> dict[str, Value]:
    """Fit an estimator, and return its values by criterion."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)  # kept in warnings_, and from there in the notes
        # Some know a better answer for the rows they were fitted on, as robust PCA does.
        cleaned = estimator.fit_clean(data.X) if hasattr(estimator, "fit_clean") else estimator.fit(data.X)
    values = {"seconds": Value(time.perf_counter() - start)}
    if not hasattr(estimator, "fit_clean"):
        cleaned = estimator.clean(data.X)
    if data.truth is not None:
        error = np.square(data.residuals(cleaned, data.truth))
        everywhere = np.ones_like(error, dtype=bool)
        where = data.where()
        for name, mask in (("error", everywhere), ("error_dirty", where), ("error_clean", ~where)):
            sums, counts = np.where(mask, error, 0).sum(axis=1), mask.sum(axis=1).astype(np.float64)
            if counts.any():
                values[name] = Value(sums.sum() / counts.sum(), sums=(sums, counts))
    test = data.X_test.reshape(len(data.X_test), -1).astype(np.float64)
    away = np.abs(data.residuals(estimator.clean(data.X_test), test)).ravel()
    n_kept = int(np.ceil(_KEPT * away.size))
    values["trimmed_error"] = Value(float(np.square(np.partition(away, n_kept - 1)[:n_kept]).mean()))
    values["median_log_error"] = Value(float(np.log(max(np.median(away), data.floor))))
    return values | _bound(estimator, data.X_test, n_draws, seed) | _finding(estimator, data)


def _bound(estimator: Any, X: NDArray[Any], n_draws: int, seed: int) -> dict[str, Value]:
    """Return the bound, as that of a density or of a mass, or why there is none."""
    if not isinstance(estimator, RiCVAE):
        return dict.fromkeys(
            ("bound", "bound_mass"),
            Value(note=f"{type(estimator).__name__} is no RiCVAE: of it no likelihood is known."),
        )
    model, guide, x = estimator.model_, estimator.guide_, estimator.standardise(X)
    try:
        check_normalised(model, guide, x, "An importance-weighted bound")
    except ValueError as error:
        return dict.fromkeys(("bound", "bound_mass"), Value(note=str(error)))
    device = device_of(model)
    with random_numbers(seed, device):
        bound = importance_weighted_bound(model, guide, x, n_draws).double().numpy()
    with evaluation(model, guide):
        row = x[:1].to(device)
        support: Any = model.decode(guide.encode(row).mean, row).support
    is_discrete = support.is_discrete
    kinds = ("bound_mass", "bound") if is_discrete else ("bound", "bound_mass")
    if not is_discrete:  # a probability is the same in any units
        bound = bound - np.log(estimator.scaling_.scale).sum()
    why = f"Its likelihood gives {'probabilities' if is_discrete else 'densities'}: see {kinds[0]}."
    return {kinds[0]: Value(float(bound.mean()), sums=(bound, np.ones_like(bound))), kinds[1]: Value(note=why)}


def _finding(estimator: Any, data: Data) -> dict[str, Value]:
    """Return how well dirty rows and cells are found."""
    values = {}
    for what, method, sign in (("row", "score_samples", -1), ("cell", "cell_scores", 1)):
        if f"{what}_roc_auc" not in data.criteria:
            continue
        assert data.dirty is not None
        mask = (data.dirty.any(axis=1) if what == "row" else data.dirty).ravel()
        note = f"{type(estimator).__name__} has no {method}."
        if hasattr(estimator, method):
            scores = sign * np.asarray(getattr(estimator, method)(data.X), dtype=np.float64).ravel()
            note = "" if np.isfinite(scores).all() else f"{method} gave values that are not finite."
        for name, figure in (("average_precision", average_precision_score), ("roc_auc", roc_auc_score)):
            values[f"{what}_{name}"] = Value(note=note) if note else Value(float(figure(mask, scores)))
    return values


class Criterion(NamedTuple):
    """What is better, what it means, and how a picture shows it."""

    better: Literal["lower", "higher"]
    meaning: str
    is_logarithmic: bool = False


#: What estimators are compared by; a comparison has those that its data allow.
CRITERIA = {
    "error": Criterion("lower", "mean squared error of the cleaned data to the truth", True),
    "error_dirty": Criterion("lower", "the same where the data are dirty", True),
    "error_clean": Criterion("lower", "the same where they are clean", True),
    "bound": Criterion("higher", "importance-weighted bound on the log-density of a row, mean over rows, in nats"),
    "bound_mass": Criterion("higher", "the same of a discrete likelihood, on the log-probability of a row, in nats"),
    "median_log_error": Criterion("lower", "median over cells of log |cleaned - data|"),
    "trimmed_error": Criterion("lower", "mean squared difference of cleaned data and data, best 80% of cells", True),
    "row_average_precision": Criterion("higher", "average precision in finding dirty rows"),
    "row_roc_auc": Criterion("higher", "area under the ROC curve in finding dirty rows"),
    "cell_average_precision": Criterion("higher", "average precision in finding dirty cells"),
    "cell_roc_auc": Criterion("higher", "area under the ROC curve in finding dirty cells"),
    "seconds": Criterion("lower", "wall-clock time to fit, in seconds", True),
}
