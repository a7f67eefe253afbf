"""The contract of a likelihood."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints


class Likelihood(nn.Module, ABC):
    """The distribution of a row x given the decoder's output: the contract of ``VAE(decoder, likelihood=...)``.

    A subclass is final: it sets the class attributes and defines `forward`. Any `torch.nn.Module` with the same
    attributes and `forward` will do as well. Constants that a user may want to change during training are 0-dim
    buffers, so that they move and are saved with the model, and a change in place holds for a compiled model too.

    Attributes
    ----------
    n_outputs : int
        How many tensors the decoder returns: one tensor if 1, a tuple of tensors otherwise, location first.
    normalised : bool
        Whether the density integrates to one over x. Values of a likelihood that does not must not be ranked beside
        those of one that does.
    support : torch.distributions.constraints.Constraint
        The values that one cell of x may take.
    """

    n_outputs: ClassVar[int] = 1
    normalised: ClassVar[bool] = True
    support: ClassVar[constraints.Constraint] = constraints.real

    @abstractmethod
    def forward(self, decoder_output: Any, x: Tensor) -> TorchDistribution:
        """Return the distribution of the rows of `x`.

        Parameters
        ----------
        decoder_output : Tensor or tuple of Tensor, shape (..., B, d) each
            What the decoder returned, location first.
        x : Tensor, shape (..., B, d)
            The observed rows. Only an index-conditioned likelihood looks at them.

        Returns
        -------
        TorchDistribution, batch shape (..., B), event shape (d,)
            The last dimension is the event (``to_event(1)``), so that log-densities are per row, in nats.
        """
