"""A user's data: arrays, tables and folders of images, read with checks and written back in the same format.

========================== ======================= ==============================================================
input                      values                  written as
========================== ======================= ==============================================================
``.npy``                   (n, d) or (n, h, w...)  ``.npy``
``.npz``                   the same                ``.npz`` with that one array, under its name
``.csv`` with column names (n, d)                  ``.csv``; a first column without a name holds row names and stays
a folder of PNG or JPEG    (n, h, w[, 3])          a folder of PNG under the same names; JPEG would add new errors
========================== ======================= ==============================================================

Whole numbers come back as whole numbers: rounded, and clipped to the range of their type. Palettes, one-bit images and
alpha channels without transparency are read as greyscale or RGB.
"""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pyro_ricvae._core.robust import most_decimals
from pyro_ricvae.cli.readers import (
    IMAGE_SUFFIXES,
    InputError,
    png_name,
    read_csv,
    read_images,
    read_npy,
    read_npz,
    read_text,
)

__all__ = ["DataFile", "InputError", "read"]


@dataclass(frozen=True)
class DataFile:
    """What was read from a file or folder, and how to write such data back; made by `read`.

    Attributes
    ----------
    path : Path
        Where it was read from.
    values : ndarray, shape (n, d) or (n, h, w[, c]) or (n, ...)
        The numbers, in data units: finite, real, in the type of the file (a table's columns in their common type).
    format : str
        ``".npy"``, ``".npz"``, ``".csv"`` or ``"images"`` for a folder.
    key : str or None
        The name of the array in an .npz archive.
    header : DataFrame or None
        Of a table, its columns with their types, without rows.
    labels : Index
        A name for every row: row names of a table, file names of images, else numbers from 0.
    notes : tuple of str
        What a user should know about the reading, such as files that were left out.
    """

    path: Path
    values: NDArray[Any]
    format: str
    labels: pd.Index
    key: str | None = None
    header: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``"table"`` for named columns, ``"images"`` for what can be drawn as greyscale or RGB, else ``"array"``."""
        if self.header is not None:
            return "table"
        is_image = self.values.ndim == 3 or (self.values.ndim == 4 and self.values.shape[-1] in (1, 3))
        return "images" if is_image else "array"

    def frame(self, values: ArrayLike) -> pd.DataFrame:
        """Return `values`, of shape (n, d), as a table with the rows' and columns' names of this one."""
        columns = None if self.header is None else self.header.columns
        return pd.DataFrame(np.asarray(values), index=self.labels, columns=columns)

    def write(self, values: ArrayLike, folder: str | Path, stem: str) -> Path:
        """Write `values` in the format and the types of the input, as `stem` and its ending in `folder`.

        Parameters
        ----------
        values : array_like
            Of the shape of ``self.values``, in data units.
        folder : str or Path
            An existing folder.
        stem : str
            The name without ending; of images, the name of a new folder.

        Returns
        -------
        Path
            What was written.

        Raises
        ------
        ValueError
            If `values` has another shape.
        """
        values = np.asarray(values)
        if values.shape != self.values.shape:
            raise ValueError(f"Expected values of the shape read, {self.values.shape}, actual {values.shape}.")
        path = Path(folder) / (stem if self.format == "images" else stem + self.format)
        if self.header is not None:
            types = self.header.dtypes
            columns = {i: _as_type(values[:, i], dtype) for i, dtype in enumerate(types)}
            table = pd.DataFrame(columns).set_axis(self.labels).set_axis(types.index, axis=1)
            table.to_csv(path, index=not isinstance(self.labels, pd.RangeIndex))
            return path
        values = _as_type(values, self.values.dtype)
        if self.format == "images":
            path.mkdir()
            for name, image in zip(self.labels, values, strict=True):
                Image.fromarray(image).save(path / png_name(name), format="PNG")
        elif self.format == ".npy":
            np.save(path, values)
        else:
            with (  # numpy.savez takes no array named "file"
                zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
                archive.open(f"{self.key}.npy", "w", force_zip64=True) as file,
            ):
                np.lib.format.write_array(file, values, allow_pickle=False)
        return path

    def write_cells(self, values: NDArray[Any], is_changed: NDArray[np.bool_], folder: str | Path, stem: str) -> Path:
        """Write the data with other values in some cells, all others as they stand in the input.

        Parameters
        ----------
        values : ndarray
            Of the shape of ``self.values``, in data units.
        is_changed : ndarray of bool, of the same shape
            Which cells get another value: in a table with as many decimals as the others of its column.
        folder, stem
            As in `write`.

        Returns
        -------
        Path
            What was written.
        """
        if self.header is None:
            return self.write(np.where(is_changed, values, self.values), folder, stem)
        text = read_text(self.path)
        first = text.shape[1] - self.values.shape[1]  # 1 where there are row names
        for j in map(int, np.flatnonzero(is_changed.any(axis=0))):
            number = most_decimals(self.values[:, j])
            for i in map(int, np.flatnonzero(is_changed[:, j])):
                value = values[i, j].item()
                text.iat[i, first + j] = repr(value) if number is None else f"{value:.{number}f}"
        path = Path(folder) / (stem + self.format)
        text.to_csv(path, index=False)
        return path


def read(path: str | Path, key: str | None = None, *, min_rows: int = 2) -> DataFile:
    r"""Read an .npy, .npz or .csv file, or a folder of PNG or JPEG images.

    Parameters
    ----------
    path : str or Path
        The file or folder.
    key : str, optional
        The array to take from an .npz archive that holds several.
    min_rows : int, default=2
        How many rows there must be.

    Returns
    -------
    DataFile
        The values, their names and what is needed to write such data back.

    Raises
    ------
    InputError
        If there is nothing to read there, it is not what its name says, or it does not hold finite real numbers in at
        least `min_rows` rows of one length.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pyro_ricvae.cli.files import read
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "people.csv").write_text("height,age\n1.8,30\n1.6,41\n1.7,35\n")
    ...     people = read(Path(folder) / "people.csv")
    ...     print(people.write(people.values + 0.25, folder, "older").read_text())
    height,age
    2.05,30
    1.85,41
    1.95,35
    <BLANKLINE>
    """
    path = Path(path)
    try:
        data = _read(path, key)
    except OSError as error:
        raise InputError(
            f"Expected to read {path}, actual: {error.strerror or error}: check its permissions."
        ) from error
    _check_values(data, min_rows)
    return data


def _read(path: Path, key: str | None) -> DataFile:
    suffix = path.suffix.lower()
    if not path.exists():
        raise InputError(f"Expected a file or a folder at {path}, actual nothing: check the path.")
    if key is not None and suffix != ".npz":
        raise InputError(f"Expected a key only for an .npz archive, actual {path}: leave it out.")
    if path.is_dir():
        images, names, notes = read_images(path)
        return DataFile(path, images, "images", pd.Index(names), notes=notes)
    if suffix == ".csv":
        frame = read_csv(path)
        return DataFile(path, frame.to_numpy(), ".csv", frame.index, header=frame.iloc[:0])
    if suffix == ".npy":
        values = read_npy(path)
    elif suffix == ".npz":
        values, key = read_npz(path, key)
    else:
        advice = "give the folder that holds the images" if suffix in IMAGE_SUFFIXES else "save it as one of these"
        raise InputError(f"Expected .npy, .npz, .csv or a folder of PNG or JPEG images, actual {path}: {advice}.")
    if values.dtype.isnative is False:
        values = values.astype(values.dtype.newbyteorder("="))  # torch takes no other
    return DataFile(path, values, suffix, pd.RangeIndex(len(values) if values.ndim else 0), key=key)


def _check_values(data: DataFile, min_rows: int) -> None:
    values, where = data.values, data.path
    if values.dtype.kind not in "iuf" and values.size:
        advice = "encode it as numbers, as in x.astype('uint8') for a mask"
        raise InputError(f"Expected real numbers in {where}, actual values of type {values.dtype}: {advice}.")
    if values.ndim < 2:
        raise InputError(
            f"Expected rows of numbers in {where}, of shape (n, d) or (n, h, w), actual shape {values.shape}: "
            "save one feature as x[:, None] and a single row as x[None]."
        )
    if values.size == 0:
        raise InputError(
            f"Expected values in {where}, actual none, its shape is {values.shape}: check how it was made."
        )
    if len(values) < min_rows:
        raise InputError(f"Expected at least {min_rows} rows in {where}, actual {len(values)}: give more data.")
    wrong = ~np.isfinite(values)
    if wrong.any():
        missing = np.isnan(values)
        what, wrong = ("NaN", missing) if missing.any() else ("infinite", wrong)
        row, *cell = (int(i) for i in np.argwhere(wrong)[0])
        column = cell[0] if data.header is None else repr(data.header.columns[cell[0]])
        place = f"row {row}, column {column}" if len(cell) == 1 else f"row {row}, cell {tuple(cell)}"
        advice = (
            "missing values are not supported yet; fill them in, or drop their rows or columns"
            if missing.any()
            else "put a finite number there, or drop the row"
        )
        raise InputError(
            f"Expected finite numbers in {where}, actual {int(wrong.sum())} that are {what}, the first in {place} "
            f"(counted from 0): {advice}."
        )


def _as_type(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `values` in a type; whole numbers are rounded and clipped to the range of theirs."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    if values.dtype.kind in "iu":
        clipped = np.clip(values, limits.min, limits.max)
    else:
        high = float(limits.max)
        if high > limits.max:  # 2**63 - 1 has no double of its own, and 2**63 would come out negative
            high = math.nextafter(high, 0)
        clipped = np.clip(np.rint(values.astype(np.float64)), float(limits.min), high)
    whole: NDArray[Any] = clipped.astype(dtype)
    return whole
