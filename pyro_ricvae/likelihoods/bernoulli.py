"""The Bernoulli likelihood."""

from typing import ClassVar, Literal

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_ricvae.likelihoods.likelihood import Likelihood, in_precision_of


class Bernoulli(Likelihood):
    r"""A Bernoulli for every cell: black and white images, yes and no.

    .. math:: -\log p(x_j \mid z) = -x_j \log \mu_j - (1 - x_j) \log (1 - \mu_j)

    The decoder's output is the probability :math:`\mu` of a one, and so the mean of x: end it with a sigmoid
    (``MLPDecoder(..., sigmoid=True)``; the estimator does so by itself). It is recycled by its mean,
    ``RecyclingELBO(recycle="mean")``, as a draw has no gradient.

    Notes
    -----
    Values between 0 and 1 are trained on as they are, as is common for grey images: the loss is then a cross-entropy
    and no log-probability, and what asks for one (`diagnostics.check_normalised`) says so.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.likelihoods import Bernoulli
    >>> Bernoulli()(torch.full((1, 3), 0.25), torch.ones(1, 3)).mean
    tensor([[0.2500, 0.2500, 0.2500]])
    """

    support: ClassVar[constraints.Constraint] = constraints.unit_interval
    recycle: ClassVar[Literal["sample", "mean"]] = "mean"

    def forward(self, decoder_output: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return Bernoulli(probability) for every cell. See `Likelihood.forward`.

        Raises
        ------
        ValueError
            While torch's validation is on, if the probabilities are not between 0 and 1.
        """
        distribution: TorchDistribution = dist.Bernoulli(in_precision_of(x, decoder_output))
        # Checked once, here: a mean that is recycled, or a grey value, is none of its values.
        distribution._validate_args = False
        return distribution
