"""The ELBO that sums over recycled passes."""

import inspect
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, get_args

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.elbo import ELBOModule
from pyro.infer.util import check_fully_reparametrized, is_validation_enabled, torch_item
from pyro.poutine import Trace
from pyro.poutine.messenger import unwrap
from torch import Tensor, nn

from pyro_ricvae._core.checks import positive_int
from pyro_ricvae._core.distributions import describe, kl_or_none
from pyro_ricvae._core.isolation import own_parameters
from pyro_ricvae.pair import Recycle, later_pass, next_input


class RecyclingELBO(TraceMeanField_ELBO):
    r"""The objective of the RiC-VAE: the negative ELBO summed over recycled passes (paper, equation 15 and figure 1).

    With :math:`x_1 = x` and, reparameterised,

    .. math:: z_k \sim q(z \mid x_k), \qquad x_{k+1} \sim p(x \mid z_k, i),

    the loss, in nats and to be minimised, is the sum over the passes, with shared weights:

    .. math::
        \sum_{k=1}^N \Big( w \, \mathrm{KL}[q(z \mid x_k) \,\|\, p(z)] - \log p(x_k \mid z_k, i) \Big), \qquad w = 1,

    summed over the rows, and over the sites where a pair has more. Inside a plate with ``size`` every term is scaled by
    ``size / B``. One backward reaches all passes, through the recycled samples too.

    With ``passes=1`` it equals ``TraceMeanField_ELBO(max_plate_nesting=1)`` to the last bit, whose restrictions hold
    here: a mean-field guide, reparameterised latents. It works for any model and guide whose first argument has the
    shape of an observed site; other arguments are passed on unchanged. With vectorised particles a recycled input gains
    a leading dimension of particles, so the pair must count its rows from the right, ``x.shape[-2]``. Latents of all
    rows in common are drawn anew in every pass, and their KL counts in every pass.

    Parameters
    ----------
    passes : int, default=1
        The number N of passes. 1 is the plain (iC-)VAE. A plain attribute, read at every evaluation.
    recycle : {"sample", "mean", "repair", "likelihood"}, default="sample"
        Whether the next input is a reparameterised draw from the observed site's distribution; its mean; the *first*
        pass's input x with the mean in the place of what is dirty, :math:`w \mu + (1 - w) x`, of a likelihood that says
        how probable dirt is; or what the model's likelihood says, its ``next_input``. See `likelihoods.Likelihood`.
    detach : bool, default=False
        Whether the gradient stops at the recycled input.
    site : str, default="x"
        The observed site that is recycled into the first argument.
    max_plate_nesting : int, default=1
        How many plates are nested at the most, as everywhere in Pyro; a pair with other plates than "data" gives its
        own.
    num_particles : int, default=1
        The number of samples of the latents that the loss is averaged over.
    vectorize_particles : bool, default=False
        Whether the particles are computed at once, in a dimension to the left of all plates.
    **options
        Other keywords of `pyro.infer.TraceMeanField_ELBO`, such as `retain_graph`.

    Attributes
    ----------
    kl_weight : Tensor, shape ()
        The weight w of the KL terms (log q - log p where there is no closed form), 1.0 to begin with. Changed in place:
        ``elbo.kl_weight.fill_(0.5)``, or ``elbo.kl_weight = 0.5``, which does the same.

    Raises
    ------
    TypeError
        If `TraceMeanField_ELBO` has no such keyword.
    ValueError
        At construction if `passes` is not a whole number >= 1 or `recycle` is unknown. With several passes, if the site
        is missing, does not observe the first argument, or has no sampler or mean as `recycle` asks, or if a plate's
        size changes between passes. With any number, if a plate has another size in the model than in the guide, or a
        site of the guide that is not auxiliary is missing from the model. Values and plates are compared while Pyro's
        validation is on.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae import guides, inference, likelihoods, models, networks, priors
    >>> model = models.VAE(
    ...     networks.MLPDecoder(2, 5, hidden=(16,)),
    ...     likelihood=likelihoods.IndexConditionedNormal(floor=0.1),
    ...     prior=priors.StandardNormal(2),
    ... )
    >>> guide = guides.AmortizedNormal(networks.MLPEncoder(5, 2, hidden=(16,)))
    >>> loss = inference.RecyclingELBO(passes=2)(model, guide)
    >>> optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
    >>> x = torch.randn(8, 5)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     loss(x).backward()
    ...     _ = optimizer.step()
    """

    def __init__(
        self,
        passes: int = 1,
        recycle: Recycle = "sample",
        detach: bool = False,
        site: str = "x",
        max_plate_nesting: int = 1,
        num_particles: int = 1,
        vectorize_particles: bool = False,
        **options: Any,
    ) -> None:
        if recycle not in get_args(Recycle):
            raise ValueError(f"Expected recycle to be one of {', '.join(get_args(Recycle))}, actual {recycle!r}.")
        super().__init__(  # type: ignore[no-untyped-call]
            num_particles=positive_int("num_particles", num_particles),
            max_plate_nesting=max_plate_nesting,
            vectorize_particles=vectorize_particles,
            **options,
        )
        self.passes = positive_int("passes", passes)
        self.recycle = recycle
        self.detach = detach
        self.site = site
        # In double precision, for float64 models; it takes the type of the terms when it multiplies them.
        self._kl_weight = torch.tensor(1.0, dtype=torch.float64)

    @property
    def kl_weight(self) -> Tensor:
        """The weight of the KL terms, a 0-dim tensor, changed in place."""
        return self._kl_weight

    @kl_weight.setter
    def kl_weight(self, value: float | Tensor) -> None:
        self._kl_weight.fill_(value)

    def __call__(self, model: nn.Module, guide: nn.Module) -> ELBOModule:
        """Return a module that computes the loss of the pair, for use with torch optimizers.

        Parameters
        ----------
        model, guide : torch.nn.Module
            The pair.

        Returns
        -------
        pyro.infer.elbo.ELBOModule
            Called with the pair's arguments, it returns the differentiable loss. The modules' parameters stay out of
            Pyro's global parameter store, also under its default settings; a ``pyro.param`` in their code goes there,
            and is none of this module's ``parameters()``.
        """
        return _OwnParametersELBOModule(model, guide, self)

    def _get_trace(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Trace, Trace]:
        """Run all passes, and return the traces of model and guide with the sites of all of them.

        Pyro's own methods turn this pair into losses and gradients: to them, recycling is a pair with more sites.
        """
        passes = positive_int("passes", self.passes)
        traces = last_traces = self._get_pass(model, guide, args, kwargs)
        first = args[0] if args else None
        for k in range(2, passes + 1):
            args = (self._next_input(model, last_traces[0], args, kwargs, first), *args[1:])
            with later_pass(unwrap(model)):
                last_traces = self._get_pass(model, guide, args, kwargs)
            for trace, last in zip(traces, last_traces, strict=True):
                _check_plates(trace, last)
                trace.nodes.update(
                    (f"{name}, pass {k}", site) for name, site in last.nodes.items() if site["type"] == "sample"
                )
        return traces

    def _get_pass(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Trace, Trace]:
        """Return the traces of model and guide in one pass, checked."""
        traces: tuple[Trace, Trace] = super()._get_trace(model, guide, args, kwargs)  # type: ignore[no-untyped-call]
        _check_plates(traces[0], traces[1])
        if self.passes > 1:
            self._check_observed(traces[0], args)
        return traces

    def _check_observed(self, model_trace: Trace, args: tuple[Any, ...]) -> None:
        """Raise a ValueError unless the site is there and observes the first of `args`."""
        site: Any = model_trace.nodes.get(self.site)
        if site is None or site["type"] != "sample" or not site["is_observed"]:
            observed = [name for name, each in model_trace.nodes.items() if each.get("is_observed")]
            raise ValueError(
                f"Site {self.site!r} cannot be recycled: expected an observed site of the model, actual "
                f"{'no such site' if site is None else 'a site that is not observed'}. "
                f"The observed sites are {observed}: name one of them, RecyclingELBO(site=...)."
            )
        if not args or not isinstance(args[0], Tensor):
            raise ValueError(
                f"Site {self.site!r} cannot be recycled: expected the data as the first positional argument, a tensor, "
                f"actual {describe(args[0]) if args else 'none'}."
            )
        value = site["value"]
        if is_validation_enabled() and value is not args[0] and not torch.equal(value, args[0]):
            raise ValueError(
                f"Site {self.site!r} cannot be recycled: expected it to observe the first argument, of shape "
                f"{tuple(args[0].shape)}, actual another value, of shape {tuple(value.shape)}. Pass what is observed "
                "as the first argument, and use it unchanged: obs=x."
            )

    def _next_input(
        self, model: Any, trace: Trace, args: tuple[Any, ...], kwargs: dict[str, Any], first: Any
    ) -> Tensor:
        """Return x_{k+1}, from the distribution of the observed site given x_k, the first of `args`, and from x_1."""
        model = unwrap(model)  # Pyro wraps it where particles are vectorised, and users do
        distribution: Any = trace.nodes[self.site]["fn"]
        recycled = next_input(
            distribution,
            args[0],
            self.recycle,
            model=model,
            first=first,
            observed=_observed(model, args, kwargs) if self.recycle in ("likelihood", "repair") else None,
            whose=f"Site {self.site!r} cannot be recycled",
        )
        shape = args[0].shape
        if recycled.shape[recycled.dim() - len(shape) :] != shape:
            raise ValueError(
                f"Site {self.site!r} cannot be recycled: expected a distribution of the first argument's shape "
                f"{tuple(shape)}, actual {describe(distribution)}: expand it."
            )
        return recycled.detach() if self.detach else recycled

    def _differentiable_loss_particle(self, model_trace: Trace, guide_trace: Trace) -> tuple[float, Tensor]:
        """Return the loss of one particle, as a number and as a differentiable tensor.

        The terms, and their order, are those of `TraceMeanField_ELBO`; only those of the latent sites are weighted.
        """
        elbo: Any = 0.0
        for name, site in model_trace.nodes.items():
            if site["type"] != "sample":
                continue
            if site["is_observed"]:
                elbo = elbo + site["log_prob_sum"]
            else:
                for term in _minus_kl_terms(site, guide_trace.nodes[name]):
                    elbo = elbo + self._kl_weight.to(term.dtype) * term
        for name, guide_site in guide_trace.nodes.items():
            if guide_site["type"] == "sample" and name not in model_trace.nodes:
                if not (guide_site["infer"] or {}).get("is_auxiliary"):
                    raise ValueError(
                        f"Site {name!r}: expected a site of the guide in the model too, actual none there: "
                        "mark it infer={'is_auxiliary': True}, or correct its name."
                    )
                for term in _minus_kl_terms(None, guide_site):
                    elbo = elbo + self._kl_weight.to(term.dtype) * term
        return -torch_item(elbo), -elbo


