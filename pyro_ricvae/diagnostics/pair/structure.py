"""What can be wrong with a model and a guide: small functions, each yielding messages from the traces of a run."""

import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import torch

from pyro_ricvae._core.distributions import distribution_name
from pyro_ricvae._core.errors import in_words
from pyro_ricvae.diagnostics.pair.run import Run, frames_of, is_enumerated, log_prob_of, recycle_by, shape_of
from pyro_ricvae.diagnostics.pair.values import problems_of_gradients, problems_of_supports, problems_of_values
from pyro_ricvae.inference import RecyclingELBO
from pyro_ricvae.likelihoods import as_likelihood


def problems_of_contract(run: Run) -> Iterator[str]:
    """Yield what the model's likelihood lacks of the attributes that the package reads."""
    if run.likelihood is not None:
        try:
            as_likelihood(run.likelihood)
        except ValueError as error:
            yield str(error)


def problems_of_names(run: Run) -> Iterator[str]:
    """Yield the latents that the guide lacks, and the sites of the guide that the model lacks."""
    if run.guide_trace is None or run.model_trace is None:
        return
    model, guide = run.model_sites, run.guide_sites
    missing = [
        name
        for name, site in model.items()
        if name not in guide and not site["is_observed"] and not is_enumerated(site)
    ]
    extra = [name for name, site in guide.items() if name not in model and not site["infer"].get("is_auxiliary")]
    for name in missing:
        yield (
            f"Site {name!r}: expected a sample of this latent of the model in the guide too, actual none"
            f"{_nearest(name, extra)}: give it the model's name, or observe it in the model (obs=...)."
        )
    for name in extra:
        yield (
            f"Site {name!r}: expected a site of the guide in the model too, actual none there"
            f"{_nearest(name, missing or list(model))}: correct its name, or mark it infer={{'is_auxiliary': True}}."
        )
    for name in guide:
        if name in model and model[name]["is_observed"]:
            yield (
                f"Site {name!r}: expected the guide to sample latents only, actual an observed site of the model: "
                "leave it out of the guide."
            )


def problems_of_shapes(run: Run) -> Iterator[str]:
    """Yield the latents whose shapes differ between model and guide."""
    for name, (model, guide) in run.latents.items():
        shapes = [(shape_of(site, "batch"), shape_of(site, "event")) for site in (model, guide)]
        if shapes[0] != shapes[1]:
            if sum(shapes[0], ()) == sum(shapes[1], ()):
                remedy = f"end both with .to_event({len(shapes[0][1]) or len(shapes[1][1])})"
            elif shapes[0][0] != shapes[1][0] and shapes[0][1] == shapes[1][1]:
                remedy = "sample it in the same plates in both, from parameters of that length"
            else:
                remedy = "give both distributions the same number of latents"
            yield (
                f"Site {name!r}: expected one shape in model and guide, actual batch shape {shapes[0][0]} and event "
                f"shape {shapes[0][1]} in the model, {shapes[1][0]} and {shapes[1][1]} in the guide: {remedy}."
            )


def problems_of_plates(run: Run) -> Iterator[str]:
    """Yield dimensions in no plate, and plates that differ between model and guide."""
    for which, sites in (("model", run.model_sites), ("guide", run.guide_sites)):
        for name, site in sites.items():
            shape = shape_of(site, "batch")
            covered = {frame.dim for frame in frames_of(site)}
            bare = [dim for dim in range(-len(shape), 0) if shape[dim] > 1 and dim not in covered]
            if bare:
                plates = {frame.name: frame.size for frame in frames_of(site)}
                yield (
                    f"Site {name!r} of the {which}: expected each dimension of the batch shape {shape} in a plate, "
                    f"actual none for dimension {', '.join(map(str, bare))} (plates: {plates or 'none'}): end the "
                    f"distribution with .to_event({-bare[0]}) if these are features of one row, or sample it in "
                    f'pyro.plate("data", {shape[bare[0]]}, dim={bare[0]}) if they are independent rows.'
                )
    sizes = {frame.name: frame for site in run.guide_sites.values() for frame in frames_of(site)}
    reported = set()
    for site in run.model_sites.values():
        for frame in frames_of(site):
            other = sizes.get(frame.name, frame)
            if (frame.size, frame.full_size) != (other.size, other.full_size) and frame.name not in reported:
                reported.add(frame.name)
                yield (
                    f"Plate {frame.name!r}: expected one size in model and guide, actual {_sizes(frame)} in the model "
                    f"and {_sizes(other)} in the guide, so that terms are scaled differently: give both the same."
                )
    for name, (model, guide) in run.latents.items():
        scales = [torch.as_tensor(site["scale"], dtype=torch.float64).mean().item() for site in (model, guide)]
        # A difference in the plates' sizes has been named.
        if not reported and not math.isclose(*scales, rel_tol=1e-6):
            yield (
                f"Site {name!r}: expected terms of one scale in model and guide, actual a factor of {scales[0]:g} in "
                f"the model and {scales[1]:g} in the guide: sample it in the same plates, or poutine.scale, in both."
            )


def problems_of_samplers(run: Run) -> Iterator[str]:
    """Yield the sites of the guide without reparameterised draws."""
    for name, site in run.guide_sites.items():
        if run.site is not None and not site["fn"].has_rsample and not is_enumerated(site):
            yield (
                f"Site {name!r}: expected a reparameterised distribution in the guide (rsample), which RecyclingELBO "
                f"and TraceMeanField_ELBO need, actual {distribution_name(site['fn'])}: use one with rsample (Normal, "
                "LogNormal, RelaxedBernoulliStraightThrough, ...), or train with score-function gradients, "
                "pyro.infer.TraceGraph_ELBO, or sum a discrete latent out, pyro.infer.TraceEnum_ELBO."
            )


