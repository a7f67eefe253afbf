"""What a model comes with."""

from typing import Any, NamedTuple

from pyro.infer import ELBO
from torch import Tensor


class Case(NamedTuple):
    """A pair, its objective, and arguments: those of one step, and those of a step on fewer rows."""

    model: Any
    guide: Any
    elbo: ELBO
    args: tuple[Any, ...]
    other: tuple[Any, ...]


def fewer(*args: Tensor, rows: int = 17) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the arguments, and their first few rows."""
    return args, tuple(arg[:rows] for arg in args)
