"""The amortised normal guide."""

from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.infer.util import is_validation_enabled
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_ricvae._core.checks import check_finite, check_observed, positive_int
from pyro_ricvae._core.distributions import describe
from pyro_ricvae.pair import data_plate


class AmortizedNormal(PyroModule):
    r"""The guide :math:`q(z \mid x) = \mathcal N(\mu_z(x), \mathrm{diag}\,\sigma_z(x)^2)` (equation 2 of the paper).

    Its one sample site is "z", in the plate "data".

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps rows of shape (..., d) to ``(loc, scale)``, each (..., n_latent), the scale positive.
    size : int, optional
        The number of rows in the whole data set, as in the model. None takes each batch for the whole.

    Attributes
    ----------
    encoder, size
        As given.

    Raises
    ------
    ValueError
        At construction if `size` is not a whole number >= 1; when run if x has not the shape (..., rows, features) or
        is not of a floating-point type, or the encoder does not return a finite location and a positive scale of one
        shape.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae import guides, networks
    >>> guide = guides.AmortizedNormal(networks.MLPEncoder(5, 2, hidden=(16,)))
    >>> guide(torch.zeros(3, 5)).shape
    torch.Size([3, 2])
    """

    #: The encoder may compute in less precision: its output is cast where the distribution is built.
    autocast_safe: ClassVar[bool] = True

    def __init__(self, encoder: nn.Module, size: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.size = None if size is None else positive_int("size", size)

    def encode(self, x: Tensor, observed: Tensor | None = None) -> TorchDistribution:
        """Return q(z | x), the one place where it is built.

        Parameters
        ----------
        x : Tensor, shape (..., B, d)
            The rows.
        observed : Tensor of bool, shape (..., B, d), optional
            Which of their cells count: the encoder sees the others at its ``center``, or at 0 where it has none. None
            is all.

        Returns
        -------
        TorchDistribution, batch shape (..., B), event shape (n_latent,)
            The approximate posterior of the rows' latents.

        Raises
        ------
        ValueError
            If the encoder's output is not a location and a positive scale of one shape.
        """
        if observed is not None:
            if is_validation_enabled():
                check_observed(observed, x)
            center = getattr(self.encoder, "center", None)
            x = torch.where(observed, x, center.to(x.dtype) if isinstance(center, Tensor) else x.new_zeros(()))
        output = self.encoder(x)
        if not (
            isinstance(output, tuple | list)
            and len(output) == 2
            and all(isinstance(each, Tensor) for each in output)
            and output[0].shape == output[1].shape
            and output[0].shape[:-1] == x.shape[:-1]
        ):
            raise ValueError(
                f"Site 'z': expected (loc, scale) from the encoder, each of shape {tuple(x.shape[:-1])} + (n_latent,), "
                f"actual {describe(output)}: return two tensors of one shape, one row of latents a row of x."
            )
        loc, scale = output
        try:
            posterior: TorchDistribution = dist.Normal(loc.to(x.dtype), scale.to(x.dtype)).to_event(1)
        except ValueError as error:  # torch's validation, which does not know the site
            check_finite(x)
            raise ValueError(
                f"Site 'z': expected a finite loc and a positive scale of shape {tuple(loc.shape)} from the encoder, "
                f"for x of shape {tuple(x.shape)}, actual: {str(error).splitlines()[0]} Make the scale positive "
                "(softplus or exp); where the loc is not finite, the steps may be too large."
            ) from error
        return posterior

    def forward(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Sample "z" for the rows of `x`.

        Parameters
        ----------
        x : Tensor, shape (..., B, d)
            The rows.
        observed : Tensor of bool, shape (..., B, d), optional
            Which of their cells count, as in `encode`.

        Returns
        -------
        Tensor, shape (..., B, n_latent)
            The value of the site "z".
        """
        with data_plate(x, self.size):
            z: Tensor = pyro.sample("z", self.encode(x, observed))
            return z
