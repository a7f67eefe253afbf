import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from pyro_ricvae.cli.files import InputError, read

ROWS = np.arange(12.0).reshape(4, 3)


def _csv(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def _npy(folder: Path, values: NDArray[Any]) -> Path:
    path = folder / "rows.npy"
    np.save(path, values)
    return path


def _images(folder: Path, *images: NDArray[np.uint8]) -> Path:
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", ">i4", ">f8", "float16"])
@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3), (2, 3, 2, 3), (2, 1, 2, 3, 1)])
def test_arrays_come_back_as_they_were(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    data = read(_npy(tmp_path, values))
    assert data.values.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(data.values, values)
    written = data.write(data.values.astype(float), tmp_path, "cleaned")
    assert written == tmp_path / "cleaned.npy"
    again = read(written)
    np.testing.assert_array_equal(again.values, values)
    assert again.values.dtype == data.values.dtype


@pytest.mark.parametrize(
    ("shape", "kind"), [((4, 3), "array"), ((4, 2, 3), "images"), ((2, 3, 2, 3), "images"), ((2, 3, 2, 5), "array")]
)
def test_arrays_that_can_be_drawn_are_images(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    assert read(_npy(tmp_path, np.zeros(shape))).kind == kind


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("uint8", [-3.0, 1.4, 254.6, 300.0], [0, 1, 255, 255]),
        ("int8", [-1e9, -1.6, 126.7, 1e9], [-128, -2, 127, 127]),
        ("int64", [-1e300, -0.4, 7.0, 1e300], [-(2**63), 0, 7, 2**63 - 1024]),
        ("uint64", [-1.0, 0.4, 7.0, 1e300], [0, 0, 7, 2**64 - 2048]),
        ("uint16", np.array([-1, 5, 65_536, 7], dtype="int64"), [0, 5, 65_535, 7]),
    ],
)
def test_whole_numbers_are_rounded_and_clipped(tmp_path: Path, dtype: str, values: Any, expected: list[int]) -> None:
    data = read(_npy(tmp_path, np.zeros((4, 1), dtype=dtype)))
    again = np.load(data.write(np.reshape(values, (4, 1)), tmp_path, "cleaned"))
    assert again.dtype == dtype
    assert again[:, 0].tolist() == expected


def test_values_of_another_shape_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shape read, \(4, 3\), actual \(3, 4\)"):
        read(_npy(tmp_path, ROWS)).write(ROWS.T, tmp_path, "cleaned")


def test_one_array_of_an_archive_comes_back_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "pair.npz"
    np.savez(path, x=ROWS, mask=np.zeros((4, 3), dtype=bool))  # type: ignore[arg-type]
    data = read(path, "x")
    with np.load(data.write(data.values + 1, tmp_path, "cleaned")) as archive:
        assert list(archive) == ["x"]
        np.testing.assert_array_equal(archive["x"], ROWS + 1)
    with pytest.raises(InputError, match=r"actual 'x' \(4, 3\), 'mask' \(4, 3\): choose one with key"):
        read(path)
    with pytest.raises(InputError, match=r"an array 'y' in .*, actual 'x' \(4, 3\), 'mask'"):
        read(path, "y")


def test_the_only_array_of_an_archive_needs_no_key_and_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("file.npy", "w") as file:
        np.lib.format.write_array(file, ROWS)
    data = read(path)
    assert data.key == "file"
    assert read(data.write(ROWS, tmp_path, "cleaned")).key == "file"


def test_a_table_keeps_its_columns_types_and_row_names(tmp_path: Path) -> None:
    data = read(_csv(tmp_path, '\ufeff,height,"age, years",n\n001,1.5,30,7\nb,1.25,41,8\n'))
    assert data.kind == "table"
    assert data.labels.tolist() == ["001", "b"]
    np.testing.assert_array_equal(data.values, [[1.5, 30, 7], [1.25, 41, 8]])
    written = data.write(data.values + 0.2, tmp_path, "cleaned").read_text()
    assert written == ',height,"age, years",n\n001,1.7,30,7\nb,1.45,41,8\n'
    frame = data.frame(data.values + 0.5)
    assert frame.index.tolist() == ["001", "b"]
    assert frame["n"].tolist() == [7.5, 8.5]


