"""The table of the models: which compile, what they compute, and what that gains."""

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import pyro
import torch
from pyro.infer import SVI

from benchmarks.machine import environment, pin
from pyro_ricvae.inference import CompilationWarning, CompiledELBO, CompiledSVI, compile_elbo
from user_models import MODELS, Case
from user_models.comparison import differences, parameters

_ROUNDS = 100
_WARM_STEPS = 6  # a graph is made at the third step, or a little later
_COLUMNS = [
    "model and guide",
    "objective",
    "outcome",
    "loss",
    "gradient",
    "`SVI.step`, ms",
    "`CompiledSVI.step`, ms",
    "ratio",
    "with fused Adam, ms",
    "ratio",
    "compilation, s",
]


@click.command()
@click.option("--model", "names", multiple=True, type=click.Choice(list(MODELS)), help="By default all.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Processors to use.")
def main(names: Sequence[str], threads: int) -> None:
    """Compile models as Pyro users write them, and print a table.

    Loss and gradient: the largest relative difference of the compiled loss, and of the gradient of any one parameter in
    norm, from Pyro's under one seed. Times: medians of steps taken in turn, with Pyro's Adam and
    with torch's fused one; ratios: medians of those within a round.
    Compilation: the longest of the first six steps, with an empty cache.
    """
    pin(threads, "cpu")
    click.echo("; ".join(f"{name} {value}" for name, value in environment("cpu", threads).items()) + "\n")
    click.echo(f"| {' | '.join(_COLUMNS)} |\n|{' --- |' * len(_COLUMNS)}")
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for name in names or MODELS:
            click.echo(f"| {' | '.join(_row(MODELS[name], notes))} |")
    click.echo("".join(f"\n{number}. {note}" for number, note in enumerate(notes, 1)))


def _row(make: Callable[[], Case], notes: list[str]) -> list[str]:
    with _anew():
        case = make()
        first, rounds = _steps(case)
    with _anew():  # at the initial values: a gradient that has all but vanished in training tells nothing
        case = make()
        exact = compile_elbo(case.elbo(case.model, case.guide), *case.args, fallback_random=True)
        loss, gradient = differences(case, exact, case.args, parameters(case))
        outcome = _outcome(case, exact.engines[0], notes)
    svi, compiled, fused = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratios = [statistics.median(times[way] / times[0] for times in rounds) for way in (1, 2)]
    return [
        str(make.__doc__).rstrip("."),
        f"`{type(case.elbo).__name__}`",
        outcome,
        f"{loss:.0e}",
        f"{gradient:.0e}",
        f"{1e3 * svi:.2f}",
        f"{1e3 * compiled:.2f}",
        f"{ratios[0]:.2f}",
        f"{1e3 * fused:.2f}",
        f"{ratios[1]:.2f}",
        f"{first:.1f}",
    ]


@contextmanager
def _anew() -> Iterator[None]:
    """Start with the same seed and an empty parameter store."""
    torch.manual_seed(0)
    with pyro.get_param_store().scope(), warnings.catch_warnings():
        warnings.simplefilter("ignore", CompilationWarning)
        yield


def _steps(case: Case) -> tuple[float, list[list[float]]]:
    """Return the seconds of the step that compiles, and for each round those of a step in each of three ways.

    They train the same parameters: what a step takes does not depend on where they are.
    """
    adam = pyro.optim.Adam
    ways: list[Any] = [
        SVI(case.model, case.guide, adam({"lr": 1e-4}), case.elbo),
        CompiledSVI(case.model, case.guide, adam({"lr": 1e-4}), case.elbo),
        CompiledSVI(case.model, case.guide, lambda each: torch.optim.Adam(each, lr=1e-4, fused=True), case.elbo),
    ]
    longest = [max(_seconds(way, case.args) for _ in range(_WARM_STEPS)) for way in ways]
    return longest[1], [[_seconds(way, case.args) for way in ways] for _ in range(_ROUNDS)]


def _seconds(way: Any, args: Sequence[Any]) -> float:
    began = time.perf_counter()
    way.step(*args)
    return time.perf_counter() - began


def _outcome(case: Case, engine: str, notes: list[str]) -> str:
    """Say how the model runs, and note why not otherwise."""
    captured = CompiledELBO(case.elbo(case.model, case.guide), compiled=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        captured.prepare(*case.args).prepare(*case.other)
    if not caught:
        return engine
    notes.append(str(caught[-1].message))
    return f"{engine}{' for each length' * (engine != 'eager')} ({len(notes)})"


if __name__ == "__main__":
    main()
