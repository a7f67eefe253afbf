"""Whether the methods compute the same thing, before anything is timed."""

import math
import statistics
from typing import Any

import click

from benchmarks.method import Method

#: The method that the others are compared with.
REFERENCE = "hand-eager"

# Of the loss, in nats a cell and pass, and of the gradient's norm, as a share of it.
_SAME_NOISE = (1e-6, 1e-5)
_FP32 = (1e-5, 1e-3)
_BF16 = (3e-3, 3e-2)
_STANDARD_ERRORS = 8


class DisagreementError(click.ClickException):
    """Two methods do not compute the same loss."""


def check(methods: dict[str, Method], n_cells: int, draws: int) -> dict[str, Any]:
    """Compare loss and norm of the gradient of each method with hand-written eager PyTorch, at the same parameters.

    Under one seed where a method draws the same noise, otherwise in the mean over `draws` seeds, within eight standard
    errors and what the precision costs. Where draws are few this finds gross faults alone, such as noise that is the
    same in every pass. At the small shape, with two thousand of them, it also found a KL that was made a tenth too
    small (one pass), and a gradient that did not pass through a recycled row (two and five).

    Parameters
    ----------
    methods : dict of str to Method
        Not stepped yet.
    n_cells : int
        Cells of a batch times passes.
    draws : int
        How many seeds a mean is over, two or more.

    Returns
    -------
    dict
        For each method and either number the difference, in units of what is allowed.

    Raises
    ------
    DisagreementError
        If a difference is larger than allowed.
    """
    reference = _draw(methods[REFERENCE], range(draws))
    shares = {}
    for name, method in methods.items():
        if name == REFERENCE or method.loss_and_norm is None:
            continue
        # Other seeds than the reference's for the means: then the two are independent whatever the noise is.
        found = _draw(method, range(1) if method.same_noise else range(draws, 2 * draws))
        tolerances = _SAME_NOISE if method.same_noise else _BF16 if "bf16" in name else _FP32
        norm = statistics.mean(reference[1])
        for what, ours, theirs, tolerance in zip(
            ("loss", "norm"), found, reference, (tolerances[0] * n_cells, tolerances[1] * norm), strict=True
        ):
            if method.same_noise:
                difference, allowed = abs(ours[0] - theirs[0]), tolerance
            else:
                difference = abs(statistics.mean(ours) - statistics.mean(theirs))
                variance = (statistics.variance(ours) + statistics.variance(theirs)) / draws
                allowed = _STANDARD_ERRORS * math.sqrt(variance) + tolerance
            if not difference <= allowed:
                raise DisagreementError(
                    f"{name}, {what}: expected {statistics.mean(theirs):g} of {REFERENCE} within {allowed:.2g}, actual "
                    f"{statistics.mean(ours):g}: they do not compute the same, so their times do not compare."
                )
            shares[f"{name}, {what}"] = difference / allowed
    return shares


def _draw(method: Method, seeds: range) -> tuple[list[float], list[float]]:
    assert method.loss_and_norm is not None
    losses, norms = zip(*map(method.loss_and_norm, seeds), strict=True)
    return list(losses), list(norms)
