"""Import the package, train and compile with it, in a process of its own, and fail if anything global is not as it was.

``python tests/process_state.py True`` does so under ``module_local_params``.
"""

import logging
import random
import sys
import warnings
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer.util import Dice
from pyro.ops import einsum
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.runtime import _PYRO_STACK

# What a capture replaces for its own time.
REPLACED: list[tuple[Any, str]] = [
    *((torch.Tensor, name) for name in ("item", "backward", "masked_select")),
    (torch._C, "_get_tracing_state"),
    (Dice, "compute_expectation"),
    (einsum, "contract_expression"),
    (CondIndepStackFrame, "__hash__"),
]


def state() -> dict[str, Any]:
    """Return what is global and could be changed."""
    loggers = [logging.getLogger(), *map(logging.getLogger, sorted(logging.root.manager.loggerDict))]
    checks = [(module, "warn_if_nan") for name, module in sys.modules.items() if name.startswith("pyro.infer.")]
    functions = [(owner, name) for owner, name in (*REPLACED, *checks) if hasattr(owner, name)]
    return {
        "Pyro's settings": pyro.settings.get(),
        "Pyro's parameter store": dict(pyro.get_param_store().items()),
        "torch's validation": torch.distributions.Distribution._validate_args,
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "torch's random state": torch.get_rng_state().tolist(),
        "Python's random state": random.getstate(),
        "NumPy's random state": repr(np.random.get_state()),  # noqa: NPY002  # the legacy one is what is global
        "warnings filters": list(warnings.filters),
        "log handlers and levels": {
            each.name: (list(each.handlers), each.level) for each in loggers if each.handlers or each.level
        },
        "what is logged": logging.root.manager.disable,
        "standard streams": (sys.stdout, sys.stderr),
        "Pyro's handlers": list(_PYRO_STACK),
        "functions": [(owner.__name__, name, getattr(owner, name)) for owner, name in functions],
        "modules with a len of their own": [name for name, module in sys.modules.items() if "len" in vars(module)],
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
    }


def compare(before: dict[str, Any], *, but: str = "") -> None:
    """Fail where the state differs from `before`, but for one entry."""
    after = state()
    changed = [name for name in after if name != but and after[name] != before[name]]
    assert not changed, changed


def main() -> None:
    """Compare before and after."""
    warnings.simplefilter("error")
    pyro.settings.set(module_local_params=sys.argv[1] == "True")
    # What a torch optimizer imports at its first step adds a filter: that is not the package's doing.
    unrelated = torch.zeros(1, requires_grad=True)
    unrelated.sum().backward()
    torch.optim.Adam([unrelated]).step()
    # So do the first capture and the first compilation, which switches validation off too.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(3, 2),), strict=False)
        torch.compile(program.module())(torch.zeros(3, 2)).sum().backward()
    torch.distributions.Distribution.set_default_validate_args(True)
    before = state()
    import pyro_ricvae as rv

    compare(before)
    model = rv.models.VAE(
        rv.networks.MLPDecoder(2, 5, (8,)), rv.likelihoods.IndexConditionedNormal(0.1), rv.priors.StandardNormal(2)
    )
    guide = rv.guides.AmortizedNormal(rv.networks.MLPEncoder(5, 2, (8,)))
    x = torch.randn(6, 5)
    loss = rv.inference.RecyclingELBO(passes=2)(model, guide)
    optimizer = torch.optim.Adam(loss.parameters())
    torch.manual_seed(3)
    for _ in range(3):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    rv.inference.reconstruct(model, guide, x, passes=2)
    compare(before, but="torch's random state")

    # torch's has moved by the noise of z_1, x_2 and z_2 in each step, and by nothing else.
    after = state()["torch's random state"]
    torch.manual_seed(3)
    for _ in range(3):
        for width in (2, 5, 2):
            torch.normal(torch.zeros(6, width), torch.ones(6, width))
    assert state()["torch's random state"] == after

    compiled = rv.inference.compile_elbo(rv.inference.RecyclingELBO()(model, guide), x)
    assert compiled.engines == ["compiled"]
    assert state()["torch's random state"] == after
    compiled(torch.randn(9, 5)).backward()
    compare(before, but="torch's random state")


if __name__ == "__main__":
    main()
