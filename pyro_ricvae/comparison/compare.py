"""Comparing estimators on the same data, over seeds, by what their likelihoods allow to compare."""
# ruff: noqa: N803 -- X and X_test are scikit-learn's names

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import clone
from tqdm import tqdm

from pyro_ricvae._core.checks import positive_int
from pyro_ricvae.comparison.criteria import CRITERIA, Data, Value, check_data, measure
from pyro_ricvae.comparison.result import Comparison
from pyro_ricvae.data.rows import as_rows
from pyro_ricvae.estimators.ricvae import RiCVAE
from pyro_ricvae.estimators.settings import choose_settings, prepare
from pyro_ricvae.inference import TrainingError


def compare(
    estimators: Mapping[str, Any],
    X: Any,
    truth: Any = None,
    X_test: Any = None,
    *,
    dirty: Any = None,
    seeds: Sequence[int] = (0, 1, 2),
    n_draws: int = 100,
    single_passes: bool = True,
    verbose: bool | Literal["auto"] = "auto",
) -> Comparison:
    """Fit estimators on the same data with several seeds, and compare what they make of them.

    By errors to the truth and by how well dirt is found, where these are known; by robust errors to the data
    themselves; by the importance-weighted bound on the evidence, in data units, where a likelihood is normalised; and
    by time. Each criterion, and which direction is better, is in `comparison.CRITERIA`. The value of a profile
    likelihood, as the index-conditioned one, is above any density's by construction, so that it has no bound here:
    its place in the table is empty, with the reason, and ranking by it is refused. Densities and probabilities (of
    discrete likelihoods) are two criteria.

    Parameters
    ----------
    estimators : mapping of str to estimator
        By name; left as they are, copies are fitted. A `RiCVAE`, or whatever has ``fit``, ``clean`` and scikit-learn's
        ``get_params``, such as `estimators.RobustPCA`, which takes part in the criteria it has methods for.
    X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
        The data to fit and to clean, in data units.
    truth : array-like, Tensor or DataFrame, shape of `X`, optional
        The clean data.
    X_test : array-like, Tensor or DataFrame, shape (m, d) or (m, *event_shape), optional
        Rows for the bound and the robust errors that were not fitted; best clean ones. Without them: `X`.
    dirty : array-like of bool, shape of `X` or (n,), optional
        The cells, or whole rows, that are dirty. Without it: where `X` differs from `truth`.
    seeds : sequence of int, default=(0, 1, 2)
        Each estimator is fitted with each as its `random_state`.
    n_draws : int, default=100
        Posterior draws a row in the bound, which is the lower the fewer they are.
    single_passes : bool, default=True
        Whether an estimator that recycles (``train_passes > 1``) gets a companion that does not, given as many passes
        over the data: ``"<name>, single passes"``. Without it one cannot tell recycling from longer training.
    verbose : bool or "auto", default="auto"
        Whether to show a progress bar on standard error; "auto" where that is a terminal.

    Returns
    -------
    Comparison
        A tidy ``table``, ``summary(baseline)``, ``rank(criterion)``, ``to_markdown()``, ``to_csv(path)``; of it
        `plots.criteria` makes a picture. Where training failed (`inference.TrainingError`) there are no values, and a
        note.

    Raises
    ------
    TypeError, ValueError
        If an argument, the data or an estimator's own arguments are not as said; before any training.

    Examples
    --------
    >>> import numpy as np
    >>> import pyro_ricvae as rv
    >>> from pyro_ricvae.comparison import compare
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 6))
    >>> x = np.where(rng.random(truth.shape) < 0.1, 10.0, truth)
    >>> small = dict(n_latent=2, hidden=(), epochs=4, train_passes=1)
    >>> names = {"robust": "index_conditioned", "normal": "fixed_normal"}
    >>> vaes = {name: rv.RiCVAE(likelihood=likelihood, **small) for name, likelihood in names.items()}
    >>> result = compare(vaes, x, truth, seeds=[0, 1])
    >>> result.best("bound"), result.rank("bound").loc["robust", "note"][:47]
    ('normal', 'An importance-weighted bound needs a normalised')
    """
    data = check_data(X, truth, X_test, dirty)
    seeds, n_draws = _check_seeds(seeds), positive_int("n_draws", n_draws)
    entrants, notes = _entrants(estimators, data, single_passes)
    notes = [*data.notes(n_draws), *notes]
    found: dict[tuple[str, int], dict[str, Value] | str] = {}
    jobs = [(name, seed) for name in entrants for seed in seeds]
    with tqdm(jobs, unit="fit", disable=None if verbose == "auto" else not verbose, leave=False) as bar:
        for name, seed in bar:
            bar.set_description(f"{name}, seed {seed}")
            estimator = clone(entrants[name])
            settings = {"random_state": seed, "verbose": False}
            estimator.set_params(**{key: settings[key] for key in settings.keys() & estimator.get_params().keys()})
            try:
                found[name, seed] = measure(estimator, data, n_draws, seed)
            except TrainingError as error:
                found[name, seed] = f"training failed: {' '.join(str(error).split())}"
            notes += [f"{name!r}, in training: {message}" for message in getattr(estimator, "warnings_", [])]
    sums: dict[tuple[str, str], Any] = {}
    if len(seeds) == 1:
        for (name, _), values in found.items():
            if not isinstance(values, str):
                sums |= {(name, key): value.sums for key, value in values.items() if value.sums is not None}
    return Comparison(_table(found, data.criteria), tuple(dict.fromkeys(notes)), sums)


