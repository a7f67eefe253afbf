"""The contract of a likelihood."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_ricvae._core.checks import positive_finite
from pyro_ricvae.pair import Switch, likelihood_of

#: Where a buffer starts in training, and where it ends.
Ends = tuple[float, float]

#: The shapes of a decoder's outputs, without the dimensions of rows.
Shapes = tuple[tuple[int, ...], ...]


class Likelihood(nn.Module, ABC):
    """The distribution of the cells of x given the decoder's output: the contract of ``VAE(decoder, likelihood=...)``.

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
    recycle : {"sample", "mean", "repair"}
        What `inference.Trainer` passes on to the next pass: a reparameterised draw, or the mean where there is none
        (discrete values) or draws have no variance; or the first pass's row, with the mean in the place of what is
        dirty, of likelihoods that say how probable that is. Optional: "sample" where it is missing.
    schedule : mapping of str to tuple of float, or Switch
        What moves in training, and from where to where: names of buffers, each with its start and its end.
        `inference.Trainer` moves them log-linearly, as its recipe says; where both are the same it leaves the buffer as
        it is, and notes its value. A `Switch` makes 1 of 0. Optional: nothing where it is missing. The buffer
        ``floor``, where there is one, is
        the resolution that residuals are counted below.
    estimates : tuple of str
        Names of buffers of shape () that it estimates in training, which the history notes. Optional.

    Notes
    -----
    One that tells dirty cells from clean ones defines ``dirt_probability(cells, x)``: from the distribution that its
    `forward` returned, for `x` or for another pass's input, and the rows `x`, the probability that each cell is dirty.

    A likelihood may also define ``next_input(cells, x, observed=None)``: from the distribution that its `forward`
    returned for `x`, the rows that are passed on to the next pass, in training in the place of a draw or the mean, and
    at test time in the place of the mean. (From that distribution, and not from the decoder's output, so that `forward`
    is not run twice: in training it may count batches.) `observed` says which cells count, None for all.
    """

    n_outputs: ClassVar[int] = 1
    normalised: ClassVar[bool] = True
    support: ClassVar[constraints.Constraint] = constraints.real
    recycle: ClassVar[Literal["sample", "mean", "repair"]] = "sample"
    estimates: ClassVar[tuple[str, ...]] = ()
    schedule: Mapping[str, Ends | Switch] = MappingProxyType(
        {}
    )  # of the class, and so of all: not to be changed in place

    @abstractmethod
    def forward(self, decoder_output: Any, x: Tensor | None = None) -> TorchDistribution:
        """Return the distribution of the cells of `x`.

        Parameters
        ----------
        decoder_output : Tensor or tuple of Tensor, of `parameter_shapes` after the dimensions (..., B)
            What the decoder returned, location first.
        x : Tensor, shape (..., B, d), optional
            The observed rows. Only an index-conditioned likelihood looks at them. None asks for a replicate: rows yet
            to be drawn, which have no residuals.

        Returns
        -------
        TorchDistribution, batch shape (..., B, d), event shape ()
            Of every cell; log-densities are in nats. `models.VAE.decode` makes rows of them.

        Notes
        -----
        One that looks at all cells at once, to estimate something from them, takes ``observed=None`` as well: a tensor
        of bool like `x`, which cells count.
        """

    def parameter_shapes(self, n_features: int) -> Shapes:
        """Return the shape of each of the decoder's outputs for rows of `n_features` cells, without that of the rows.

        The default is that of a row for all `n_outputs`. `networks.MLPDecoder` makes of the second a positive scale
        where it is of that shape, and leaves others as they are. Of other modules it is optional.
        """
        return ((n_features,),) * self.n_outputs


class FromFunction(Likelihood):
    """A function as a likelihood, for what has no constants or networks of its own.

    Parameters
    ----------
    function : callable
        As `Likelihood.forward`: from the decoder's output and x, or None, to the distribution of the cells.
    n_outputs, normalised, support, recycle
        As in `Likelihood`.

    Raises
    ------
    ValueError
        If `function` cannot be called, or an attribute is not as said.

    Examples
    --------
    >>> import pyro.distributions as dist
    >>> import torch
    >>> from pyro_ricvae.likelihoods import FromFunction
    >>> likelihood = FromFunction(lambda loc, x: dist.Cauchy(loc, 0.1), normalised=True)
    >>> likelihood(torch.zeros(2, 5), torch.zeros(2, 5)).batch_shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        function: Callable[..., TorchDistribution],
        *,
        normalised: bool,
        n_outputs: int = 1,
        support: constraints.Constraint = constraints.real,
        recycle: Literal["sample", "mean"] = "sample",
    ) -> None:
        super().__init__()
        if not callable(function):
            raise ValueError(f"Expected function to be a callable (decoder_output, x), actual {function!r}.")
        if recycle not in ("sample", "mean"):
            raise ValueError(f"Expected recycle to be 'sample' or 'mean', actual {recycle!r}.")
        self.function = function
        attributes = {"n_outputs": n_outputs, "normalised": normalised, "support": support, "recycle": recycle}
        for name, value in attributes.items():
            setattr(self, name, value)  # of the instance: what the class says are defaults
        as_likelihood(self)

    def extra_repr(self) -> str:
        """Return what is printed of it."""
        return getattr(self.function, "__name__", repr(self.function))

    def forward(self, decoder_output: Any, x: Tensor | None = None, **observed: Tensor) -> TorchDistribution:
        """Return what the function returns. See `Likelihood.forward`."""
        return self.function(decoder_output, x, **observed)


