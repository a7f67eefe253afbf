"""Readers of the single formats; each error says what was expected of the file, what it holds and what to do."""

import csv
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class InputError(ValueError):
    """A file or a folder that cannot be used, with what was expected, what is there and what to do about it."""


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of a .npy file; objects are never unpickled."""
    with path.open("rb") as file:
        return _read_array(file, str(path))


def read_npz(path: Path, key: str | None) -> tuple[NDArray[Any], str]:
    """Return the array named `key`, or the only one, of an .npz archive, and its name."""
    if not zipfile.is_zipfile(path):
        raise InputError(f"Expected {path} to be an .npz archive, actual another format or a file cut short: {_REMAKE}")
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if not names:
            raise InputError(f"Expected arrays in {path}, actual none: save them with numpy.savez.")
        if key is None and len(names) > 1:
            raise InputError(
                f"Expected one array in {path}, actual {_shapes(archive, names)}: choose one with key (--key)."
            )
        if key is not None and key not in names:
            raise InputError(f"Expected an array {key!r} in {path}, actual {_shapes(archive, names)}: choose one.")
        key = names[0] if key is None else key
        with archive.open(f"{key}.npy") as file:
            return _read_array(file, f"{key!r} of {path}"), key


_REMAKE = "make the file again, or give it the ending of its format."


def _read_array(file: Any, where: str) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise InputError(
                f"Expected numbers in {where}, actual Python objects, which could run code and are not loaded: "
                "save the array with a numeric dtype, as in x.astype(float)."
            ) from error
        raise InputError(
            f"Expected {where} to be a whole NumPy array, actual another format or a file cut short: {_REMAKE}"
        ) from error
    return values


def _shapes(archive: zipfile.ZipFile, names: list[str]) -> str:
    shapes = []
    for name in names:
        with archive.open(f"{name}.npy") as file:
            try:
                shapes.append(f"{name!r} {_read_array(file, name).shape}")
            except InputError:
                shapes.append(f"{name!r} (not an array of numbers)")
    return ", ".join(shapes)


_ROW_NAMES = "Unnamed: 0"  # what pandas calls a first column without a name


def read_csv(path: Path) -> pd.DataFrame:
    """Return the table of a .csv file, all columns numeric; a first column without a name becomes the index.

    So does one that pandas has named: an index that was saved, and read, and saved again.
    """
    try:
        names = _header(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                index_col=False,
                low_memory=False,
                encoding="utf-8-sig",
                dtype={_ROW_NAMES: str} if _names_rows(names[0]) else None,
            )
        if frame.isna().any(axis=None):  # a line with too few cells reads as missing values
            _check_lengths(path, len(names))
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        _check_lengths(path, len(names))
        raise InputError(f"Expected {path} to be a table with commas, actual: {error}: check its quotes.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"Expected {path} to be text in UTF-8, actual {error.reason} at byte {error.start}: "
            "save the table as CSV in UTF-8."
        ) from error
    if _names_rows(names[0]):
        frame = frame.set_index(frame.columns[0]).rename_axis(names[0].strip() or None)
    _check_cells(path, frame)
    return frame


def _names_rows(name: str) -> bool:
    """Return whether a first column of that name holds row names."""
    return name.strip() in ("", _ROW_NAMES)


def read_text(path: Path) -> pd.DataFrame:
    """Return the cells of a .csv file that `read_csv` has read, row names among them, as they are written there."""
    names = _header(path)
    text = pd.read_csv(path, index_col=False, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    return text.set_axis([names[0], *text.columns[1:]], axis=1)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line of a .csv file that is not empty."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        for cells in reader:
            if cells:
                yield reader.line_num, cells


def _header(path: Path) -> list[str]:
    names = next(_lines(path), (0, []))[1]
    if not any(name.strip() for name in names):
        raise InputError(f"Expected column names in the first line of {path}, actual none: write them there.")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise InputError(f"Expected commas between the columns of {path}, actual {names[0]!r}: save it with commas.")
    if all(map(_is_number, names)):
        raise InputError(
            f"Expected column names in the first line of {path}, actual numbers ({', '.join(names[:3])}...): "
            "add a line with the names."
        )
    twice = sorted({name for name in names if names.count(name) > 1 and name.strip()})
    if twice:
        raise InputError(f"Expected each column of {path} to have its own name, actual {twice} twice: rename them.")
    unnamed = [i + 1 for i, name in enumerate(names) if i > 0 and not name.strip()]
    if unnamed:
        raise InputError(
            f"Expected every column of {path} but the first to have a name, actual none for column {unnamed[0]} of "
            f"{len(names)}: name it, or remove it if it is empty."
        )
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_lengths(path: Path, n_columns: int) -> None:
    for number, cells in _lines(path):
        if len(cells) < n_columns or any(cells[n_columns:]):
            raise InputError(
                f"Expected {n_columns} cells in each line of {path}, as in the first, "
                f"actual {len(cells)} in line {number}: mend that line; if it is the last, the file may be cut short."
            )


def _place(path: Path, row: int) -> str:
    """Return where a row of the table is: counted from 0 without the header, and its line in the file."""
    lines = (number for number, _ in _lines(path))
    return f"row {row} (line {next(number for i, number in enumerate(lines) if i == row + 1)})"


def _check_cells(path: Path, frame: pd.DataFrame) -> None:
    """Raise an InputError that names the place if a cell is not a number or is missing."""
    if frame.empty:
        return
    texts = [name for name, dtype in frame.dtypes.items() if dtype.kind not in "iuf"]
    _check_texts(path, frame[texts])
    missing = frame.isna().to_numpy()
    if missing.any():
        row, column = (int(i) for i in np.argwhere(missing)[0])
        raise InputError(
            f"Expected a number in every cell of {path}, actual {int(missing.sum())} empty or NaN, the first in "
            f"{_place(path, row)}, column {frame.columns[column]!r}: missing values are not supported yet; "
            "fill these cells in, or drop their rows or columns."
        )
    if texts:
        raise InputError(
            f"Expected numbers of at most 64 bits in {path}, actual longer ones in {_names(texts)}: drop it."
        )


def _check_texts(path: Path, frame: pd.DataFrame) -> None:
    for name, column in frame.items():
        present = column.notna()
        is_bool = column.dtype.kind == "b"
        wrong = present if is_bool else present & pd.to_numeric(column, errors="coerce").isna()
        if not wrong.any():
            continue
        some = ", ".join(map(repr, column[wrong].unique()[:3].tolist()))
        if wrong.sum() == present.sum():
            raise InputError(
                f"Expected numbers in {path}, actual text in {_names(list(frame))}, as {some} in {name!r}: "
                "drop them or encode them as numbers (row names may be in a first column without a name)."
            )
        first = int(wrong.to_numpy().argmax())
        raise InputError(
            f"Expected numbers in column {name!r} of {path}, actual {column.iloc[first]!r} in {_place(path, first)}, "
            f"one of {int(wrong.sum())} such cells ({some}): put numbers there, or drop the column or the rows."
        )


def _names(names: list[Any]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return f"column {shown}" if len(names) == 1 else f"{len(names)} columns ({shown}{', ...' * (len(names) > 5)})"


def read_images(folder: Path) -> tuple[NDArray[Any], tuple[str, ...], tuple[str, ...]]:
    """Return the images of a folder as (n, h, w[, 3]), their file names in order, and notes on what was left out."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES]
    others = [entry.name for entry in entries if entry not in set(files)]
    listed = ", ".join(others[:3]) + ", ..." * (len(others) > 3)
    if not files:
        actual = f"{len(others)} other files or folders ({listed})" if others else "an empty folder"
        raise InputError(
            f"Expected PNG or JPEG images in the folder {folder}, actual {actual}: "
            "give the folder that holds the images themselves."
        )
    _check_written_names(files)
    images: list[NDArray[Any]] = []
    for file in files:
        image = _read_image(file)
        if images and (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
            raise InputError(
                f"Expected images of one size and mode in {folder}, actual {files[0].name} with {_describe(images[0])} "
                f"and {file.name} with {_describe(image)}: bring them to one size and mode, or split the folder."
            )
        images.append(image)
    notes = (f"{len(others)} other files or folders in {folder} were not read: {listed}.",) if others else ()
    return np.stack(images), tuple(file.name for file in files), notes


def _check_written_names(files: list[Path]) -> None:
    """Raise an InputError if two files would get the same name when all are written as PNG."""
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(png_name(file.name), file.name)
        if other != file.name:
            raise InputError(
                f"Expected names that differ before their ending in {file.parent}, actual {other} and {file.name}, "
                f"which would both be written as {png_name(file.name)}: rename one."
            )


def png_name(name: str) -> str:
    """Return the name under which an image is written: JPEG files become PNG, for JPEG would blur what was cleaned."""
    return name if name.lower().endswith(".png") else Path(name).with_suffix(".png").name


def _describe(image: NDArray[Any]) -> str:
    mode = "RGB" if image.ndim == 3 else f"{8 * image.itemsize}-bit greyscale"
    return f"{image.shape[1]} x {image.shape[0]} pixels, {mode}"


def _read_image(file: Path) -> NDArray[Any]:
    """Return an image as uint8 or uint16 of shape (h, w) or (h, w, 3), upright; convert only where nothing is lost."""
    try:
        with Image.open(file, formats=["PNG", "JPEG"]) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"Expected {file} to be a whole PNG or JPEG image, actual: {error}: make the file again, or remove it."
        ) from error
    if image.mode in ("I", "I;16"):  # both are Pillow's names for a PNG of 16 bits
        return np.asarray(image).astype(np.uint16)
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in ("P", "PA", "RGBA", "LA"):
        if image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise InputError(f"Expected an image without transparency, actual {file}: put it on a plain background.")
        return np.asarray(image.convert("L" if image.mode == "LA" else "RGB"))
    if image.mode not in ("L", "RGB"):
        raise InputError(f"Expected a greyscale or RGB image, actual {file} of mode {image.mode}: save it as RGB.")
    return np.asarray(image)
