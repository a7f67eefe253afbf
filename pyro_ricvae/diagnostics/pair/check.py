"""The check of a user's model and guide: what is wrong, in words, and how to mend it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, Literal

import pyro
import torch
from pyro.distributions import Delta
from torch import Tensor, nn

from pyro_ricvae._core.distributions import describe, distribution_name, inner, kl_or_none, support_name, support_of
from pyro_ricvae._core.isolation import undisturbed, without_modules
from pyro_ricvae.diagnostics.pair.report import PairReport, SiteRecord
from pyro_ricvae.diagnostics.pair.run import Run, frames_of, is_enumerated, parameters_of, recycle_by, shape_of
from pyro_ricvae.diagnostics.pair.structure import problems_of_pair
from pyro_ricvae.diagnostics.pair.values import problems_of_data, support_of_data, unreached
from pyro_ricvae.likelihoods.likelihood import is_profile
from pyro_ricvae.pair import recycle_in_training


def check(model: Any, guide: Any, *args: Any, site: str | None = "x", **kwargs: Any) -> PairReport:
    """Return what is wrong with a model and a guide, in words, from a few runs of both.

    Any Pyro pair will do: modules or functions, of any sites. Looked at are sites and their names, shapes, plates,
    reparameterisation, supports, log-densities at the data, gradients, and whether the data can be recycled as
    `inference.RecyclingELBO` does, by trying it, and with a dimension of particles in front.

    Parameters
    ----------
    model, guide : callable
        The pair, of one signature.
    *args, **kwargs
        What they are called with: the data `x` first, as a batch in training; all are passed on.
    site : str or None, default="x"
        The observed site that is recycled into the first argument; a model without a site "x" is not asked for it. None
        for a pair that is not to be recycled, whose first argument may be anything.

    Returns
    -------
    PairReport
        ``ok``, ``sites``, ``problems`` and ``notes``; print it. A wrong pair is reported, not raised.

    Raises
    ------
    TypeError
        If model or guide cannot be called, or the first argument is not a tensor and `site` is not None.
    ValueError
        If `site` is neither a string nor None.

    Notes
    -----
    Pyro's validation is on meanwhile. Parameters, Pyro's parameter store, random state, buffers and the attributes of
    the modules are afterwards as before; what the code of a function changes elsewhere is its own affair.

    The latents are drawn once a run: what is wrong for other values only, or in a branch not taken, is not seen. Of
    several problems, those that may follow from others are looked for when the others are mended.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae import guides, likelihoods, models, networks, priors
    >>> from pyro_ricvae.diagnostics.pair.check import check
    >>> model = models.VAE(networks.MLPDecoder(3, 5, ()), likelihoods.FixedNormal(1.0), priors.StandardNormal(3))
    >>> guide = guides.AmortizedNormal(networks.MLPEncoder(5, 2, ()))
    >>> report = check(model, guide, torch.randn(8, 5))
    >>> report.ok
    False
    >>> print(report.problems[0][:72])
    The model fails, after the site 'z': Site 'z': expected latents of the p
    """
    for which, part in (("model", model), ("guide", guide)):
        if not callable(part):
            raise TypeError(f"Expected {which} to be a module or a function, actual {type(part).__name__}.")
    if not isinstance(site, str | None):
        raise ValueError(f"Expected site to be the name of an observed site or None, actual {site!r}.")
    if site is not None and not (args and isinstance(args[0], Tensor)):
        raise TypeError(
            f"Expected the data x, a tensor, as the first positional argument after the guide, actual "
            f"{describe(args[0]) if args else 'none'}: give torch.as_tensor(x), or site=None for a pair whose data are "
            "not to be recycled."
        )
    problems: list[str] = []
    if args and isinstance(args[0], Tensor):
        problems += problems_of_data(args[0])
        if problems:
            args = (args[0].nan_to_num(0.0, 0.0, 0.0), *args[1:])
    with _unchanged(model, guide, (*args, *kwargs.values())), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = Run(model, guide, args, kwargs, site)
        if site == "x" and run.model_trace is not None and "x" not in run.model_sites:
            run.site = None  # a pair of another kind
        problems += problems_of_pair(run)
        sites, notes = tuple(_records(run)), list(_notes(run))
    said = dict.fromkeys(str(each.message).strip() for each in caught if issubclass(each.category, UserWarning))
    notes += [f"It warns: {message}" for message in said]
    return PairReport(sites, tuple(dict.fromkeys(problems)), tuple(notes))


@contextmanager
def _unchanged(model: Any, guide: Any, leaves: tuple[Any, ...]) -> Iterator[None]:
    """Validate, with gradients, and put everything back at the end."""
    parts = nn.ModuleList(part for part in (model, guide) if isinstance(part, nn.Module))
    # Copies one level deep: a guide that builds itself in its first run is unbuilt afterwards.
    before = [(module, {name: _shallow(value) for name, value in vars(module).items()}) for module in parts.modules()]
    store = pyro.get_param_store()
    devices = [parameter for parameter in parts.parameters() if parameter.is_cuda]
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            undisturbed(parts, (*leaves, *devices)),
            pyro.validation_enabled(True),
            store.scope(without_modules(store.get_state())),
        ):
            yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)


def _shallow(value: Any) -> Any:
    return copy(value) if isinstance(value, dict | list | set) else value


def _records(run: Run) -> Iterator[SiteRecord]:
    """Yield a record of each site."""
    model, guide = run.model_sites, run.guide_sites
    for name in [*model, *(name for name in guide if name not in model)]:
        site, other = {**guide, **model}[name], guide.get(name)
        role: Literal["latent", "observed", "auxiliary"] = "observed" if site["is_observed"] else "latent"
        # Of a model that fails it is not known what it lacks.
        if name not in model and (run.model_trace is not None or site["infer"].get("is_auxiliary")):
            role = "auxiliary"
        support = support_of_data(run, site) if site["is_observed"] else support_of(site["fn"])
        yield SiteRecord(
            name=name,
            role=role,
            distribution="" if role == "latent" and name not in model else distribution_name(site["fn"]),
            guide="" if other is None else distribution_name(other["fn"]),
            batch_shape=shape_of(site, "batch"),
            event_shape=shape_of(site, "event"),
            plates={frame.name: frame.size for frame in frames_of(site)},
            reparameterised=bool((site if other is None else other)["fn"].has_rsample),
            support="" if support is None else support_name(support),
            kl=_kl(run, name),
        )
    for name, value in parameters_of(run).items():
        yield SiteRecord(name, "param", "", "", (), tuple(value.shape), {}, False, "", "")


def _kl(run: Run, name: str) -> Literal["closed form", "Monte Carlo", ""]:
    """Return how the loss gets the KL divergence at a site."""
    if name not in run.latents:
        return ""
    model, guide = run.latents[name]
    auxiliary = any(each not in run.model_sites for each in run.guide_sites)
    if isinstance(inner(guide["fn"]), Delta) and auxiliary:
        return "Monte Carlo"  # of a point that is itself a function of a draw
    try:
        kl = kl_or_none(guide["fn"], model["fn"])
    except Exception:  # shapes that do not fit, which are a problem of their own
        return "Monte Carlo"
    return "Monte Carlo" if kl is None else "closed form"


def _notes(run: Run) -> Iterator[str]:
    """Yield what is worth knowing."""
    sampled = [name for name in run.latents if _kl(run, name) == "Monte Carlo"]
    if sampled:
        yield (
            f"The KL of {_names(sampled)} is by Monte Carlo, log q - log p of a draw: right in expectation, noisier "
            "than the closed form, which this pair of distributions lacks."
        )
    points = [name for name, (_, guide) in run.latents.items() if isinstance(inner(guide["fn"]), Delta)]
    if points and not sampled:
        yield f"The guide gives one point for {_names(points)}, no posterior: draws do not vary."
    for name, value in unreached(run):
        yield f"Site {name!r}: the prior allows values that the guide cannot reach, such as {value:g}."
    enumerated = [name for name, site in {**run.guide_sites, **run.model_sites}.items() if is_enumerated(site)]
    if enumerated:
        yield f"Summed out: {_names(enumerated)}. Train with pyro.infer.TraceEnum_ELBO; RecyclingELBO cannot do so."
    drawn = [name for name, site in run.guide_sites.items() if not site["fn"].has_rsample and not is_enumerated(site)]
    if drawn and run.site is None:
        yield (
            f"Not reparameterised: {_names(drawn)}. Train with score-function gradients, pyro.infer.TraceGraph_ELBO; "
            "RecyclingELBO cannot do so."
        )
    scaled = {
        f"{frame.name!r} holds {frame.size} of {frame.full_size} rows: terms in it count "
        f"{frame.full_size / frame.size:g} times."
        for site in run.model_sites.values()
        for frame in frames_of(site)
        if frame.size != frame.full_size
    }
    yield from (f"Plate {each}" for each in sorted(scaled))
    if run.likelihood is not None and is_profile(run.model):
        yield (
            f"{type(run.likelihood).__name__} is not normalised, a profile likelihood: its loss is not "
            "comparable with a density's, and has no evidence behind it."
        )
    if run.site is None:
        yield "Whether the data can be recycled was not looked at: name the observed site, site=..., for that."
    elif run.recycled is not None:
        yield from _notes_on_recycling(run)


def _notes_on_recycling(run: Run) -> Iterator[str]:
    """Yield how the pair is recycled, where that is not by the defaults."""
    how = recycle_by(run)
    if how == "mean":
        yield (
            f"Site {run.site!r} is recycled by its mean: {distribution_name(run.recycled['fn'])} has no "
            "reparameterised draws, or its likelihood asks for the mean."
        )
        if run.likelihood is not None and recycle_in_training(run.model) == "sample":
            yield "An estimator with several passes needs recycle = 'mean' in the class of the likelihood."
    settings = [
        *([f"site={run.site!r}"] if run.site != "x" else []),
        *([f'recycle="{how}"'] if how != "sample" else []),
        *([f"max_plate_nesting={run.nesting}"] if run.nesting > 1 else []),
    ]
    if settings and how is not None:
        yield f"The objective for this pair is RecyclingELBO({', '.join(settings)})."


def _names(names: list[str]) -> str:
    return ", ".join(map(repr, names))
