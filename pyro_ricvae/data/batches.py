"""Sources of rows: how many there are, some of them, and batches in a shuffled order that can be resumed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pyro_ricvae._core.checks import check_finite, check_rows


class RowSource(ABC):
    """Where training takes rows from. A subclass says how many there are, how wide, and gives those asked for.

    Attributes
    ----------
    n_rows, n_features : int
        The shape of all rows, (n_rows, n_features).
    device : torch.device
        Where the rows that it gives are; by default the CPU.
    """

    n_rows: int
    n_features: int
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def take(self, rows: Tensor) -> Tensor:
        """Return the rows of these numbers, an int64 tensor of shape (k,), as a tensor of shape (k, n_features)."""

    def sample(self, n: int) -> Tensor:
        """Return `n` rows at most, evenly spaced: the same every time, for what is measured again and again."""
        # In float32 as long as that holds all whole numbers.
        dtype = torch.float32 if self.n_rows < 2**24 else torch.float64
        spaced = torch.linspace(0, self.n_rows - 1, min(self.n_rows, n), device=self.device, dtype=dtype)
        return self.take(spaced.long())

    def batches(self, size: int) -> "Batches":
        """Return batches of `size` rows without end, shuffled anew in every epoch."""
        return Batches(self, size)


class ArrayRows(RowSource):
    """The rows of a tensor in memory.

    Parameters
    ----------
    x : Tensor, shape (n, d)
        Floating-point and finite, two rows or more.

    Raises
    ------
    TypeError, ValueError
        If `x` is not as said.
    """

    def __init__(self, x: Tensor) -> None:
        check_rows(x)
        if x.dim() != 2 or len(x) < 2:
            raise ValueError(f"Expected x of shape (n, d) with two rows or more, actual {tuple(x.shape)}.")
        check_finite(x)
        self.x = x
        self.n_rows, self.n_features = x.shape
        self.device = x.device

    def take(self, rows: Tensor) -> Tensor:
        """Return these rows; see `RowSource.take`."""
        return self.x[rows]


class Batches(Iterator[Tensor]):
    """Batches of a source's rows without end, each epoch in an order of its own; its last batch may be smaller.

    Orders come from torch's global generator, on the source's device, one at the start of each epoch.

    Parameters
    ----------
    source : RowSource
        The rows.
    size : int
        How many of them a batch has.
    """

    def __init__(self, source: RowSource, size: int) -> None:
        self.source, self.size = source, size
        self._order = torch.empty(0, dtype=torch.int64, device=source.device)
        self._position = 0

    def __next__(self) -> Tensor:
        """Return the next batch, of shape (B, d)."""
        if self._position >= len(self._order):
            self._order = torch.randperm(self.source.n_rows, device=self.source.device)
            self._position = 0
        batch = self.source.take(self._order[self._position : self._position + self.size])
        self._position += self.size  # only now: a source may fail, and be asked again
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return where it is: the order of this epoch, and the position in it."""
        return {"order": self._order.clone(), "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken.

        Raises
        ------
        ValueError
            If it is of a source of another number of rows.
        """
        if len(state["order"]) not in (0, self.source.n_rows):
            raise ValueError(f"Expected an order of {self.source.n_rows} rows, actual one of {len(state['order'])}.")
        self._order = state["order"].to(self.source.device, copy=True)
        self._position = int(state["position"])
