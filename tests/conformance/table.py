"""How a case runs under CompiledSVI, for the table."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from conformance.cases import CASES
from conformance.harness import Record, compare, fell_back


class Outcome(NamedTuple):
    """How one case ran."""

    engine: str
    differences: list[str]
    seconds: float


def outcomes(name: str, *, ways: Sequence[bool], steps: int) -> list[Outcome]:
    """Train a case as SVI, captured, and compiled where `ways` has True."""
    return [_outcome(name, steps, compiled=way, fallback_random=way) for way in ways]


def _outcome(name: str, steps: int, **options: Any) -> Outcome:
    began = time.perf_counter()
    try:
        record, found = compare(CASES[name], steps, **options)
        engine = _engine(record)
    except Exception as error:  # not a step's: those are compared
        engine, found = "none", [f"{type(error).__name__}: {error}"]
    return Outcome(engine, found, time.perf_counter() - began)


def _engine(record: Record) -> str:
    """Say how steps ran: by graphs, as Pyro's own, or both."""
    graphs = Counter(engine for engine in record.engines if engine != "eager")
    words = [f"{engine}{f' ({number} graphs)' * (number > 1)}" for engine, number in graphs.items()]
    reason = fell_back(record)
    if reason is not None or not words:
        words.append("Pyro" if reason is None else f"Pyro ({reason})")
    return ", ".join(words)
