"""The index-conditioned normal likelihood of the iC-VAE and the RiC-VAE."""

from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae.likelihoods.likelihood import Ends, Likelihood, ends_of, in_precision_of


class IndexConditionedNormal(Likelihood):
    r"""A normal whose variance is conditioned on the sample index, and so solved in closed form.

    With residual :math:`r_j = x_j - \mu_j` and floor :math:`s_0`, minimising :math:`r_j^2/v + \log v` over
    :math:`v \ge s_0^2` gives (equation 7 of the paper, with a floor)

    .. math:: v_j^* = \max(r_j^2, s_0^2),

    and so the robust log penalty (equation 8), continuously differentiable in :math:`r_j`:

    .. math::
        -\log p(x_j \mid z, i) = \tfrac12 \log 2\pi + \begin{cases}
            \tfrac12 (1 + \log r_j^2) & |r_j| > s_0 \\
            \tfrac12 (r_j^2 / s_0^2 + \log s_0^2) & \text{otherwise.}\end{cases}

    The floor is a homotopy: towards 0 it is the paper's Jeffreys penalty, towards infinity the squared error of
    `FixedNormal`. Without a floor the objective is unbounded below.

    Parameters
    ----------
    floor : float or tuple of float
        The resolution s0 of the data, in data units: positive and finite. For 8-bit images on [0, 1] no less than about
        1/255. Two are where it starts and where it ends in training; see `Likelihood.schedule`.

    Attributes
    ----------
    floor : Tensor, shape ()
        A buffer; change it in place (``likelihood.floor.fill_(0.05)``).
    schedule : dict
        The ends of the floor.

    Raises
    ------
    ValueError
        If `floor` is not positive and finite.

    Notes
    -----
    This is a profile likelihood: it does not integrate to one over x (``normalised`` is False), so its value must not
    be ranked beside that of a normalised likelihood.

    By the envelope theorem the gradient of the log-density *through the scale* is zero. The scale stays attached all
    the same, because recycled samples are drawn with it.

    Sampling gives ``mu + max(|x - mu|, floor) * eps``: dirty cells are drawn as widely as they are wrong.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.likelihoods import IndexConditionedNormal
    >>> likelihood = IndexConditionedNormal(floor=0.1)
    >>> x = torch.tensor([[0.0, 0.5, 3.0]])
    >>> likelihood(torch.zeros(1, 3), x).scale
    tensor([[0.1000, 0.5000, 3.0000]])
    """

    normalised: ClassVar[bool] = False
    floor: Tensor

    def __init__(self, floor: float | Ends) -> None:
        super().__init__()
        ends = ends_of("floor", floor)
        self.schedule = {"floor": ends}
        self.register_buffer("floor", torch.tensor(ends[0]))

    def forward(self, decoder_output: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return N(location, max(|x - location|, floor)²) for every cell. See `Likelihood.forward`."""
        return index_conditioned(in_precision_of(x, decoder_output), x, self.floor)

    def dirt_probability(self, cells: TorchDistribution, x: Tensor) -> Tensor:
        r"""Return the share of a cell's squared residual that the floor does not account for, given `forward`'s result.

        .. math:: w_j = 1 - s_0^2 / \max(r_j^2, s_0^2)

        0 up to the floor, near 1 far above it. It says what is repaired in recycling; it is no calibrated probability.

        Parameters
        ----------
        cells : TorchDistribution, batch shape (..., B, d)
            As `forward` returned it.
        x : Tensor, shape (..., B, d)
            The rows.

        Returns
        -------
        Tensor, shape (..., B, d)
            Between 0 and 1.
        """
        floor = self.floor.square()
        return 1 - floor / torch.maximum((x - cells.mean).square(), floor)


def index_conditioned(loc: Tensor, x: Tensor | None, floor: Tensor) -> TorchDistribution:
    """Return N(location, max(|x - location|, floor)²) for every cell; without `x` its scale is the floor."""
    scale = floor if x is None else torch.maximum((x - loc).abs(), floor)
    distribution: TorchDistribution = dist.Normal(loc, scale)
    return distribution