class _OwnParametersELBOModule(ELBOModule):
    """An ELBOModule that leaves the pair's parameters out of Pyro's global store."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        # torch.compile cannot trace the copying of a store. What is compiled does as Pyro's own module does.
        with nullcontext() if torch.compiler.is_compiling() else own_parameters():
            loss: Tensor = super().forward(*args, **kwargs)  # type: ignore[no-untyped-call]
        return loss


def _observed(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return what a model is given as its argument `observed`, None where it has none."""
    call = inspect.signature(model.forward if isinstance(model, nn.Module) else model)
    observed: Tensor | None = call.bind(*args, **kwargs).arguments.get("observed")
    return observed


def _check_plates(first: Trace, second: Trace) -> None:
    """Raise a ValueError where a plate around a site that both traces have differs in size between the two."""
    if not is_validation_enabled():
        return
    for name, site in second.nodes.items():
        if site["type"] == "sample" and name in first.nodes:
            sizes = {frame.name: frame.full_size for frame in first.nodes[name]["cond_indep_stack"]}
            for frame in site["cond_indep_stack"]:
                if sizes.get(frame.name, frame.full_size) != frame.full_size:
                    raise ValueError(
                        f"Site {name!r}: expected one size of the plate {frame.name!r}, actual {sizes[frame.name]} and "
                        f"{frame.full_size}, so that its terms would be scaled wrongly. Give model and guide the same "
                        "size, and count the rows of a recycled input from the right, x.shape[-2]."
                    )


def _minus_kl_terms(model_site: Any, guide_site: Any) -> Iterator[Tensor]:
    """Yield the terms of -KL[q || p] at one latent site: one in closed form, else log p and -log q.

    At an auxiliary site of the guide, where `model_site` is None, -log q alone.
    """
    if is_validation_enabled():
        check_fully_reparametrized(guide_site)
    if model_site is not None:
        kl = kl_or_none(guide_site["fn"], model_site["fn"])
        if kl is None:
            yield model_site["log_prob_sum"]
        else:
            kl = scale_and_mask(kl, scale=guide_site["scale"], mask=guide_site["mask"])
            # Pyro gives the number 0 for a KL that is masked out.
            yield -torch.as_tensor(kl).expand(guide_site["fn"].batch_shape).sum()
            return
    yield -guide_site["score_parts"].entropy_term.sum()
