"""Train random models under SVI and CompiledSVI, and print every difference.

    cd tests
    python -m conformance.fuzz --models 2000 --seed 0 --jobs 2 --out /tmp/fuzz.jsonl
    python -m conformance.fuzz --one 17 --seed 0

What is done is kept in the file that ``--out`` names, and not done again unless the package or the generator changes.
"""

import argparse
import collections
import dataclasses
import functools
import hashlib
import json
import logging
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pyro.infer import SVI

import pyro_ricvae
from conformance.harness import Record, differences, fell_back, train
from conformance.random_draws import described_by, simpler
from conformance.random_models import Description
from conformance.random_source import maker, source
from pyro_ricvae.inference import CompiledSVI

_SLOWEST = 120  # seconds of a model
_PARTS = ("draws", "models", "pair", "parts", "source", "state", "text")
_KEPT = 5  # differences of a model that are kept


def trained(this: Description, *, steps: int, compiled: bool) -> tuple[Record, Record, list[str]]:
    """Train a description both ways; return the records of SVI and CompiledSVI, and the differences."""
    options = {"compiled": True, "fallback_random": True} if compiled else {"compiled": False}
    if compiled:  # Adam and its kin make steps of the rounding in a gradient that is 0, as a bias' before BatchNorm
        this = dataclasses.replace(this, optimizer="sgd")
    make = maker(this)
    expected = train(SVI, make, steps)
    actual = train(CompiledSVI, make, steps, **options)
    found = differences(expected, actual, tolerance=1e-5 if compiled else 0.0)
    if this.event in ("clear", "load"):
        # Pyro's optimizers then have states without names, of which the last one counts, in the order of a set.
        found = [each for each in found if each != "another state of the optimizer"]
    if this.second_svi and len(actual.compilation_warnings) == 2:  # one of each
        found = [each for each in found if not each.startswith("more than one warning")]
    return expected, actual, found


def differs_by_rounding(this: Description, *, steps: int) -> bool:
    """Return whether what a compiled model gives is what SVI gives once both compute in double precision.

    A gradient that is 0 but for rounding, as a bias' before BatchNorm, differs by more than 1e-5 of itself, and Adam
    makes whole steps of it.
    """
    was = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        return not trained(this, steps=steps, compiled=True)[2]
    finally:
        torch.set_default_dtype(was)


def _engine(record: Record) -> str:
    """Return how steps ran: by graphs, or by Pyro and why, without what is particular."""
    why = fell_back(record)
    graphs = sorted({each for each in record.engines if each != "eager"})
    if graphs and why is None and "eager" not in record.engines:
        return " and ".join(graphs)
    why = re.sub(r"\([^()]*(\([^()]*\))?[^()]*\)", "(...)", why or "nothing said")
    why = re.sub(r"\S*(\.<locals>|\.\w+|\[)\S*", "...", why.partition(": ")[2] or why)
    return f"{' and '.join([*graphs, 'Pyro'])}: {re.sub(r'[0-9]+', 'N', why)[:110]}"


def _kind(difference: str) -> str:
    """Return a difference without its numbers, nor where it is."""
    return re.sub(r"'[^']*'|-?\d[\d.]*(e[+-]?\d+)?|nan|param \S+", "#", difference.partition(": ")[2] or difference)[
        :110
    ]


def run_one(seed: int, number: int, steps: int, compiled: bool) -> dict[str, Any]:
    """Return what one model gave, as plain values."""
    this = described_by(seed, number)
    begun = time.perf_counter()
    found: dict[str, Any] = {"number": number, "description": repr(this), "engine": "none", "trains": False}
    signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(_SLOWEST)
    try:
        expected, actual, unlike = trained(this, steps=steps, compiled=compiled)
        if compiled and unlike and differs_by_rounding(this, steps=steps):
            found["rounding"], unlike = unlike[:_KEPT], []
        found |= {
            "engine": _engine(actual),
            "trains": all(step.error is None for step in expected.steps),
            "unlike": len(unlike),
            "differences": unlike[:_KEPT],
            "warning": fell_back(actual),
        }
    except (Exception, TooSlowError) as error:
        # SVI itself trains these: what is left in the user's objects by a capture cannot be looked at, for one.
        words = f"the training fails: {type(error).__name__} {error}"
        found |= {"unlike": 1, "differences": [words, traceback.format_exc(limit=-2)]}
    finally:
        signal.alarm(0)
    return found | {"seconds": round(time.perf_counter() - begun, 3)}


class TooSlowError(BaseException):
    """A model takes too long; no `Exception`, which a step's would be taken for."""


def _too_slow(*_: Any) -> None:
    raise TooSlowError(f"more than {_SLOWEST} seconds")


def _begin() -> None:
    torch.set_num_threads(1)
    logging.getLogger("pyro").setLevel(logging.ERROR)
    logging.getLogger().setLevel(logging.ERROR)


