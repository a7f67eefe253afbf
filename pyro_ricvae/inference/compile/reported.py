"""The numbers that Pyro reads from tensors to report a loss, in a graph that has none."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


class Reported:
    """What ``tensor.item()`` would give: a number of Python's, in double precision, that is known when the graph runs.

    With other numbers it is computed with in double precision, as Python does. With a tensor it takes the type of that,
    as torch has a number do.

    Parameters
    ----------
    double : Tensor, shape ()
        The number, a float64.
    """

    def __init__(self, double: Tensor) -> None:
        self.double = double

    def item(self) -> "Reported":
        """Return the number."""
        return self

    @classmethod
    def __torch_function__(cls, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Have torch compute with it as with a number."""
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        kind = next((each.dtype for each in tensors if each.is_floating_point()), torch.get_default_dtype())

        def converted(each: Any) -> Any:
            return each.double.to(kind) if isinstance(each, cls) else each

        args, kwargs = tree_map(converted, (args, kwargs or {}))
        return function(*args, **kwargs)


def _arithmetic(name: str, reverse: bool) -> Callable[..., Any]:
    function: Any = getattr(operator, name)

    def compute(number: Reported, other: Any) -> Any:
        if isinstance(other, Tensor):
            operands = (
                number.double.to(other.dtype if other.is_floating_point() else torch.get_default_dtype()),
                other,
            )
            return function(*(reversed(operands) if reverse else operands))
        operands = (number.double, other.double if isinstance(other, Reported) else other)
        return Reported(function(*(reversed(operands) if reverse else operands)))

    return compute


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Reported, f"__{_name}__", _arithmetic(_name, reverse=False))
    setattr(Reported, f"__r{_name}__", _arithmetic(_name, reverse=True))
setattr(Reported, "__neg__", lambda number: Reported(-number.double))  # noqa: B010
