"""Data sets to try things on: two that scikit-learn brings along, and two image sets that are found or downloaded.

`load_frey_faces` and `load_mnist` take the first there is of: a file in the folder that the environment variable
``PYRO_RICVAE_DATA`` names; a file in the user's cache, ``pooch.os_cache("pyro_ricvae")``; a download to that cache,
which must have a known checksum. Files of your own are checked too: Frey faces for their very pixels, MNIST, of which
versions in another order are about, for shapes and types.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pyro_ricvae._core.extras import extra

if TYPE_CHECKING:
    import pandas as pd

_VARIABLE = "PYRO_RICVAE_DATA"
_MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
_MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # of the file, as Keras states it
_MNIST_ROWS = {"train": 60000, "test": 10000}
_FREY_URL = "https://cs.nyu.edu/~roweis/data/frey_rawface.mat"
_FREY_SHA256 = (
    "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"  # of the images' bytes, not the file's
)


def load_digits() -> NDArray[np.float64]:
    """Return the 1797 handwritten digits that scikit-learn brings along.

    Returns
    -------
    ndarray of float64, shape (1797, 8, 8)
        Images on [0, 16], 0 blank.

    Examples
    --------
    >>> from pyro_ricvae.data import load_digits
    >>> load_digits().shape
    (1797, 8, 8)
    """
    with extra("estimators"):
        from sklearn import datasets

    images: NDArray[np.float64] = datasets.load_digits().images
    return images


def load_breast_cancer() -> "pd.DataFrame":
    """Return the Wisconsin diagnostic breast-cancer table that scikit-learn brings along, without the diagnoses.

    Returns
    -------
    pandas.DataFrame, shape (569, 30)
        Measurements of cell nuclei, as float64; the columns have names and units of their own.

    Examples
    --------
    >>> from pyro_ricvae.data import load_breast_cancer
    >>> load_breast_cancer().shape
    (569, 30)
    """
    with extra("estimators"):
        from sklearn import datasets

    table: pd.DataFrame = datasets.load_breast_cancer(as_frame=True).data
    return table


def load_frey_faces() -> NDArray[np.uint8]:
    """Return the Frey faces: 1965 frames of one face, by B. Frey and S. Roweis.

    They are taken from ``frey_faces.npz``, with the array ``x``, or from the original ``frey_rawface.mat``; where these
    are looked for, the module says.

    Returns
    -------
    ndarray of uint8, shape (1965, 28, 20)
        Grey images in the order of the film, on [0, 255].

    Raises
    ------
    ValueError
        If ``PYRO_RICVAE_DATA`` names no folder, or a file found or downloaded does not hold these images.
    OSError
        If the file is nowhere and cannot be downloaded.
    """
    path = find("frey_faces.npz", "frey_rawface.mat")
    if path is not None:
        return _read_frey_faces(path)
    path = _download(_FREY_URL, "frey_rawface.mat", None)
    try:
        return _read_frey_faces(path)
    except ValueError:
        path.unlink()  # or the next call would find it in the cache and fail, too
        raise


@overload
def load_mnist(split: Literal["train", "test"] = ..., *, return_labels: Literal[False] = ...) -> NDArray[np.uint8]: ...
@overload
def load_mnist(
    split: Literal["train", "test"] = ..., *, return_labels: Literal[True]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]: ...
def load_mnist(
    split: Literal["train", "test"] = "train", *, return_labels: bool = False
) -> NDArray[np.uint8] | tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the handwritten digits of MNIST, by Y. LeCun, C. Cortes and C. Burges.

    They are taken from ``mnist.npz``, with the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``; where it is
    looked for, the module says.

    Parameters
    ----------
    split : {"train", "test"}, default="train"
        Which of the two sets.
    return_labels : bool, default=False
        Whether the digits' labels are returned too.

    Returns
    -------
    images : ndarray of uint8, shape (60000, 28, 28), or (10000, 28, 28) for "test"
        Grey images on [0, 255], 0 blank. Their order may differ between files that are not the one downloaded.
    labels : ndarray of uint8, shape (60000,) or (10000,)
        From 0 to 9; only if `return_labels` is true, which makes the result a pair.

    Raises
    ------
    ValueError
        If `split` is another, ``PYRO_RICVAE_DATA`` names no folder, or the file found does not hold these arrays.
    OSError
        If the file is nowhere and cannot be downloaded, or what is downloaded has another checksum.
    """
    if split not in _MNIST_ROWS:
        raise ValueError(f"Expected split to be 'train' or 'test', actual {split!r}.")
    path = find("mnist.npz") or _download(_MNIST_URL, "mnist.npz", f"sha256:{_MNIST_SHA256}")
    rows = _MNIST_ROWS[split]
    images = _read(path, f"x_{split}", (rows, 28, 28))
    return (images, _read(path, f"y_{split}", (rows,))) if return_labels else images


def find(*names: str) -> Path | None:
    """Return the first file of these names in the folder of the environment variable, or in the cache, or None."""
    if named := os.environ.get(_VARIABLE):
        if not Path(named).is_dir():
            raise ValueError(f"Expected {_VARIABLE} to name a folder, actual {named!r}: correct or unset it.")
        for name in names:
            if (Path(named) / name).is_file():
                return Path(named) / name
    return next((path for name in names if (path := _cache() / name).is_file()), None)


def _cache() -> Path:
    with extra("cli"):
        import pooch  # type: ignore[import-untyped]

    return Path(pooch.os_cache("pyro_ricvae"))


def _download(url: str, name: str, known_hash: str | None) -> Path:
    """Return the path of the file in the cache, after a download."""
    with extra("cli"):
        import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # pooch prints each download otherwise
    try:
        return Path(pooch.retrieve(url, known_hash, fname=name, path=_cache()))
    except (OSError, ValueError) as error:  # no network, or another checksum
        raise OSError(
            f"Expected {name} from {url}, actual {type(error).__name__}: {error} Download it by hand and put it, as "
            f"{name}, in {_cache()} or in a folder of yours that the environment variable {_VARIABLE} names."
        ) from error
    finally:
        logger.setLevel(level)


def _read_frey_faces(path: Path) -> NDArray[np.uint8]:
    images = _read(path, "x", (1965, 28, 20))
    actual = hashlib.sha256(images.tobytes()).hexdigest()
    if actual != _FREY_SHA256:
        raise ValueError(
            f"Expected the Frey faces in {path}, of SHA-256 {_FREY_SHA256}, actual {actual}: take another copy of it."
        )
    return images


def _read(path: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array of a file, or raise a ValueError if it is not of bytes and of the shape."""
    try:
        array = _read_mat(path) if path.suffix == ".mat" else _read_npz(path, name)
    except OSError:
        raise
    except Exception as error:  # NumPy and SciPy have no one error for a broken file
        raise ValueError(
            f"Expected an array {name} in {path}, actual {type(error).__name__}: {error}: take another copy of it."
        ) from error
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(
            f"Expected {name} in {path} of shape {shape} and type uint8, actual {array.shape} and {array.dtype}: "
            "take another copy of it."
        )
    return array


def _read_npz(path: Path, name: str) -> NDArray[Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # NumPy leaves broken files open
        array: NDArray[Any] = arrays[name]
    return array


def _read_mat(path: Path) -> NDArray[Any]:
    """Return the images of MATLAB's ``ff``, whose columns are the images."""
    with extra("estimators"):
        from scipy.io import loadmat

    return np.ascontiguousarray(loadmat(path)["ff"].T).reshape(-1, 28, 20)
