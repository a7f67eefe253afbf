"""Runs on disk: a file each, known by all that it depends on, written whole or not at all."""

import hashlib
import inspect
import json
import os
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

import pyro_ricvae
from experiments.reproduce.data import fingerprint

_RECORD = "record"


@cache
def code_digest(module: ModuleType) -> str:
    """Return a digest of the code that an experiment's runs depend on.

    That is the version of torch, the package's version and code, and the experiment's with the modules of `experiments`
    that it takes anything from: of these what stands above ``def report``, so that a page can be mended without making
    its runs again.
    """
    digest = hashlib.sha256(f"{pyro_ricvae.__version__} {torch.__version__}".encode())
    root = Path(str(pyro_ricvae.__file__)).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    for each in sorted(_modules(module, set()), key=lambda each: each.__name__):
        digest.update(inspect.getsource(each).split("\ndef report(")[0].encode())
    return digest.hexdigest()


def _modules(module: ModuleType, known: set[ModuleType]) -> set[ModuleType]:
    """Return a module with those of the experiments that it imports from, and those that these import from."""
    known.add(module)
    for value in vars(module).values():
        name = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None) or ""
        if name.startswith("experiments.") and sys.modules[name] not in known:
            _modules(sys.modules[name], known)
    return known


@dataclass(frozen=True)
class Cache:
    """Runs of an experiment in a folder.

    An entry is known by the experiment, its configuration, the kind of device, the values of its data and its code
    (`code_digest`): a run of anything else is never reused. Entries that cannot be read, as of a process that was
    killed while the disk was full, count as missing. Several processes may share a folder: an entry is moved into place
    when it is whole.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    module : module
        The experiment's.
    """

    folder: Path
    module: ModuleType

    def read(self, configuration: dict[str, Any], device: str) -> dict[str, Any] | None:
        """Return what a run found, with "seconds"; None where it has to be made."""
        path = self._path(configuration, device)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as entry:
                record: dict[str, Any] = json.loads(str(entry[_RECORD]))
                found: dict[str, Any] = record["found"] | {name: entry[name] for name in entry.files if name != _RECORD}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return found

    def write(self, configuration: dict[str, Any], device: str, found: dict[str, Any]) -> None:
        """Keep what a run found: numbers, texts and arrays by name."""
        path = self._path(configuration, device)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
        plain = {name: value for name, value in found.items() if name not in arrays}
        record = json.dumps({"experiment": self._name, "configuration": configuration, "found": plain})
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **{_RECORD: np.array(record)}, **arrays)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _path(self, configuration: dict[str, Any], device: str) -> Path:
        known_by = {
            "experiment": self._name,
            "configuration": configuration,
            "device": torch.device(device).type,
            "data": fingerprint(configuration["data"]),
            "code": code_digest(self.module),
        }
        digest = hashlib.sha256(json.dumps(known_by, sort_keys=True).encode()).hexdigest()
        return self.folder / self._name / f"{digest[:32]}.npz"

    @property
    def _name(self) -> str:
        return self.module.__name__.rpartition(".")[2]
