"""What a run holds: copies of its state to go back to, sums since the last look, and the batches to come."""

import math
import time
from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class State:
    """A copy of parameters, buffers and the optimizer's moments, and what `measure` said of it."""

    def __init__(self, module: nn.Module, optimizer: Optimizer, measured: dict[str, float]) -> None:
        self.module, self.optimizer, self.measured = module, optimizer, measured
        self._saved = deepcopy(module.state_dict())
        self._moments = {
            parameter: {name: value.clone() for name, value in moments.items()}
            for parameter, moments in optimizer.state.items()
        }

    @torch.no_grad()
    def restore(self) -> None:
        """Go back to it, in place: a recorded step holds these tensors."""
        self.module.load_state_dict(self._saved)
        for parameter, moments in self.optimizer.state.items():
            for name, value in moments.items():
                if parameter in self._moments:
                    value.copy_(self._moments[parameter][name])
                else:
                    value.zero_()  # saved before the first step


class Tally:
    """Sums over the steps since the last look, kept on the device, so that no step waits for it."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.loss: Tensor | float = 0.0
        self.norm: Tensor | float = 0.0
        self.rows = self.steps = 0

    def add(self, loss: Tensor, norm: Tensor, rows: int) -> None:
        """Add a step's loss, gradient norm and number of rows."""
        self.loss, self.norm = self.loss + loss, self.norm + norm
        self.rows, self.steps = self.rows + rows, self.steps + 1

    @property
    def finite(self) -> bool:
        """Whether all losses and gradients were finite."""
        return math.isfinite(float(self.loss)) and math.isfinite(float(self.norm))

    @property
    def mean_loss(self) -> float:
        """The mean loss of a row."""
        return float(self.loss) / self.rows

    @property
    def mean_norm(self) -> float:
        """The mean norm of the gradient."""
        return float(self.norm) / self.steps


def shuffled_batches(x: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Yield batches of rows without end, each epoch in an order of its own; its last batch may be smaller."""
    while True:
        for rows in torch.randperm(len(x), device=x.device).split(batch_size):
            yield x[rows]
