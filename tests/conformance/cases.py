"""All cases, by name: every public function of some files that returns a `Setup`."""

import inspect
from collections.abc import Callable
from importlib import import_module

from conformance.harness import Setup

_FILES = (
    "arguments",
    "arguments_in_containers",
    "auto_guides",
    "enumerated_models",
    "examples_other",
    "examples_sequence",
    "examples_vae",
    "failures",
    "gaussian_processes",
    "lengths",
    "network_changes",
    "network_kinds",
    "numbers_and_types",
    "objectives_more",
    "optimizers",
    "parameters",
    "python_objects",
    "python_state",
    "randomness",
    "schedules",
    "surroundings",
    "tensor_operations",
    "valid_models",
)


def _cases() -> dict[str, Callable[[], Setup]]:
    found: dict[str, Callable[[], Setup]] = {}
    for module in map(import_module, (f"conformance.{name}" for name in _FILES)):
        for name, value in vars(module).items():
            own = inspect.isfunction(value) and value.__module__ == module.__name__
            if own and not name.startswith("_") and value.__annotations__.get("return") is Setup:
                if name in found:
                    raise ValueError(f"Expected one case of a name, actual two of {name!r}.")
                found[name] = value
    return found


CASES = _cases()