def with_single_passes(estimator: RiCVAE, X: Any) -> RiCVAE:
    """Return an estimator that does not recycle, given as many passes over `X` as `estimator` would take.

    Parameters
    ----------
    estimator : RiCVAE
        Not changed; it need not be fitted.
    X : array-like, Tensor or DataFrame, shape (n, d) or (n, *event_shape)
        The data, which ``epochs="auto"`` depends on.

    Returns
    -------
    RiCVAE
        Not fitted, with ``train_passes=1``.
    """
    rows = as_rows(X)
    settings = choose_settings(estimator, rows)[0]
    steps = math.ceil(len(rows.values) / settings.recipe.batch_size)
    phases = settings.recipe.phases(settings.epochs, settings.train_passes)
    epochs = round(sum(phase.passes_in_all(steps) for phase in phases) / steps)
    equal: RiCVAE = clone(estimator).set_params(train_passes=1, epochs=epochs)
    return equal


def _check_seeds(seeds: Any) -> list[int]:
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError:
        numbers = []
    if not numbers or min(numbers) < 0 or max(numbers) >= 2**32 or len(set(numbers)) < len(numbers):
        raise ValueError(f"Expected seeds to be different whole numbers >= 0, such as (0, 1, 2), actual {seeds!r}.")
    return numbers


def _entrants(estimators: Any, data: Data, single_passes: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the estimators, checked on the data, with their companions of single passes, and notes on these."""
    if not isinstance(estimators, Mapping) or not estimators:
        raise ValueError(f"Expected estimators by name, such as {{'robust': RiCVAE()}}, actual {estimators!r}.")
    entrants: dict[str, Any] = {}
    notes = []
    for name, estimator in estimators.items():
        methods = [method for method in ("fit", "clean", "get_params") if not hasattr(estimator, method)]
        if not isinstance(name, str) or isinstance(estimator, type) or methods:
            raise TypeError(
                f"Expected names with estimators that have fit, clean and get_params, actual {name!r}: {estimator!r}: "
                "give an instance, such as RiCVAE(), under a string."
            )
        entrants[name] = estimator
        if not isinstance(estimator, RiCVAE):
            continue
        try:
            settings = prepare(
                clone(estimator), data.X
            ).settings  # wrong arguments are found before the others are trained
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name!r}: {error}") from error
        if single_passes and settings.train_passes > 1:
            companion = f"{name}, single passes"
            if companion in estimators:
                raise ValueError(f"Expected no estimator named {companion!r}: rename it, or give single_passes=False.")
            entrants[companion] = with_single_passes(estimator, data.X)
            notes.append(
                f"{companion!r} has {entrants[companion].epochs} epochs of one pass, {name!r} {settings.epochs} epochs "
                f"with up to {settings.train_passes}: as many passes over the data."
            )
    return entrants, notes


def _table(found: Mapping[tuple[str, int], dict[str, Value] | str], criteria: list[str]) -> pd.DataFrame:
    """Return the tidy table: the same criteria for all, without a value where there is none."""
    has_mass = any(not np.isnan(values["bound_mass"].value) for values in found.values() if not isinstance(values, str))
    shown = [name for name in CRITERIA if name in criteria or (name == "bound_mass" and has_mass)]
    lines = []
    for (name, seed), values in found.items():
        for criterion in shown:
            value = Value(note=values) if isinstance(values, str) else values[criterion]
            lines.append((name, seed, criterion, value.value, value.note))
    return pd.DataFrame(lines, columns=["name", "seed", "criterion", "value", "note"])
