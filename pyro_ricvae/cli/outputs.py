"""Outputs that are there whole or not at all, and never in the place of what is the user's."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyro_ricvae._core.staging import staged
from pyro_ricvae.cli.readers import InputError

_MARK = ".ricvae"  # tells a folder that was made here from one that must not be replaced


@contextmanager
def output_folder(path: str | Path, overwrite: bool = False, *, keep: Path | None = None) -> Iterator[Path]:
    """Give a new folder to fill, and move it to `path` when the block ends; after an exception nothing is left.

    Parameters
    ----------
    path : str or Path
        Where the folder shall be; folders above it are made as needed.
    overwrite : bool, default=False
        Whether an earlier output at `path` is replaced, when the block has ended well. A folder that was not made by
        this function is never replaced, unless it is empty.
    keep : Path, optional
        A file or folder that must stay, such as the input: an error if `path` is or holds it.

    Yields
    ------
    Path
        The folder to fill, empty.

    Raises
    ------
    InputError
        If `path` cannot be made or replaced; before the block starts.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pyro_ricvae.cli.outputs import output_folder
    >>> with tempfile.TemporaryDirectory() as here:
    ...     with output_folder(Path(here) / "results") as folder:
    ...         _ = (folder / "note.txt").write_text("whole")
    ...     print((Path(here) / "results" / "note.txt").read_text())
    whole
    """
    target = Path(path).resolve()
    if target.exists():
        _check_replaceable_folder(target, overwrite)
    _check_kept(target, keep)
    with _staged(target) as made:
        made.mkdir()
        yield made
        (made / _MARK).touch()


@contextmanager
def output_file(path: str | Path, overwrite: bool = False, *, keep: Path | None = None) -> Iterator[Path]:
    """Give a path to write a file to, and move it to `path` when the block ends; after an exception nothing is left.

    Parameters
    ----------
    path : str or Path
        Where the file shall be; folders above it are made as needed.
    overwrite : bool, default=False
        Whether a file that is there already is replaced, when the block has ended well.
    keep : Path, optional
        A file or folder that must stay, such as the input: an error if `path` is it.

    Yields
    ------
    Path
        The path to write to, with the name of `path`.

    Raises
    ------
    InputError
        If `path` cannot be made or replaced; before the block starts.
    """
    target = Path(path).resolve()
    if target.is_dir():
        raise InputError(f"Expected the name of a file to write, actual the folder {target}: add a name.")
    if target.exists() and not overwrite:
        raise InputError(
            f"Expected no file at {target}, actual one: choose another name, or overwrite it (--overwrite)."
        )
    _check_kept(target, keep)
    with _staged(target) as made:
        yield made


def _check_replaceable_folder(target: Path, overwrite: bool) -> None:
    if not target.is_dir():
        raise InputError(f"Expected the name of a folder to make, actual the file {target}: choose another name.")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise InputError(
            f"Expected a new or an empty folder, actual {target} with files: "
            "choose another, or overwrite it (--overwrite)."
        )
    if not (target / _MARK).exists():
        raise InputError(
            f"Expected to overwrite an earlier output, actual a folder with other files, {target}: "
            "choose another, or remove it yourself."
        )


def _check_kept(target: Path, keep: Path | None) -> None:
    if keep is not None and keep.resolve().is_relative_to(target):
        raise InputError(f"Expected an output beside the input {keep}, actual {target}, which would replace it.")


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Stage `target`, with an error for what the user can mend."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(staged(target))
        except OSError as error:
            above = next(folder for folder in target.parents if folder.exists())
            raise InputError(
                f"Expected to write to {above}, actual: {error.strerror}: choose another place."
            ) from error
        yield made
