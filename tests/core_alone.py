"""Use the package where nothing but torch, Pyro and NumPy is installed: ``make test-core`` makes such an environment.

Every public subpackage is imported: it works, or says which extra it needs. What a Pyro user needs is then used.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from functools import partial

import pyro
import torch

import pyro_ricvae as rv

# What each needs; the others need nothing.
NEEDS = {
    "cli": "cli",
    "comparison": "estimators",
    "demo": "all",
    "estimators": "estimators",
    "plots": "plots",
}


def main() -> None:
    """Import all, and train, recycle, compile, check and score a pair."""
    present = [name for name in ("sklearn", "scipy", "pandas", "matplotlib", "click", "arviz") if installed(name)]
    assert not present, f"Expected the core alone, actual {present} too."
    found = {module.name for module in pkgutil.iter_modules(rv.__path__) if not module.name.startswith("_")}
    assert set(NEEDS) < found
    for name in sorted(found):
        message = error_of(partial(importlib.import_module, f"pyro_ricvae.{name}"))
        assert (f"pip install 'pyro-ricvae[{NEEDS[name]}]'" in message) if name in NEEDS else not message, (
            name,
            message,
        )
        print(f"{name}: {message or 'works'}")
    assert "pyro-ricvae[estimators]" in error_of(lambda: rv.RiCVAE)

    x = torch.randn(50, 5)
    model = rv.models.VAE(
        rv.networks.MLPDecoder(2, 5, (8,)), rv.likelihoods.IndexConditionedNormal(0.1), rv.priors.StandardNormal(2)
    )
    guide = rv.guides.AmortizedNormal(rv.networks.MLPEncoder(5, 2, (8,)))
    elbo = rv.inference.RecyclingELBO(passes=2)
    pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), elbo).step(x)
    assert rv.inference.CompiledELBO(elbo(model, guide), compiled=False)(x).isfinite()
    trainer = rv.inference.Trainer(model, guide, epochs=2, engine="eager").fit(x)
    assert trainer.history
    assert rv.check(model, guide, x).ok
    rv.testing.check_pair(model, guide, x)
    assert rv.inference.reconstruct(model, guide, x).shape == rv.diagnostics.cell_scores(model, guide, x).shape
    assert rv.diagnostics.replicate(model, guide, x, 3).shape == (3, 50, 5)
    assert "pyro-ricvae[arviz]" in error_of(lambda: rv.diagnostics.to_arviz(model, guide, x))
    assert "pyro-ricvae[estimators]" in error_of(rv.data.load_digits)
    print("The core works alone.")


def error_of(function: Callable[[], object]) -> str:
    """Return what the error of a missing package says; "" where none is missing."""
    try:
        function()
    except ModuleNotFoundError as error:
        return str(error)
    return ""


def installed(name: str) -> bool:
    """Return whether there is such a package."""
    return importlib.util.find_spec(name) is not None


if __name__ == "__main__":
    main()
