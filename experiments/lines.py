"""Runs kept in a file, a line of JSON each, and made only once."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the runs of a file, none where there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_missing(
    out: Path, names: Sequence[str], wanted: Iterable[tuple[Any, ...]], run: Callable[..., dict[str, Any] | list[Any]]
) -> None:
    """Make the runs that are not in a file yet, and append each to it as soon as it is made.

    Parameters
    ----------
    out : Path
        The file.
    names : sequence of str
        What a run is known by: keys of its lines.
    wanted : iterable of tuple
        Values of those, one tuple a run, with which `run` is called.
    run : callable
        Returns a line of the file, or several.
    """
    known = {tuple(line[name] for name in names) for line in read_lines(out)}
    for key in tqdm([key for key in wanted if key not in known]):
        made = run(*key)
        lines = made if isinstance(made, list) else [made]
        with out.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
