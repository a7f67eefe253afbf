"""What Python may read while a loss is computed, and whether it is still as it was."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter, getitem, is_
from typing import Any

import torch
from torch import nn

from pyro_ricvae.inference.compile.look import Look
from pyro_ricvae.inference.compile.replacing import Replacements

_FORM = attrgetter("requires_grad", "dtype", "device", "shape")


class Dependencies:
    """What may be read from Python, from some entries of a namespace on.

    Parameters
    ----------
    namespace : dict
        What holds the model, the guide and the objective, by name: an object's ``vars`` for one.
    names : sequence of str
        Which of its entries to begin with.
    scratch : frozenset of str
        Paths of what libraries overwrite at every call, which is not looked at.
    read : iterable of str
        Attributes that code is known to name.

    Attributes
    ----------
    facts : dict
        By path, as "model.decoder.p", the type and value of everything found.
    tensors : dict of str to Tensor
        Those found, parameters and buffers too: the graph reads their values at each call.
    modules : list of Module
        Those found.
    obstacle : str or None
        What cannot be compared, and so forbids a graph.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        names: Sequence[str],
        scratch: frozenset[str] = frozenset(),
        read: Iterable[str] = (),
    ) -> None:
        self.namespace, self.names, self.scratch = namespace, tuple(names), scratch
        self._read = set(read)
        self._look()

    def _look(self) -> None:
        """Find everything; again, until no more attributes are named by what is found."""
        while True:
            look = Look(frozenset(self._read), self.scratch)
            for name in self.names:
                look.note_item(self.namespace, name, name)
            look.go_on()
            if look.read <= self._read or look.obstacle:
                break
            self._read |= look.read
        self._found = look
        self.facts, self.tensors, self.modules, self.obstacle = look.facts, look.tensors, look.modules, look.obstacle
        self._forms = list(map(_FORM, self.tensors.values()))
        self._empty = [each for each in look.sized if not each]
        self._filled = [each for each in look.sized if each]
        self._lengths = list(map(len, self._filled))

    def hold(self) -> bool:
        """Return whether everything is as it was."""
        found = self._found
        try:
            if (
                not any(self._empty)
                and list(map(len, self._filled)) == self._lengths
                and all(map(is_, map(getitem, found.containers, found.keys), found.values))
                and all(map(is_, [read() for read in found.readers], found.readings))
                and list(map(_FORM, self.tensors.values())) == self._forms
                and all(same(was) for same, was in found.copies)
            ):
                return True
        except (LookupError, ValueError, AttributeError, TypeError):
            pass  # something is gone
        return not self.changes()

    def changes(self) -> list[tuple[str, Any, Any]]:
        """Return what is otherwise now: paths, with the facts before and now; without any, remember what is now."""
        now = Dependencies(self.namespace, self.names, self.scratch, self._read)
        changed = differences(self.facts, now.facts)
        if not changed and now.obstacle == self.obstacle and list(map(_FORM, self.tensors.values())) == self._forms:
            self.__dict__.update(now.__dict__)  # equal, but other objects
            return []
        return changed or [("a tensor", "", "of another shape, type or device, or trained or not")]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Put everything back at the end, object by object.

        A capture runs the code on stand-ins, for tensors and for their lengths, and leaves them where the code writes:
        also where a call wrote what had been there before. And it leaves copies of modules' lists and dictionaries.

        Raises
        ------
        RuntimeError
            If the code has written a length, or what is computed of it: with another one it would write another one.
        """
        found = self._found
        containers = [(each, _copied(each)) for each in found.sized if isinstance(each, dict | list | deque | set)]
        items = [each for each in zip(found.containers, found.keys, found.values, strict=True) if type(each[0]) is dict]
        read = [(read, write, read()) for read, write in zip(found.readers, found.writers, strict=True)]
        classes = [(each, name, vars(each)[name]) for each, name in found.classes]
        written: list[Any] = []
        try:
            with _noting(self.modules, written):
                yield
        finally:
            for container, was in containers:
                written += _put_back(container, was)
            for container, key, value in items:  # of the global variables, which are not all looked at
                if container.get(key) is not value:
                    written.append(container.get(key))
                    container[key] = value
            for reader, write, value in read:
                if (now := reader()) is not value:
                    written.append(now)
                    write(value)
            for each, name, value in classes:
                if (now := vars(each).get(name)) is not value:
                    written.append(now)
                    setattr(each, name, value)
        if any(map(_is_of_length, written)):
            raise RuntimeError("it keeps the length of the batch, or what is computed of it, in an object of Python's")

    def is_named(self, name: str) -> bool:
        """Return whether code names an attribute."""
        return name in self._read

    def is_scratch(self, path: str) -> bool:
        """Return whether what is at a path is in an attribute that only a library knows, and in nothing of a user's."""
        librarys = max((len(each) for each in self._found.librarys if path.startswith(each)), default=0)
        return librarys > max((len(each) for each in self._found.users if path.startswith(each)), default=0)


def _copied(container: Any) -> Any:
    return dict(container) if isinstance(container, dict) else list(container)


@contextmanager
def _noting(modules: Iterable[nn.Module], written: list[Any]) -> Iterator[None]:
    """Note what is set on modules, which an export puts back by itself."""
    known = {id(part) for each in modules for part in each.modules()}
    set_attribute = nn.Module.__setattr__

    def noted(module: nn.Module, name: str, value: Any) -> None:
        if id(module) in known:
            written.append(value)
        set_attribute(module, name, value)

    with Replacements() as stack:
        stack.replace(nn.Module, "__setattr__", noted)
        yield


def _put_back(container: Any, was: Any) -> list[Any]:
    """Make a container hold the same objects as before; return those that it held where they were others."""
    now = list(container.values()) if isinstance(container, dict) else list(container)
    before = list(was.values()) if isinstance(was, dict) else was
    same_keys = not isinstance(container, dict) or all(map(is_, container, was))
    if same_keys and len(now) == len(before) and all(map(is_, now, before)):
        return []
    container.clear()
    (container.extend if isinstance(container, list | deque) else container.update)(was)
    return now


def _is_of_length(value: Any) -> bool:
    """Return whether a value is, or holds, a stand-in for the length of a batch."""
    if isinstance(value, dict):
        return any(map(_is_of_length, value.values()))
    if isinstance(value, tuple | list | deque | set):
        return any(map(_is_of_length, value))
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return where two collections of facts differ."""
    if before == now:
        return []
    nothing = ("nothing", "")
    paths = [*before, *(path for path in now if path not in before)]
    return [
        (path, before.get(path, nothing), now.get(path, nothing))
        for path in paths
        if before.get(path, nothing) != now.get(path, nothing)
    ]
