"""One run of a model and a guide, and what is read from its sites."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from pyro_ricvae._core.distributions import mean_of
from pyro_ricvae._core.errors import in_words
from pyro_ricvae.pair import Recycle, likelihood_of, recycle_in_training


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
    def likelihood(self) -> Any:
        """The likelihood of a model of the shape that `pyro_ricvae.pair` says, None of another one."""
        found = likelihood_of(self.model)
        is_ours = isinstance(self.model, nn.Module) and hasattr(self.model, "decode") and hasattr(self.model, "prior")
        says = any(hasattr(found, name) for name in ("n_outputs", "normalised", "support"))
        return found if is_ours and says else None

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


def frames_of(site: Any) -> list[Any]:
    """Return the plates around a site that have a dimension."""
    return [frame for frame in site["cond_indep_stack"] if frame.dim is not None]


def shape_of(site: Any, kind: Literal["batch", "event"]) -> tuple[int, ...]:
    """Return the batch or event shape of a site's distribution."""
    return tuple(getattr(site["fn"], f"{kind}_shape", ()))


def is_enumerated(site: Any) -> bool:
    """Return whether a discrete site is summed out rather than sampled."""
    return site["infer"].get("enumerate") is not None


def log_prob_of(site: Any) -> Any:
    """Return a site's log-density, scaled and masked as in the loss."""
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return scale_and_mask(log_prob, site["scale"], site["mask"])


def recycle_by(run: Run) -> Recycle | None:
    """Return how the observed site can be recycled, None if it cannot."""
    distribution = run.recycled["fn"]
    wanted = recycle_in_training(run.model)
    if wanted == "likelihood":
        return wanted
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
