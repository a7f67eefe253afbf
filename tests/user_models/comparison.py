"""The loss and the gradient of every parameter, as Pyro computes them and otherwise, under one seed."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from user_models.case import Case


def parameters(case: Case) -> list[Tensor]:
    """Return what a step trains: all that is in Pyro's store after one."""
    case.elbo.loss_and_grads(case.model, case.guide, *case.args)
    return [parameter for _, parameter in pyro.get_param_store().named_parameters()]


def differences(
    case: Case, compiled: Callable[..., Tensor], args: Sequence[Any], trained: Sequence[Tensor]
) -> tuple[float, float]:
    """Return how far a loss is from Pyro's, and its gradient, relative to the size of Pyro's.

    Of the gradients it is the largest difference in that of one parameter, in norm.
    """

    def by_pyro() -> float:
        return float(case.elbo.loss_and_grads(case.model, case.guide, *args))

    def otherwise() -> float:
        loss = compiled(*args)
        loss.backward()
        return loss.item()

    expected, gradients = _under_one_seed(by_pyro, trained)
    actual, found = _under_one_seed(otherwise, trained)
    far = max((_far(one, other) for one, other in zip(found, gradients, strict=True)), default=0.0)
    return abs(actual - expected) / abs(expected), far


def _under_one_seed(call: Callable[[], float], trained: Sequence[Tensor]) -> tuple[float, list[Tensor | None]]:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # a user's own draws are of the legacy one
    for parameter in trained:
        parameter.grad = None
    loss = call()
    gradients = [parameter.grad for parameter in trained]
    for parameter in trained:
        parameter.grad = None
    return loss, gradients


def _far(actual: Tensor | None, expected: Tensor | None) -> float:
    if actual is None or expected is None:
        return 0.0 if actual is expected else math.inf
    return float((actual - expected).norm() / expected.norm()) if expected.norm() else float(actual.norm())
