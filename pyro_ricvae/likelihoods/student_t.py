"""The Student-t likelihood."""

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae._core.checks import positive_finite
from pyro_ricvae.likelihoods.likelihood import in_precision_of
from pyro_ricvae.likelihoods.scaled import ScaledLikelihood


class StudentT(ScaledLikelihood):
    r"""A Student-t with one scale for every cell: heavy tails, and a proper density.

    With :math:`\nu` degrees of freedom and residual :math:`r_j`,

    .. math::
        -\log p(x_j \mid z) = \tfrac{\nu + 1}{2} \log\Big(1 + \frac{r_j^2}{\nu s^2}\Big) + \log s
            + \tfrac12 \log (\nu \pi) + \log\Gamma(\tfrac\nu2) - \log\Gamma(\tfrac{\nu+1}2).

    Parameters
    ----------
    scale : float
        The scale s, in data units: positive and finite. Not the standard deviation, which is larger.
    df : float, default=4.0
        The degrees of freedom: positive and finite. At 2 or fewer there is no variance, at 1 or fewer no mean, and the
        location takes its place.
    learn_scale : bool, default=False
        Whether the scale is trained with the networks, starting from `scale`; see `ScaledLikelihood`.

    Attributes
    ----------
    scale, df : Tensor, shape ()
        Buffers; change them in place.

    Raises
    ------
    ValueError
        If `scale` or `df` is not positive and finite.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.likelihoods import StudentT
    >>> StudentT(scale=0.5)(torch.zeros(1, 3), torch.ones(1, 3)).df
    tensor([[4., 4., 4.]])
    """

    df: Tensor

    def __init__(self, scale: float, df: float = 4.0, *, learn_scale: bool = False) -> None:
        super().__init__(scale, learn_scale=learn_scale)
        self.register_buffer("df", positive_finite("df", df))
        if self.df <= 2:
            self.recycle = "mean"  # type: ignore[misc]  # of this instance: its draws have no variance

    def forward(self, decoder_output: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return t(df, location, scale) for every cell. See `Likelihood.forward`."""
        loc = in_precision_of(x, decoder_output)
        distribution: TorchDistribution = dist.StudentT(self.df, loc, self.current_scale())
        return distribution
