import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest
from scipy.io import savemat

from pyro_ricvae.data import datasets, load_breast_cancer, load_digits, load_frey_faces, load_mnist

VARIABLE = "PYRO_RICVAE_DATA"
FOLDER = Path(os.environ.get(VARIABLE) or "/nowhere")  # the user's own, before a test changes the variable
FACES = np.random.default_rng(0).integers(256, size=(1965, 28, 20), dtype=np.uint8)
DIGITS = np.random.default_rng(1).integers(256, size=(10000, 28, 28), dtype=np.uint8)
LABELS = np.arange(10000, dtype=np.uint8) % 10


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave the variable unset, the cache empty, and take random images for the Frey faces."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "caches" / project)
    monkeypatch.setattr(datasets, "_FREY_SHA256", hashlib.sha256(FACES.tobytes()).hexdigest())
    return tmp_path / "caches" / "pyro_ricvae"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder that the variable names."""
    path = tmp_path / "mine"
    path.mkdir()
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def serve(monkeypatch: pytest.MonkeyPatch, served: Path) -> list[str]:
    """Let downloads take a local file, all the rest of pooch at work; return the list of what will be asked for."""
    asked: list[str] = []

    def copy(url: str, out: str, _: object) -> None:
        asked.append(url)
        shutil.copy(served, out)

    monkeypatch.setattr(pooch, "retrieve", partial(pooch.retrieve, downloader=copy))
    return asked


def save_mat(path: Path, images: Any) -> Path:
    savemat(path, {"ff": images.reshape(len(images), -1).T})
    return path


def save_digits(path: Path, digits: Any = DIGITS, labels: Any = LABELS) -> Path:
    np.savez(path, x_test=digits, y_test=labels)
    return path


def test_digits() -> None:
    digits = load_digits()
    assert digits.shape == (1797, 8, 8)
    assert digits.dtype == np.float64
    assert (digits.min(), digits.max()) == (0, 16)


def test_breast_cancer() -> None:
    table = load_breast_cancer()
    assert table.shape == (569, 30)
    assert table.columns[0] == "mean radius"
    assert (table.dtypes == np.float64).all()


@pytest.mark.skipif(not (FOLDER / "frey_faces.npz").is_file(), reason=f"{VARIABLE} names no folder with frey_faces.npz")
def test_the_frey_faces_themselves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(pooch, "os_cache", lambda project: cache)
    faces = load_frey_faces()
    assert faces.shape == (1965, 28, 20)
    assert (faces.min(), faces.max()) == (8, 238)
    monkeypatch.delenv(VARIABLE)
    serve(monkeypatch, save_mat(tmp_path / "served.mat", faces))
    np.testing.assert_array_equal(load_frey_faces(), faces)


@pytest.mark.skipif(not (FOLDER / "mnist.npz").is_file(), reason=f"{VARIABLE} names no folder with mnist.npz")
@pytest.mark.parametrize(("split", "rows", "mean"), [("train", 60000, 0.1307), ("test", 10000, 0.1325)])
def test_mnist_itself(monkeypatch: pytest.MonkeyPatch, split: Any, rows: int, mean: float) -> None:
    monkeypatch.setenv(VARIABLE, str(FOLDER))
    images, labels = load_mnist(split, return_labels=True)
    assert images.shape == (rows, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert images.mean() / 255 == pytest.approx(mean, abs=1e-4)
    assert set(labels) == set(range(10))


@pytest.mark.parametrize("name", ["frey_faces.npz", "frey_rawface.mat"])
@pytest.mark.parametrize("where", ["folder", "cache"])
def test_frey_faces_come_from_either_file_in_either_folder(
    where: str, name: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(where)
    path.mkdir(parents=True, exist_ok=True)
    np.savez(path / name, x=FACES) if name.endswith("npz") else save_mat(path / name, FACES)
    faces = load_frey_faces()
    np.testing.assert_array_equal(faces, FACES)
    assert faces.flags.writeable


def test_mnist_comes_from_the_folder_before_the_cache(folder: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    save_digits(cache / "mnist.npz")
    np.testing.assert_array_equal(load_mnist("test"), DIGITS)  # the folder has none
    save_digits(folder / "mnist.npz", DIGITS[::-1], LABELS[::-1])
    images, labels = load_mnist("test", return_labels=True)
    np.testing.assert_array_equal(images, DIGITS[::-1])
    np.testing.assert_array_equal(labels, LABELS[::-1])


def test_mnist_is_downloaded_once_quietly(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    served = save_digits(tmp_path / "served.npz")
    monkeypatch.setattr(datasets, "_MNIST_SHA256", hashlib.sha256(served.read_bytes()).hexdigest())
    monkeypatch.setenv(VARIABLE, "")  # as good as unset
    asked = serve(monkeypatch, served)
    level = pooch.get_logger().level
    for _ in range(2):
        np.testing.assert_array_equal(load_mnist("test"), DIGITS)
    assert asked == ["https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"]
    assert [path.name for path in cache.iterdir()] == ["mnist.npz"]
    assert pooch.get_logger().level == level
    assert capfd.readouterr() == ("", "")


def test_frey_faces_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, save_mat(tmp_path / "served.mat", FACES))
    for _ in range(2):
        np.testing.assert_array_equal(load_frey_faces(), FACES)
    assert asked == ["https://cs.nyu.edu/~roweis/data/frey_rawface.mat"]


def test_a_download_with_another_checksum_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, save_digits(tmp_path / "served.npz"))  # all right but for the bytes of the file
    with pytest.raises(OSError, match=r"(?s)actual ValueError: SHA256 hash of downloaded file.*731c5ac6"):
        load_mnist("test")
    assert not list(cache.iterdir())


@pytest.mark.parametrize("wrong", ["faces", "page"])
def test_a_download_that_is_not_the_frey_faces_is_refused_and_not_kept(
    wrong: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = save_mat(tmp_path / "served.mat", FACES[::-1])
    if wrong == "page":
        served.write_text("<html>Please log in.</html>" * 100)
    serve(monkeypatch, served)
    with pytest.raises(ValueError, match=r"Expected .*frey_rawface.mat"):
        load_frey_faces()
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    ("load", "name", "url"),
    [(load_mnist, "mnist.npz", "https://storage"), (load_frey_faces, "frey_rawface.mat", "https://cs.nyu")],
)
def test_without_network_the_error_says_what_to_do(
    load: Callable[[], Any], name: str, url: str, cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host.")

    monkeypatch.setattr(pooch, "retrieve", fail)
    level = pooch.get_logger().level
    with pytest.raises(OSError, match="no route to host") as error:
        load()
    assert all(part in str(error.value) for part in (f"{name} from {url}", f"as {name}", str(cache), VARIABLE))
    assert pooch.get_logger().level == level


def test_the_variable_must_name_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    for load in (load_frey_faces, load_mnist):
        with pytest.raises(
            ValueError, match=f"Expected {VARIABLE} to name a folder, actual '.*none': correct or unset"
        ):
            load()


def test_broken_files_are_refused(folder: Path) -> None:
    path = folder / "mnist.npz"
    whole = save_digits(path).read_bytes()
    for content in (whole[:-1000], whole[:1000], b"", b"words"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"Expected an array x_test in .*mnist.npz, actual .*: take another copy"):
            load_mnist("test")
    with path.open("wb") as file:
        np.save(file, DIGITS)
    with pytest.raises(ValueError, match="Expected an array x_test in"):
        load_mnist("test")
    save_digits(path)
    with pytest.raises(ValueError, match=r"Expected an array x_train in .*, actual KeyError"):
        load_mnist()


@pytest.mark.parametrize(
    ("digits", "labels", "message"),
    [
        (DIGITS[:9], LABELS, r"x_test in .* of shape \(10000, 28, 28\) and type uint8, actual \(9, 28, 28\) and uint8"),
        (DIGITS.astype(np.float32), LABELS, r"actual \(10000, 28, 28\) and float32: take another"),
        (DIGITS, LABELS[:, None], r"y_test in .* of shape \(10000,\) and type uint8, actual \(10000, 1\)"),
        (np.array([DIGITS, None], object), LABELS, "Object arrays cannot be loaded"),
    ],
)
def test_files_of_another_form_are_refused(folder: Path, digits: Any, labels: Any, message: str) -> None:
    save_digits(folder / "mnist.npz", digits, labels)
    with pytest.raises(ValueError, match=message):
        load_mnist("test", return_labels=True)


def test_other_faces_are_refused_and_left_alone(folder: Path) -> None:
    np.savez(folder / "frey_faces.npz", x=FACES[::-1])
    with pytest.raises(ValueError, match=r"Expected the Frey faces in .*npz, of SHA-256 \w+, actual \w+: take another"):
        load_frey_faces()
    assert (folder / "frey_faces.npz").exists()


def test_the_split_is_train_or_test() -> None:
    with pytest.raises(ValueError, match="Expected split to be 'train' or 'test', actual 'valid'"):
        load_mnist("valid")  # type: ignore[call-overload]


def test_importing_is_light() -> None:
    heavy = "{'sklearn', 'pandas', 'scipy', 'pooch'}"
    code = f"import sys, pyro_ricvae.data; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
