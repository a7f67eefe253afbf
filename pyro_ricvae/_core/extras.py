"""What comes with the extras of the package, and is missing without them."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Say which extra of the package brings what an import in the block lacks."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("pyro_ricvae") or "pyro-ricvae[" in str(error):
            raise
        raise ModuleNotFoundError(
            f"Expected {error.name} to be installed: pip install 'pyro-ricvae[{name}]'.", name=error.name
        ) from error
