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

from pyro_ricvae._core.checks import check_observed, positive_int
from pyro_ricvae._core.distributions import ObservedCells, check_support, describe
from pyro_ricvae.likelihoods.likelihood import as_likelihood, has_row_shapes, shapes_of, takes_observed
from pyro_ricvae.pair import data_plate
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
        location first; or to tensors of the likelihood's ``parameter_shapes``, where it has others.
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
        outside the likelihood's support, or the decoder's outputs are not as many, or not of the shapes, that the
        likelihood asks for.

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

    def decode(self, z: Tensor, x: Tensor | None = None, observed: Tensor | None = None) -> TorchDistribution:
        """Return p(x | z, i), the one place where it is built.

        Parameters
        ----------
        z : Tensor, shape (..., B, n_latent)
            Latents.
        x : Tensor, shape (..., B, d), optional
            The rows, which an index-conditioned likelihood looks at. None for replicates, rows yet to be drawn, which
            have no residuals.
        observed : Tensor of bool, shape (..., B, d), optional
            Which cells of `x` count; the others have no part in the log-density, and may hold anything, NaN too. None
            is all.

        Returns
        -------
        TorchDistribution, batch shape (..., B), event shape (d,)
            The likelihood of the rows; its mean is what the model expects of them, in data units.

        Raises
        ------
        ValueError
            If the decoder's outputs do not fit the likelihood or `x`, or the likelihood does not return the
            distribution of the cells.
        """
        output, likelihood = self._decoder_output(z), self.likelihood  # once: Pyro registers what is asked for
        shapes = _cells_shapes(likelihood, output, z, x)
        if observed is None:
            cells = _cells(likelihood, output, x)
            _check_cells(likelihood, cells, shapes)
        else:
            first = output[0] if isinstance(output, tuple) else output
            if is_validation_enabled():
                check_observed(observed, first if x is None else x)
            # Where nothing is observed rows lie at the location; or at 0, where there is none of a row's shape.
            filler = first.detach() if has_row_shapes(likelihood) else z.new_zeros(())
            given = {"observed": observed} if takes_observed(likelihood) else {}
            cells = _cells(likelihood, output, None if x is None else torch.where(observed, x, filler), **given)
            _check_cells(likelihood, cells, shapes)
            cells = ObservedCells(cells, observed, filler)
        rows: TorchDistribution = cells.to_event(1)
        return rows

    def forward(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Sample "z" and "x" for the rows of `x`, with "x" observed.

        Parameters
        ----------
        x : Tensor, shape (..., B, d)
            The rows.
        observed : Tensor of bool, shape (..., B, d), optional
            Which of their cells count, as in `decode`.

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
                check_support(self.likelihood, x, observed)
            value: Tensor = pyro.sample("x", self.decode(z, x, observed), obs=x)
            return value

    def _decoder_output(self, z: Tensor) -> Any:
        """Return the decoder's output in the precision of `z`: under autocast a network's is less."""
        output = self.decoder(z)
        if isinstance(output, tuple):
            return tuple(each.to(z.dtype) if isinstance(each, Tensor) else each for each in output)
        return output.to(z.dtype) if isinstance(output, Tensor) else output


def _cells_shapes(likelihood: Any, output: Any, z: Tensor, x: Tensor | None) -> list[tuple[int, ...]]:
    """Return the shapes that the cells may have, none where only the likelihood knows.

    Raises a ValueError unless `output` is what the likelihood asks for.
    """
    n_outputs: Any = likelihood.n_outputs  # an int: checked at construction
    outputs = output if isinstance(output, tuple) else (output,)
    rows = tuple(z.shape[:-1])
    fits = len(outputs) == n_outputs and isinstance(output, tuple) == (n_outputs > 1)
    fits = fits and all(isinstance(each, Tensor) and each.dim() > 0 for each in outputs)
    if fits and x is None and not has_row_shapes(likelihood):
        return []
    n_features = x.shape[-1] if x is not None else outputs[0].shape[-1] if fits else 0
    shapes = shapes_of(likelihood, n_features)
    if not fits or any(each.shape != rows + shape for each, shape in zip(outputs, shapes, strict=True)):
        asked = " and ".join(str(rows + shape) for shape in dict.fromkeys(shapes))
        raise ValueError(
            f"Site 'x': expected {n_outputs} output(s) of shape {asked} from the decoder, for "
            f"{type(likelihood).__name__}, z of shape {tuple(z.shape)} and "
            f"{'no x' if x is None else f'x of shape {tuple(x.shape)}'}, actual {describe(output)}: change the "
            "decoder's number of outputs or features, or the likelihood, and keep all dimensions of z but the last."
        )
    # As many dimensions first: comparing tuples of two lengths compares sizes, which a graph would then hold to.
    if x is None or (x.dim() == z.dim() and x.shape[:-1] == rows):
        return [(*rows, n_features)]
    return [(*rows, n_features), (*torch.broadcast_shapes(rows, x.shape[:-1]), n_features)]


def _cells(likelihood: Any, output: Any, x: Tensor | None, **observed: Tensor) -> Any:
    """Return what the likelihood makes of the decoder's output, with errors that name the site."""
    name = type(likelihood).__name__
    try:
        return likelihood(output, x, **observed)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not is_validation_enabled():
            raise  # without validation it may be the error of a capture, which looks at its type
        raise ValueError(
            f"Site 'x': {name} fails on decoder output {describe(output)} and x "
            f"{'None' if x is None else f'of shape {tuple(x.shape)}'}: {str(error).splitlines()[0]} Give its "
            "constants and parameters shapes that fit those, as () or (d,)."
        ) from error
    except (AttributeError, TypeError) as error:
        if x is not None:
            raise
        raise ValueError(
            f"Site 'x': {name} fails without x, which is None where replicates are asked for: {error}. Let it "
            "return the distribution of rows yet to be drawn, which have no residuals."
        ) from error
    except ValueError as error:  # torch's validation, which does not know the site
        raise ValueError(
            f"Site 'x': expected from the decoder what {name} accepts, finite locations "
            "and, where it gives a scale, a positive one (end it with softplus or exp), actual: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _check_cells(likelihood: Any, cells: Any, shapes: list[tuple[int, ...]]) -> None:
    """Raise a ValueError unless `cells` is the distribution of the cells."""
    name = type(likelihood).__name__
    if not isinstance(cells, TorchDistributionMixin):
        raise ValueError(
            f"Site 'x': expected {name} to return a distribution of pyro.distributions, actual {describe(cells)}: "
            "import pyro.distributions as dist, and take that one's."
        )
    if cells.event_shape or (shapes and tuple(cells.batch_shape) not in shapes):
        raise ValueError(
            f"Site 'x': expected {name} to return the distribution of the cells, of "
            f"{f'batch shape {shapes[0]}' if shapes else 'their batch shape'} and without an event dimension, "
            f"actual {describe(cells)}: leave out .to_event(1), which VAE.decode does since likelihoods are of "
            "cells, and give each cell a distribution of its own."
        )
