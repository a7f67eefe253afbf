"""Pyro's SVI with a compiled step."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.infer.elbo import ELBO, ELBOModule
from pyro.optim import PyroOptim
from torch import Tensor
from torch.optim import Optimizer

from pyro_ricvae._core.errors import explained_out_of_memory
from pyro_ricvae._core.isolation import undisturbed
from pyro_ricvae.inference.compile.capture import batch_length, differentiable_loss
from pyro_ricvae.inference.compile.elbo import CompiledELBO
from pyro_ricvae.inference.compile.precision import Precision


class CompiledSVI:
    """`pyro.infer.SVI` with one compiled graph for a step, for any model and guide; see `compile_elbo`.

    The first step captures and compiles. Parameters are where SVI has them: in Pyro's parameter store, and in the
    modules.

    Parameters
    ----------
    model, guide : callable
        The pair.
    optim : pyro.optim.PyroOptim, or callable
        As for SVI; or what makes a torch optimizer of a list of parameters, which takes one step for all of them, not
        one for each: ``lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True)``.
    loss : pyro.infer.elbo.ELBO
        The objective, such as ``Trace_ELBO()``.
    precision, fallback_random, dynamic
        As in `compile_elbo`.
    compiled : bool, default=True
        As in `CompiledELBO`.

    Attributes
    ----------
    elbo : CompiledELBO
        The loss.

    Raises
    ------
    TypeError
        If `optim` or `loss` is something else.

    Examples
    --------
    >>> import pyro, torch
    >>> from pyro.infer import Trace_ELBO
    >>> from pyro.infer.autoguide import AutoNormal
    >>> from pyro_ricvae.inference import CompiledSVI
    >>> def model(x, y):
    ...     slope = pyro.sample("slope", pyro.distributions.Normal(0.0, 1.0))
    ...     with pyro.plate("data", x.shape[0]):
    ...         pyro.sample("y", pyro.distributions.Normal(slope * x, 0.1), obs=y)
    >>> svi = CompiledSVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    >>> x = torch.linspace(0.0, 1.0, 50)
    >>> losses = [svi.step(x, 2 * x) for _ in range(100)]  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        guide: Any,
        optim: PyroOptim | Callable[[list[Tensor]], Optimizer],
        loss: ELBO,
        *,
        precision: Precision = "auto",
        fallback_random: bool = False,
        dynamic: bool = True,
        compiled: bool = True,
    ) -> None:
        if not callable(optim) or isinstance(optim, type | Optimizer):
            raise TypeError(
                "Expected optim to be a Pyro optimizer, or a function that makes a torch optimizer of a list of "
                f"parameters, actual {optim!r}."
            )
        if not isinstance(loss, ELBO):
            raise TypeError(f"Expected loss to be an objective such as Trace_ELBO(), actual {loss!r}.")
        # Pyro's own module, also of an objective that keeps parameters out of the store: SVI has them there.
        self._module = ELBOModule(model, guide, loss)
        self.elbo = CompiledELBO(
            self._module, precision=precision, fallback_random=fallback_random, dynamic=dynamic, compiled=compiled
        )
        self._optim = optim
        self._optimizer: Optimizer | None = None
        self._parameters: list[Tensor] | None = None

    def _prepared(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
        """Return the parameters that the first call finds, as SVI does."""
        if self._parameters is None:
            # As SVI's first step: in Pyro's own store, validated, with the initial values drawn.
            with (
                explained_out_of_memory(batch_length(args)),
                undisturbed(self._module, args) as noting_buffers,
                noting_buffers,
                torch.enable_grad(),
                poutine.trace(param_only=True) as found,
            ):
                differentiable_loss(self._module, args, kwargs)
            values: list[Any] = [site["value"] for site in found.trace.nodes.values()]
            unconstrained = [value.unconstrained() if hasattr(value, "unconstrained") else value for value in values]
            parameters: list[Tensor] = list({id(parameter): parameter for parameter in unconstrained}.values())
            if not isinstance(self._optim, PyroOptim):
                self._optimizer = self._optim(parameters)
                if not isinstance(self._optimizer, Optimizer):
                    raise TypeError(
                        "Expected optim to be a function that makes a torch optimizer of a list of parameters, actual "
                        f"one that makes {self._optimizer!r}."
                    )
            self._parameters = parameters
        return self._parameters

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take a gradient step.

        Parameters
        ----------
        *args, **kwargs
            The arguments of model and guide.

        Returns
        -------
        float
            The loss, in nats.

        Raises
        ------
        torch.OutOfMemoryError
            If memory does not suffice: the message suggests a batch size.
        """
        parameters = self._prepared(args, kwargs)
        with explained_out_of_memory(batch_length(args)):
            loss = self.elbo(*args, **kwargs)
            loss.backward()
        if self._optimizer is not None:
            self._optimizer.step()
        else:
            self._optim(parameters)
        for parameter in parameters:
            parameter.grad = None
        return float(loss.detach())

    @torch.no_grad()
    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:
        """Return the loss, in nats, without a step."""
        self._prepared(args, kwargs)
        return float(self.elbo(*args, **kwargs))
