"""What the code of functions and classes names: globals and attributes that it may read, and what lies outside."""

import dis
import itertools
import sys
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
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


@lru_cache(maxsize=10_000)
def is_librarys_class(kind: type) -> bool:
    """Return whether a class is a library's, and so may read all attributes of its objects.

    One that `dataclasses.make_dataclass`, for one, makes for a user says that it is, and is not found there.
    """
    first = kind.__qualname__.partition(".")[0]
    return is_librarys(kind.__module__) and hasattr(sys.modules.get(kind.__module__), first)


@lru_cache(maxsize=10_000)
def read_by_libraries(kind: type) -> frozenset[str]:
    """Return the attributes that the library's classes, which a user's class inherits from, name."""
    functions = [
        value.fget if isinstance(value, property) else value
        for base in kind.__mro__
        if base is not object and is_librarys_class(base)
        for value in vars(base).values()
    ]
    codes = [each.__code__ for each in functions if isinstance(each, FunctionType)]
    return frozenset(itertools.chain.from_iterable(named(code).attributes for code in codes))


@lru_cache(maxsize=10_000)
def slots(kind: type) -> tuple[str, ...]:
    """Return the names of the slots of a class, and of those that it inherits from."""
    names = [vars(base).get("__slots__", ()) for base in kind.__mro__]
    flat = itertools.chain.from_iterable((each,) if isinstance(each, str) else each for each in names)
    return tuple(name for name in flat if name not in ("__dict__", "__weakref__"))