def _version() -> str:
    """Return what stands for the code of the package and of the generator."""
    digest = hashlib.sha256()
    names = ("fuzz", "harness", *(f"random_{part}" for part in _PARTS))
    ours = [Path(__file__).parent / f"{name}.py" for name in names]
    package = sorted(Path(pyro_ricvae.__file__).parent.rglob("*.py"))
    for file in (*package, *ours):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _known(out: Path | None, key: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if out is not None and out.exists():
        for line in out.read_text().splitlines():
            found = json.loads(line)
            if {name: found.get(name) for name in key} == key:
                yield found


def run_all(models: int, jobs: int, out: Path | None, key: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what all models gave, from the file or anew."""
    results = {found["number"]: found for found in _known(out, key) if found["number"] < models}
    missing = [number for number in range(models) if number not in results]
    if results:
        print(f"{len(results)} of {models} models are done already", flush=True)
    settings = key["seed"], key["steps"], key["compiled"]
    begun = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    # Not an executor: Python 3.11's waits for ever once a process has had its tasks.
    with spawn.Pool(jobs, initializer=_begin, maxtasksperchild=250) as pool:
        run = functools.partial(run_one, settings[0], steps=settings[1], compiled=settings[2])
        for done, found in enumerate(pool.imap_unordered(run, missing), start=1):
            results[found["number"]] = found
            if out is not None:
                with out.open("a") as file:
                    file.write(json.dumps(found | key) + "\n")
            if found["unlike"]:
                _print_difference(found)
            if done % 100 == 0:
                print(f"-- {done} of {len(missing)} in {time.perf_counter() - begun:.0f} s", flush=True)
    return [results[number] for number in sorted(results)]


def _print_difference(found: dict[str, Any]) -> None:
    print(f"\nmodel {found['number']}: {found['description']}\n    ran as {found['engine']}")
    for each in found["differences"]:
        print(f"    {each[:400]}")
    if found["unlike"] > len(found["differences"]):
        print(f"    and {found['unlike'] - len(found['differences'])} more", flush=True)


def shrunk(this: Description, *, steps: int, compiled: bool) -> tuple[Description, list[str]]:
    """Return a description that is as simple as can be and still differs, and its differences."""

    def unlike(each: Description) -> list[str]:
        try:
            return trained(each, steps=steps, compiled=compiled)[2]
        except Exception:  # no model
            return []

    found, tried, changed = unlike(this), {this}, True
    while found and changed:
        changed, index = False, 0
        while index < len(candidates := simpler(this)):
            each = candidates[index]
            if each not in tried and (new := unlike(each)):
                this, found, changed = each, new, True
            else:
                index += 1
            tried.add(each)
    return this, found


def summary(results: list[dict[str, Any]]) -> str:
    """Return counts in words: by engine, by difference, and all in one line."""
    engines = collections.Counter(found["engine"] for found in results)
    unlike = [found for found in results if found["unlike"]]
    kinds: dict[str, list[int]] = collections.defaultdict(list)
    for found in unlike:
        kinds[_kind(found["differences"][0])].append(found["number"])
    lines = ["", "models by engine:", *(f"{count:6d}  {engine}" for engine, count in engines.most_common())]
    lines += ["", "models that differ, by the first difference:"]
    for kind, numbers in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        lines.append(f"{len(numbers):6d}  {kind} (models {', '.join(map(str, numbers[:8]))})")
    train_well = sum(found["trains"] for found in results)
    by_graph = sum(found["engine"].startswith(("captured", "compiled")) for found in results)
    seconds = sum(found["seconds"] for found in results)
    rounded = [found["number"] for found in results if "rounding" in found]
    if rounded:
        lines += ["", f"{len(rounded)} differ in single precision alone: models {', '.join(map(str, rounded[:8]))}"]
    lines += [
        "",
        f"{len(results)} models: {train_well} train without an error, {by_graph} have graphs, {len(unlike)} differ; "
        f"{seconds:.0f} s",
    ]
    return "\n".join(lines)


def _show(this: Description, *, steps: int, compiled: bool) -> None:
    expected, actual, found = trained(this, steps=steps, compiled=compiled)
    print(repr(this), source(this).partition("constraints = dist.constraints\n")[2], sep="\n")
    print("errors of SVI:", {n: step.error for n, step in enumerate(expected.steps) if step.error})
    print("ran as:", _engine(actual), "\nwarned:", actual.compilation_warnings)
    print("\n".join(["differences:", *found]) if found else "no difference")


def main() -> int:
    """Run the command; return 1 where anything differs."""
    parser = argparse.ArgumentParser("python -m conformance.fuzz", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--models", type=int, default=2000, help="how many models")
    parser.add_argument("--seed", type=int, default=0, help="of the descriptions")
    parser.add_argument("--steps", type=int, default=8, help="of each training")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--compiled", action="store_true", help="compile the graphs, and allow for 1e-5")
    parser.add_argument("--out", type=Path, help="JSON lines to keep results in, and to go on from")
    parser.add_argument("--shrink", type=int, default=3, help="how many kinds of difference to simplify at the end")
    parser.add_argument("--one", type=int, help="print this model, its source, and its differences")
    given = parser.parse_args()
    if "PYTHONHASHSEED" not in os.environ:
        # Pyro goes through sets of names: their order is part of what a seed stands for.
        command = [sys.executable, "-m", "conformance.fuzz", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": str(given.seed % 2**32)})
    os.environ |= {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    _begin()
    how: dict[str, Any] = {"steps": given.steps, "compiled": given.compiled}
    if given.one is not None:
        _show(described_by(given.seed, given.one), **how)
        return 0
    key = {"seed": given.seed, **how, "version": _version()}
    results = run_all(given.models, given.jobs, given.out, key)
    words = summary(results)
    seen: set[str] = set()
    for found in results:
        if found["unlike"] and (kind := _kind(found["differences"][0])) not in seen and len(seen) < given.shrink:
            seen.add(kind)
            print(f"\nmodel {found['number']}, simplified:")
            this, unlike = shrunk(described_by(given.seed, found["number"]), **how)
            _show(this, **how) if unlike else print("    no difference when trained again")
    print(words)
    return int(any(found["unlike"] for found in results))


if __name__ == "__main__":
    raise SystemExit(main())