def problems_of_recycling(run: Run) -> Iterator[str]:
    """Yield why the site cannot be recycled into the first argument."""
    if run.site is None or run.model_trace is None:
        return
    sites, x, site = run.model_sites, run.args[0], run.recycled
    if site is None:
        observed = [name for name, each in sites.items() if each["is_observed"]]
        yield (
            f"Site {run.site!r}: expected an observed site of the model, to be recycled, actual "
            f"{'one that is not observed' if run.site in sites else 'no such site'}; observed are "
            f"{observed or 'none'}: name one, site=..., pass obs=x in the model, or give site=None for a pair that is "
            "not to be recycled."
        )
        return
    value = site["value"]
    if value is not x and not (value.shape == x.shape and torch.equal(value, x)):
        yield (
            f"Site {run.site!r}: expected it to observe the first argument unchanged (obs=x), of shape "
            f"{tuple(x.shape)}, actual another value, of shape {tuple(value.shape)}: change the data before the call, "
            "pass what is observed first, or give site=None for a pair that is not to be recycled."
        )
    elif (shape := shape_of(site, "batch") + shape_of(site, "event")) != tuple(x.shape):
        yield (
            f"Site {run.site!r}: expected a distribution of x's shape {tuple(x.shape)}, actual {shape} "
            f"({distribution_name(site['fn'])}): expand it, .expand_by or .expand."
        )
    elif recycle_by(run) is None:
        yield (
            f"Site {run.site!r}: expected a distribution with reparameterised draws (rsample) or a mean, to be "
            f"recycled, actual {distribution_name(site['fn'])} with neither: use another one."
        )


def problems_of_particles(run: Run) -> Iterator[str]:
    """Yield why the pair cannot take x with one more dimension, of particles or draws, in front."""
    x = run.args[0]
    if run.recycled is None or run.failures or x.dim() == 0:
        return
    count = 2 if x.shape[0] != 2 else 3
    more = Run(run.model, run.guide, (x.expand(count, *x.shape), *run.args[1:]), run.kwargs, run.site)
    why = ", ".join(more.failures)
    before, after = ({f.name: f for s in each.model_sites.values() for f in frames_of(s)} for each in (run, more))
    changed = {name for name in before if name in after and after[name].size == count != before[name].size}
    changed |= {name for name in before if f"inside plate('{name}')" in why and f", {count} vs" in why}
    shape = tuple(more.args[0].shape)
    begin = f"expected the pair to take x with a dimension of {count} particles in front, of shape {shape}"
    for name in sorted(changed):
        dims = [dim - x.dim() for dim, size in enumerate(x.shape) if size == before[name].size]
        yield (
            f"Plate {name!r}: {begin}, which vectorised particles and draws have, actual a size of {count}, not "
            f"{before[name].size}: count the rows from the right, x.shape[{dims[0] if dims else -2}], not len(x) or "
            "x.shape[0]."
        )
    if changed:
        return
    if not why:
        expected = (count, *torch.as_tensor(log_prob_of(run.recycled)).shape)
        try:
            actual = tuple(torch.as_tensor(log_prob_of(more.recycled)).shape)
        except Exception as error:
            why = f"Its log-density fails: {in_words(error)}"
        else:
            why = "" if actual == expected else f"Its log-density is of shape {actual}, not {expected}."
    if why:
        yield (
            f"Site {run.site!r}: {begin}, which vectorised particles and draws have. {why} Keep all dimensions but the "
            "last: no view(-1, ...), no dimensions counted from the left, networks that take any leading ones."
        )


def problems_of_second_pass(run: Run) -> Iterator[str]:
    """Yield what goes wrong where two passes are tried."""
    if run.recycled is None or any(is_enumerated(site) for site in {**run.guide_sites, **run.model_sites}.values()):
        return
    elbo: Any = RecyclingELBO(2, recycle_by(run) or "sample", site=str(run.site), max_plate_nesting=run.nesting)
    try:
        loss = elbo.loss(run.model, run.guide, *run.args, **run.kwargs)
    except Exception as error:
        yield (
            f"Site {run.site!r}: expected a second pass of RecyclingELBO, on rows drawn from the model, to run, actual "
            f"{in_words(error)} Make the pair take any values of its support; where means of discrete values are "
            "recycled, build the distribution with validate_args=False."
        )
        return
    if not math.isfinite(loss):
        yield (
            f"Site {run.site!r}: expected a finite loss of two passes, actual {loss}: bound what the encoder makes of "
            "rows far from the data, such as its scale."
        )


def _nearest(name: str, others: Sequence[str]) -> str:
    near = get_close_matches(name, others, n=1, cutoff=0.3)
    return f" (the nearest there is {near[0]!r})" if near else ""


def _sizes(frame: Any) -> str:
    return str(frame.size) if frame.size == frame.full_size else f"{frame.size} of {frame.full_size}"


def problems_of_pair(run: Run) -> list[str]:
    """Return all that is wrong with the pair."""
    problems = [*problems_of_contract(run), *run.failures]
    for rule in (
        problems_of_names,
        problems_of_shapes,
        problems_of_plates,
        problems_of_samplers,
        problems_of_supports,
        problems_of_values,
        problems_of_recycling,
    ):
        problems += rule(run)
    if not problems:  # else these fail for what is named already
        problems += [*problems_of_second_pass(run), *problems_of_particles(run)]
    return [*problems, *problems_of_gradients(run)]
