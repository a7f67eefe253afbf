"""Time to the first step and peak memory, each method in a process of its own."""

import ctypes
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.method import Method, UnavailableError
from benchmarks.methods import METHODS
from benchmarks.shapes import SHAPES
from benchmarks.training_step import synchronize

_WARM_STEPS = 5
_MIB = 2**20


def measure(name: str, passes: int, chosen: list[str], device: str, threads: int) -> dict[str, Any]:
    """Measure the chosen methods at one shape and number of passes, twice each.

    Returns
    -------
    dict
        "methods": for each what `one_process` returns, "first" with torch.compile's cache empty, "cached" with what the
        first run left in it.
    """
    found: dict[str, Any] = {}
    for method in chosen:
        with tempfile.TemporaryDirectory() as cache:
            arguments = ["one-process", "--shape", name, "--passes", passes, "--method", method]
            arguments += ["--device", device, "--threads", threads]
            command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
            found[method] = {}
            for run in ("first", "cached"):
                child = subprocess.run(
                    command,
                    env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                found[method][run] = json.loads(child.stdout.splitlines()[-1])
    return {"kind": "startup", "shape": name, "passes": passes, "device": device, "methods": found}


def one_process(name: str, passes: int, method_name: str, device: str) -> dict[str, Any]:
    """Make a method and take a few steps, in this process, which must have done nothing else.

    Returns
    -------
    dict
        In seconds "make" (networks and optimizer; of this package's compiled loss also the validated call, the capture
        and the compilation), "first step" (what is compiled or made when it is first needed) and "warm step". In MiB
        "peak", over what the process takes with its imports, and "step peak", of a warm step over what stays between
        steps. Or "skipped" and why.
    """
    if method_name == "numpyro" and importlib.util.find_spec("numpyro"):
        importlib.import_module("benchmarks.numpyro_method")  # what it imports is no part of what is measured
    resting = _memory(device, reset=False)[0]
    began = time.perf_counter()
    try:
        method = METHODS[method_name](SHAPES[name], passes, device)
    except UnavailableError as error:
        return {"skipped": str(error)}
    synchronize(device)
    made = time.perf_counter()
    with method.around():
        method.step()
        synchronize(device)
    stepped = time.perf_counter()
    warm = statistics.median(_timed_step(method, device) for _ in range(_WARM_STEPS))
    result = {"make": made - began, "first step": stepped - made, "warm step": warm}
    if device == "cuda" and method_name == "numpyro":
        return result  # its memory is none that torch knows of
    peak = _memory(device, reset=False)[1]
    between, _ = _memory(device, reset=True)
    for _ in range(_WARM_STEPS):
        _timed_step(method, device)
    step_peak = _memory(device, reset=False)[1]
    return result | {"peak": (peak - resting) / _MIB, "step peak": (step_peak - between) / _MIB}


def _timed_step(method: Method, device: str) -> float:
    with method.around():
        began = time.perf_counter()
        method.step()
        synchronize(device)
        return time.perf_counter() - began


def _memory(device: str, *, reset: bool) -> tuple[int, int]:
    """Return the bytes in use, and the most there were since the start or the last reset.

    Of the device on CUDA, otherwise of the process. Where a system has no /proc, the first is the second.
    """
    if device == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if not status.exists():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return most, most
    if reset:
        # Freed memory that the C library keeps would otherwise hide what a step takes.
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    entries = dict(line.split(":", 1) for line in status.read_text().splitlines())
    now, most = (int(entries[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    return now, most
