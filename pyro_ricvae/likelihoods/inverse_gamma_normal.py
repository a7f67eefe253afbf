"""The normal likelihood whose variance has an inverse-gamma prior and is integrated out."""

from typing import ClassVar, Literal

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae._core.checks import positive_finite
from pyro_ricvae.likelihoods.likelihood import Ends, Likelihood, ends_of, in_precision_of


class InverseGammaNormal(Likelihood):
    r"""A normal whose variance, one for each cell, is integrated over an inverse-gamma prior.

    With shape a, rate :math:`b = s_0^2 / 2` and residual :math:`r_j`,

    .. math:: p(x_j \mid z) = \int \mathcal N(x_j \mid \mu_j, v)\, \mathrm{IG}(v \mid a, b)\, dv

    is a Student-t with 2a degrees of freedom and scale :math:`s_0 / \sqrt{2a}`, so that

    .. math:: -\log p(x_j \mid z) = (a + \tfrac12) \log(r_j^2 + s_0^2) + \mathrm{const}.

    It is the proper counterpart of `IndexConditionedNormal`: as a tends to 0 its gradient tends to that of
    :math:`\tfrac12 \log(r_j^2 + s_0^2)`, which for :math:`|r_j| \gg s_0` is that of (8'). (The variance that
    *maximises* the integrand has no such limit.)

    Parameters
    ----------
    floor : float or tuple of float
        The resolution s0 of the data, in data units: positive and finite. Two are where it starts and where it ends in
        training; see `Likelihood.schedule`.
    shape : float, default=0.1
        The shape a: positive and finite. Below 1 draws have no variance, at 1/2 or below no mean: the location takes
        its place, and is what is recycled.

    Attributes
    ----------
    floor, shape : Tensor, shape ()
        Buffers; change them in place.
    schedule : dict
        The ends of the floor.

    Raises
    ------
    ValueError
        If `floor` or `shape` is not positive and finite.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.likelihoods import InverseGammaNormal
    >>> x = torch.tensor([[0.0, 1.0, 100.0]])
    >>> loc = torch.zeros(1, 3, requires_grad=True)
    >>> InverseGammaNormal(floor=0.1, shape=1e-3)(loc, x).log_prob(x).sum().backward()
    >>> loc.grad  # close to 1 / r
    tensor([[0.0000, 0.9921, 0.0100]])
    """

    recycle: ClassVar[Literal["sample", "mean"]] = "mean"
    floor: Tensor
    shape: Tensor

    def __init__(self, floor: float | Ends, shape: float = 0.1) -> None:
        super().__init__()
        ends = ends_of("floor", floor)
        self.schedule = {"floor": ends}
        self.register_buffer("floor", torch.tensor(ends[0]))
        self.register_buffer("shape", positive_finite("shape", shape))

    def forward(self, decoder_output: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return t(2 shape, location, floor / sqrt(2 shape)) for every cell. See `Likelihood.forward`."""
        df = 2 * self.shape
        loc = in_precision_of(x, decoder_output)
        distribution: TorchDistribution = dist.StudentT(df, loc, self.floor / df.sqrt())
        return distribution