def test_a_table_without_row_names_gets_none(tmp_path: Path) -> None:
    data = read(_csv(tmp_path, "a,b\n1,2.5\n\n3,4\n"))
    assert data.labels.tolist() == [0, 1]
    assert data.write(data.values, tmp_path, "cleaned").read_text() == "a,b\n1,2.5\n3,4.0\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column names in the first line of .*, actual none"),
        ("a,b\n", r"Expected values in .*, actual none, its shape is \(0, 2\)"),
        ("a,b\n1,2\n", "at least 2 rows in .*, actual 1: give more data"),
        ("1,2,5,4\n3,4,5,6\n", r"column names in the first line of .*, actual numbers \(1, 2, 5...\): add a line"),
        ("a;b\n1;2\n3;4\n", "Expected commas .* actual 'a;b': save it with commas"),
        ("a,b,a\n1,2,3\n4,5,6\n", r"its own name, actual \['a'\] twice: rename"),
        ("a,,c\n1,2,3\n4,5,6\n", "actual none for column 2 of 3"),
        ("a,b\n1,2\n3,4,5\n", "Expected 2 cells in each line .* actual 3 in line 3: mend that line"),
        ("a,b\n1,2,3\n3,4,5\n", "Expected 2 cells in each line .* actual 3 in line 2"),
        ("a,b\n1,2\n\n3\n", "Expected 2 cells in each line .* actual 1 in line 4: .* cut short"),
        ('a,b\n1,2\n3,"4\n', "a table with commas, .*: check its quotes"),
        (
            "name,b,sex\nann,2,f\nbob,4,m\n",
            r"text in 2 columns \('name', 'sex'\), as 'ann', 'bob' in 'name': drop .* or encode",
        ),
        ("a,b\n1,True\n2,False\n", r"actual text in column 'b', as True, False in 'b': drop"),
        ("a,b\n1,2\n\n1,?\n1,x\n1,?\n", r"column 'b' of .*, actual '\?' in row 1 \(line 4\), one of 3 .*\('\?', 'x'\)"),
        ("a,b\n1,2\n1,\n,nan\n", r"actual 3 empty or NaN, the first in row 1 \(line 3\), column 'b': missing values"),
        ("a,b\n1,2\n1,1e999\n", "actual 1 that are infinite, the first in row 1, column 'b'"),
        (f"a,b\n1,2\n1,{'9' * 30}\n", "at most 64 bits .* column 'b'"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error_that_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(_csv(tmp_path, text))


def test_commas_that_end_every_line_are_no_column(tmp_path: Path) -> None:
    assert read(_csv(tmp_path, "a,b\n1,2,\n3,4,\n")).values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "text", ["a,größe\n1,2\n3,4\n".encode("latin-1"), "a,b\n1,2\n".encode("utf-16"), b"\x89PNG\r\n"]
)
def test_a_table_that_is_not_utf8_is_an_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(text)
    with pytest.raises(InputError, match=r"to be text in UTF-8, actual .* at byte \d+: save"):
        read(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(5), r"of shape \(n, d\) or \(n, h, w\), actual shape \(5,\): save one feature as x\[:, None\]"),
        (np.zeros(()), r"actual shape \(\)"),
        (np.zeros((0, 3)), r"actual none, its shape is \(0, 3\)"),
        (np.zeros((3, 0)), r"actual none, its shape is \(3, 0\)"),
        (np.zeros((1, 3)), "at least 2 rows in .*, actual 1"),
        (np.zeros((2, 3), dtype=complex), "real numbers in .*, actual values of type complex128"),
        (np.zeros((2, 3), dtype=bool), "real numbers in .*, actual values of type bool"),
        (np.array([["a", "b"], ["c", "d"]]), "real numbers in .*, actual values of type <U1"),
        (np.array([[1, np.nan], [np.inf, np.nan]]), "actual 2 that are NaN, the first in row 0, column 1 .*: missing"),
        (np.array([[1, 2], [np.inf, 4]]), "actual 1 that are infinite, the first in row 1, column 0"),
        (np.full((2, 2, 2), -np.inf), r"actual 8 that are infinite, the first in row 0, cell \(0, 0\)"),
    ],
)
def test_an_array_that_cannot_be_used_is_an_error(tmp_path: Path, values: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(_npy(tmp_path, values))


def test_one_row_is_enough_where_it_is_allowed(tmp_path: Path) -> None:
    assert read(_npy(tmp_path, np.zeros((1, 3))), min_rows=1).values.shape == (1, 3)


class _Trap:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return pytest.fail, ("the file was unpickled",)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([[_Trap()]], dtype=object))
    np.savez(tmp_path / "rows.npz", x=np.array([[_Trap()]], dtype=object), y=ROWS)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(_Trap()))
    for name, key in [("rows.npy", None), ("rows.npz", "x")]:
        with pytest.raises(InputError, match=r"Expected numbers in .*, actual Python objects"):
            read(tmp_path / name, key)
    with pytest.raises(InputError, match=r"actual 'x' \(not an array of numbers\), 'y' \(4, 3\)"):
        read(tmp_path / "rows.npz")
    with pytest.raises(InputError, match="a whole NumPy array, actual another format"):
        read(tmp_path / "pickle.npy")


