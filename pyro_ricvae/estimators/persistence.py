"""Folders with a fitted estimator: safetensors and JSON, so that nothing is unpickled; written whole or not at all."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pyro_ricvae._core.staging import staged
from pyro_ricvae._core.version import __version__

#: The version of the format that is written; older ones can be read, newer ones cannot.
FORMAT_VERSION = 1
TENSORS, DESCRIPTION = "model.safetensors", "model.json"


class DoesNotFitError(ValueError):
    """What is given to `load` does not fit what was saved."""


def saved_seed(random_state: Any) -> int | None:
    """Return what is saved of a source of random numbers: an int, and nothing of any other."""
    return int(random_state) if isinstance(random_state, Integral) else None


def check_no_parts(given: dict[str, Any], whose: str) -> None:
    """Raise a DoesNotFitError if `load` was given parts for a class of estimators that has none."""
    needless = [name for name in ("likelihood", "prior", "pair") if given[name] is not None]
    if needless:
        raise DoesNotFitError(f"Expected no {needless[0]}, which a {whose} has not, actual one: leave it out.")


def write(folder: str | Path, description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write a description and tensors to a new folder, or an empty one, under the version of the format.

    Raises
    ------
    FileExistsError
        If the folder is there and not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"Expected a new or an empty folder, actual {folder}: name another, or remove it first.")
    # Copies, as safetensors refuses tensors that share memory, which tied parameters do.
    copies = {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    head = {"format_version": FORMAT_VERSION, "pyro_ricvae": __version__}
    text = json.dumps(head | description, indent=1) + "\n"

    def fill(made: Path) -> None:
        save_file(copies, made / TENSORS)
        (made / DESCRIPTION).write_text(text)

    if folder.is_dir():  # somebody's own, such as a mount point: it is filled, and otherwise stays as it is
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as name:
            fill(Path(name))
            for file in (TENSORS, DESCRIPTION):  # without the latter nothing is read
                (Path(name) / file).replace(folder / file)
        return
    with staged(folder.resolve()) as made:
        made.mkdir()
        fill(made)


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the description and the tensors that `write` wrote.

    Raises
    ------
    FileNotFoundError
        If they are not there.
    ValueError
        If they are damaged, or of a newer format.
    """
    folder = Path(folder)
    missing = [name for name in (DESCRIPTION, TENSORS) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"Expected a folder with a saved model, {DESCRIPTION} and {TENSORS}, actual {folder}, which lacks "
            f"{' and '.join(missing)}: give the folder that RiCVAE.save was given (the folder model of an output)."
        )
    with damaged(folder):
        described = json.loads((folder / DESCRIPTION).read_text())
        newer = described["format_version"] > FORMAT_VERSION
    if newer:
        raise ValueError(
            f"Expected a model of format {FORMAT_VERSION} or older, actual {described['format_version']}, saved by "
            f"pyro_ricvae {described.get('pyro_ricvae')}: install that version or a newer one."
        )
    described.setdefault("estimator", "RiCVAE")  # the one that could be saved before this was written
    with damaged(folder):
        return described, load_file(folder / TENSORS)


@contextmanager
def damaged(folder: str | Path) -> Iterator[None]:
    """Say that files are damaged where reading them fails."""
    try:
        yield
    except DoesNotFitError:
        raise
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"Expected a saved model in {folder}, actual damaged files ({type(error).__name__}: {error}): "
            "save it again."
        ) from error
