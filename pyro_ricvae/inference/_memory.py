"""Running out of memory, in words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
