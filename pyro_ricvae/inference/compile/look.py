"""A walk through everything that Python may read while a loss is computed.

A graph holds what Python read while it was captured as constants: attributes, items of containers, global variables,
closures, defaults. The walk finds all of it, from the functions and objects that a loss is made of and by what their
code names (`code.named`).
"""

import contextvars
import functools
import random
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_ricvae.inference.compile.code import (
    Named,
    is_librarys,
    is_librarys_class,
    named,
    read_by_libraries,
    reads_outside,
    slots,
)
from pyro_ricvae.inference.compile.values import BY_IDENTITY, BY_VALUE, attribute_of, key_of, same_array, state_of

_METHODS = (types.MethodType, types.MethodWrapperType, types.BuiltinFunctionType)

# What a module holds for other purposes than to run.
_UNREAD = frozenset(
    {"_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"}
    | {"_non_persistent_buffers_set", "_is_full_backward_hook"}
)
# Containers of a module that are never replaced: what is in them is looked at.
_FIXED = frozenset(vars(nn.Module())) - {"training"} - _UNREAD

# What a class does for an object that is made, shown or saved, and not for one that there is.
_MAKING = frozenset(
    {"__init__", "__new__", "__post_init__", "__repr__", "__str__", "__getstate__", "__setstate__", "__reduce__"}
)

# More than this many objects take longer to look at than a graph saves.
_MOST = 20_000
_MOST_BYTES = 1_000_000


