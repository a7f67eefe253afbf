"""Robust VAEs of others as likelihoods of this package: the beta-divergence's, and RVAE's mixture with fixed outliers.

Any of them is an argument: ``RiCVAE(likelihood=BetaDivergence(0.005, scale=0.2), train_passes=1)``.
"""

import math
from typing import Any, ClassVar, Literal

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from pyro_ricvae.likelihoods import Likelihood
from pyro_ricvae.likelihoods.likelihood import in_precision_of
from pyro_ricvae.likelihoods.two_components import TwoComponents

# Of the authors' code: the logarithm of the clean variance, in squared standard deviations of the data, between -3
# and 3, and the outliers' standard deviation.
_LOG_VARIANCE = 3.0
_OUTLIERS = 2.0

By = Literal["row", "cell"]


class BetaDivergenceCells(dist.Normal):
    r"""Normal cells whose log-density is replaced by what the beta-divergence has in its place.

    Draws and moments are those of the normal :math:`\mathcal N(\mu, s^2)`.

    Parameters
    ----------
    loc, scale : Tensor
        The location :math:`\mu` and the scale s.
    beta : Tensor, shape ()
        The power :math:`\beta`.
    by : {"row", "cell"}
        What the power is taken of: a row's density, of which each cell then gets an equal share, or a cell's.
    """

    def __init__(self, loc: Tensor, scale: Tensor, beta: Tensor, by: By, validate_args: bool | None = None) -> None:
        self.beta, self.by = beta, by
        super().__init__(loc, scale, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "BetaDivergenceCells":
        """Return the cells with another batch shape."""
        loc, scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        return BetaDivergenceCells(loc, scale, self.beta, self.by, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return what stands in the place of a cell's log-density, or the cell's share of its row's; see the class."""
        cells: Tensor = super().log_prob(value)
        density = cells if self.by == "cell" else cells.sum(-1, keepdim=True)
        robust = (self.beta + 1) / self.beta * torch.expm1(self.beta * density)
        return robust if self.by == "cell" else (robust / cells.shape[-1]).expand_as(cells)


class BetaDivergence(Likelihood):
    r"""The beta cross-entropy of a normal decoder in the place of its log-likelihood (Akrami et al., 2019 and 2022).

    A row :math:`x` of d cells counts for

    .. math:: \frac{\beta + 1}{\beta} \Big[ (2 \pi s^2)^{-\beta d / 2}
        \exp\Big( -\frac{\beta}{2 s^2} \sum_j (x_j - \mu_j)^2 \Big) - 1 \Big]
        = \frac{\beta + 1}{\beta} \big[ p(x \mid z)^\beta - 1 \big],

    which tends to :math:`\log p(x \mid z)` as :math:`\beta \to 0`. Its gradient is that of the log-likelihood times
    :math:`(\beta + 1)\, p(x \mid z)^\beta`: rows that the model finds improbable do not count. The other term of the
    beta cross-entropy, :math:`\int p^{\beta + 1}`, is left out, as it does not depend on the location; it does on the
    scale, which therefore is fixed.

    Of a row of many cells the power is 0 or without effect unless :math:`\beta` is about 1/d; and where each row has
    some dirty cells, all rows count little. ``by="cell"``, which is not in the paper, takes the power of each cell's
    density and adds the cells up.

    Parameters
    ----------
    beta : float
        The power: positive and finite. The authors' code for MNIST, of 784 cells on [0, 1], has 0.005 with a scale of
        0.2.
    scale : float
        The scale s, in data units: positive and finite.
    by : {"row", "cell"}, default="row"
        What the power is taken of.

    Attributes
    ----------
    beta, scale : Tensor, shape ()
        Buffers; change them in place.

    Raises
    ------
    ValueError
        If `beta` or `scale` is not positive and finite, or `by` is neither.

    Notes
    -----
    It is no log-density of anything (``normalised`` is False). By row it does not fall into cells either: each has an
    equal share, so that "scores of cells" are those of their rows, and with missing cells the power is that of the
    observed ones times a constant.

    Examples
    --------
    >>> import torch
    >>> from experiments.paper.neighbours import BetaDivergence
    >>> x = torch.tensor([[0.0, 1.0, 30.0]])
    >>> BetaDivergence(0.5, scale=1.0, by="cell")(torch.zeros(1, 3), x).log_prob(x)
    tensor([[-1.1051, -1.5243, -3.0000]])
    """

    normalised: ClassVar[bool] = False
    beta: Tensor
    scale: Tensor

    def __init__(self, beta: float, scale: float, *, by: By = "row") -> None:
        super().__init__()
        if by not in ("row", "cell"):
            raise ValueError(f"Expected by to be 'row' or 'cell', actual {by!r}.")
        self.by: By = by
        for name, value in (("beta", beta), ("scale", scale)):
            if not 0 < value < math.inf:
                raise ValueError(f"Expected {name} to be positive and finite, actual {value!r}.")
            self.register_buffer(name, torch.tensor(float(value)))

    def forward(self, decoder_output: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return the cells. See `Likelihood.forward`."""
        cells: TorchDistribution = BetaDivergenceCells(
            in_precision_of(x, decoder_output), self.scale, self.beta, self.by
        )
        return cells


class FixedOutliersCells(TwoComponents):
    r"""The mixture :math:`\alpha\, \mathcal N(\mu, s^2) + (1 - \alpha)\, \mathcal N(c, S^2)` of one cell.

    Parameters
    ----------
    loc, scale : Tensor
        The location :math:`\mu` and the scale s of a clean cell. `mean` is this location: what is cleaned.
    center, width : Tensor
        c and S of outliers, which do not depend on the latents.
    clean_share : Tensor
        The probability :math:`\alpha` that a cell is clean, before it is seen.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "center": constraints.real,
        "width": constraints.positive,
        "clean_share": constraints.unit_interval,
    }

    def __init__(self, *parts: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale, self.center, self.width, self.clean_share = broadcast_all(*parts)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "FixedOutliersCells":
        """Return the cells with another batch shape."""
        parts = (self.loc, self.scale, self.center, self.width, self.clean_share)
        return FixedOutliersCells(*(each.expand(batch_shape) for each in parts), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return draws, with gradients to location and scale; which cells are outliers has none."""
        shape = self._extended_shape(torch.Size(sample_shape))
        given: Any = {"dtype": self.loc.dtype, "device": self.loc.device}
        noise, is_clean = torch.randn(shape, **given), torch.rand(shape, **given) < self.clean_share
        return torch.where(is_clean, self.loc + self.scale * noise, self.center + self.width * noise)

    def log_joint(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-densities of a value and of its cell being clean, or an outlier, in nats."""
        clean = dist.Normal(self.loc, self.scale, validate_args=False).log_prob(value)
        outlier = dist.Normal(self.center, self.width, validate_args=False).log_prob(value)
        return self.clean_share.log() + clean, torch.log1p(-self.clean_share) + outlier


class FixedOutliers(Likelihood):
    r"""RVAE's mixture: a cell is the decoder's, or an outlier that has nothing to do with it (Eduardo et al., 2020).

    .. math:: p(x_j \mid z) = \alpha\, \mathcal N(x_j \mid \mu_j, s^2) + (1 - \alpha)\, \mathcal N(x_j \mid c, S^2)

    The paper has a weight :math:`w_j \sim \mathrm{Bernoulli}(\alpha)` in each cell, with :math:`q(w_j) =
    \mathrm{Bernoulli}(\pi_j)` found by coordinate ascent. Of one draw of z, its bound

    .. math:: \pi_j \log \mathcal N(x_j \mid \mu_j, s^2) + (1 - \pi_j) \log \mathcal N(x_j \mid c, S^2)
        - \mathrm{KL}[\mathrm{Bernoulli}(\pi_j) \,\|\, \mathrm{Bernoulli}(\alpha)]

    is highest at :math:`\operatorname{logit} \pi_j = \operatorname{logit} \alpha + \log \mathcal N(x_j \mid \mu_j, s^2)
    - \log \mathcal N(x_j \mid c, S^2)`, where it is this mixture's log-density; and as its gradient in :math:`\pi_j` is
    0 there, the gradients are the same as well. So here w is summed out, which is its coordinate ascent.

    Parameters
    ----------
    clean_share : float, default=0.95
        The prior probability :math:`\alpha` that a cell is clean, between 0 and 1.
    center, deviation : float or Tensor of shape (d,), default=0.0 and 1.0
        The mean and the standard deviation of the data, in data units. Outliers are centred there, with S twice that.
    learn_scale : bool, default=True
        Whether s is trained with the networks, one for each given deviation, from that deviation, with a log-variance
        between -3 and 3 in its units, as in the authors' code; else s is the deviation.

    Attributes
    ----------
    clean_share : Tensor, shape ()
        A buffer; change it in place.
    center, deviation : Tensor, shape () or (d,)
        Buffers.
    log_variance : Tensor, shape () or (d,)
        Of a clean cell, in squared deviations: a parameter, a buffer without `learn_scale`.

    Raises
    ------
    ValueError
        If `clean_share` does not lie between 0 and 1, or a deviation is not positive and finite.

    Examples
    --------
    >>> import torch
    >>> from experiments.paper.neighbours import FixedOutliers
    >>> likelihood, x = FixedOutliers(learn_scale=False), torch.tensor([[0.0, 2.0, 5.0]])
    >>> likelihood.dirt_probability(likelihood(torch.zeros(1, 3), x), x)
    tensor([[0.0256, 0.1055, 0.9968]])
    """

    recycle: ClassVar[Literal["sample", "mean", "repair"]] = "repair"
    clean_share: Tensor
    center: Tensor
    deviation: Tensor
    log_variance: Tensor

    def __init__(
        self,
        clean_share: float = 0.95,
        center: float | Tensor = 0.0,
        deviation: float | Tensor = 1.0,
        *,
        learn_scale: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < clean_share < 1:
            raise ValueError(f"Expected clean_share to lie between 0 and 1, actual {clean_share!r}.")
        given = torch.as_tensor(deviation, dtype=torch.float32)
        if not ((given > 0) & given.isfinite()).all():
            raise ValueError(f"Expected deviation to be positive and finite, actual {deviation!r}.")
        self.register_buffer("clean_share", torch.tensor(float(clean_share)))
        self.register_buffer("center", torch.as_tensor(center, dtype=torch.float32))
        self.register_buffer("deviation", given)
        if learn_scale:
            self.log_variance = nn.Parameter(torch.zeros_like(given))
        else:
            self.register_buffer("log_variance", torch.zeros_like(given))

    def forward(self, decoder_output: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return the mixture for every cell. See `Likelihood.forward`."""
        loc = in_precision_of(x, decoder_output)
        scale = self.deviation * (self.log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE) / 2).exp()
        return FixedOutliersCells(loc, scale, self.center, _OUTLIERS * self.deviation, self.clean_share)

    def dirt_probability(self, cells: TorchDistribution, x: Tensor) -> Tensor:
        """Return the probability that a cell is an outlier, 1 - pi, between 0 and 1; see `Likelihood`."""
        given: Any = cells
        probability: Tensor = given.second_probability(x)
        return probability
