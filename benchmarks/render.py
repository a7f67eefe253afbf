"""Markdown tables of what was measured."""

import statistics
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from benchmarks.shapes import SHAPES

Result = dict[str, Any]


def render(results: Sequence[Result]) -> str:
    """Return the tables of all results, for each device those of the steps, their ratios, start-up and memory.

    A ratio is the median over the rounds of the ratio within a round, in brackets its quartiles.
    """
    parts = []
    for device in ("cpu", "cuda"):
        steps = _sorted(results, "steps", device)
        startups = _sorted(results, "startup", device)
        if steps:
            parts += [_origin(steps), _times(steps), _ratios(steps), _shares(steps)]
        if steps and device == "cuda":
            parts.append(_graphs(steps))
        if startups:
            parts += [_origin(startups), _startup(startups), _memory(startups)]
    return "\n\n".join(parts)


def _sorted(results: Sequence[Result], kind: str, device: str) -> list[Result]:
    chosen = [each for each in results if (each["kind"], each["device"]) == (kind, device)]
    return sorted(chosen, key=lambda each: (list(SHAPES).index(each["shape"]), each["passes"]))


def _origin(results: list[Result]) -> str:
    """Say what was run, and on what."""
    lines = []
    for environment, group in groupby(results, lambda each: each["environment"]):
        cells = ", ".join(f"{each['shape']} N={each['passes']}" for each in group)
        lines.append("; ".join(f"{name} {value}" for name, value in environment.items()) + f" ({cells})")
    commands = "\n".join(each["command"] for each in results)
    skipped = {f"{name}: {reason}" for each in results for name, reason in each.get("skipped", {}).items()}
    notes = "".join(f"\n\nLeft out: {note}." for note in sorted(skipped))
    return "\n\n".join(lines) + f"\n\n```\n{commands}\n```{notes}"


def _times(results: list[Result]) -> str:
    names = _methods(results, "seconds")
    rows = [[_milliseconds(each, name) for name in names] + [str(_rounds(each))] for each in results]
    return "Milliseconds a step, medians:\n\n" + _table(results, [*names, "rounds"], rows)


def _ratios(results: list[Result]) -> str:
    """Return the ratios that the goals are set in."""
    suffix = "-graph" if results[0]["device"] == "cuda" else ""
    ours = [f"ours-{precision}{suffix}" for precision in ("fp32", "bf16")]
    columns: dict[str, Callable[[Result], str]] = {
        "ours / hand-written, fp32": lambda each: _ratio(each, ours[:1], _hand_written(each, "fp32", suffix)),
        "ours / hand-written, bf16": lambda each: _ratio(each, ours[1:], _hand_written(each, "bf16", suffix)),
        "our best / SVI.step": lambda each: _ratio(each, ours, ["svi"]),
        "our best / NumPyro": lambda each: _ratio(each, ours, ["numpyro"]),
        "ours, fp32 / NumPyro": lambda each: _ratio(each, ours[:1], ["numpyro"]),
    }
    rows = [[cell(each) for cell in columns.values()] for each in results]
    return (
        "Ratios of times within a round, medians (quartiles); below 1 is faster than what it is compared with. "
        "Hand-written is compiled"
        + (" or, for fp32, not, whichever is faster, under a CUDA graph" if suffix else "")
        + ":\n\n"
        + _table(results, list(columns), rows)
    )


def _hand_written(result: Result, precision: str, suffix: str) -> list[str]:
    return [f"hand-{precision}{suffix}"] + [f"hand-eager{suffix}"] * (precision == "fp32" and bool(suffix))


def _shares(results: list[Result]) -> str:
    names = [name for name in _methods(results, "seconds") if not name.startswith(("large", "empty"))]
    rates = [f"{precision} GFLOP/s" for precision in ("fp32", "bf16")]
    rows = []
    for each in results:
        measured = {precision: _rate(each, precision) for precision in ("fp32", "bf16")}
        row = [f"{each['operations']['step'] / 1e9:.3g}"] + [f"{rate / 1e9:.0f}" for rate in measured.values()]
        for name in names:
            rate = measured["bf16" if "bf16" in name else "fp32"]
            seconds = _median(each, name)
            row.append("" if seconds is None else f"{each['operations']['step'] / seconds / rate:.2f}")
        rows.append(row)
    return (
        "Share of the measured rate of large matrix products, at the method's precision (1: the matrix products of a "
        "step alone, at that rate, would take as long):\n\n" + _table(results, ["GFLOP a step", *rates, *names], rows)
    )


