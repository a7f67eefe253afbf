"""What a cleaning leaves on disk: the cleaned data, the scores of cells and rows, the model, a picture and a summary.

================================== ===================================================================================
``cleaned.*`` or ``cleaned/``      the data as the model expects them, in the input's format
``cell_scores.npy`` (or ``.csv``)  a score for every cell, in nats: 0 is exactly as expected, higher is more outlying
``row_scores.csv``                 a line for every row; see `row_scores`
``picture.png``                    what fits least
``summary.json``                   the settings as they were chosen, counts, the worst rows and cells, versions
``model/``                         the fitted model, for ``ricvae score`` and ``ricvae sample``
================================== ===================================================================================
"""

import json
import math
import platform
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ricvae._core.robust import robust_deviation
from pyro_ricvae.cli.files import DataFile
from pyro_ricvae.cli.samples import data_range
from pyro_ricvae.plots.rows import image_grid, largest, worst_cells
from pyro_ricvae.plots.style import save

if TYPE_CHECKING:
    from pyro_ricvae.estimators.ricvae import RiCVAE

_FAR_FLOORS = 5
# The score of a residual of that many floors under the index-conditioned likelihood.
_FAR_CELL = 0.5 + math.log(_FAR_FLOORS)
_FAR_ROW = 3.5  # after Iglewicz and Hoaglin (1993)
_N_IMAGES = 12
_N_LISTED = 20


def write_cleaning(estimator: "RiCVAE", data: DataFile, folder: Path) -> dict[str, Any]:
    """Write what a fitted estimator makes of the data it was fitted on, as the module says.

    Parameters
    ----------
    estimator : RiCVAE
        Fitted on `model_input` of the data.
    data : DataFile
        The data.
    folder : Path
        An existing folder.

    Returns
    -------
    dict
        The summary, still without the times, which the caller adds before `write_summary`.
    """
    values = model_input(data)
    cleaned = np.asarray(estimator.clean(values))
    cells = np.asarray(estimator.cell_scores(values))
    scores = np.asarray(estimator.score_samples(values))
    data.write(cleaned, folder, "cleaned")
    if data.header is None:
        np.save(folder / "cell_scores.npy", cells)
    else:
        data.frame(cells).to_csv(folder / "cell_scores.csv", index=not isinstance(data.labels, pd.RangeIndex))
    row_scores(data, scores, cells).to_csv(folder / "row_scores.csv", index=False)
    estimator.save(folder / "model")
    _draw(estimator, data, cleaned, cells, scores, folder / "picture.png")
    return _summary(estimator, data, cleaned, cells, scores)


def model_input(data: DataFile) -> NDArray[Any] | pd.DataFrame:
    """Return the values as estimators take them: a table with its columns' names, else an array."""
    return data.values if data.header is None else data.frame(data.values)


def row_scores(data: DataFile, scores: NDArray[Any], cells: NDArray[Any]) -> pd.DataFrame:
    """Return a line for every row, in order, with columns ``row``, ``score``, ``worst_cell`` and ``worst_cell_score``.

    Parameters
    ----------
    data : DataFile
        The data.
    scores : ndarray, shape (n,)
        The rows' scores, in nats.
    cells : ndarray, of the data's shape
        The cells' scores, in nats.

    Returns
    -------
    DataFrame, of n rows
        ``row``: its name, the image's file name, or its number from 0. ``score``: lower is more outlying.
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
            f"{cells['n_far']} of {cells['n']} cells ({cells['n_far'] / cells['n']:.1%}) are far from what the model "
            f"expects; the farthest is row {worst['row']}, cell {worst['cell']}: {worst['value']:.6g}, where "
            f"{worst['expected']:.6g} is expected.",
            f"{rows['n_far']} rows ({rows['n_far'] / rows['n']:.1%}) fit far less than the others; "
            f"those that fit least: {least}.",
            f"Written to {out}: look at picture.png first, then at row_scores.csv and summary.json.",
            "Next:",
            f"  ricvae sample {model} -n 100 --out {samples}",
            f"  ricvae score {model} {new}",
        ]
    )


def _cell_name(data: DataFile, cell: tuple[Any, ...]) -> str:
    return " ".join(map(str, cell)) if data.header is None else str(data.header.columns[cell[0]])


def _summary(
    estimator: "RiCVAE", data: DataFile, cleaned: NDArray[Any], cells: NDArray[Any], scores: NDArray[Any]
) -> dict[str, Any]:
    median = np.median(scores)
    spread = robust_deviation(scores)
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
            "n_far": int((scores < median - _FAR_ROW * spread).sum()),
            "far_means": f"a score more than {_FAR_ROW} robust standard deviations below the median",
            "worst": [
                {"row": str(data.labels[row]), "score": float(scores[row])} for (row,) in largest(-scores, _N_LISTED)
            ],
        },
        "cells": {
            "n": cells.size,
            "n_far": int((cells > _FAR_CELL).sum()),
            "far_means": f"more than {_FAR_FLOORS} times the floor from the value expected",
            "worst": [
                {
                    "row": str(data.labels[cell[0]]),
                    "cell": _cell_name(data, cell[1:]),
                    "value": data.values[cell].item(),
                    "expected": cleaned[cell].item(),
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
    estimator: "RiCVAE", data: DataFile, cleaned: NDArray[Any], cells: NDArray[Any], scores: NDArray[Any], path: Path
) -> None:
    if data.kind == "images":
        rows = [row for (row,) in largest(-scores, _N_IMAGES)]
        by_pixel = cells.sum(axis=-1) if cells.ndim == 4 else cells
        figure = image_grid(
            {"dirty": data.values[rows], "cleaned": cleaned[rows], "cell scores": by_pixel[rows]},
            titles=[Path(str(data.labels[row])).stem for row in rows],
            limits=data_range(estimator),
            heat={"cell scores"},
        )
        save(figure, path)
        return
    names = [_cell_name(data, cell) for cell in np.ndindex(data.values.shape[1:])]
    values, expected, by_cell = (array.reshape(len(array), -1) for array in (data.values, cleaned, cells))
    save(worst_cells(values, expected, by_cell, rows=data.labels.tolist(), columns=names, n=_N_LISTED), path)
