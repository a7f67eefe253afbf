"""Silence for one thread: of what torch prints, logs and warns of while it captures and compiles."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Here:
    """Whether code runs in this thread, until it ends: a filter of warnings and of log records, and a stream."""

    def __init__(self) -> None:
        self._thread: int | None = threading.get_ident()

    def end(self) -> None:
        self._thread = None

    def match(self, *_: Any) -> bool:
        """Match any warning of this thread."""
        return threading.get_ident() == self._thread

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the log records of other threads pass."""
        return record.thread != self._thread


class _Stream:
    """A stream that swallows what one thread writes."""

    def __init__(self, stream: Any, here: _Here) -> None:
        self._stream, self._here = stream, here

    def write(self, text: str) -> int:
        return len(text) if self._here.match() else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def counted_warnings() -> Iterator[list[str]]:
    """Give the list of what this thread warns of in the block, as far as it is shown; it is shown as ever."""
    here, shown, show = _Here(), list[str](), warnings.showwarning

    def note(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if here.match():
            shown.append(f"{category.__name__}: {message}")
        show(message, category, *where, **more)

    warnings.showwarning = note
    try:
        yield shown
    finally:
        here.end()
        if warnings.showwarning is note:
            warnings.showwarning = show


@contextmanager
def silent() -> Iterator[None]:
    """Keep what this thread prints, logs and warns of away: of a failure torch logs a whole graph.

    Other threads go on as they were, and nothing is put back that was not put there, whatever they change meanwhile.
    """
    here = _Here()
    # In place: what `warnings.catch_warnings` of another thread puts back is the list itself.
    filters: Any = warnings.filters
    ignore = ("ignore", here, Warning, None, 0)
    filters.insert(0, ignore)
    handlers = _handlers()
    for handler in handlers:
        handler.addFilter(here)
    streams = {name: _Stream(getattr(sys, name), here) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        setattr(sys, name, stream)
    try:
        yield
    finally:
        here.end()
        for name, stream in streams.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, stream._stream)
        for handler in handlers:
            handler.removeFilter(here)
        now: Any = warnings.filters
        for each in (filters, now):
            each[:] = [entry for entry in each if entry is not ignore]


def _handlers() -> list[logging.Handler]:
    """Return all handlers of log records."""
    loggers = [logging.root, *(each for each in logging.root.manager.loggerDict.values())]
    found = [handler for each in loggers for handler in getattr(each, "handlers", ())]
    return [*found, *([logging.lastResort] if logging.lastResort else [])]
