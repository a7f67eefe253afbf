"""One run of a model and a guide, and what is read from its sites."""

import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyro
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import Independent, constraints

import pyro_ricvae
from pyro_ricvae._validation import mean_of


@dataclass
class Run:
    """One run of guide and model: traces, None of what failed, and the failures in words.

    The model's is that on the guide's latents, or on its own where it fails on them.
    """

    model: Any
    guide: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    site: str | None
    failures: list[str] = field(default_factory=list)
    guide_trace: Trace | None = None
    model_trace: Trace | None = None

    def __post_init__(self) -> None:
        self.guide_trace = self._trace("guide", self.guide)
        model = self.model if self.guide_trace is None else poutine.replay(self.model, trace=self.guide_trace)
        self.model_trace = self._trace("model", model)
        if self.model_trace is None and self.guide_trace is not None:
            n_failures = len(self.failures)
            self.model_trace = self._trace("model", self.model)
            del self.failures[n_failures:]
            if self.model_trace is not None:
                self.failures[-1] += " On latents of its own it runs: compare the shapes of the guide's with those."

    def _trace(self, which: str, function: Any) -> Trace | None:
        tracer = poutine.trace(function)
        try:
            trace: Trace = tracer.get_trace(*self.args, **self.kwargs)
        except Exception as error:
            last = list(sample_sites(tracer.trace))[-1:]
            where = f"after the site {last[0]!r}" if last else "before its first sample site is done"
            self.failures.append(f"The {which} fails, {where}: {in_words(error)}")
            return None
        return trace

    @property
    def guide_sites(self) -> dict[str, Any]:
        """The guide's sample sites."""
        return sample_sites(self.guide_trace)

    @property
    def model_sites(self) -> dict[str, Any]:
        """The model's sample sites."""
        return sample_sites(self.model_trace)

    @property
    def latents(self) -> dict[str, tuple[Any, Any]]:
        """The latent sites that both have: the model's and the guide's."""
        guides = self.guide_sites
        return {
            name: (site, guides[name])
            for name, site in self.model_sites.items()
            if not site["is_observed"] and name in guides
        }

    @property
    def recycled(self) -> Any:
        """The model's observed site that is to be recycled, or None."""
        site = self.model_sites.get(self.site) if self.site is not None else None
        return site if site is not None and site["is_observed"] else None

    @property
    def nesting(self) -> int:
        """How many plates are nested at the most."""
        sites = [*self.guide_sites.values(), *self.model_sites.values()]
        return max((-frame.dim for site in sites for frame in frames_of(site)), default=0)


def sample_sites(trace: Trace | None) -> dict[str, Any]:
    """Return the sample sites of a trace, without the draws of subsampling plates and deterministic sites."""
    nodes: dict[str, Any] = {} if trace is None else dict(trace.nodes)
    return {
        name: site
        for name, site in nodes.items()
        if site["type"] == "sample" and not site_is_subsample(site) and not site["infer"].get("_deterministic")
    }


def in_words(error: Exception) -> str:
    """Return what an error says, and the line of the user's code where it was raised."""
    # Pyro adds a listing of shapes, torch the values of tensors, after the first lines.
    message = str(error).split("Trace Shapes:")[0].strip()
    message = " ".join(line.strip() for line in message.splitlines()[:2])
    if "found invalid values" in message:
        message = f"{message.split(', but found invalid values')[0]}, but other values are found"
    if not message.startswith("Site "):
        message = ": ".join([type(error).__name__, *([message] if message else [])])
    if "Shape mismatch inside plate" in message:
        message += ": end the distribution with .to_event(k) for its k dimensions of features, and count rows from x"
    libraries = tuple(str(Path(str(module.__file__)).parent) for module in (pyro, torch, pyro_ricvae))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.line and not frame.filename.startswith((*libraries, "<")) and "contextlib" not in frame.filename:
            return f"{message} (at {Path(frame.filename).name}, line {frame.lineno}: {frame.line})."
    return f"{message.rstrip('.')}."


def frames_of(site: Any) -> list[Any]:
    """Return the plates around a site that have a dimension."""
    return [frame for frame in site["cond_indep_stack"] if frame.dim is not None]


def shape_of(site: Any, kind: Literal["batch", "event"]) -> tuple[int, ...]:
    """Return the batch or event shape of a site's distribution."""
    return tuple(getattr(site["fn"], f"{kind}_shape", ()))


def is_enumerated(site: Any) -> bool:
    """Return whether a discrete site is summed out rather than sampled."""
    return site["infer"].get("enumerate") is not None


def inner(distribution: Any) -> Any:
    """Return a distribution without what makes an event of it or masks it."""
    while isinstance(distribution, Independent | MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def distribution_name(distribution: Any) -> str:
    """Return the name of a distribution's class."""
    return type(inner(distribution)).__name__


def support_of(distribution: Any) -> Any:
    """Return the constraint that the values of a distribution meet, None where it does not say."""
    try:
        return distribution.support
    except (AttributeError, NotImplementedError):
        return None


def base_of(constraint: Any) -> Any:
    """Return the constraint on one value of a constraint on an event."""
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    return constraint


def support_name(constraint: Any) -> str:
    """Return the constraint on one value in short."""
    return re.sub(r"\(\)$|(lower|upper)_bound=", "", repr(base_of(constraint)))


def log_prob_of(site: Any) -> Any:
    """Return a site's log-density, scaled and masked as in the loss."""
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return scale_and_mask(log_prob, site["scale"], site["mask"])


def recycle_by(run: Run) -> Literal["sample", "mean"] | None:
    """Return how the observed site can be recycled, None if it cannot."""
    distribution = run.recycled["fn"]
    wanted = getattr(getattr(run.model, "likelihood", None), "recycle", "sample")
    if distribution.has_rsample and wanted == "sample":
        return "sample"
    try:
        mean_of(distribution, "")
    except Exception:  # whatever a distribution without a mean raises
        return "sample" if distribution.has_rsample else None
    return "mean"


def parameters_of(run: Run) -> dict[str, Tensor]:
    """Return the parameters of both by name: those of modules, and those that the code asks Pyro for."""
    found: dict[str, Tensor] = {}
    for which, part in (("model", run.model), ("guide", run.guide)):
        if isinstance(part, nn.Module):
            found |= {f"{which}.{name}": value for name, value in part.named_parameters()}
    for trace in (run.model_trace, run.guide_trace):
        for name, site in ({} if trace is None else trace.nodes).items():
            if site["type"] == "param" and site["value"] is not None:
                value = getattr(site["value"], "_pyro_unconstrained_param", None)  # of a plate's rows
                if value is None:
                    value = site["value"].unconstrained() if hasattr(site["value"], "unconstrained") else site["value"]
                found.setdefault(name.replace("$$$", "."), value)
    # One that both modules have, or a module and the store, is one.
    return {name: value for name, value in found.items() if name == next(k for k, v in found.items() if v is value)}
