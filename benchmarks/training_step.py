"""Whole training steps of all methods, alternating in one run."""

import math
import random
import time
from typing import Any

import click
import torch

from benchmarks.agreement import REFERENCE, check
from benchmarks.cuda_graph import N_EMPTY_KERNELS, count_kernels, empty_kernels
from benchmarks.method import Method, UnavailableError
from benchmarks.methods import METHODS
from benchmarks.shapes import SHAPES, Shape

_WARM_STEPS = 3
_MIN_ROUNDS, _MAX_ROUNDS = 5, 300
# A turn is as many steps as fit into this, after one that is not counted: it fills the caches.
_TURN_SECONDS = 0.05
# Draws to compare means over, as many as fit into so many floating-point operations.
_MAX_DRAWS, _DRAWN_OPERATIONS = 2000, 50 * 10**9
_LARGE_PRODUCT = {"cpu": 2048, "cuda": 8192}


def measure(name: str, passes: int, chosen: list[str], seconds: float, device: str) -> dict[str, Any]:
    """Time the steps of the chosen methods at one shape and number of passes, in turn until the time is spent.

    Parameters
    ----------
    name : str
        One of `SHAPES`.
    passes : int
        The number N of passes.
    chosen : list of str
        Some of `METHODS`.
    seconds : float
        How long to go on, after all has been compiled; five rounds at the least.
    device : {"cpu", "cuda"}
        What to run on.

    Returns
    -------
    dict
        "seconds": of a step, one number a round, for each method, for large matrix products of either precision, and on
        CUDA for a graph of empty kernels; "operations" of the matrix products of a step and of a large product;
        "agreement" as of `benchmarks.agreement.check`; "losses": the first and the last; "kernels" of each CUDA graph;
        "skipped" and why.
    """
    shape = SHAPES[name]
    methods, skipped = _make(shape, passes, chosen, device)
    result: dict[str, Any] = {
        "kind": "steps",
        "shape": name,
        "passes": passes,
        "device": device,
        "skipped": skipped,
        "operations": {
            "step": shape.matrix_operations(passes),
            "large product": 2 * _LARGE_PRODUCT[device] ** 3,
            "empty kernels": N_EMPTY_KERNELS,
        },
        "agreement": _agreement(shape, passes, methods, device),
    }
    first = {key: _loss(method) for key, method in methods.items()}
    click.echo("timing", err=True)
    everything = methods | _limits(device)
    steps = {key: _steps_per_turn(method, device) for key, method in everything.items()}
    result["seconds"] = _rounds(everything, steps, seconds, device)
    last = {key: _loss(method) for key, method in methods.items()}
    for key in methods:
        if not last[key] < first[key] or not math.isfinite(last[key]):
            raise click.ClickException(f"{key}: expected a loss that falls, actual {first[key]:g} to {last[key]:g}.")
    result["losses"] = {key: (first[key], last[key]) for key in methods}
    result["kernels"] = {key: count_kernels(each.step) for key, each in methods.items() if key.endswith("-graph")}
    return result


def synchronize(device: str) -> None:
    """Wait for what has been launched on the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def _make(shape: Shape, passes: int, chosen: list[str], device: str) -> tuple[dict[str, Method], dict[str, str]]:
    methods, skipped = {}, {}
    for name in chosen:
        begun = time.perf_counter()
        try:
            methods[name] = METHODS[name](shape, passes, device)
            click.echo(f"{name} is made, in {time.perf_counter() - begun:.1f} s", err=True)
        except UnavailableError as error:
            skipped[name] = str(error)
            click.echo(f"{name} is left out: {error}.", err=True)
    return methods, skipped


def _agreement(shape: Shape, passes: int, methods: dict[str, Method], device: str) -> dict[str, float]:
    """Raise an error unless all methods compute the same; compiles them too."""
    compared = methods
    if REFERENCE not in methods:
        compared = {REFERENCE: METHODS[REFERENCE](shape, passes, device)} | methods
    click.echo("comparing losses and gradients, which compiles", err=True)
    draws = max(6, min(_MAX_DRAWS, _DRAWN_OPERATIONS // shape.matrix_operations(passes)))
    return check(compared, shape.batch * shape.n_features * passes, draws)


def _limits(device: str) -> dict[str, Method]:
    """Return large matrix products of either precision, and on CUDA a graph of empty kernels, as methods."""
    size = _LARGE_PRODUCT[device]
    left, right = torch.randn(2, size, size, device=device)
    halves = left.bfloat16(), right.bfloat16()
    limits = {
        "large product, fp32": Method(lambda: left @ right, None),
        "large product, bf16": Method(lambda: halves[0] @ halves[1], None),
    }
    if device == "cpu" and torch.backends.mkldnn.is_available():
        # torch gives fp32 products to MKL, which on some processors is far from their limit; oneDNN has its own.
        linear = torch.ops.mkldnn._linear_pointwise
        limits["large product, fp32 by oneDNN"] = Method(lambda: linear(left, right, None, "none", [], ""), None)
    if device == "cuda":
        limits["empty kernels"] = Method(empty_kernels(), None)
    return limits


def _loss(method: Method) -> float:
    with method.around():
        return float(torch.as_tensor(method.step()).detach())


def _steps_per_turn(method: Method, device: str) -> int:
    _turn(method, _WARM_STEPS, device)
    return max(1, round(_TURN_SECONDS / _turn(method, 1, device)))


def _rounds(methods: dict[str, Method], steps: dict[str, int], seconds: float, device: str) -> dict[str, list[float]]:
    """Return the seconds of a step of each method, one number a round; each round in an order of its own."""
    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in methods}
    began = time.perf_counter()
    for done in range(_MAX_ROUNDS):
        if done >= _MIN_ROUNDS and time.perf_counter() - began > seconds:
            break
        for name in order.sample(list(methods), len(methods)):
            times[name].append(_turn(methods[name], steps[name], device))
    return times


def _turn(method: Method, steps: int, device: str) -> float:
    """Return the seconds of a step, the mean over so many of them."""
    with method.around():
        if steps > 1:
            method.step()
        synchronize(device)
        began = time.perf_counter()
        for _ in range(steps):
            method.step()
        synchronize(device)
        return (time.perf_counter() - began) / steps
