"""What can be wrong with values: of data, latents and gradients."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pyro.distributions import Delta, MaskedDistribution
from torch import Tensor
from torch.distributions import Bernoulli, constraints

from pyro_ricvae._core.distributions import base_of, distribution_name, inner, support_name, support_of
from pyro_ricvae._core.errors import in_words
from pyro_ricvae.diagnostics.pair.run import Run, log_prob_of, parameters_of

# Values that tell supports apart: inside and outside of the usual bounds, never on one.
_PROBES = (-1000.7, -10.7, -1.5, -0.3, 0.001, 0.3, 0.7, 0.999, 1.5, 3.3, 10.7, 1000.7)
_DISCRETE_PROBES = (-3.0, -1.0, 0.0, 1.0, 2.0, 3.0, 20.0, 1000.0)


def problems_of_data(x: Tensor) -> Iterator[str]:
    """Yield that values of x are not finite."""
    wrong = ~x.isfinite()
    if wrong.any():
        yield (
            f"Data: expected finite values in x, actual {int(wrong.sum())} of {wrong.numel()} NaN or infinite, the "
            f"first at {tuple(wrong.nonzero()[0].tolist())}: leave such rows out, or fill the cells in. The rest of "
            "this report is on x with these cells at 0."
        )


def problems_of_supports(run: Run) -> Iterator[str]:
    """Yield the latents whose guide reaches values that the prior excludes."""
    for name, (model, guide) in run.latents.items():
        p, q = support_of(model["fn"]), support_of(guide["fn"])
        if p is None or q is None:
            continue
        reached = _reached(guide["fn"], q, p)
        if reached is not None:
            yield (
                f"Site {name!r}: expected values of the guide in the prior's support {support_name(p)}, actual "
                f"{distribution_name(guide['fn'])} over {support_name(q)}, which reaches {reached}: use a distribution "
                "over that support, LogNormal for positive values, in general dist.TransformedDistribution("
                "dist.Normal(loc, scale), biject_to(support))."
            )


def problems_of_values(run: Run) -> Iterator[str]:
    """Yield data outside of the support of their distribution, and log-densities that are not finite."""
    for name, site in run.model_sites.items():
        if site["is_observed"] and (message := _outside(run, name, site)):
            yield message
            continue
        try:
            log_prob = log_prob_of(site)
        except Exception as error:
            if site["is_observed"] or not any(problems_of_supports(run)):
                yield f"Site {name!r}: its log-density cannot be computed: {in_words(error)}"
            continue
        wrong = ~torch.as_tensor(log_prob).isfinite()
        if wrong.any():
            at = "the data" if site["is_observed"] else "the guide's draw"
            yield (
                f"Site {name!r}: expected a finite log-density at {at}, actual {int(wrong.sum())} of {wrong.numel()} "
                f"terms NaN or infinite under {distribution_name(site['fn'])}: keep its parameters finite, scales away "
                "from 0, and values inside its support."
            )


def problems_of_gradients(run: Run) -> Iterator[str]:
    """Yield the parameters that the loss does not depend on, or has no finite gradient for."""
    if run.guide_trace is None or run.model_trace is None or run.failures:
        return
    try:
        loss = torch.as_tensor(
            sum(torch.as_tensor(log_prob_of(site)).sum() for site in run.guide_sites.values())
            - sum(torch.as_tensor(log_prob_of(site)).sum() for site in run.model_sites.values())
        )
    except Exception:  # in words already: problems_of_values
        return
    parameters = {name: value for name, value in parameters_of(run).items() if value.requires_grad}
    if not parameters or not loss.isfinite():
        return
    gradients: tuple[Tensor | None, ...] = (None,) * len(parameters)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    found = dict(zip(parameters, gradients, strict=True))
    unused = [name for name, gradient in found.items() if gradient is None]
    if any("baseline" in site["infer"] for site in run.guide_sites.values()):
        unused = []  # a baseline is trained by a loss of its own
    wrong = [name for name, gradient in found.items() if gradient is not None and not gradient.isfinite().all()]
    if unused:
        yield (
            f"{_listed(unused, parameters)}: expected a gradient from the loss, actual none: use what is not used, "
            "look for detach(), no_grad() and item() on its way, or freeze it, requires_grad_(False)."
        )
    if wrong:
        yield (
            f"{_listed(wrong, parameters)}: expected finite gradients at a finite loss, actual NaN or infinite values: "
            "look for a square root, norm or division at 0, and for torch.where around one."
        )


def unreached(run: Run) -> Iterator[tuple[str, float]]:
    """Yield the latents whose guide has no density at values of the prior's support, and one of these."""
    for name, (model, guide) in run.latents.items():
        p, q = support_of(model["fn"]), support_of(guide["fn"])
        if p is not None and q is not None and not isinstance(inner(guide["fn"]), Delta):
            value = _only_in(p, q)
            if value is not None:
                yield name, value


