"""The normal likelihood with one shared scale in closed form, of the sigma-VAE."""

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae.likelihoods.likelihood import Likelihood, in_precision_of

# Of the running average of the variance, as in batch normalisation.
_MOMENTUM = 0.02
_SMALLEST = 1e-12  # a variance; where all residuals are 0


class SharedNormal(Likelihood):
    r"""A normal with one scale for all cells, solved in closed form: the sigma-VAE (Rybkin et al., 2021, "optimal").

    In training the variance is the one that maximises the density of the batch,

    .. math:: \sigma^2 = \frac{1}{B d} \sum_{ij} (x_{ij} - \mu_{ij})^2,

    and a running average of it is kept. In evaluation mode that average is the variance, so that the density is a
    normalised one, row by row. This is what the index-conditioned variance (equation 7 of the paper) becomes when it is
    shared by all cells: nothing in it gives up a cell.

    Attributes
    ----------
    variance : Tensor, shape ()
        A buffer, the running average, in squared data units; 1 before the first batch.
    n_batches : Tensor, shape ()
        A buffer, the number of batches averaged; the first ones count alike.

    Notes
    -----
    As with batch normalisation, ``model.eval()`` before anything is evaluated; `inference`, `diagnostics` and the
    estimator do so themselves. With several passes the average is over the batches of all passes, and after few batches
    it lags behind a model that still improves.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.likelihoods import SharedNormal
    >>> likelihood = SharedNormal()
    >>> likelihood(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).scale  # the root of (9 + 16) / 2
    tensor([[3.5355, 3.5355]])
    >>> likelihood.eval()(torch.zeros(1, 2), torch.zeros(1, 2)).scale
    tensor([[3.5355, 3.5355]])
    """

    variance: Tensor
    n_batches: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("n_batches", torch.tensor(0.0))

    def forward(
        self, decoder_output: Tensor, x: Tensor | None = None, observed: Tensor | None = None
    ) -> TorchDistribution:
        """Return N(location, variance) for every cell. See `Likelihood.forward`."""
        loc = in_precision_of(x, decoder_output)
        variance = self.variance
        if self.training and x is not None:
            squares = (x - loc).square()
            counts: Tensor | int = 1
            if observed is None:
                variance = squares.mean()
            else:
                number = observed.expand_as(squares).sum()
                counts = (number > 0).to(self.variance.dtype)  # a batch in which nothing is observed does not
                variance = torch.where(number > 0, (squares * observed).sum() / number.clamp(min=1), variance)
            variance = variance.clamp_min(_SMALLEST)
            with torch.no_grad():
                weight = self.n_batches.add_(counts).reciprocal().clamp(min=_MOMENTUM, max=1.0)
                self.variance.lerp_(variance.to(self.variance.dtype), counts * weight)
        distribution: TorchDistribution = dist.Normal(loc, variance.sqrt())
        return distribution
