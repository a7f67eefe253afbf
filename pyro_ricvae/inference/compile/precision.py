"""The precision of a network's matrix products."""

import warnings
from typing import Any, Literal, get_args

import torch
from torch import nn

Precision = Literal["auto", "fp32", "bf16"]

# Below this many multiplications a step of the matrix products, the conversions to bfloat16 cost what they save.
_WORTH_CONVERTING = 1e8


def check_precision(precision: str) -> None:
    """Raise a ValueError unless `precision` is one of those there are."""
    if precision not in get_args(Precision):
        raise ValueError(f"Expected precision to be one of {', '.join(get_args(Precision))}, actual {precision!r}.")


def fast_in_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies matrices in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    cpu: Any = torch.cpu  # what torch asks of a processor is public only since 2.10
    return any(getattr(cpu, name, lambda: False)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))


def warn_if_slow(device: torch.device) -> None:
    """Warn where bfloat16 is chosen and the hardware is slow at it."""
    if not fast_in_bf16(device):
        warnings.warn(
            f"precision='bf16' on {device}: this hardware has no instructions for it, so that it is slower than "
            "'fp32', and only less precise. 'auto' chooses it only where it is faster.",
            stacklevel=4,
        )


def multiplications(module: nn.Module, rows: int) -> int:
    """Return how many multiplications the matrices of `module` take for `rows` rows."""
    return rows * sum(parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)


def worth_bf16(module: nn.Module, rows: int, device: torch.device) -> bool:
    """Return whether a step of `rows` rows through the matrices of `module` is faster in bfloat16."""
    if any(parameter.dtype != torch.float32 for parameter in module.parameters() if parameter.dim() > 1):
        return False
    return multiplications(module, rows) >= _WORTH_CONVERTING and fast_in_bf16(device)
