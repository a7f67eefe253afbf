"""Which engine a training runs on: whether a graph earns back what it takes to make."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from pyro_ricvae.inference.compile.precision import Precision, check_precision, multiplications, worth_bf16

Engine = Literal["auto", "compiled", "captured", "eager"]

# In seconds, on one core of a server, without a cache: docs/results/compiled.md. They are constants and not measured on
# the spot, so that one seed gives the same engine, and so the same bits, every time.
_CAPTURE = (1.5, 0.5, 0.5)  # the first graph, each one, and each of its passes
_COMPILE = (5.0, 6.0)  # each graph, and each of its passes
_SAVED_BY_CAPTURE = 1e-3  # a step and pass: Pyro's handlers
_SAVED_BY_COMPILING = 5e-9  # a step, pass, row and output of a layer: operations on them that are fused
_SAVED_BY_BF16 = 3e-11  # a step, pass and multiplication


@dataclass(frozen=True)
class Choice:
    """An engine and a precision, and why.

    Attributes
    ----------
    engine : {"compiled", "captured", "eager"}
        "captured" is the graph without compilation.
    precision : {"fp32", "bf16"}
        Of the matrix products.
    reason : str
        What was estimated.
    """

    engine: Literal["compiled", "captured", "eager"]
    precision: Literal["fp32", "bf16"]
    reason: str


def choose_engine(
    module: nn.Module, rows: int, plan: Iterable[tuple[int, int]], engine: Engine, precision: Precision
) -> Choice:
    """Choose how to train, by the number of steps and the size of the networks.

    Parameters
    ----------
    module : torch.nn.Module
        What is trained.
    rows : int
        The length of a batch.
    plan : iterable of (int, int)
        Numbers of steps and of passes, one pair for each graph.
    engine, precision
        What was asked for; "auto" is chosen here, other values are kept.

    Returns
    -------
    Choice

    Raises
    ------
    ValueError
        If `engine` or `precision` is unknown, or "bf16" asked for on the eager engine.
    """
    check_precision(precision)
    if engine not in get_args(Engine):
        raise ValueError(f"Expected engine to be one of {', '.join(get_args(Engine))}, actual {engine!r}.")
    if engine == "eager" and precision == "bf16":
        raise ValueError("Expected precision 'auto' or 'fp32' with engine='eager', actual 'bf16': use 'captured'.")
    device = next(iter(module.parameters()), torch.zeros(())).device
    bf16 = precision == "bf16" or (precision == "auto" and worth_bf16(module, rows, device))
    plan = list(plan)
    passes = sum(steps * n_passes for steps, n_passes in plan)
    first, each, each_pass = _CAPTURE
    capture = first + sum(each + each_pass * n_passes for _, n_passes in plan)
    compilation = sum(_COMPILE[0] + _COMPILE[1] * n_passes for _, n_passes in plan)
    saved = passes * (_SAVED_BY_CAPTURE + bf16 * _SAVED_BY_BF16 * multiplications(module, rows))
    outputs = sum(len(parameter) for parameter in module.parameters() if parameter.dim() > 1)
    saved_more = passes * _SAVED_BY_COMPILING * rows * outputs
    chosen = engine
    if chosen == "auto":
        chosen = "eager" if saved < capture else "captured" if saved_more < compilation else "compiled"
    reason = (
        f"Estimated for {sum(steps for steps, _ in plan)} steps: a captured graph takes {capture:.0f} s to make and "
        f"saves {saved:.0f} s; compiling it takes another {compilation:.0f} s and saves another {saved_more:.0f} s."
    )
    return Choice(chosen, "bf16" if bf16 and chosen != "eager" else "fp32", reason)
