"""Files and folders that are there whole or not at all: made aside, and moved into place at the end."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a path on the file system of `target`, and move what was made there to `target` at the end.

    Folders above it are made as needed. A folder that is there is replaced; after an exception all is as it was.

    Raises
    ------
    OSError
        If nothing can be written there; before the block starts.
    """
    above = next(folder for folder in target.parents if folder.exists())
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=above) as name:
        made, earlier = Path(name) / target.name, Path(name) / "earlier"
        earlier.mkdir()
        yield made
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_dir():
            made.replace(target)
            return
        old = target.rename(earlier / target.name)
        try:
            made.rename(target)
        except BaseException:
            old.rename(target)
            raise
