"""What the tests of the training loop share: rows, a plain recipe, and a decoder that goes wrong."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pyro_ricvae.inference import Recipe

#: One step and one look an epoch, at a rate that is the same in all.
STEPS = Recipe(batch_size=100, learning_rate=1e-2, recycled_share=1.0, warmup_steps=0, cosine=False, clip_norm=None)


def low_rank_rows(n: int = 20, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(n, 2) @ torch.randn(2, 5) + 0.1 * torch.randn(n, 5)).to(dtype)


def scheduled(pair: Any, floor: Any) -> Any:
    """Return the pair, the floor of its likelihood to move between two ends in training."""
    pair[0].likelihood.schedule = {"floor": floor}
    if isinstance(floor, tuple) and len(floor) == 2 and hasattr(pair[0].likelihood, "floor"):
        pair[0].likelihood.floor.fill_(floor[0])
    return pair


def parameters(*modules: nn.Module) -> list[Tensor]:
    """Return copies of the modules' parameters."""
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    """Return whether all of the tensors are the same, to the last bit."""
    return len(first) == len(second) and all(map(torch.equal, first, second))


class Rigged(nn.Module):
    """A decoder that is wrong in some of its calls in training: in its value, or in its gradient alone."""

    def __init__(self, network: nn.Module, wrong: set[int], how: str = "value") -> None:
        super().__init__()
        self.network, self.wrong, self.how = network, wrong, how
        self.calls = -1  # the check before training is no step

    def forward(self, z: Tensor) -> Tensor:
        location: Tensor = self.network(z)
        if self.training:
            self.calls += 1
            if self.calls in self.wrong:
                # The square root of 0 is 0, with an infinite slope, which times 0 is NaN.
                return location * math.nan if self.how == "value" else location + (0 * location).sqrt()
        return location
