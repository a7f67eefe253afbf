"""Whole training steps under a CUDA graph, and the least time that launching their kernels takes.

Written without a CUDA device at hand, and not yet run on one.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

_WARM_STEPS = 3
#: How many kernels the graph of `empty_kernels` has.
N_EMPTY_KERNELS = 200


def captured_step(step: Callable[[], Tensor], optimizer: Optimizer) -> Callable[[], Tensor]:
    """Capture `step`, forward, backward and optimizer, into a CUDA graph; return a function that replays it.

    Random numbers are new at every replay: the graph advances torch's generator.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles, and makes the optimizer's state, before the capture
        for _ in range(_WARM_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Without gradients to begin with, the captured backward writes them instead of adding to them.
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        loss = step().detach()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


def count_kernels(replay: Callable[[], object]) -> int:
    """Return how many kernels, copies and fills on the device one call of `replay` makes."""
    replay()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        replay()
        torch.cuda.synchronize()
    return sum(event.device_type == DeviceType.CUDA for event in profiler.events() or ())


def empty_kernels() -> Callable[[], Tensor]:
    """Return a function that replays a graph of `N_EMPTY_KERNELS` kernels, one after the other, on a single number."""
    number = torch.zeros((), device="cuda")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(N_EMPTY_KERNELS):
            number.add_(1)

    def replay() -> Tensor:
        graph.replay()
        return number

    return replay
