"""What a cleaning leaves on disk: the cleaned data, the scores of cells and rows, the model, a picture and a summary.

================================== ===================================================================================
``cleaned.*`` or ``cleaned/``      the data with their dirty cells replaced, in the input's format; with ``denoise``
                                   every cell as the model expects it
``changes.csv``                    of tables and arrays, a line for every cell that was replaced; see `changes`
``cell_probabilities.*``           how probable it is that a cell is dirty, between 0 and 1
``cell_scores.npy`` (or ``.csv``)  a score for every cell, in nats: 0 is exactly as expected, higher is more outlying
``row_scores.csv``                 a line for every row; see `row_scores`
``picture.png``                    what fits least
``summary.json``                   the settings as they were chosen, counts, the worst rows and cells, versions
``model/``                         the fitted model, for ``ricvae score`` and ``ricvae sample``
================================== ===================================================================================
"""

import json
import platform
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ricvae.cli.files import DataFile
from pyro_ricvae.cli.samples import data_range
from pyro_ricvae.plots.rows import image_grid, largest, worst_cells
from pyro_ricvae.plots.style import save

if TYPE_CHECKING:
    from pyro_ricvae.estimators.ricvae import RiCVAE

_N_IMAGES = 12
_N_LISTED = 20
_N_COLUMNS = 5


def write_cleaning(
    estimator: "RiCVAE", data: DataFile, folder: Path, *, threshold: float = 0.5, denoise: bool = False
) -> dict[str, Any]:
    """Write what a fitted estimator makes of the data it was fitted on, as the module says.

    Parameters
    ----------
    estimator : RiCVAE
        Fitted on `model_input` of the data.
    data : DataFile
        The data.
    folder : Path
        An existing folder.
    threshold : float, default=0.5
        Cells that are dirty with a higher probability are replaced.
    denoise : bool, default=False
        Whether every cell is.

    Returns
    -------
    dict
        The summary, still without the times, which the caller adds before `write_summary`.
    """
    values = model_input(data)
    expected = np.asarray(estimator.clean(values))
    probabilities = np.asarray(estimator.cell_probabilities(values))
    cells = np.asarray(estimator.cell_scores(values))
    scores = np.asarray(estimator.decision_function(values))
    cleaned, is_changed = expected, None
    if denoise:
        data.write(cleaned, folder, "cleaned")
    else:
        cleaned = np.asarray(estimator.repair(values, threshold))
        is_changed = cleaned != data.values
        data.write_cells(cleaned, is_changed, folder, "cleaned")
        if data.kind != "images":
            changes(data, cleaned, is_changed, probabilities).to_csv(folder / "changes.csv", index=False)
    for name, figures in (("cell_probabilities", probabilities), ("cell_scores", cells)):
        if data.header is None:
            np.save(folder / f"{name}.npy", figures)
        else:
            data.frame(figures).to_csv(folder / f"{name}.csv", index=not isinstance(data.labels, pd.RangeIndex))
    row_scores(data, scores, cells).to_csv(folder / "row_scores.csv", index=False)
    estimator.save(folder / "model")
    shown = cleaned if data.kind == "images" else expected
    _draw(estimator, data, shown, cells, scores, folder / "picture.png")
    dirty = _dirty(estimator, data, probabilities > threshold, is_changed)
    return _summary(estimator, data, expected, cells, scores, {"threshold": threshold, "denoised": denoise, **dirty})


def model_input(data: DataFile) -> NDArray[Any] | pd.DataFrame:
    """Return the values as estimators take them: a table with its columns' names, else an array."""
    return data.values if data.header is None else data.frame(data.values)


