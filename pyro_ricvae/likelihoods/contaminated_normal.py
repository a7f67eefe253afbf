"""The contaminated normal likelihood: a normal with an explicit component of outliers."""

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all
from torch.nn.functional import logsigmoid

from pyro_ricvae._core.checks import positive_finite
from pyro_ricvae.likelihoods.likelihood import in_precision_of
from pyro_ricvae.likelihoods.scaled import ScaledLikelihood
from pyro_ricvae.likelihoods.two_components import TwoComponents


class ContaminatedNormalDistribution(TwoComponents):
    r"""The mixture :math:`(1 - \varepsilon)\,\mathcal N(\mu, s^2) + \varepsilon\,\mathcal N(\mu, (k s)^2)` of one cell.

    Parameters
    ----------
    loc : Tensor
        The location :math:`\mu` of both components.
    scale : Tensor
        The standard deviation s of the first one.
    logit_share : Tensor
        The logit of the share :math:`\varepsilon` of the second one.
    ratio : Tensor
        The ratio k of their standard deviations.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "logit_share": constraints.real,
        "ratio": constraints.positive,
    }

    def __init__(
        self, loc: Tensor, scale: Tensor, logit_share: Tensor, ratio: Tensor, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale, self.logit_share, self.ratio = broadcast_all(loc, scale, logit_share, ratio)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ContaminatedNormalDistribution":
        """Return the distribution with another batch shape."""
        loc, scale, logit_share, ratio = (
            each.expand(batch_shape) for each in (self.loc, self.scale, self.logit_share, self.ratio)
        )
        return type(self)(loc, scale, logit_share, ratio, validate_args=False)

    @property
    def variance(self) -> Tensor:
        """The variance of the mixture."""
        share = self.logit_share.sigmoid()
        return self.scale.square() * (1 - share + share * self.ratio.square())

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return draws, with gradients to location and scale; which component a draw is of has none."""
        shape = self._extended_shape(torch.Size(sample_shape))
        outlier = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device) < self.logit_share.sigmoid()
        width = self.scale * torch.where(outlier, self.ratio, torch.ones_like(self.ratio))
        return self.loc + width * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def outlier_probability(self, value: Tensor) -> Tensor:
        """Return the probability that a value comes from the second component, given the location."""
        return self.second_probability(value)

    def log_joint(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-densities of value and component, in nats."""
        inlier = logsigmoid(-self.logit_share) + dist.Normal(self.loc, self.scale, validate_args=False).log_prob(value)
        wide = dist.Normal(self.loc, self.scale * self.ratio, validate_args=False)
        return inlier, logsigmoid(self.logit_share) + wide.log_prob(value)


class ContaminatedNormal(ScaledLikelihood):
    r"""A normal with an explicit component of outliers: Tukey's contaminated normal, a proper density.

    .. math:: p(x_j \mid z) = (1 - \varepsilon)\, \mathcal N(x_j \mid \mu_j, s^2)
        + \varepsilon\, \mathcal N(x_j \mid \mu_j, (k s)^2)

    Parameters
    ----------
    scale : float
        The standard deviation s of clean cells, in data units: positive and finite.
    share : float, default=0.1
        The share of outliers, between 0 and 1.
    ratio : float, default=10.0
        How many times wider the outliers lie: positive and finite.
    learn_scale : bool, default=False
        Whether scale and share are trained with the networks, starting from those given; see `ScaledLikelihood`.

    Attributes
    ----------
    scale, ratio : Tensor, shape ()
        Buffers; change them in place.
    logit_share : Tensor, shape ()
        The logit of the share: a buffer, a parameter with `learn_scale`.

    Raises
    ------
    ValueError
        If `scale` or `ratio` is not positive and finite, or `share` does not lie between 0 and 1.

    Examples
    --------
    Which cells are outliers, given the decoder's location:

    >>> import torch
    >>> from pyro_ricvae.likelihoods import ContaminatedNormal
    >>> x = torch.tensor([[0.0, 1.5, 5.0]])
    >>> ContaminatedNormal(scale=0.5)(torch.zeros(1, 3), x).outlier_probability(x)
    tensor([[0.0110, 0.4888, 1.0000]])
    """

    ratio: Tensor
    logit_share: Tensor

    def __init__(self, scale: float, share: float = 0.1, ratio: float = 10.0, *, learn_scale: bool = False) -> None:
        super().__init__(scale, learn_scale=learn_scale)
        self.register_buffer("ratio", positive_finite("ratio", ratio))
        if not positive_finite("share", share) < 1:
            raise ValueError(f"Expected share to lie between 0 and 1, actual {share!r}.")
        logit_share = torch.logit(torch.tensor(float(share)))
        if learn_scale:
            self.logit_share = torch.nn.Parameter(logit_share)
        else:
            self.register_buffer("logit_share", logit_share)

    def forward(self, decoder_output: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return the mixture for every cell. See `Likelihood.forward`."""
        loc = in_precision_of(x, decoder_output)
        return ContaminatedNormalDistribution(loc, self.current_scale(), self.logit_share, self.ratio)
