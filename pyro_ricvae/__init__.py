"""Robust deep generative modelling in Pyro: the recurrent iConditional variational autoencoder (RiC-VAE).

Pyro objects are in `models`, `guides`, `likelihoods`, `priors` and `inference`; the estimator is `RiCVAE`. Each is
imported when it is first asked for, so that nobody waits for, or installs, what is not used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyro_ricvae._core.version import __version__ as __version__

if TYPE_CHECKING:
    from pyro_ricvae import (
        comparison,
        data,
        diagnostics,
        estimators,
        guides,
        inference,
        likelihoods,
        models,
        networks,
        pair,
        plots,
        priors,
        testing,
    )
    from pyro_ricvae.comparison import compare
    from pyro_ricvae.diagnostics import check
    from pyro_ricvae.estimators import RiCVAE, load

__all__ = [
    "RiCVAE",
    "check",
    "compare",
    "comparison",
    "data",
    "diagnostics",
    "estimators",
    "guides",
    "inference",
    "likelihoods",
    "load",
    "models",
    "networks",
    "pair",
    "plots",
    "priors",
    "testing",
]

_HOMES = {
    "RiCVAE": "pyro_ricvae.estimators",
    "check": "pyro_ricvae.diagnostics",
    "compare": "pyro_ricvae.comparison",
    "load": "pyro_ricvae.estimators",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in __all__:
        return import_module(f"pyro_ricvae.{name}")
    raise AttributeError(f"module 'pyro_ricvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
