"""The contract of a likelihood."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal

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
    recycle : {"sample", "mean"}
        What `inference.Trainer` passes on to the next pass: a reparameterised draw, or the mean where there is none
        (discrete values) or draws have no variance. Optional: "sample" where it is missing.
    """

    n_outputs: ClassVar[int] = 1
    normalised: ClassVar[bool] = True
    support: ClassVar[constraints.Constraint] = constraints.real
    recycle: ClassVar[Literal["sample", "mean"]] = "sample"

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


class FromFunction(Likelihood):
    """A function as a likelihood, for what has no constants or networks of its own.

    Parameters
    ----------
    function : callable
        As `Likelihood.forward`: from the decoder's output and x to a distribution whose last dimension is an event.
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
    >>> likelihood = FromFunction(lambda loc, x: dist.Cauchy(loc, 0.1).to_event(1), normalised=True)
    >>> likelihood(torch.zeros(2, 5), torch.zeros(2, 5)).batch_shape
    torch.Size([2])
    """

    def __init__(
        self,
        function: Callable[[Any, Tensor], TorchDistribution],
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

    def forward(self, decoder_output: Any, x: Tensor) -> TorchDistribution:
        """Return what the function returns. See `Likelihood.forward`."""
        return self.function(decoder_output, x)


_CONTRACT: dict[str, Callable[[Any], bool]] = {
    "n_outputs": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1,
    "normalised": lambda value: isinstance(value, bool),
    "support": lambda value: isinstance(value, constraints.Constraint),
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
