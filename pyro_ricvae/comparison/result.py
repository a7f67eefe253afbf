"""The result of a comparison: a tidy table, means with paired intervals, ranks and text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from tabulate import tabulate

from pyro_ricvae.comparison.criteria import CRITERIA

_LEVEL = 0.95
_N_RESAMPLES = 999
_VALUES_AT_ONCE = 2**22  # of a bootstrap


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found.

    Parameters
    ----------
    table : DataFrame
        Tidy, a line for every value: ``name``, ``seed``, ``criterion``, ``value`` and ``note``, which says why there is
        no value where it is NaN.
    notes : tuple of str
        How things were measured, and what training warned of.
    sums : mapping
        Of one seed only, for intervals: for a name and a criterion that is a mean, its sums and counts, one a row of
        the data, each of shape (n,).
    """

    table: pd.DataFrame
    notes: tuple[str, ...]
    sums: Mapping[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]] = field(
        default_factory=dict, repr=False
    )

    @property
    def names(self) -> list[str]:
        """The names of the estimators, in order."""
        return [str(name) for name in self.table["name"].unique()]

    @property
    def criteria(self) -> list[str]:
        """The criteria, in the order of `CRITERIA`."""
        return [name for name in CRITERIA if name in set(self.table["criterion"])]

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return [int(seed) for seed in self.table["seed"].unique()]

    @property
    def interval_kind(self) -> str:
        """Say what the intervals of `summary` are."""
        if len(self.seeds) > 1:
            return (
                f"95% t intervals of the paired difference over {len(self.seeds)} seeds of training, on the same data"
            )
        return (
            f"95% percentile intervals of the paired difference, {_N_RESAMPLES} bootstrap resamples of the rows, "
            "one seed of training; for means over rows only, so none for medians, trimmed means, finding dirt, time"
        )

    def summary(self, baseline: str | None = None) -> pd.DataFrame:
        """Return the means over the seeds, a line for every estimator and a column for every criterion.

        Parameters
        ----------
        baseline : str, optional
            An estimator's name: for each criterion there are then also ``<criterion>_difference``, the estimator minus
            the baseline, paired by seed, and ``<criterion>_low`` and ``<criterion>_high``, its interval of
            `interval_kind`.

        Returns
        -------
        DataFrame
            NaN where there is no value. The mean is over those seeds that have one.

        Raises
        ------
        ValueError
            If no estimator has the name of the baseline.
        """
        self._check_names([] if baseline is None else [baseline])
        columns: dict[str, list[float]] = {}
        for criterion in self.criteria:
            values = self.values(criterion)
            columns[criterion] = values.mean(axis=1).tolist()
            if baseline is not None:
                found = [self._difference(values, name, baseline, criterion) for name in self.names]
                for i, what in enumerate(("difference", "low", "high")):
                    columns[f"{criterion}_{what}"] = [each[i] for each in found]
        return pd.DataFrame(columns, index=pd.Index(self.names, name="name"))

    def rank(self, criterion: str, names: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the estimators by a criterion, best first.

        Parameters
        ----------
        criterion : str
            One of `criteria`.
        names : sequence of str, optional
            The estimators to rank: an error if one of them has no value. The default is all; those without a value are
            then not ranked, and stand at the end with the reason.

        Returns
        -------
        DataFrame
            By name: ``rank`` from 1 (missing where not ranked), ``value``, the mean over seeds, and ``note``.

        Raises
        ------
        ValueError
            If there is no such criterion or name, or there is nothing to rank; if an estimator asked for by name has no
            value, as the bound of an index-conditioned likelihood, which is not normalised.
        """
        if criterion not in self.criteria:
            raise ValueError(f"Expected a criterion of {self.criteria}, actual {criterion!r}.")
        asked = self.names if names is None else names
        self._check_names(asked)
        values = self.values(criterion).mean(axis=1).loc[list(asked)]
        reasons = {name: self._reasons(name, criterion) for name in asked}
        without = [name for name in asked if np.isnan(values[name])]
        if without and (names is not None or len(without) == len(asked)):
            raise ValueError(
                f"Expected estimators that have a value of {criterion!r} to rank, actual {without}, which have none: "
                f"{reasons[without[0]]} Rank the others, or by another criterion."
            )
        sign = 1 if CRITERIA[criterion].better == "lower" else -1
        ordered = values.iloc[np.argsort(sign * values.to_numpy(), kind="stable")]  # NaN comes last
        ranks = (sign * ordered).rank(method="min").astype("Int64")
        notes = [reasons[str(name)] for name in ordered.index]
        return pd.DataFrame({"rank": ranks, "value": ordered, "note": notes}).rename_axis("name")

    def best(self, criterion: str, names: Sequence[str] | None = None) -> str:
        """Return the name of the best estimator by a criterion; see `rank`."""
        return str(self.rank(criterion, names).index[0])

    def to_csv(self, path: str | Path) -> None:
        """Write the tidy table as a CSV file."""
        self.table.to_csv(path, index=False)

    def to_markdown(self, baseline: str | None = None) -> str:
        """Return means, with differences to a `baseline` and their intervals, and all notes, as Markdown.

        A line for every criterion, a column for every estimator. See `summary`.
        """
        summary = self.summary(baseline)
        values = summary.to_dict("index")
        rows = []
        for criterion in self.criteria:
            cells = [_cell(values[name], criterion, name == baseline) for name in self.names]
            rows.append([criterion, CRITERIA[criterion].better, *cells])
        head = ["criterion", "better", *(name.replace("|", "\\|") for name in self.names)]
        lines = [tabulate(rows, head, tablefmt="github", disable_numparse=True)]
        several = len(self.seeds) > 1
        lines += ["", f"Means over seeds {', '.join(map(str, self.seeds))}." if several else f"Seed {self.seeds[0]}."]
        if baseline is not None:
            lines[-1] += f" In brackets: the difference to {baseline}, low to high: {self.interval_kind}."
        lines += ["", *(f"- {name}: {CRITERIA[name].meaning}." for name in self.criteria)]
        return "\n".join([*lines, "", *(f"- {note}" for note in (*self.notes, *self._missing()))])

    def __str__(self) -> str:
        return self.to_markdown()

    def values(self, criterion: str) -> pd.DataFrame:
        """Return the values of a criterion: a line for every name, a column for every seed, in order."""
        chosen = self.table[self.table["criterion"] == criterion]
        return chosen.pivot(index="name", columns="seed", values="value").reindex(index=self.names, columns=self.seeds)

    def _difference(self, values: pd.DataFrame, name: str, baseline: str, criterion: str) -> tuple[float, float, float]:
        """Return the mean paired difference and the ends of its interval, NaN where there is none."""
        paired = (values.loc[name] - values.loc[baseline]).dropna().to_numpy()
        if not len(paired):
            return np.nan, np.nan, np.nan
        mean = float(paired.mean())
        if len(self.seeds) == 1:
            sums, other = self.sums.get((name, criterion)), self.sums.get((baseline, criterion))
            low, high = _bootstrap(*sums, other[0]) if sums and other else (np.nan, np.nan)
        elif len(paired) == 1:
            low, high = np.nan, np.nan
        else:
            half = stats.t.ppf((1 + _LEVEL) / 2, len(paired) - 1) * paired.std(ddof=1) / len(paired) ** 0.5
            low, high = mean - half, mean + half
        return mean, float(low), float(high)

    def _reasons(self, name: str, criterion: str) -> str:
        """Return why an estimator has no value of a criterion, or not of every seed."""
        chosen = self.table[(self.table["name"] == name) & (self.table["criterion"] == criterion)]
        return " ".join(note for note in chosen["note"].unique() if note)

    def _missing(self) -> list[str]:
        """Return the table's notes, each once."""
        lines = []
        for note, each in self.table[self.table["note"] != ""].groupby("note", sort=False):
            criteria = [str(criterion) for criterion in each["criterion"].unique()]
            what = "values" if len(criteria) == len(self.criteria) else ", ".join(criteria)
            seeds = ", ".join(str(seed) for seed in each["seed"].unique())
            where = "" if each["seed"].nunique() == len(self.seeds) else f" (seed {seeds})"
            lines.append(f"No {what} of {' and '.join(map(repr, each['name'].unique()))}{where}: {note}")
        return lines

    def _check_names(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in self.names]
        if unknown or isinstance(names, str):
            wrong = names if isinstance(names, str) else unknown
            raise ValueError(f"Expected a list of names of {self.names}, actual {wrong!r}.")


def _bootstrap(
    sums: NDArray[np.float64], counts: NDArray[np.float64], baseline: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the interval of a difference of means over rows, each with its sum and how many values are in it."""
    kept = counts > 0
    if kept.sum() < 2:
        return np.nan, np.nan

    def difference(sums: Any, baseline: Any, counts: Any, axis: int = -1) -> Any:
        return (sums.sum(axis) - baseline.sum(axis)) / counts.sum(axis)

    low, high = stats.bootstrap(
        (sums[kept], baseline[kept], counts[kept]), difference, paired=True, vectorized=True, method="percentile",
        n_resamples=_N_RESAMPLES, batch=max(1, _VALUES_AT_ONCE // int(kept.sum())), confidence_level=_LEVEL,
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(low), float(high)


def _cell(row: Mapping[Any, float], criterion: str, is_baseline: bool) -> str:
    if np.isnan(row[criterion]):
        return ""
    text = f"{row[criterion]:.4g}"
    difference, low, high = (row.get(f"{criterion}_{what}", np.nan) for what in ("difference", "low", "high"))
    if is_baseline or np.isnan(difference):
        return text
    return f"{text} ({difference:+.2g}{'' if np.isnan(low) else f', {low:+.2g} to {high:+.2g}'})"