def changes(
    data: DataFile, repaired: NDArray[Any], is_changed: NDArray[np.bool_], probabilities: NDArray[Any]
) -> pd.DataFrame:
    """Return a line for every cell that was replaced, by rows and then by columns.

    Parameters
    ----------
    data : DataFile
        The data.
    repaired, probabilities : ndarray, of the data's shape
        What they are with dirty cells replaced, and how probable dirt is in each.
    is_changed : ndarray of bool, of the data's shape
        Which cells were.

    Returns
    -------
    DataFrame
        ``row``: its name, or its number from 0; ``column``: its name, or its index from 0; ``value``: as it came;
        ``replaced_by``; ``probability`` that it was dirty.
    """
    where = np.argwhere(is_changed)
    columns = {
        "row": data.labels[where[:, 0]],
        "column": [_cell_name(data, tuple(cell)) for cell in where[:, 1:]],
        "value": [f"{value:.15g}" for value in data.values[is_changed]],
        "replaced_by": [f"{value:.15g}" for value in repaired[is_changed]],
        "probability": probabilities[is_changed].round(4),
    }
    return pd.DataFrame(columns)


def row_scores(data: DataFile, scores: NDArray[Any], cells: NDArray[Any]) -> pd.DataFrame:
    """Return a line for every row, in order, with columns ``row``, ``score``, ``worst_cell`` and ``worst_cell_score``.

    Parameters
    ----------
    data : DataFile
        The data.
    scores : ndarray, shape (n,)
        The rows' ``decision_function``, in nats.
    cells : ndarray, of the data's shape
        The cells' scores, in nats.

    Returns
    -------
    DataFrame, of n rows
        ``row``: its name, the image's file name, or its number from 0. ``score``: lower is more outlying, and
        below 0 outlying.
        ``worst_cell``: the cell that fits least, by its column's name or its index from 0 (of an image, "line column").
        ``worst_cell_score``: higher is more outlying.
    """
    flat = cells.reshape(len(cells), -1)
    worst = flat.argmax(axis=1)
    names = [_cell_name(data, np.unravel_index(cell, cells.shape[1:])) for cell in worst]
    columns = {"row": data.labels, "score": scores, "worst_cell": names, "worst_cell_score": flat.max(axis=1)}
    return pd.DataFrame(columns)


