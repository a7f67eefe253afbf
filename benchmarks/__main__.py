"""The command line of the benchmarks: see README.md in this folder."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import profiling, startup, training_step
from benchmarks.machine import environment, pin
from benchmarks.methods import DEFAULT_METHODS, METHODS
from benchmarks.render import render
from benchmarks.shapes import DEFAULT_SHAPES, PASSES, SHAPES

_DEVICE = click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
_THREADS = click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Processors to use.")
_ONE_CELL = (
    _THREADS,
    _DEVICE,
    click.option("--method", type=click.Choice(METHODS), default="ours-fp32", show_default=True),
    click.option("--passes", type=click.IntRange(1), default=1, show_default=True),
    click.option("--shape", type=click.Choice(SHAPES), default="mnist-256", show_default=True),
)
_MANY_CELLS = (
    click.option("--overwrite", is_flag=True, help="Measure anew what is there already."),
    click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False)),
    _THREADS,
    _DEVICE,
    click.option("--method", "methods", multiple=True, type=click.Choice(METHODS), help="By default all."),
    click.option("--passes", multiple=True, type=click.IntRange(1), default=PASSES, show_default=True),
    click.option("--shape", "shapes", multiple=True, type=click.Choice(SHAPES), help="By default all."),
)


def _options(options: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    def add(command: Any) -> Any:
        for option in options:
            command = option(command)
        return command

    return add


@click.group()
def main() -> None:
    """Compare training steps. A cell, one shape and number of passes, is kept as JSON and made only once."""


@dataclass(frozen=True)
class _Cell:
    """One shape and number of passes to measure, and the file to keep it in."""

    path: Path
    command: list[str]
    shape: str
    passes: int
    methods: list[str]

    def keep(self, result: dict[str, Any], device: str, threads: int) -> None:
        """Write the result with what it was measured on, whole or not at all."""
        measured = {"command": shlex.join(self.command), "environment": environment(device, threads), **result}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(measured, indent=1))
        os.replace(partial, self.path)
        click.echo(f"made {self.path}", err=True)


def _cells(
    kind: str,
    extra: list[str],
    *,
    shapes: tuple[str, ...],
    passes: tuple[int, ...],
    methods: tuple[str, ...],
    device: str,
    threads: int,
    out: Path,
    overwrite: bool,
) -> Iterator[_Cell]:
    """Yield the cells that have not been measured yet."""
    out.mkdir(parents=True, exist_ok=True)
    shared = [f"--method={name}" for name in methods] + [f"--device={device}", f"--threads={threads}", f"--out={out}"]
    for shape in shapes or DEFAULT_SHAPES[device]:
        for n in passes:
            path = out / f"{kind}-{device}-{shape}-{n}.json"
            if path.exists() and not overwrite:
                click.echo(f"kept {path}", err=True)
                continue
            command = ["python", "-m", "benchmarks", kind, f"--shape={shape}", f"--passes={n}", *shared, *extra]
            command += ["--overwrite"] * overwrite
            yield _Cell(path, command, shape, n, list(methods or DEFAULT_METHODS[device]))


@main.command()
@_options(_MANY_CELLS)
@click.option("--seconds", type=float, default=30.0, show_default=True, help="For each cell; five rounds at least.")
def steps(seconds: float, **options: Any) -> None:
    """Time whole training steps of all methods, in turn."""
    device, threads = options["device"], options["threads"]
    pin(threads, device)
    failed = []
    for cell in _cells("steps", [f"--seconds={seconds:g}"], **options):
        if len(options["shapes"]) == len(options["passes"]) == 1:
            cell.keep(training_step.measure(cell.shape, cell.passes, cell.methods, seconds, device), device, threads)
        # A process for each: what one compiles, or leaves in memory, is then no matter of the next.
        elif subprocess.run([sys.executable, *cell.command[1:]]).returncode:
            failed.append(f"{cell.shape} N={cell.passes}")
    if failed:
        raise click.ClickException(f"No figures for {', '.join(failed)}: see above.")


@main.command("startup")
@_options(_MANY_CELLS)
def startup_(**options: Any) -> None:
    """Measure time to the first step and peak memory, each method in a process of its own."""
    device, threads = options["device"], options["threads"]
    pin(threads, device)
    for cell in _cells("startup", [], **options):
        cell.keep(startup.measure(cell.shape, cell.passes, cell.methods, device, threads), device, threads)


@main.command(hidden=True)
@_options(_ONE_CELL)
def one_process(shape: str, passes: int, method: str, device: str, threads: int) -> None:
    """Measure start-up and memory of one method in this process, and print them as JSON."""
    pin(threads, device)
    click.echo(json.dumps(startup.one_process(shape, passes, method, device)))


@main.command("profile")
@_options(_ONE_CELL)
@click.option("--rows", type=click.IntRange(1), default=25, show_default=True, help="How many costs to show.")
def profile_(shape: str, passes: int, method: str, device: str, threads: int, rows: int) -> None:
    """Print the largest costs of one method's step by their own time, as a table."""
    pin(threads, device)
    seconds, costs = profiling.costs(shape, passes, method, device)
    click.echo(f"{method}, {shape}, N={passes}: {1e3 * seconds:.3g} ms a step without the profiler\n")
    click.echo("| cost | calls a step | ms a step | share |\n| --- | --- | --- | --- |")
    for cost in costs[:rows]:
        name = cost["name"].replace("|", "/")
        click.echo(f"| {name} | {cost['calls']:.3g} | {1e3 * cost['seconds']:.3g} | {cost['share']:.1%} |")


@main.command("render")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def render_(folder: Path) -> None:
    """Print what was measured as Markdown tables."""
    click.echo(render([json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]))


if __name__ == "__main__":
    main()
