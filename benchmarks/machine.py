"""The machine: how many processors a process may use, what they are, and what is installed."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import torch

_PACKAGES = ("pyro-ricvae", "torch", "pyro-ppl", "numpyro", "jax")


def pin(threads: int, device: str) -> None:
    """Hold this process, and those it starts, to so many processors: every library then keeps to that number."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException(
            "Expected a CUDA device, actual none: leave out --device cuda, or see to the driver."
        )
    torch.set_num_threads(threads)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # jax would take most of a GPU's memory
    if not hasattr(os, "sched_setaffinity"):
        click.echo("This system cannot hold a process to its processors: NumPyro may use more of them.", err=True)
        return
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise click.ClickException(f"Expected --threads of at most {len(allowed)}, actual {threads}.")
    os.sched_setaffinity(0, allowed[-threads:])  # the first one often serves interrupts too


def environment(device: str, threads: int) -> dict[str, str]:
    """Return what the figures depend on, by name."""
    found = {"date": time.strftime("%Y-%m-%d"), "processor": _processor(), "threads": str(threads)}
    if device == "cuda":
        found["device"] = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    found["python"] = platform.python_version()
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    entries = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    entries = {name.strip(): value.strip() for name, value in entries.items()}
    flags = [flag for flag in entries.get("flags", "").split() if flag.startswith("amx_") or flag == "avx512_bf16"]
    name = entries.get("model name") or platform.machine()
    return f"{name} ({', '.join(flags) or 'no bf16 instructions'})"
