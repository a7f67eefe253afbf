"""The density of a cell that is clean or dirty, in closed form, and a step of EM for its scale and share."""

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import StudentT
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from pyro_ricvae.likelihoods.two_components import TwoComponents


def log_joint(
    squares: Tensor, scale: Tensor, share: Tensor, width: Any, shape: Tensor, clean_df: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Return the log-densities of a residual and of its cell being clean, or dirty, in nats.

    .. math:: \log (1 - \pi) t_\nu(r \mid 0, s), \qquad
        \log \pi \int \mathcal N(r \mid 0, v)\, \mathrm{IG}(v \mid a, b^2 / 2)\, dv

    Parameters
    ----------
    squares : Tensor
        Squared residuals :math:`r^2`.
    scale, share : Tensor
        The scale s of clean cells, and the share :math:`\pi` of dirty ones.
    width, shape : Tensor or float
        b and a of the prior of a dirty cell's variance.
    clean_df : float, optional
        The degrees of freedom :math:`\nu`; None is a normal, and s its standard deviation.
    """
    width = torch.as_tensor(width, dtype=squares.dtype, device=squares.device)
    ratio = squares / scale.square()
    if clean_df is None:
        clean = torch.log1p(-share) - 0.5 * ratio - scale.log() - 0.5 * math.log(2 * math.pi)
    else:
        level = math.lgamma((clean_df + 1) / 2) - math.lgamma(clean_df / 2) - 0.5 * math.log(clean_df * math.pi)
        clean = torch.log1p(-share) - (clean_df + 1) / 2 * torch.log1p(ratio / clean_df) - scale.log() + level
    of_width = torch.lgamma(shape + 0.5) - torch.lgamma(shape) - width.log() - 0.5 * math.log(math.pi)
    dirty = share.log() + of_width - (shape + 0.5) * torch.log1p(squares / width.square())
    return clean, dirty


def maximised(
    squares: Tensor,
    scale: Tensor,
    share: Tensor,
    width: Any,
    shape: Tensor,
    counts: Tensor | None = None,
    clean_df: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Return scale and share after a step of EM on squared residuals, two tensors of shape ().

    .. math:: s^2 = \frac{\sum (1 - w) u r^2}{\sum (1 - w)}, \qquad u = \frac{\nu + 1}{\nu + r^2 / s^2}, \qquad
        \pi = \operatorname{mean} w

    with w the probability that a cell is dirty, as `log_joint` has it, and u = 1 for a normal. As the paper's variance
    (equation 7) both are in closed form. `counts` is 1 where a cell counts and 0 elsewhere; without one that does, all
    stays as it is.
    """
    clean, dirty = log_joint(squares, scale, share, width, shape, clean_df)
    probability = torch.sigmoid(dirty - clean)
    weighted = squares
    if clean_df is not None:
        weighted = squares * (clean_df + 1) / (clean_df + squares / scale.square())
    counted = torch.ones_like(squares) if counts is None else counts.to(squares.dtype).expand_as(squares)
    number, kept = counted.sum(), ((1 - probability) * counted).sum()
    variance = ((1 - probability) * counted * weighted).sum() / kept.clamp_min(1e-6)
    mean = (probability * counted).sum() / number.clamp_min(1)
    return torch.where(number > 0, variance.sqrt(), scale), torch.where(number > 0, mean, share)


class SpikeAndSlabDistribution(TwoComponents):
    r"""A cell that is clean, :math:`t_\nu(\mu, s)` or normal, or dirty, with a variance that is integrated out.

    .. math:: (1 - \pi)\, t_\nu(x \mid \mu, s)
        + \pi \int \mathcal N(x \mid \mu, v)\, \mathrm{IG}(v \mid a, b^2 / 2)\, dv

    The second one is a Student-t with 2a degrees of freedom, as in `InverseGammaNormal`. It has no variance below a = 1
    and no mean at a = 1/2 or below: the location is given for one.

    Parameters
    ----------
    loc : Tensor
        The location :math:`\mu` of both.
    scale : Tensor
        The scale s of a clean cell.
    share : Tensor
        The probability :math:`\pi` that a cell is dirty, before it is seen.
    width, concentration : Tensor
        b and a.
    clean_df : float, optional
        The degrees of freedom :math:`\nu` of a clean cell; None is a normal.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "share": constraints.unit_interval,
        "width": constraints.positive,
        "concentration": constraints.positive,
    }

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        share: Tensor,
        width: Tensor,
        concentration: Tensor,
        *,
        clean_df: float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.clean_df = clean_df
        self.loc, self.scale, self.share, self.width, self.concentration = broadcast_all(
            loc, scale, share, width, concentration
        )
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "SpikeAndSlabDistribution":
        """Return the distribution with another batch shape."""
        return SpikeAndSlabDistribution(*self._expanded(batch_shape), clean_df=self.clean_df, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return draws, with gradients to location and scale; which cells are dirty has none."""
        shape = self._extended_shape(torch.Size(sample_shape))
        is_dirty = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device) < self.share
        if self.clean_df is None:
            clean = self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        else:
            df = torch.full_like(self.loc, self.clean_df)
            clean = StudentT(df, torch.zeros_like(df), self.scale, validate_args=False).rsample(sample_shape)
        df = 2 * self.concentration
        dirty = StudentT(df, torch.zeros_like(df), self.width / df.sqrt(), validate_args=False).rsample(sample_shape)
        return self.loc + torch.where(is_dirty, dirty, clean)

    def dirt_probability(self, value: Tensor) -> Tensor:
        """Return the probability that a cell of this value is dirty, between 0 and 1."""
        return self.second_probability(value)

    def log_joint(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-densities of a value and of its cell being clean, or dirty, in nats."""
        return self._log_joint_at(value, self.scale)

    def _log_joint_at(self, value: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return them with another scale of clean cells."""
        parts = (scale, self.share, self.width, self.concentration, self.clean_df)
        return log_joint((value - self.loc).square(), *parts)

    def _expanded(self, batch_shape: Any) -> list[Tensor]:
        parts = (self.loc, self.scale, self.share, self.width, self.concentration)
        return [each.expand(batch_shape) for each in parts]
