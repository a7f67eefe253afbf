"""Errors in the words of those who have to act on them: their own line of code, and memory."""

import contextlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyro
import torch

_PACKAGE = str(Path(__file__).parents[1])

# Where frames of a traceback are none of the user's; Pyro's come first.
_LIBRARIES = (
    *(str(Path(str(module.__file__)).parent) for module in (pyro, torch, contextlib)),
    _PACKAGE,
    "<",
)


def users_line(error: Exception, libraries: tuple[str, ...] = _LIBRARIES) -> str:
    """Return the innermost line of a traceback that is in none of the `libraries`, as " (at file, line ...)", or ""."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.line and not frame.filename.startswith(libraries):
            return f" (at {Path(frame.filename).name}, line {frame.lineno}: {frame.line})"
    return ""


def users_level() -> int:
    """Return the ``stacklevel`` of a warning by the caller that names the first line outside of the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def in_words(error: Exception) -> str:
    """Return what an error in a model or guide says, and the line of the user's code where it was raised."""
    # Pyro adds a listing of shapes, torch the values of tensors, after the first lines.
    message = str(error).split("Trace Shapes:")[0].strip()
    message = " ".join(line.strip() for line in message.splitlines()[:2])
    if "found invalid values" in message:
        message = f"{message.split(', but found invalid values')[0]}, but other values are found"
    if not message.startswith("Site "):
        message = ": ".join([type(error).__name__, *([message] if message else [])])
    if "Shape mismatch inside plate" in message:
        message += ": end the distribution with .to_event(k) for its k dimensions of features, and count rows from x"
    line = users_line(error)
    return f"{message}{line}." if line else f"{message.rstrip('.')}."


def reason(error: Exception) -> str:
    """Return why there is no graph, and the line of code where that was found: the user's, else Pyro's."""
    # What follows is for who calls torch.export: a listing of shapes, and advice on other exports.
    message = re.split("Trace Shapes:|The error above occurred", str(error))[0]
    message = re.sub(r" For more information, run with \S+", "", message)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = ": ".join([type(error).__name__, " ".join(lines[:2])[:300].rstrip(".")][: 1 + bool(lines)])
    return said + (users_line(error) or users_line(error, _LIBRARIES[1:]))


@contextmanager
def explained_out_of_memory(rows: int | None) -> Iterator[None]:
    """Name the batch size, and suggest one, where memory does not suffice for a step of `rows` rows."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).startswith("Out of memory")
        if said or not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        if rows is None:
            then = "Give fewer data at once."
        elif rows == 1:
            then = "Even one row is too much: give smaller networks, or fewer passes or particles."
        else:
            then = f"Try a batch of {rows // 2} rows."
        batch = "" if rows is None else f" for a batch of {rows} rows"
        raise torch.OutOfMemoryError(f"Out of memory{batch}. {then} ({str(error).splitlines()[0]})") from error