class Look:
    """One walk through what can be read, with the attributes that are known to be named somewhere."""

    def __init__(self, known: frozenset[str], scratch: frozenset[str]) -> None:
        self.known, self.scratch = known, scratch
        self.read: set[str] = set()
        self.facts: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        self.modules: list[nn.Module] = []
        self.librarys: list[str] = []  # attributes that only libraries know
        self.users: list[str] = []  # functions, and objects of classes, of users
        self.obstacle: str | None = None
        self.sized: list[Any] = []
        self.containers: list[Any] = []
        self.keys: list[Any] = []
        self.values: list[Any] = []
        self.readers: list[Callable[[], Any]] = []
        self.readings: list[Any] = []
        self.writers: list[Callable[[Any], Any]] = []
        self.classes: list[tuple[type, str]] = []  # and which of their attributes
        self.copies: list[tuple[Callable[[Any], bool], Any]] = []
        self._seen: dict[int, str] = {}
        self._kinds: set[type] = set()
        self._keep: list[Any] = []
        self._pending: deque[tuple[Any, str]] = deque()

    def note_item(self, container: Any, key: Any, path: str) -> None:
        """Note an item of a container, and look into it later."""
        value = container[key]
        self.containers.append(container)
        self.keys.append(key)
        self.values.append(value)
        self._pending.append((value, path))

    def note_reading(self, read: Callable[[], Any], write: Callable[[Any], Any], path: str) -> None:
        """Note what a function without arguments returns, by identity, and what would set it."""
        try:
            value = read()
        except (ValueError, AttributeError):  # an empty cell or slot
            self.facts[path] = ("empty", "")
            return
        self.readers.append(read)
        self.writers.append(write)
        self.readings.append(value)
        self._pending.append((value, path))

    def go_on(self) -> None:
        """Look into everything that was noted."""
        while self._pending and self.obstacle is None:
            value, path = self._pending.popleft()
            if path not in self.scratch:
                self._look_into(value, path)
            if len(self.facts) > _MOST:
                self.obstacle = f"more than {_MOST} objects can be read, from {path} on"

    def _look_into(self, value: Any, path: str) -> None:
        kind = type(value)
        if isinstance(value, BY_VALUE):
            self.facts[path] = (kind, value)
        elif isinstance(value, float | complex):
            self.facts[path] = (kind, repr(value))  # nan is nan, and -0.0 is not 0.0
        elif id(value) in self._seen and not isinstance(value, tuple | frozenset):
            self.facts[path] = ("the same as", self._seen[id(value)])
        else:
            self._seen[id(value)] = path
            self._keep.append(value)
            self.facts[path] = (kind, "")
            self._look_into_object(value, kind, path)

    def _look_into_object(self, value: Any, kind: type, path: str) -> None:
        if isinstance(value, Tensor):
            self.facts[path] = ("a tensor", id(value))
            self.tensors[path] = value
        elif isinstance(value, types.FunctionType):
            self._function(value, path)
        elif isinstance(value, type):
            self.facts[path] = ("a class", id(value))
            self._class(value)
        elif isinstance(value, types.ModuleType):
            self._module(value, path)
        elif isinstance(value, _METHODS):
            self.facts[path] = ("a method", value.__name__)
            if not isinstance(value.__self__, types.ModuleType):
                self._pending.append((value.__self__, path.rpartition(".")[0] or path))
            if isinstance(value, types.MethodType):
                self._pending.append((value.__func__, path))
        elif isinstance(value, BY_IDENTITY):
            self.facts[path] = (kind, id(value))
        elif not self._wrapper(value, path) and not self._by_state(value, path):
            self._contents(value, path)
            self._attributes(value, kind, path)

    def _wrapper(self, value: Any, path: str) -> bool:
        """Look into what stands for something else: a partial, a property, a weak reference."""
        if isinstance(value, functools.partial):
            parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
        elif isinstance(value, property):
            parts = {"fget": value.fget, "fset": value.fset}
        elif isinstance(value, staticmethod | classmethod):
            parts = {"__func__": value.__func__}
        elif isinstance(value, functools.cached_property):
            parts = {"func": value.func}
        elif isinstance(value, weakref.ReferenceType):
            parts = {"()": value()}
        else:
            return False
        self._pending.extend((part, f"{path}.{name}") for name, part in parts.items() if part is not None)
        return True

    def _by_state(self, value: Any, path: str) -> bool:
        """Take a copy of what is no tree of Python objects, and compare it at each call."""
        if isinstance(value, np.ndarray) and value.dtype != object:
            if value.nbytes > _MOST_BYTES:
                self.obstacle = f"{path} is a NumPy array of {value.nbytes / 1e6:.0f} MB: give it as a tensor"
            self.facts[path] = ("an array", value.dtype.str, value.shape, value.tobytes())
            self.copies.append((functools.partial(same_array, value), value.copy()))
        elif isinstance(value, torch.Generator):
            self.facts[path] = ("a generator", value.get_state().numpy().tobytes())
            self.copies.append((lambda was: value.get_state().numpy().tobytes() == was, self.facts[path][1]))
        elif isinstance(value, random.Random | np.random.Generator | np.random.RandomState):
            self.facts[path] = ("a generator", repr(state_of(value)))
            self.copies.append((lambda was: repr(state_of(value)) == was, self.facts[path][1]))
        elif isinstance(value, contextvars.ContextVar):
            self.facts[path] = ("a context variable", id(value))
            self.note_reading(functools.partial(value.get, None), value.set, f"{path}.get()")
        elif isinstance(value, Iterator) and not hasattr(value, "__dict__"):
            self.obstacle = f"{path} is an iterator, whose state cannot be seen"
        else:
            return False
        return True

    def _contents(self, value: Any, path: str) -> None:
        if isinstance(value, dict | types.MappingProxyType):
            self.sized.append(value)
            for key in list(value):
                self.note_item(value, key, f"{path}[{key!r}]" if isinstance(key, str) else f"{path}[{key_of(key)}]")
        elif isinstance(value, list | deque):
            self.sized.append(value)
            for index in range(len(value)):
                self.note_item(value, index, f"{path}[{index}]")
        elif isinstance(value, tuple):
            self._pending.extend((each, f"{path}[{index}]") for index, each in enumerate(value))
        elif isinstance(value, set | frozenset):
            self.facts[path] = (type(value), frozenset(map(key_of, value)))
            self.copies.append((lambda was: frozenset(map(key_of, value)) == was, self.facts[path][1]))
            self.sized.append(value)

    def _attributes(self, value: Any, kind: type, path: str) -> None:
        if isinstance(value, nn.Module):
            self.modules.append(value)
        held = getattr(value, "__dict__", None)
        if isinstance(held, dict):
            self.sized.append(held)
            self._keep.append(held)
            for name in [name for name in held if self._may_read(kind, name)]:
                self._attribute(value, held, name, path)
        for name in slots(kind):
            if self._may_read(kind, name):
                read = functools.partial(object.__getattribute__, value, name)
                self.note_reading(read, functools.partial(object.__setattr__, value, name), f"{path}.{name}")
        if not is_librarys_class(kind):
            self.users.append(path)
        if not is_librarys_class(kind) and kind not in self._kinds:
            self._kinds.add(kind)
            self._class(kind, without=_MAKING)

    def _attribute(self, value: Any, held: dict[str, Any], name: str, path: str) -> None:
        inner = f"{path}.{name}"
        if name not in self.known:
            self.librarys.append(inner)
        if not (isinstance(value, nn.Module) and name in _FIXED):
            self.note_item(held, name, inner)
        elif name in ("_modules", "_parameters", "_buffers"):
            self.sized.append(held[name])
            for key in list(held[name]):
                self.note_item(held[name], key, f"{path}.{key}")
        else:
            self._pending.append((held[name], inner))

    def _may_read(self, kind: type, name: str) -> bool:
        """Return whether any code may read an attribute of objects of a class."""
        if name in _UNREAD:
            return False
        return is_librarys_class(kind) or name in self.known or "*" in self.known or name in read_by_libraries(kind)

    def _function(self, function: types.FunctionType, path: str) -> None:
        code = function.__code__
        self.facts[path] = ("a function", code)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            inner = f"{path}.<locals>.{name}"
            self.note_reading(*attribute_of(cell, "cell_contents"), inner)
        for name in ("__defaults__", "__kwdefaults__"):
            if getattr(function, name):
                self.note_reading(*attribute_of(function, name), f"{path}.{name}")
        if function.__dict__:
            self._pending.append((function.__dict__, f"{path}.__dict__"))
        if is_librarys(function.__globals__.get("__name__")):
            return
        self.users.append(path)
        self._code(function, named(code), path)

    def _code(self, function: types.FunctionType, names: Named, path: str) -> None:
        self.read |= names.attributes
        if names.reflects:
            self.read.add("*")
        for name in sorted(names.loaded):
            if name in function.__globals__:
                self._global(function, name, names.attributes, path)
            elif name in ("open", "input"):
                self._reads(name, path)
        for name in names.imported & {"time", "datetime", "uuid", "secrets"}:
            self._reads(name, path)

    def _global(self, function: types.FunctionType, name: str, attributes: frozenset[str], path: str) -> None:
        value = function.__globals__[name]
        if outside := reads_outside(value, attributes):
            self._reads(outside, path)
        if isinstance(value, types.ModuleType) and is_librarys(value.__name__):
            return
        self.note_item(function.__globals__, name, f"{function.__globals__.get('__name__')}.{name}")

    def _reads(self, what: str, path: str) -> None:
        self.obstacle = f"{path} may read what no graph knows: {what}"

    def _class(self, cls: type, without: frozenset[str] = frozenset()) -> None:
        """Look into the attributes of a user's class, and of those that it inherits from."""
        if issubclass(cls, torch.autograd.Function) and not is_librarys_class(cls):
            self.obstacle = f"{cls.__qualname__} has a gradient written in Python, which an export sees through"
        for base in cls.__mro__:
            if is_librarys_class(base):
                continue
            attributes: Any = vars(base)
            for name in list(attributes):
                if name in without:
                    continue
                special = name.startswith("__")
                if isinstance(attributes[name], types.FunctionType) if special else self._may_read(cls, name):
                    self.note_item(attributes, name, f"{base.__module__}.{base.__qualname__}.{name}")
                    self.classes.append((base, name))

    def _module(self, module: types.ModuleType, path: str) -> None:
        """Look into the attributes of a user's module that are named."""
        self.facts[path] = ("a module", id(module))
        if not is_librarys(module.__name__):
            for name in [name for name in vars(module) if name in self.known]:
                self.note_item(vars(module), name, f"{module.__name__}.{name}")