_CONTRACT: dict[str, Callable[[Any], bool]] = {
    "n_outputs": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1,
    "normalised": lambda value: isinstance(value, bool),
    "support": lambda value: isinstance(value, constraints.Constraint),
}
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "recycle": lambda value: value in ("sample", "mean", "repair"),
    "schedule": lambda value: isinstance(value, Mapping),
}


def as_likelihood(value: Any) -> nn.Module:
    """Return a module that meets the contract of `Likelihood`, or such a function wrapped as one.

    Raises
    ------
    ValueError
        If an attribute of the contract is missing or of another type; it names them all.
    """
    wrong = [
        f"{name}={getattr(value, name)!r}" if hasattr(value, name) else f"no {name}"
        for name, is_right in _CONTRACT.items()
        if not is_right(getattr(value, name, None))
    ]
    wrong += [
        f"{name}={getattr(value, name)!r}"
        for name, is_right in _OPTIONAL.items()
        if hasattr(value, name) and not is_right(getattr(value, name))
    ]
    if wrong or not callable(value) or isinstance(value, type):
        raise ValueError(
            "Site 'x': expected likelihood to be a torch.nn.Module or a function with the contract of "
            "pyro_ricvae.likelihoods.Likelihood: n_outputs (an int >= 1), normalised (a bool) and support (a "
            f"constraint), actual {value!r} with {', '.join(wrong) or 'all of them'}: give an object, derive its class "
            "from Likelihood, which has defaults, or wrap a function in likelihoods.FromFunction."
        )
    if isinstance(value, nn.Module):
        return value
    optional = {"recycle": value.recycle} if hasattr(value, "recycle") else {}
    return FromFunction(
        value, n_outputs=value.n_outputs, normalised=value.normalised, support=value.support, **optional
    )


def shapes_of(likelihood: Any, n_features: int) -> Shapes:
    """Return the shapes of the decoder's outputs that a likelihood asks for; see `Likelihood.parameter_shapes`."""
    if has_row_shapes(likelihood):
        row: Shapes = ((n_features,),)
        return row * int(likelihood.n_outputs)
    shapes = likelihood.parameter_shapes(n_features)
    if not all(isinstance(shape, tuple | list) for shape in shapes) or len(shapes) != likelihood.n_outputs:
        raise ValueError(
            f"Expected from parameter_shapes of {type(likelihood).__name__} n_outputs={likelihood.n_outputs} shapes, "
            f"such as (({n_features},),), actual {shapes!r}."
        )
    return tuple(tuple(shape) for shape in shapes)


def has_row_shapes(likelihood: Any) -> bool:
    """Return whether a likelihood's outputs are all of a row's shape, as by default."""
    own = getattr(type(likelihood), "parameter_shapes", Likelihood.parameter_shapes)
    return own is Likelihood.parameter_shapes


def takes_observed(likelihood: Any) -> bool:
    """Return whether a likelihood is to be told which cells count, as it looks at all of them at once."""
    function = likelihood.function if isinstance(likelihood, FromFunction) else likelihood.forward
    return "observed" in inspect.signature(function).parameters


def in_precision_of(x: Tensor | None, output: Tensor) -> Tensor:
    """Return a decoder's output in the type of `x`: under autocast a network's is less."""
    return output if x is None else output.to(x.dtype)


def ends_of(name: str, value: Any) -> Ends:
    """Return a number, or a start and an end, as both ends, or raise a ValueError unless they are positive and finite.

    As given: a tensor of them is rounded to float32.
    """
    ends = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(ends) != 2:
        raise ValueError(f"Expected {name} to be a number or (start, end), actual {value!r}.")
    for end in ends:
        positive_finite(name, end)
    return float(ends[0]), float(ends[1])


def is_profile(model: Any) -> bool:
    """Return whether the model's likelihood is a profile likelihood, and not a density or a probability."""
    return not getattr(likelihood_of(model), "normalised", True)
