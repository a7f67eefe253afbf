"""The generative model."""

from collections.abc import Callable
from typing import Any, ClassVar

import pyro
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer.util import is_validation_enabled
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_ricvae._plates import data_plate
from pyro_ricvae._validation import check_support, describe, positive_int
from pyro_ricvae.likelihoods import as_likelihood
from pyro_ricvae.priors import as_prior


class VAE(PyroModule):
    r"""The generative model of a variational autoencoder, for any decoder, likelihood and prior.

    .. math:: z_i \sim p(z), \qquad x_i \sim p(x \mid \mathrm{decoder}(z_i), i) \qquad i = 1, \dots, n

    Sample sites are "z" and "x" (observed), in the plate "data". With `likelihoods.IndexConditionedNormal` this is the
    iC-VAE (equations 6 to 8 of the paper), with `likelihoods.FixedNormal` the l2-VAE, with `likelihoods.LearnedNormal`
    the LC-VAE; `inference.RecyclingELBO` with several passes makes each of them recurrent.

    Parameters
    ----------
    decoder : torch.nn.Module
        Maps latents of shape (..., n_latent) to a tensor (..., d), or to a tuple of ``likelihood.n_outputs`` of them,
        location first.
    likelihood : torch.nn.Module or callable
        See `likelihoods.Likelihood`; a function with the attributes of that contract will do.
    prior : torch.nn.Module or pyro.distributions.TorchDistribution
        ``prior()`` is the distribution of a row's latents: event shape (n_latent,), batch shape ().
    size : int, optional
        The number of rows in the whole data set: the log-densities of a batch of B rows are scaled by ``size / B``.
        None takes each batch for the whole. Give the guide the same.

    Attributes
    ----------
    decoder, likelihood, prior, size
        As given.

    Raises
    ------
    ValueError
        At construction if `size` is not a whole number >= 1, `likelihood` lacks an attribute of the contract, or
        `prior` is no prior; when run if x has not the shape (..., rows, features) or, while validation is on, lies
        outside the likelihood's support, or the decoder's outputs are not as many as the likelihood asks or not of x's
        shape.

    See Also
    --------
    pyro_ricvae.guides.AmortizedNormal : the guide that goes with it.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae import likelihoods, models, networks, priors
    >>> decoder = networks.MLPDecoder(2, 5, hidden=(16,))
    >>> model = models.VAE(decoder, likelihoods.IndexConditionedNormal(floor=0.1), priors.StandardNormal(2))
    >>> model(torch.zeros(3, 5)).shape
    torch.Size([3, 5])
    """

    #: The decoder may compute in less precision: its output is cast where the distribution is built.
    autocast_safe: ClassVar[bool] = True

    likelihood: nn.Module
    prior: nn.Module

    def __init__(
        self,
        decoder: nn.Module,
        likelihood: nn.Module | Callable[..., TorchDistribution],
        prior: nn.Module | TorchDistribution,
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.likelihood = as_likelihood(likelihood)
        self.prior = as_prior(prior)
        self.size = None if size is None else positive_int("size", size)

    def decode(self, z: Tensor, x: Tensor | None = None) -> TorchDistribution:
        """Return p(x | z, i), the one place where it is built.

        Parameters
        ----------
        z : Tensor, shape (..., B, n_latent)
            Latents.
        x : Tensor, shape (..., B, d), optional
            The rows, which an index-conditioned likelihood looks at. None for rows yet to be generated: they are taken
            to lie at the decoder's location, with residuals of zero.

        Returns
        -------
        TorchDistribution, batch shape (..., B), event shape (d,)
            The likelihood of the rows; its mean is what the model expects of them, in data units.

        Raises
        ------
        ValueError
            If the decoder's outputs do not fit the likelihood or `x`.
        """
        output = self._decoder_output(z)
        if x is None:
            x = output[0] if isinstance(output, tuple) else output
        self._check_decoder_output(output, z, x)
        try:
            distribution: TorchDistribution = self.likelihood(output, x)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or not is_validation_enabled():
                raise  # without validation it may be the error of a capture, which looks at its type
            raise ValueError(
                f"Site 'x': {type(self.likelihood).__name__} fails on decoder output {describe(output)} and x of shape "
                f"{tuple(x.shape)}: {str(error).splitlines()[0]} Give its constants and parameters shapes that fit "
                "those, as () or (d,)."
            ) from error
        except ValueError as error:  # torch's validation, which does not know the site
            raise ValueError(
                f"Site 'x': expected from the decoder what {type(self.likelihood).__name__} accepts, finite locations "
                "and, where it gives a scale, a positive one (end it with softplus or exp), actual: "
                f"{str(error).splitlines()[0]}"
            ) from error
        if not isinstance(distribution, TorchDistributionMixin):
            raise ValueError(
                f"Site 'x': expected {type(self.likelihood).__name__} to return a distribution of pyro.distributions, "
                f"actual {describe(distribution)}: import pyro.distributions as dist, and take that one's."
            )
        if distribution.event_shape != x.shape[-1:]:
            raise ValueError(
                f"Site 'x': expected {type(self.likelihood).__name__} to return a distribution of event shape "
                f"({x.shape[-1]},), actual {describe(distribution)}: end it with .to_event(1)."
            )
        return distribution

    def forward(self, x: Tensor) -> Tensor:
        """Sample "z" and "x" for the rows of `x`, with "x" observed.

        Parameters
        ----------
        x : Tensor, shape (..., B, d)
            The rows.

        Returns
        -------
        Tensor, shape (..., B, d)
            The value of the site "x": `x` itself, or a replicate under ``poutine.uncondition``.
        """
        with data_plate(x, self.size):
            prior = self.prior()
            z = pyro.sample("z", prior)
            if len(prior.event_shape) != 1 or z.shape[-1:] != prior.event_shape:
                raise ValueError(
                    f"Site 'z': expected latents of the prior's event shape (n_latent,) = {tuple(prior.event_shape)}, "
                    f"actual {tuple(z.shape)}: give the encoder and the prior the same n_latent, and end a prior of "
                    "your own with .to_event(1)."
                )
            if is_validation_enabled():
                check_support(self.likelihood, x)
            value: Tensor = pyro.sample("x", self.decode(z, x), obs=x)
            return value

    def _decoder_output(self, z: Tensor) -> Any:
        """Return the decoder's output in the precision of `z`: under autocast a network's is less."""
        output = self.decoder(z)
        if isinstance(output, tuple):
            return tuple(each.to(z.dtype) if isinstance(each, Tensor) else each for each in output)
        return output.to(z.dtype) if isinstance(output, Tensor) else output

    def _check_decoder_output(self, output: Any, z: Tensor, x: Tensor) -> None:
        """Raise a ValueError unless `output` is as many tensors as the likelihood asks for, each of x's shape."""
        n_outputs: Any = self.likelihood.n_outputs  # an int: checked at construction
        outputs = output if isinstance(output, tuple) else (output,)
        shape = (*z.shape[:-1], x.shape[-1])
        if (
            len(outputs) != n_outputs
            or isinstance(output, tuple) != (n_outputs > 1)
            or any(not isinstance(each, Tensor) or each.shape != shape for each in outputs)
        ):
            raise ValueError(
                f"Site 'x': expected {n_outputs} output(s) of shape {shape} from the decoder, for "
                f"{type(self.likelihood).__name__}, z of shape {tuple(z.shape)} and x of shape {tuple(x.shape)}, "
                f"actual {describe(output)}: change the decoder's number of outputs or features, or the likelihood, "
                "and keep all dimensions of z but the last."
            )
