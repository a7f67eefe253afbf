"""The graphs of one loss: one for each kind of call, as soon as two calls of a kind say that it can be one."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec

from pyro_ricvae._core.errors import reason
from pyro_ricvae.inference.compile.capture import batch_length
from pyro_ricvae.inference.compile.dependencies import Dependencies
from pyro_ricvae.inference.compile.kinds import (
    Kind,
    Options,
    first_difference,
    in_words,
    is_recording,
    is_surrounded,
    key_of,
    tensors_with_rows,
)
from pyro_ricvae.inference.compile.making import captured, compile_program
from pyro_ricvae.inference.compile.patches import TooLargeError
from pyro_ricvae.inference.compile.precision import choose_precision
from pyro_ricvae.inference.compile.program import CompilationWarning, Program
from pyro_ricvae.inference.compile.watch import Watch

_MOST_KINDS = 64
_MOST_GRAPHS = 8  # of a kind
_SAID_AFTER = 3  # calls in a row before each of which something else was changed

_BESIDES = "the model depends on something besides its arguments, Python's objects and torch's random numbers"


class Graphs:
    """The graphs of one loss.

    Parameters
    ----------
    loss : callable
        What returns it, and may have Pyro take its gradient.
    namespace, names
        Where what it reads begins, see `Dependencies`.
    pair : callable
        What returns model and guide.
    options : Options
    by_value : bool, default=False
        Whether the gradient is that of what the loss returns, and not one that Pyro takes by itself.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        namespace: dict[str, Any],
        names: Sequence[str],
        pair: Callable[[], Iterable[Any]],
        options: Options,
        *,
        by_value: bool = False,
    ) -> None:
        self._loss, self._namespace, self._names, self.options = loss, namespace, tuple(names), options
        self._pair, self._by_value = pair, by_value
        self._kinds: OrderedDict[Any, Kind] = OrderedDict()
        self._fixed: dict[Any, str] = {}  # kinds whose graphs hold for one length of the batch, and why
        self._device: torch.device | None = None
        self._new_in_a_row = 0

    @property
    def engines(self) -> list[str]:
        """How calls run, one entry for each graph, and for each kind of call that has none for good."""
        engines: list[str] = []
        for kind in self._kinds.values():
            engines += [program.engine for program in kind.programs] or ["eager"] * bool(kind.refused)
        return engines

    @property
    def programs(self) -> list[Program]:
        """All graphs."""
        return [program for kind in self._kinds.values() for program in kind.programs]

    def find(self, leaves: Sequence[Any], spec: TreeSpec) -> Program | None:
        """Return the graph for these arguments, or None where Pyro has to run: also for one that is to be verified."""
        kind = self._kinds.get(self._key(leaves, spec))
        if kind is None or is_surrounded():
            return None
        program = _holding(kind, leaves)
        if program is not None and program.is_due() and not is_recording():
            kind.due = program
            return None
        return program

    def has(self, leaves: Sequence[Any], spec: TreeSpec) -> bool:
        """Return whether there is a graph for these arguments, and all that it depends on is as it was."""
        kind = self._kinds.get(self._key(leaves, spec))
        return kind is not None and _holding(kind, leaves) is not None

    def refuses(self, leaves: Sequence[Any], spec: TreeSpec) -> bool:
        """Return whether there will be no graph for these arguments."""
        kind = self._kinds.get(self._key(leaves, spec))
        return kind is not None and kind.refused is not None

    def tensors(self) -> list[Tensor]:
        """Return the tensors that the loss may read and change, parameters left out."""
        reached = Dependencies(self._namespace, self._names).tensors.values()
        return [tensor for tensor in reached if not tensor.requires_grad]

    def watch(self, leaves: Sequence[Any], spec: TreeSpec, *, at_once: bool = False) -> Watch | None:
        """Return what looks at a call that runs as Pyro, or None where there is nothing to be learned of it.

        A kind of call is looked at from its second call on, or at once.
        """
        if self._device is None:
            self.begin(leaves)
        if is_surrounded():
            return None
        key = self._key(leaves, spec)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._new_kind(key)
            if not at_once:
                return None
        self._kinds.move_to_end(key)
        if kind.refused:
            return None
        if kind.rest:
            kind.rest -= 1
            return None
        return Watch(leaves, kind.dependencies, kind.due.written if kind.due else kind.written)

    def _new_kind(self, key: Any) -> Kind:
        """Remember a kind of call; say it where every call is of another one."""
        if self._kinds:
            last = next(reversed(self._kinds))
            self._new_in_a_row += 1
            if self._new_in_a_row == _MOST_KINDS // 2 and (differing := first_difference(last[0], key[0])):
                self.options.warn_once(
                    f"Every call has arguments of another kind ({differing}), so that Pyro itself runs: give numbers "
                    "that change as 0-dim tensors"
                )
        kind = self._kinds[key] = Kind()
        if len(self._kinds) > _MOST_KINDS:
            self._kinds.popitem(last=False)
        return kind

    def learn(self, watch: Watch, leaves: Sequence[Any], spec: TreeSpec, trained: Sequence[Tensor]) -> None:
        """Verify the graph for these arguments, or make one, now that a call has run as Pyro."""
        key = self._key(leaves, spec)
        kind = self._kinds.get(key)
        if kind is None:
            return
        try:
            self._learn(key, kind, watch, leaves, spec, trained)
        except (torch.OutOfMemoryError, CompilationWarning):
            raise
        except Exception as error:  # of a kind of tensors that cannot be compared, for one: Pyro's step stands
            self._refuse(kind, reason(error))

    def _learn(
        self, key: Any, kind: Kind, watch: Watch, leaves: Sequence[Any], spec: TreeSpec, trained: Sequence[Tensor]
    ) -> None:
        self._new_in_a_row = 0
        due, kind.due = kind.due, None
        if due is not None:
            if found := watch.compare(due, leaves, self.autocast()):
                kind.programs.clear()
                self._refuse(kind, f"after {due.calls} calls another one than Pyro's in {found}: {_BESIDES}")
            return
        was = kind.dependencies
        ready = was is not None and self._looked_at(kind, watch)
        if kind.refused or not ready:
            if was is None:
                kind.dependencies = self._dependencies(kind)
            return
        if kind.steady >= 2 ** min(kind.captured, 6):
            self._make(key, kind, watch, leaves, spec, trained)

    def _dependencies(self, kind: Kind) -> Dependencies:
        found = Dependencies(self._namespace, self._names)
        if found.obstacle:
            self._refuse(kind, found.obstacle)
        return found

    def _looked_at(self, kind: Kind, watch: Watch) -> bool:
        """Return whether the call read and wrote what it is known to; take note of what else it did."""
        dependencies = watch.dependencies
        assert dependencies is not None
        if watch.between:
            # What was changed since the last call is no doing of this one: from here on it is as it is now.
            kind.steady = 0
            kind.unsteady += 1
            kind.dependencies = self._dependencies(kind)
            if kind.unsteady >= _SAID_AFTER:
                # To look takes as long as a step: next time two calls in a row, some calls later.
                kind.dependencies, kind.rest = None, 2 ** min(kind.unsteady, 8)
                self.options.warn_once(
                    f"{in_words(watch.between)} between calls, and is part of a graph, so that Pyro itself runs: give "
                    "numbers that change as 0-dim tensors"
                )
            return False
        kind.unsteady = 0
        during = dependencies.changes()
        if why := watch.effect([each for each in during if not dependencies.is_scratch(each[0])]):
            self._refuse(kind, why)
            return False
        if during:
            scratch = dependencies.scratch | {path for path, _, _ in during}
            kind.dependencies = Dependencies(self._namespace, self._names, frozenset(scratch))
        written = watch.wrote()
        if {id(each) for each in written} != {id(each) for each in watch.written}:
            kind.written = written
            return False
        if during or not watch.is_finite():
            return False
        kind.steady += 1
        return True

    def _make(
        self, key: Any, kind: Kind, watch: Watch, leaves: Sequence[Any], spec: TreeSpec, trained: Sequence[Tensor]
    ) -> None:
        """Capture, verify and compile a graph."""
        kind.captured += 1
        kind.steady = 0
        base, length = key
        if length is not None:
            self.options.warn_once(
                f"A batch of {length} rows is captured anew, since the length of the batch is part of the graph (a "
                f"loop over it, or a plate that draws some of it, makes it so): {self._fixed[base]}"
            )
        rows = batch_length(leaves) if self.options.dynamic else None
        any_strides = self.options.compiled or all(leaf.is_contiguous() for leaf in leaves if isinstance(leaf, Tensor))
        varies = length is None and rows is not None and rows >= 2 and any_strides
        with_rows = tensors_with_rows(leaves, rows) if varies and rows is not None else None
        failures: list[str] = []
        for varying in [None] if with_rows is None else [with_rows, None]:
            try:
                program = captured(
                    self._loss,
                    leaves,
                    spec,
                    watch,
                    trained,
                    varying,
                    copies=self.options.compiled,
                    by_value=self._by_value,
                )
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                failures.append(reason(error))
                if isinstance(error, TooLargeError):
                    break  # whatever its shapes are
                continue
            finally:
                watch.put_back()  # a capture may change a tensor that is no buffer
            try:
                found = watch.compare(program, leaves, self.autocast())
            except Exception as error:
                found = reason(error)
            if found:
                failures.append(f"under one seed the graph's loss is another than Pyro's in {found}: {_BESIDES}")
                continue
            if failures:
                self._fixed[base] = failures[0]
                del self._kinds[key]
                kind = self._kinds.setdefault(self._key(leaves, spec), kind)
            if self.options.compiled and torch.is_grad_enabled():
                with self.autocast():
                    compile_program(program, leaves, varying, self.options.fallback_random)
            kind.programs.insert(0, program)
            del kind.programs[_MOST_GRAPHS:]
            return
        self._refuse(kind, f"{failures[-1]}. What depends on the values of tensors has to be a tensor operation")

    def begin(self, leaves: Sequence[Any]) -> None:
        """Choose the precision by the first call, and find the device."""
        options, reached = self.options, Dependencies(self._namespace, self._names)
        networks = nn.ModuleList(reached.modules)
        tensors = [
            *networks.parameters(),
            *(each for each in (*leaves, *reached.tensors.values()) if isinstance(each, Tensor)),
        ]
        self._device = tensors[0].device if tensors else torch.get_default_device()
        rows = batch_length(leaves) or 1
        options.precision = choose_precision(
            options.precision, self._pair(), networks, rows, self._device, options.fallback_random
        )

    def autocast(self) -> Any:
        """Return the context in which calls run."""
        if self.options.precision != "bf16" or self._device is None:
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def _refuse(self, kind: Kind, why: str) -> None:
        kind.refused = why
        self.options.warn_once(f"The model, guide or objective cannot be captured, and runs eagerly: {why}")

    def _key(self, leaves: Sequence[Any], spec: TreeSpec) -> Any:
        base = key_of(leaves, spec, self.options)
        return base, batch_length(leaves) if base in self._fixed else None


def _holding(kind: Kind, leaves: Sequence[Any]) -> Program | None:
    """Return the graph for which everything is as it was, and have it asked first the next time."""
    for number, program in enumerate(kind.programs):
        if program.holds(leaves):
            if number:
                kind.programs.insert(0, kind.programs.pop(number))
            return program
    return None
