"""One training step: loss, gradient, clipping, optimizer; on CUDA recorded and replayed as one graph."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from pyro_ricvae._core.errors import explained_out_of_memory

# Steps that are taken as they come before one is recorded: torch asks for some, to set up what it does only once.
_WARM_STEPS = 3


class Step:
    """A step of Adam on the loss of a batch.

    Parameters
    ----------
    loss : callable
        From a batch, and what else a step is called with, to the loss.
    parameters : list of Tensor
        What is trained, all on one device.
    learning_rate : float
        To begin with; see `set_learning_rate`.
    clip_norm : float or None
        The largest norm of the gradient.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        parameters: list[nn.Parameter],
        learning_rate: float,
        clip_norm: float | None,
    ) -> None:
        self.loss, self.parameters = loss, parameters
        self.clip_norm = math.inf if clip_norm is None else clip_norm
        self.device = device = parameters[0].device
        # A graph holds numbers as they were; a learning rate that moves is a tensor on the device.
        on_cuda = device.type == "cuda"
        rate: Any = torch.tensor(learning_rate, device=device) if on_cuda else learning_rate
        self._optimizer = Adam(parameters, lr=rate, fused=device.type in ("cpu", "cuda") or None, capturable=on_cuda)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate for the next steps."""
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def moments(self) -> list[dict[str, Tensor]]:
        """Return copies of the optimizer's moments, a dict a parameter, empty before the first step."""
        return [
            {name: value.clone() for name, value in self._optimizer.state.get(parameter, {}).items()}
            for parameter in self.parameters
        ]

    @torch.no_grad()
    def set_moments(self, moments: list[dict[str, Tensor]]) -> None:
        """Set the optimizer's moments to such copies; in place where it has some, as a recorded step holds them."""
        for parameter, saved in zip(self.parameters, moments, strict=True):
            now = self._optimizer.state.get(parameter, {})
            for name, value in now.items():
                if saved:
                    value.copy_(saved[name])
                else:
                    value.zero_()  # saved before the first step
            if saved and not now:
                self._optimizer.state[parameter] = {name: value.clone() for name, value in saved.items()}

    def __call__(self, batch: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        """Take a step; return the loss and the gradient's norm before clipping, still on the device.

        Raises
        ------
        torch.OutOfMemoryError
            If memory does not suffice: the message suggests a batch size.
        """
        self._optimizer.zero_grad(set_to_none=True)
        with explained_out_of_memory(len(batch)):
            loss = self.loss(batch, *args)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
            self._optimizer.step()
        return loss.detach(), norm


def cuda_graph(function: Callable[[], None]) -> Callable[[], None]:
    """Record what `function` does on the current CUDA device, without doing it; return what does it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


@dataclass
class _Recorded:
    replay: Callable[[], None]
    batch: Tensor
    results: tuple[Tensor, Tensor]


class RecordedStep:
    """A step that is recorded once for each length of a batch, and then replayed: one launch instead of hundreds.

    What else it is called with, such as a number of passes, has recordings of its own.

    Parameters
    ----------
    step : Step
        On tensors that stay where they are: what changes is changed in place.
    record : callable, default=cuda_graph
        From a function without arguments to one that does the same again.
    is_current : callable, optional
        From the arguments to whether a recording still holds: where it does not, all are made anew. Always, by default.
    """

    def __init__(
        self,
        step: Step,
        record: Callable[[Callable[[], None]], Callable[[], None]] = cuda_graph,
        is_current: Callable[..., bool] = lambda *args: True,
    ) -> None:
        self.step, self.record, self.is_current = step, record, is_current
        self._taken: dict[tuple[Any, ...], int] = {}
        self._recorded: dict[tuple[Any, ...], _Recorded] = {}

    def __call__(self, batch: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        """Take a step, as `Step` does."""
        kind = (len(batch), *args)
        if kind in self._recorded and not self.is_current(batch, *args):
            self._recorded.clear()
            self._taken.clear()
        if kind not in self._recorded:
            if self._taken.get(kind, 0) < _WARM_STEPS:
                self._taken[kind] = self._taken.get(kind, 0) + 1
                return self._warm(batch, *args)
            self._recorded[kind] = self._record(batch, *args)
        recorded = self._recorded[kind]
        recorded.batch.copy_(batch)
        recorded.replay()
        loss, norm = recorded.results
        return loss.clone(), norm.clone()  # the next replay overwrites them

    def _warm(self, batch: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        """Take a step on a stream of its own, as torch asks before a recording."""
        if not batch.is_cuda:
            return self.step(batch, *args)
        stream = torch.cuda.Stream(batch.device)
        stream.wait_stream(torch.cuda.current_stream(batch.device))
        with torch.cuda.stream(stream):
            results = self.step(batch, *args)
        torch.cuda.current_stream(batch.device).wait_stream(stream)
        return results

    def _record(self, batch: Tensor, *args: Any) -> _Recorded:
        batch, loss, norm = batch.clone(), batch.new_zeros(()), batch.new_zeros(())

        def take() -> None:
            for kept, result in zip((loss, norm), self.step(batch, *args), strict=True):
                kept.copy_(result)

        return _Recorded(self.record(take), batch, (loss, norm))