def write_summary(summary: dict[str, Any], folder: Path) -> None:
    """Write the summary as ``summary.json``."""
    (folder / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def describe(summary: dict[str, Any], out: Path) -> str:
    """Return the summary in a few lines for people, with what to do next; `out` is the folder it is about."""
    cells, rows, given = summary["cells"], summary["rows"], summary["input"]
    shape = " x ".join(map(str, given["shape"][1:]))
    what = {"images": f"images of {shape}", "table": f"rows of {shape} columns"}.get(given["kind"], f"rows of {shape}")
    worst = cells["worst"][0]
    least = ", ".join(str(row["row"]) for row in rows["worst"][:5])
    model = shlex.quote(str(out / "model"))
    samples, new = {
        "images": ("samples.png", "NEW.npy"),
        "table": ("samples.csv", "NEW.csv"),
        "array": ("samples.npy", "NEW.npy"),
    }[given["kind"]]
    new = "NEW_FOLDER" if given["format"] == "images" else new
    return "\n".join(
        [
            f"Cleaned {rows['n']} {what} from {given['path']} in {summary['seconds']['total']:.0f} s.",
            f"{cells['n_dirty']} of {cells['n']} cells ({cells['n_dirty'] / cells['n']:.1%}) are dirty with a "
            f"probability above {cells['threshold']:g}{_replaced(cells)}.",
            f"The farthest from what is expected is row {worst['row']}, cell {worst['cell']}: {worst['value']:.6g}, "
            f"where {worst['expected']:.6g} is.",
            *(f"Note: {note}" for note in cells["notes"]),
            f"{rows['n_far']} rows ({rows['n_far'] / rows['n']:.1%}) fit far less than the others; "
            f"those that fit least: {least}.",
            f"Written to {out}: look at picture.png first, then at row_scores.csv and summary.json.",
            "Next:",
            f"  ricvae sample {model} -n 100 --out {samples}",
            f"  ricvae score {model} {new}",
        ]
    )


def _replaced(cells: dict[str, Any]) -> str:
    """Return in words what was done with dirty cells."""
    if cells["denoised"]:
        return "; every cell is now what the model makes of it"
    columns = list(cells["changed"].items())
    listed = ", ".join(f"{number} in {name!r}" for name, number in columns[:_N_COLUMNS])
    more = ", ..." if len(columns) > _N_COLUMNS else ""
    if not cells["n_changed"]:
        return ": nothing was replaced"
    return f", and have been replaced{f' ({listed}{more}; see changes.csv)' if columns else ''}"


def _dirty(
    estimator: "RiCVAE", data: DataFile, is_dirty: NDArray[np.bool_], is_changed: NDArray[np.bool_] | None
) -> dict[str, Any]:
    """Return what the summary says of dirty cells: how many, in which columns, and which cannot be judged."""
    changed: dict[str, int] = {}
    if data.header is not None and is_changed is not None:
        counts = pd.Series(is_changed.sum(axis=0), index=data.header.columns.map(str))
        changed = {str(name): int(number) for name, number in counts[counts > 0].sort_values(ascending=False).items()}
    return {
        "n_dirty": int(is_dirty.sum()),
        "n_changed": None if is_changed is None else int(is_changed.sum()),
        "changed": changed,
        "notes": estimator.column_notes_,
    }


def _cell_name(data: DataFile, cell: tuple[Any, ...]) -> str:
    return " ".join(map(str, cell)) if data.header is None else str(data.header.columns[cell[0]])


def _summary(
    estimator: "RiCVAE",
    data: DataFile,
    expected: NDArray[Any],
    cells: NDArray[Any],
    scores: NDArray[Any],
    dirty: dict[str, Any],
) -> dict[str, Any]:
    return {
        "input": {
            "path": str(data.path),
            "format": data.format,
            "key": data.key,
            "kind": data.kind,
            "shape": list(data.values.shape),
            "dtype": str(data.values.dtype),
        },
        "settings": estimator.settings_,
        "warnings": [*data.notes, *estimator.warnings_],
        "rows": {
            "n": len(scores),
            "n_far": int((scores < 0).sum()),
            "far_means": "a score below 0, more than 2.5 robust standard deviations below the median",
            "worst": [
                {"row": str(data.labels[row]), "score": float(scores[row])} for (row,) in largest(-scores, _N_LISTED)
            ],
        },
        "cells": {
            "n": cells.size,
            **dirty,
            "worst": [
                {
                    "row": str(data.labels[cell[0]]),
                    "cell": _cell_name(data, cell[1:]),
                    "value": data.values[cell].item(),
                    "expected": expected[cell].item(),
                    "score": float(cells[cell]),
                }
                for cell in largest(cells, _N_LISTED)
            ],
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("pyro-ricvae", "pyro-ppl", "torch", "numpy")},
        },
    }


def _draw(
    estimator: "RiCVAE", data: DataFile, expected: NDArray[Any], cells: NDArray[Any], scores: NDArray[Any], path: Path
) -> None:
    if data.kind == "images":
        rows = [row for (row,) in largest(-scores, _N_IMAGES)]
        by_pixel = cells.sum(axis=-1) if cells.ndim == 4 else cells
        figure = image_grid(
            {"dirty": data.values[rows], "cleaned": expected[rows], "cell scores": by_pixel[rows]},
            titles=[Path(str(data.labels[row])).stem for row in rows],
            limits=data_range(estimator),
            heat={"cell scores"},
        )
        save(figure, path)
        return
    names = [_cell_name(data, cell) for cell in np.ndindex(data.values.shape[1:])]
    values, expected, by_cell = (array.reshape(len(array), -1) for array in (data.values, expected, cells))
    save(worst_cells(values, expected, by_cell, rows=data.labels.tolist(), columns=names, n=_N_LISTED), path)