def _bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (60, 60), dtype=np.uint8)
    if kind == "png":
        Image.fromarray(noise).save(buffer, "png")
    elif kind == "npy":
        np.save(buffer, noise)
    elif kind == "npz":
        np.savez_compressed(buffer, x=noise)
    else:
        buffer.write(b"a,b\n1,2\n3,4\n")
    return buffer.getvalue()


@pytest.mark.parametrize("content", ["png", "npy", "npz", "text"])
@pytest.mark.parametrize(("suffix", "expected"), [("npy", "a whole NumPy array"), ("npz", "an .npz archive")])
def test_a_file_that_is_not_what_its_name_says_is_an_error(
    tmp_path: Path, suffix: str, content: str, expected: str
) -> None:
    path = tmp_path / f"data.{suffix}"
    path.write_bytes(_bytes(content))
    if suffix == content:
        assert read(path).values.shape == (60, 60)
        path.write_bytes(_bytes(content)[:-100])
    with pytest.raises(InputError, match=f"{expected}, actual another format or a file cut short"):
        read(path)


def test_a_damaged_array_in_a_whole_archive_is_an_error(tmp_path: Path) -> None:
    damaged = bytearray(_bytes("npz"))
    damaged[500:600] = bytes(100)
    (tmp_path / "data.npz").write_bytes(damaged)
    with pytest.raises(InputError, match=r"Expected 'x' of .* to be a whole NumPy array"):
        read(tmp_path / "data.npz")


def test_an_archive_without_arrays_is_an_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(InputError, match=r"Expected arrays in .*, actual none"):
        read(tmp_path / "data.npz")


def test_what_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a file or a folder at .*nowhere.csv, actual nothing"):
        read(tmp_path / "nowhere.csv")
    for name, advice in [("a.xlsx", "save it as one of these"), ("a.png", "give the folder that holds the images")]:
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=rf"Expected .npy, .npz, .csv or a folder .*, actual .*{name}: {advice}"):
            read(tmp_path / name)
    with pytest.raises(InputError, match=r"a key only for an .npz archive"):
        read(_npy(tmp_path, ROWS), "x")
    (tmp_path / "rows.npy").write_bytes(b"")
    with pytest.raises(InputError, match="a file cut short"):
        read(tmp_path / "rows.npy")


def test_a_file_that_fails_to_open_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = _npy(tmp_path, ROWS)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"to read .*rows.npy, actual: Permission denied"):
        read(path)


@pytest.mark.parametrize(
    ("dtype", "shape"), [("uint8", (5, 4)), ("uint8", (5, 4, 3)), ("uint16", (5, 4))], ids=["grey", "rgb", "16 bits"]
)
def test_images_come_back_under_their_names(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, np.iinfo(dtype).max, (3, *shape), dtype=dtype)
    for name, image in zip(["b.png", "a.PNG", "c.png"], images, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / ".hidden").touch()
    data = read(tmp_path)
    assert (data.kind, data.labels.tolist(), data.notes) == ("images", ["a.PNG", "b.png", "c.png"], ())
    assert data.values.dtype == dtype
    np.testing.assert_array_equal(data.values, images[[1, 0, 2]])
    folder = tmp_path / "out"
    folder.mkdir()
    written = data.write(data.values + 0.3, folder, "cleaned")
    again = read(written)
    assert again.labels.tolist() == data.labels.tolist()
    np.testing.assert_array_equal(again.values, data.values)


