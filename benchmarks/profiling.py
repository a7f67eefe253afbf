"""Where the time of a step goes."""

import statistics
import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.methods import METHODS
from benchmarks.shapes import SHAPES
from benchmarks.training_step import synchronize

_WARM_STEPS, _STEPS = 5, 20


def costs(name: str, passes: int, method_name: str, device: str) -> tuple[float, list[dict[str, Any]]]:
    """Profile one method, and return the seconds of a step outside the profiler, and its costs, largest first.

    Returns
    -------
    seconds : float
        Of a step, the median of some.
    costs : list of dict
        The "name" of an operation or kernel, its "calls" and own "seconds" a step, and the "share" of the sum.
    """
    # Names every fused kernel in the profile.
    torch._inductor.config.cpp.enable_kernel_profile = True
    method = METHODS[method_name](SHAPES[name], passes, device)

    def run(steps: int) -> float:
        times = []
        for _ in range(steps):
            synchronize(device)
            began = time.perf_counter()
            method.step()
            synchronize(device)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with method.around():
        run(_WARM_STEPS)
        seconds = run(_STEPS)
        with profile(activities=activities) as profiler:
            run(_STEPS)
    own = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events = [(event.key, event.count, getattr(event, own) / 1e6) for event in profiler.key_averages()]
    total = sum(spent for _, _, spent in events)
    found = [
        {"name": key, "calls": count / _STEPS, "seconds": spent / _STEPS, "share": spent / total}
        for key, count, spent in sorted(events, key=lambda event: -event[2])
    ]
    return seconds, found
