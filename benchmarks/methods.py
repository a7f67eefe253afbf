"""The methods by name."""

import importlib.util
from collections.abc import Callable

from benchmarks import torch_methods
from benchmarks.method import Method, UnavailableError
from benchmarks.shapes import Shape


def _numpyro(shape: Shape, passes: int, device: str) -> Method:
    if importlib.util.find_spec("numpyro") is None:
        raise UnavailableError("numpyro is not installed")
    from benchmarks.numpyro_method import numpyro_step  # here: jax is not needed otherwise

    return numpyro_step(shape, passes, device)


def _torch(maker: Callable[..., Method], variant: str) -> Callable[[Shape, int, str], Method]:
    """Return the maker of a method for "eager", or compiled in "fp32" or "bf16", with "-graph" under a CUDA graph."""
    precision = variant.removesuffix("-graph")
    compiled = precision != "eager"

    def make(shape: Shape, passes: int, device: str) -> Method:
        return maker(
            shape,
            passes,
            device,
            precision=precision if compiled else "fp32",
            compiled=compiled,
            graph=variant.endswith("-graph"),
        )

    return make


METHODS: dict[str, Callable[[Shape, int, str], Method]] = {
    "svi": torch_methods.svi,
    **{f"hand-{each}": _torch(torch_methods.hand_written, each) for each in ("eager", "fp32", "bf16")},
    "numpyro": _numpyro,
    **{f"ours-{each}": _torch(torch_methods.ours, each) for each in ("eager", "fp32", "bf16")},
    **{f"hand-{each}-graph": _torch(torch_methods.hand_written, f"{each}-graph") for each in ("eager", "fp32", "bf16")},
    **{f"ours-{each}-graph": _torch(torch_methods.ours, f"{each}-graph") for each in ("fp32", "bf16")},
}
DEFAULT_METHODS = {"cpu": [name for name in METHODS if not name.endswith("-graph")], "cuda": list(METHODS)}