def test_jpeg_images_are_read_upright_and_written_as_png(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (8, 1))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise by a quarter to stand upright
    for name in ("a.jpg", "b.jpeg"):
        Image.fromarray(ramp).save(tmp_path / name, exif=turned)
    data = read(tmp_path)
    assert data.values.shape == (2, 16, 8)
    assert np.all(np.diff(data.values[0].mean(axis=1)) > 0)
    (tmp_path / "out").mkdir()
    written = data.write(data.values, tmp_path / "out", "cleaned")
    assert sorted(path.name for path in written.iterdir()) == ["a.png", "b.png"]
    np.testing.assert_array_equal(read(written).values, data.values)


@pytest.mark.parametrize(("mode", "shape"), [("1", (4, 5)), ("LA", (4, 5)), ("P", (4, 5, 3)), ("RGBA", (4, 5, 3))])
def test_images_are_converted_where_nothing_is_lost(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    colours = np.random.default_rng(0).choice(np.array([0, 255], dtype=np.uint8), (4, 5, 3))
    image = Image.fromarray(colours if len(shape) == 3 else colours[..., 0])
    for name in ("a.png", "b.png"):
        image.convert(mode).save(tmp_path / name)
    values = read(tmp_path).values
    assert values.shape == (2, *shape)
    np.testing.assert_array_equal(values[0], np.asarray(image))


def test_images_that_would_lose_something_are_errors(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 5), (10, 20, 30, 254)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"without transparency, actual .*a.png: put it on a plain background"):
        read(tmp_path)
    (tmp_path / "a.png").unlink()
    Image.new("CMYK", (4, 5)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"greyscale or RGB image, actual .*a.jpg of mode CMYK: save it as RGB"):
        read(tmp_path)


def test_images_of_different_sizes_or_modes_are_errors_that_name_two(tmp_path: Path) -> None:
    black = np.zeros((5, 4), dtype=np.uint8)
    with pytest.raises(
        InputError, match=r"actual 0.png with 4 x 5 pixels, 8-bit greyscale and 2.png with 5 x 4 pixels"
    ):
        read(_images(tmp_path, black, black, black.T))
    with pytest.raises(InputError, match=r"0.png with 4 x 5 pixels, 8-bit greyscale and 1.png with 4 x 5 pixels, RGB"):
        read(_images(tmp_path, black, np.zeros((5, 4, 3), dtype=np.uint8)))


def test_folders_without_whole_images_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PNG or JPEG images in the folder .*, actual an empty folder"):
        read(tmp_path)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"actual 2 other files or folders \(deeper, notes.txt\)"):
        read(tmp_path)
    for content in (_bytes("png")[:-200], b"text", b""):
        (tmp_path / "0.png").write_bytes(content)
        with pytest.raises(InputError, match=r"Expected .*0.png to be a whole PNG or JPEG image, actual: "):
            read(tmp_path)
    (tmp_path / "0.png").write_bytes(_bytes("png"))
    with pytest.raises(InputError, match=r"at least 2 rows in .*, actual 1"):
        read(tmp_path)


def test_other_files_beside_the_images_are_counted(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for name in ("notes.txt", "x.gif", "y.gif"):
        (tmp_path / name).touch()
    (note,) = read(_images(tmp_path, *np.zeros((2, 5, 4), dtype=np.uint8))).notes
    assert note.startswith("4 other files or folders in ")
    assert note.endswith("were not read: deeper, notes.txt, x.gif, ....")


def test_images_that_would_be_written_under_one_name_are_an_error(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        Image.new("L", (4, 5)).save(tmp_path / name)
    with pytest.raises(InputError, match=r"actual a.jpg and a.png, which would both be written as a.png: rename one"):
        read(tmp_path)


def test_frames_of_arrays_number_their_columns(tmp_path: Path) -> None:
    frame = read(_npy(tmp_path, ROWS)).frame(ROWS)
    pd.testing.assert_frame_equal(frame, pd.DataFrame(ROWS))
