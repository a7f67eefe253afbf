"""What the code of Python functions names: the globals and attributes that it may read, and what lies outside."""

import dis
import sys
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any, NamedTuple

_LIBRARIES = frozenset(
    {"torch", "functorch", "pyro", "numpy", "opt_einsum", "sympy", "pyro_ricvae", *sys.stdlib_module_names}
) - {"__main__"}

# What reads attributes by names that are computed: any attribute may be one of them.
_REFLECTION = frozenset({"getattr", "vars", "__dict__", "eval", "exec", "globals", "locals", "attrgetter", "dir"})

# What answers otherwise at each call, by its module. (`random`, NumPy and torch are told by their states.)
_OUTSIDE = {
    "time": frozenset({"time", "perf_counter", "monotonic", "process_time", "thread_time", "localtime", "gmtime"})
    | {"time_ns", "perf_counter_ns", "monotonic_ns", "process_time_ns", "thread_time_ns", "ctime", "strftime"},
    "datetime": frozenset({"datetime", "date"}),
    "os": frozenset({"environ", "getenv", "urandom", "times", "listdir", "stat"}),
    "uuid": frozenset({"uuid1", "uuid4"}),
    "secrets": frozenset({"token_bytes", "token_hex", "randbelow", "randbits", "choice"}),
    "builtins": frozenset({"open", "input"}),
}
_OUTSIDE["posix"] = _OUTSIDE["nt"] = _OUTSIDE["os"]
_OUTSIDE["_io"] = _OUTSIDE["io"] = _OUTSIDE["builtins"]
_OUTSIDE["_datetime"] = _OUTSIDE["datetime"]


class Named(NamedTuple):
    """What the code of a function names, that of the functions within it included."""

    loaded: frozenset[str]  # by LOAD_GLOBAL: globals, or builtins
    attributes: frozenset[str]
    imported: frozenset[str]
    reflects: bool


@lru_cache(maxsize=10_000)
def named(code: CodeType) -> Named:
    """Return what a code object names."""
    loaded, attributes, imported = set(), set(), set()
    for instruction in dis.get_instructions(code):
        kind, name = instruction.opname, instruction.argval
        if kind == "IMPORT_NAME":
            imported.add(name)
        elif kind in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"):
            loaded.add(name)
        elif kind.endswith(("_ATTR", "_METHOD", "IMPORT_FROM")):
            attributes.add(name)
    reflects = bool(_REFLECTION & (loaded | attributes))
    # Also in strings: operator.attrgetter("scale"), a site's name that is a PyroModule's attribute.
    attributes.update(each for each in code.co_consts if isinstance(each, str) and each.isidentifier())
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more = named(inner)
            loaded |= more.loaded
            attributes |= more.attributes
            imported |= more.imported
            reflects = reflects or more.reflects
    return Named(frozenset(loaded), frozenset(attributes), frozenset(imported), reflects)


def is_librarys(module_name: Any) -> bool:
    """Return whether a module is one whose own globals do not change: torch's, Pyro's, the standard library's, ours."""
    return str(module_name).partition(".")[0] in _LIBRARIES


def reads_outside(value: Any, attributes: frozenset[str]) -> str | None:
    """Return the name of what lies outside of Python's objects, the clock for one, that code with `value` can read."""
    if isinstance(value, ModuleType):
        found = _OUTSIDE.get(value.__name__, frozenset()) & attributes
        return f"{value.__name__}.{min(found)}" if found else None
    name = getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    if isinstance(name, str) and isinstance(module, str) and name in _OUTSIDE.get(module, ()):
        return f"{module}.{name}"
    return None
