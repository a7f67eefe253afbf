"""The precision of a network's matrix products."""

import warnings
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import nn

from pyro_ricvae._core.errors import users_level

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
            stacklevel=users_level(),
        )


def choose_precision(
    precision: Precision, pair: Iterable[Any], module: nn.Module, rows: int, device: torch.device, fallback_random: bool
) -> Literal["fp32", "bf16"]:
    """Return what "auto" comes to for a model and a guide, the networks in `module` and a batch of so many rows.

    Of another pair than this package's nobody knows whether it can bear its networks' outputs in bfloat16.
    """
    if precision == "auto":
        known = all(getattr(part, "autocast_safe", False) for part in pair)
        return "bf16" if known and not fallback_random and worth_bf16(module, rows, device) else "fp32"
    if precision == "bf16":
        warn_if_slow(device)
    return precision


def multiplications(module: nn.Module, rows: int) -> int:
    """Return how many multiplications the matrices of `module` take for `rows` rows."""
    return rows * sum(parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)


def worth_bf16(module: nn.Module, rows: int, device: torch.device) -> bool:
    """Return whether a step of `rows` rows through the matrices of `module` is faster in bfloat16."""
    if any(parameter.dtype != torch.float32 for parameter in module.parameters() if parameter.dim() > 1):
        return False
    return multiplications(module, rows) >= _WORTH_CONVERTING and fast_in_bf16(device)
