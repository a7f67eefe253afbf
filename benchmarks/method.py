"""What every method under comparison offers."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any


class UnavailableError(Exception):
    """A method cannot run here; says why."""


@dataclass(frozen=True)
class Method:
    """One way to take a training step.

    Attributes
    ----------
    step : callable
        Takes one whole step, zeroed gradients, loss, backward and Adam, and returns the loss.
    loss_and_norm : callable, optional
        From a seed to the loss and the norm of its gradient under that noise, without a step. None where `step` is a
        replay of another method's.
    same_noise : bool
        Whether a seed gives the noise that it gives hand-written eager PyTorch.
    around : callable
        Gives the context in which the method runs; entering it is not timed.
    """

    step: Callable[[], Any]
    loss_and_norm: Callable[[int], tuple[float, float]] | None
    same_noise: bool = False
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
