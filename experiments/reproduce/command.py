"""The command: which experiments, which share of their runs, and where their pages go."""

import importlib
import math
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.machine import environment
from experiments.paper import EXPERIMENTS
from experiments.reproduce.cache import Cache
from experiments.reproduce.report import claims_table, write, write_summary

_ALL = "all"


@click.group()
def main() -> None:
    """Run the paper's experiments, and say which of its claims hold."""


@main.command()
@click.argument("name", type=click.Choice((*EXPERIMENTS, _ALL)))
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="How many: 0, 1, ...")
@click.option("--quick", is_flag=True, help="Small data and short trainings: whether it runs, not what holds.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes, a thread each.")
@click.option("--device", default="cpu", show_default=True, help="Where models are trained.")
@click.option("--shard", default="1/1", show_default=True, help="i/n: only the i-th of n shares of the runs, no page.")
@click.option(
    "--out", default="reproduced", show_default=True, type=click.Path(path_type=Path, file_okay=False), help="Pages."
)
@click.option("--cache", "folder", type=click.Path(path_type=Path, file_okay=False), help="Runs; by default OUT/runs.")
def reproduce(
    name: str, seeds: int, quick: bool, jobs: int, device: str, shard: str, out: Path, folder: Path | None
) -> None:
    """Run the experiment NAME, or all, and write its page, its pictures and its runs to OUT/paper.

    OUT/paper.md has the claims of all pages that are there.

    Runs are kept, and made only once: after a kill the same command goes on where it was. With --shard several
    processes or machines that share the cache make the runs, and a last call without it writes the pages.
    """
    share, n_shares = _shard(shard)
    wanted = EXPERIMENTS if name == _ALL else (name,)
    for each in wanted:
        began = time.perf_counter()
        try:
            module = importlib.import_module(f"experiments.paper.{each}")
            source = getattr(module, "RUNS_OF", module)
            cache, configurations = Cache(folder or out / "runs", source), source.configurations(seeds, quick)
            made = _make_missing(cache, configurations[share - 1 :: n_shares], device, jobs)
        except ImportError as error:
            raise click.ClickException(f'{each}: {error}: pip install -e ".[experiments]"') from error
        except (OSError, ValueError) as error:
            raise click.ClickException(f"{each}: {error}") from error
        click.echo(f"{each}: {module.SUMMARY}\n{made} runs made in {time.perf_counter() - began:.0f} s.", err=True)
        if n_shares == 1:
            command = f"python -m experiments reproduce {each} --seeds {seeds}" + " --quick" * quick
            _write_page(module, cache, configurations, device, out, command)
            click.echo(write_summary(out / "paper", EXPERIMENTS))


def _make_missing(cache: Cache, wanted: list[dict[str, Any]], device: str, jobs: int) -> int:
    """Make the runs that are not in the cache yet; return how many there were."""
    missing = [configuration for configuration in wanted if cache.read(configuration, device) is None]
    make = partial(_make, cache.module.__name__, cache.folder, device=device)
    if jobs == 1:
        for configuration in tqdm(missing):
            make(configuration)
        return len(missing)
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(jobs, spawn) as pool:
        futures = [pool.submit(make, configuration) for configuration in missing]
        try:
            for future in tqdm(as_completed(futures), total=len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return len(missing)


def _make(name: str, folder: Path, configuration: dict[str, Any], device: str) -> None:
    """Make a run, in this process with one thread, and keep it."""
    torch.set_num_threads(1)
    module = importlib.import_module(name)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = module.run(configuration, device)
    found["seconds"] = round(time.perf_counter() - began, 2)
    Cache(folder, module).write(configuration, device, found)


def _write_page(
    module: ModuleType, cache: Cache, configurations: list[dict[str, Any]], device: str, out: Path, command: str
) -> None:
    """Write an experiment's page from its runs, and print its claims."""
    runs = []
    for configuration in configurations:
        found = cache.read(configuration, device)
        if found is None:
            raise click.ClickException(f"The run of {configuration} is missing: run the command again.")
        runs.append(configuration | found)
    report = module.report(runs)
    if configurations[0].get("quick"):
        report = replace(report, claims=[replace(claim, held=None) for claim in report.claims])
    table = pd.DataFrame([{k: v for k, v in run.items() if not isinstance(v, np.ndarray)} for run in runs])
    seconds = math.fsum(run["seconds"] for run in runs)
    machine = ", ".join(f"{what} {value}" for what, value in environment(device, 1).items())
    made_by = f"    {command}\n\n{len(runs)} runs, {seconds / 60:.1f} minutes in all, a thread each. {machine}."
    name = module.__name__.rpartition(".")[2]
    page = write(report, table, out / "paper", name, made_by)
    click.echo(f"{claims_table(report.claims)}\n{page}")


def _shard(text: str) -> tuple[int, int]:
    share, slash, n_shares = text.partition("/")
    if slash and share.isdecimal() and n_shares.isdecimal() and 1 <= int(share) <= int(n_shares):
        return int(share), int(n_shares)
    raise click.BadParameter(f"Expected i/n with i from 1 to n, as 1/4, actual {text!r}.", param_hint="--shard")
