"""Robust deep generative modelling in Pyro: the recurrent iConditional variational autoencoder (RiC-VAE).

Pyro objects are in `models`, `guides`, `likelihoods`, `priors` and `inference`; the estimator is `RiCVAE`. Each is
imported when it is first asked for, so that the command line need not wait for what it does not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_ricvae import (
        baselines,
        data,
        diagnostics,
        guides,
        inference,
        likelihoods,
        models,
        networks,
        predictive,
        priors,
    )
    from pyro_ricvae.comparison import compare
    from pyro_ricvae.diagnostics.pair_check import check
    from pyro_ricvae.estimator import RiCVAE
    from pyro_ricvae.persistence import load

__version__ = "0.1.0.dev0"

__all__ = [
    "RiCVAE",
    "baselines",
    "check",
    "compare",
    "data",
    "diagnostics",
    "guides",
    "inference",
    "likelihoods",
    "load",
    "models",
    "networks",
    "predictive",
    "priors",
]

_HOMES = {
    "RiCVAE": "pyro_ricvae.estimator",
    "check": "pyro_ricvae.diagnostics.pair_check",
    "compare": "pyro_ricvae.comparison",
    "load": "pyro_ricvae.persistence",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in __all__:
        return import_module(f"pyro_ricvae.{name}")
    raise AttributeError(f"module 'pyro_ricvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
