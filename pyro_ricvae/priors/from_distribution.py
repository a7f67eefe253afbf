"""Any Pyro distribution as a prior."""

from collections.abc import Callable
from copy import copy
from typing import Any

from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.transforms import Transform


class FromDistribution(nn.Module):
    """A Pyro distribution as a prior, as it is: nothing in it is trained.

    `models.VAE` and `RiCVAE` take a distribution as `prior=` and make this of it. Its tensors move with the model, and
    are not saved: give `load` the same prior.

    Parameters
    ----------
    distribution : pyro.distributions.TorchDistribution
        Batch shape (), event shape (n_latent,): end independent latents with ``.to_event(1)``.

    Raises
    ------
    ValueError
        If `distribution` is no Pyro distribution, or not of those shapes.

    Examples
    --------
    >>> import pyro.distributions as dist
    >>> import torch
    >>> from pyro_ricvae.priors import FromDistribution
    >>> FromDistribution(dist.Laplace(torch.zeros(10), 1.0).to_event(1))().event_shape
    torch.Size([10])
    """

    def __init__(self, distribution: TorchDistribution) -> None:
        super().__init__()
        if not isinstance(distribution, TorchDistributionMixin):
            raise ValueError(
                f"Expected a distribution of pyro.distributions as a prior, actual {distribution!r}: "
                "give one, or a torch.nn.Module whose forward() returns one."
            )
        if len(distribution.batch_shape) or len(distribution.event_shape) != 1:
            raise ValueError(
                "Expected a prior of batch shape () and event shape (n_latent,), actual "
                f"{tuple(distribution.batch_shape)} and {tuple(distribution.event_shape)}: "
                "end it with .to_event(1)."
            )
        self.distribution = distribution

    def forward(self) -> TorchDistribution:
        """Return the distribution."""
        return self.distribution

    def extra_repr(self) -> str:
        """Return what is printed of it."""
        return repr(self.distribution)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FromDistribution":
        # What nn.Module moves and casts its tensors by; those of a distribution it does not know.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.distribution = _mapped(self.distribution, fn)
        return self


def as_prior(value: Any) -> nn.Module:
    """Return `value`, a module, or the module that a distribution makes.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(value, nn.Module):
        return value
    if isinstance(value, TorchDistributionMixin):
        return FromDistribution(value)
    raise ValueError(
        "Site 'z': expected prior to be a Pyro distribution, or a torch.nn.Module whose forward() returns one, such as "
        f"pyro_ricvae.priors.StandardNormal(n_latent), actual {value!r}."
    )


def _mapped(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy with `fn` of the tensors in it, however deep in distributions, transforms and lists."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_mapped(each, fn) for each in value)
    if isinstance(value, Distribution | Transform):
        other = copy(value)
        # Not the inverse that a transform keeps, and which keeps it: it makes another.
        other.__dict__.update(
            {name: None if name == "_inv" else _mapped(each, fn) for name, each in vars(value).items()}
        )
        return other
    return value
