"""The table of all cases: how each runs under CompiledSVI, and in what it differs from SVI."""

import multiprocessing
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import click
import torch

from conformance.cases import CASES
from conformance.table import Outcome, outcomes

_LONGEST = 160


@click.command()
@click.option("--case", "names", multiple=True, help="A case, or the file of some. By default all.")
@click.option("--compiled/--captured", help="Compiled too: 10 to 30 seconds a case.")
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="Steps of each training.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
def main(names: Sequence[str], compiled: bool, steps: int, jobs: int) -> None:
    """Train every case under SVI and under CompiledSVI, and print a table of what differs.

    Captured graphs have to give what SVI gives to the last bit, compiled ones, with fallback_random, to 1e-5. The exit
    status is 1 where a case differs.
    """
    chosen = [name for name in CASES if not names or {name, _file(name)} & set(names)]
    if not chosen:
        raise click.BadParameter(f"Expected cases or their files, actual {names}: the cases are {', '.join(CASES)}.")
    ways = [False, True] if compiled else [False]
    columns = ["case", "what it is"]
    columns += [f"{part}{', compiled' * way}" for way in ways for part in ("engine", "differs", "seconds")]
    click.echo(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    run = partial(outcomes, ways=ways, steps=steps)
    counts: list[Counter[str]] = [Counter() for _ in ways]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for name, ran in zip(chosen, pool.map(run, chosen), strict=True):
            cells = [f"`{name}`", _cell(str(CASES[name].__doc__).splitlines()[0])]
            for outcome, count in zip(ran, counts, strict=True):
                cells += [_cell(outcome.engine), _differences(outcome), f"{outcome.seconds:.1f}"]
                count[re.split(r"[ ,]", outcome.engine)[0]] += 1
                count["differ"] += bool(outcome.differences)
            click.echo(f"| {' | '.join(cells)} |")
    for way, count in zip(ways, counts, strict=True):
        kinds = ", ".join(f"{number} {engine}" for engine, number in count.most_common() if engine != "differ")
        click.echo(f"\n{'Compiled' if way else 'Captured'}: {len(chosen)} cases, {count['differ']} differ; {kinds}.")
    if any(count["differ"] for count in counts):
        raise click.exceptions.Exit(1)


def _file(name: str) -> str:
    return CASES[name].__module__.rpartition(".")[2]


def _differences(outcome: Outcome) -> str:
    found = outcome.differences
    return _cell(f"{len(found)}: {found[0]}") if found else "no"


def _cell(text: str) -> str:
    text = re.sub(r"\s+", " ", text).replace("|", r"\|").rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


if __name__ == "__main__":
    main()