def _graphs(results: list[Result]) -> str:
    names = _methods(results, "kernels")
    rows = []
    for each in results:
        launch = _median(each, "empty kernels")
        row = ["" if launch is None else f"{1e6 * launch / each['operations']['empty kernels']:.2f}"]
        for name in names:
            kernels, seconds = each["kernels"].get(name), _median(each, name)
            if launch is None or kernels is None or seconds is None:
                row.append("")
                continue
            least = kernels * launch / each["operations"]["empty kernels"]
            row.append(f"{kernels}; {1e3 * least:.3f} ms; {least / seconds:.2f}")
        rows.append(row)
    return (
        "CUDA graphs: kernels of a step, the least time to launch as many empty ones, and its share of the step:\n\n"
        + _table(results, ["microseconds an empty kernel", *names], rows)
    )


def _startup(results: list[Result]) -> str:
    names = _methods(results, "methods")

    def cell(result: Result, name: str) -> str:
        both = result["methods"].get(name, {})
        if not both or "skipped" in both["first"]:
            return ""
        return " / ".join(f"{both[run]['make']:.1f} + {both[run]['first step']:.1f}" for run in ("first", "cached"))

    rows = [[cell(each, name) for name in names] for each in results]
    return (
        "Seconds to make (networks, optimizer; for ours, compiled, also the validated call, the capture and the "
        "compilation) + for the first step, with an empty cache / with what that left in it:\n\n"
        + _table(results, names, rows)
    )


def _memory(results: list[Result]) -> str:
    names = _methods(results, "methods")

    def cell(result: Result, name: str) -> str:
        run = result["methods"].get(name, {}).get("cached", {})
        return f"{run['peak']:.0f} / {run['step peak']:.0f}" if "peak" in run else ""

    rows = [[cell(each, name) for name in names] for each in results]
    return (
        "Peak memory in MiB, cache filled: over the process with its imports / of a warm step, over what stays between "
        "steps:\n\n" + _table(results, names, rows)
    )


def _methods(results: list[Result], key: str) -> list[str]:
    return list(dict.fromkeys(name for each in results for name in each[key]))


def _table(results: list[Result], columns: list[str], rows: list[list[str]]) -> str:
    header = ["shape", "N", *columns]
    lines = [header, ["---"] * len(header)]
    lines += [[each["shape"], str(each["passes"]), *row] for each, row in zip(results, rows, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median(result: Result, name: str) -> float | None:
    return statistics.median(result["seconds"][name]) if name in result["seconds"] else None


def _milliseconds(result: Result, name: str) -> str:
    seconds = _median(result, name)
    return "" if seconds is None else f"{1e3 * seconds:.3g}"


def _rounds(result: Result) -> int:
    return max(map(len, result["seconds"].values()))


def _rate(result: Result, precision: str) -> float:
    """Return the floating-point operations a second of a large product, by whatever is fastest at it."""
    products = [times for name, times in result["seconds"].items() if name.startswith(f"large product, {precision}")]
    return float(result["operations"]["large product"] / min(map(statistics.median, products)))


def _ratio(result: Result, ours: list[str], theirs: list[str]) -> str:
    """Return the ratio of the fastest of `ours` to the fastest of `theirs`, with its quartiles."""
    one, other = _fastest(result, ours), _fastest(result, theirs)
    if one is None or other is None:
        return ""
    ratios = [a / b for a, b in zip(result["seconds"][one], result["seconds"][other], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _fastest(result: Result, names: list[str]) -> str | None:
    there = [name for name in names if name in result["seconds"]]
    return min(there, key=lambda name: statistics.median(result["seconds"][name]), default=None)