def support_of_data(run: Run, site: Any) -> Any:
    """Return the constraint that the data of an observed site should meet, None where it is not known."""
    if run.likelihood is not None and site["name"] == "x":
        return getattr(run.likelihood, "support", None)
    distribution = inner(site["fn"])
    if isinstance(distribution, Bernoulli) and distribution._validate_args is False:
        return constraints.unit_interval  # as Pyro's own examples are trained on grey values
    return support_of(distribution)


def _only_in(first: Any, second: Any) -> float | None:
    """Return a value that meets the first constraint and not the second, None where none is known."""
    first, second = base_of(first), base_of(second)
    try:
        if first.event_dim or second.event_dim:
            return None
        dims = max(torch.as_tensor(v).dim() for each in (first, second) for v in [0, *vars(each).values()])
        values = torch.tensor(_DISCRETE_PROBES if first.is_discrete else _PROBES)
        probes = values.reshape(-1, *[1] * dims)
        only = first.check(probes) & ~second.check(probes)
    except (NotImplementedError, TypeError, RuntimeError):
        return None
    found = only.reshape(len(values), -1).any(1)
    return values[found][0].item() if found.any() else None


def _reached(guide: Any, support: Any, prior: Any) -> str | None:
    """Return what the guide reaches outside of the prior's support, None if nothing."""
    if not isinstance(inner(guide), Delta):
        value = _only_in(support, prior)
        if value is not None:
            return f"{value:g}"
    try:
        draws = guide.sample((100,)) if not isinstance(inner(guide), Delta) else guide.sample()
        outside = ~prior.check(draws)
    except (NotImplementedError, RuntimeError, ValueError):  # shapes that differ, which is a problem of its own
        return None
    return f"other values in {int(outside.sum())} of {outside.numel()} draws" if outside.any() else None


def _outside(run: Run, name: str, site: Any) -> str | None:
    """Return in words how the data of an observed site are outside of their support, None if they are not."""
    support, value = support_of_data(run, site), site["value"]
    # What a mask leaves out may be anything.
    if support is None or site["mask"] is not None or isinstance(site["fn"], MaskedDistribution):
        return None
    support = base_of(support)
    try:
        outside = ~support.check(value)
    except (NotImplementedError, RuntimeError):
        return None
    if not outside.any():
        return None
    what = "values" if not support.event_dim else "events"
    return (
        f"Site {name!r}: expected data in the support {support_name(support)} of {distribution_name(site['fn'])}, "
        f"actual {int(outside.sum())} of {outside.numel()} {what} outside, the data in "
        f"[{value.min():g}, {value.max():g}]: scale or round the data, or use a likelihood with their support."
    )


def _listed(names: Sequence[str], parameters: dict[str, Tensor]) -> str:
    shown = ", ".join(f"{name!r} {tuple(parameters[name].shape)}" for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"Parameter{'s' if len(names) > 1 else ''} {shown}{more}"
