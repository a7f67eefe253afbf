"""Pyro's SVI with a compiled step."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.infer.util import torch_item, zero_grads
from pyro.optim import PyroOptim
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from pyro_ricvae._core.errors import explained_out_of_memory
from pyro_ricvae.inference.compile.capture import batch_length
from pyro_ricvae.inference.compile.graphs import Graphs
from pyro_ricvae.inference.compile.kinds import Options
from pyro_ricvae.inference.compile.patches import LOCK
from pyro_ricvae.inference.compile.precision import Precision, check_precision
from pyro_ricvae.inference.compile.program import Program, State
from pyro_ricvae.inference.compile.quiet import counted_warnings


class CompiledSVI(SVI):
    """`pyro.infer.SVI` with one compiled graph for a step, for any model and guide; see `compile_elbo`.

    Every call gives what `SVI` gives, or raises what it raises. The first calls of a kind are SVI's own; then the step
    is captured and verified, and from there on the graph runs as long as nothing has changed that Python read while it
    was captured. Where there can be no graph, Pyro itself runs, after one `CompilationWarning`.

    Parameters
    ----------
    model, guide : callable
        The pair.
    optim : pyro.optim.PyroOptim, or callable
        As for SVI; or what makes a torch optimizer of a list of parameters, which takes one step for all of them, not
        one for each: ``lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True)``.
    loss : pyro.infer.elbo.ELBO, or callable
        The objective, such as ``Trace_ELBO()``, as for SVI.
    loss_and_grads : callable, optional
        As for SVI.
    precision, fallback_random, dynamic
        As in `compile_elbo`.
    compiled : bool, default=True
        As in `CompiledELBO`.
    **kwargs
        As for SVI.

    Attributes
    ----------
    engines : list of str
        How steps run, one entry for each graph: "compiled", "captured" or "eager".

    Raises
    ------
    ValueError
        If `optim` is neither, as SVI does, or `precision` is unknown.
    TypeError
        At the first step, if a callable `optim` makes no torch optimizer.

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
        loss: Any,
        loss_and_grads: Any = None,
        *,
        precision: Precision = "auto",
        fallback_random: bool = False,
        dynamic: bool = True,
        compiled: bool = True,
        **kwargs: Any,
    ) -> None:
        check_precision(precision)
        if callable(optim) and not isinstance(optim, PyroOptim):
            optim = _OneOptimizer(optim)
        super().__init__(model, guide, optim, loss, loss_and_grads, **kwargs)  # type: ignore[no-untyped-call]
        self.options = Options(precision, fallback_random, dynamic, compiled)
        self._begin()

    def _begin(self) -> None:
        def pair() -> tuple[Any, Any]:
            return self.model, self.guide

        def step(*args: Any, **kwargs: Any) -> Any:
            return self.loss_and_grads(self.model, self.guide, *args, **kwargs)

        def evaluation(*args: Any, **kwargs: Any) -> Any:
            return self.loss(self.model, self.guide, *args, **kwargs)

        self._steps = Graphs(step, vars(self), ["model", "guide", "loss_and_grads"], pair, self.options)
        self._evaluations = Graphs(evaluation, vars(self), ["model", "guide", "loss"], pair, self.options)
        self._zeros: dict[Tensor, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the graphs out, which belong to these parameters: a copy makes its own."""
        ours = ("_steps", "_evaluations", "_zeros")
        return {name: value for name, value in vars(self).items() if name not in ours}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.options = Options(**vars(self.options))
        self._begin()

    @property
    def precision(self) -> Precision:
        """What "auto" came to, once something is captured."""
        return self.options.precision

    @property
    def engines(self) -> list[str]:
        """How steps run, one entry for each graph."""
        return self._steps.engines

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take a gradient step.

        Parameters
        ----------
        *args, **kwargs
            The arguments of model and guide.

        Returns
        -------
        float
            The loss, in nats; a tuple where the objective gives one.

        Raises
        ------
        torch.OutOfMemoryError
            If memory does not suffice: the message suggests a batch size.
        Exception
            What SVI raises.
        """
        leaves, spec = tree_flatten((args, kwargs))
        with LOCK, explained_out_of_memory(batch_length(leaves)):
            program = self._steps.find(leaves, spec)
            if program is not None:
                value, done = self._take(program, leaves)
                if done:
                    return value
            return self._pyros_step(leaves, spec)

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss, in nats, without a step."""
        leaves, spec = tree_flatten((args, kwargs))
        with LOCK, torch.no_grad(), explained_out_of_memory(batch_length(leaves)):
            program = self._evaluations.find(leaves, spec)
            if program is not None:
                before = State((*program.trained, *leaves), program.written)
                numbers = [math.nan]
                with suppress(Exception), self._evaluations.autocast():
                    numbers = [float(torch_item(value)) for value in program(leaves)[0]]
                if all(map(math.isfinite, numbers)):
                    return tree_unflatten(numbers, program.graph.spec)
                before.put_back()
            watch = self._evaluations.watch(leaves, spec)
            with self._evaluations.autocast(), counted_warnings() as warned:
                loss = self.loss(self.model, self.guide, *args, **kwargs)
            if watch is not None:
                watch.warned = warned
                watch.end(tree_leaves(loss), ())
                self._evaluations.learn(watch, leaves, spec, ())
            return _numbers(loss)

    def _take(self, program: Program, leaves: Sequence[Any]) -> tuple[Any, bool]:
        """Take a step by a graph; return the loss, and False where Pyro has to take it, with all put back."""
        before = State((*program.trained, *leaves), program.written)
        gradients = [None if tensor.grad is None else tensor.grad.clone() for tensor in program.trained]
        self._without_zeros(program.trained)
        numbers = self._loss_and_grads(program, leaves)
        if not all(map(math.isfinite, numbers)):
            before.put_back()  # SVI may raise an error, or warn
            for parameter, gradient in zip(program.trained, gradients, strict=True):
                parameter.grad = gradient
            return None, False
        for parameter in program.trained:
            if parameter.grad is None:
                parameter.grad = self._zeros.get(parameter)
        self.optim(program.trained)
        for parameter in program.trained:
            if parameter.grad is not None:
                parameter.grad = self._zeros_for(parameter)
        return tree_unflatten(numbers, program.graph.spec), True

    def _loss_and_grads(self, program: Program, leaves: Sequence[Any]) -> list[float]:
        """Return the losses by a graph, and accumulate the gradients; not those of a loss that is not finite.

        A backward would add to the gradient of whatever the arguments were made of, which no state puts back.
        """
        try:
            with self._steps.autocast():
                values, surrogates = program(leaves)
            numbers = [float(torch_item(value)) for value in values]
            if all(map(math.isfinite, numbers)):
                for number, surrogate in enumerate(surrogates, start=1):
                    surrogate.backward(retain_graph=number < len(surrogates))
        except torch.OutOfMemoryError:
            raise
        except Exception:
            return [math.nan]
        return numbers

    def _without_zeros(self, parameters: Iterable[Tensor]) -> None:
        """Take away the gradients of zeros that SVI leaves after a step: a backward has less to do without."""
        for parameter in parameters:
            zeros = self._zeros.get(parameter)
            if zeros is not None and parameter.grad is zeros and not zeros._version:
                parameter.grad = None

    def _zeros_for(self, parameter: Tensor) -> Tensor:
        """Return zeros, those of before unless somebody has added to them."""
        zeros = self._zeros.get(parameter)
        if zeros is None or zeros._version:
            zeros = self._zeros[parameter] = torch.zeros_like(parameter)
        return zeros

    def _pyros_step(self, leaves: Sequence[Any], spec: TreeSpec) -> Any:
        """Take a step as SVI does; learn from it what a graph has to do."""
        watch = self._steps.watch(leaves, spec)
        args, kwargs = tree_unflatten(leaves, spec)
        with poutine.trace(param_only=True) as captured, self._steps.autocast(), counted_warnings() as warned:
            loss = self.loss_and_grads(self.model, self.guide, *args, **kwargs)
        values: list[Any] = [site["value"] for site in captured.trace.nodes.values()]
        if isinstance(self.optim, _OneOptimizer):  # of parameters that are no entries of the store too
            found = [value.unconstrained() if hasattr(value, "unconstrained") else value for value in values]
        else:
            found = [value.unconstrained() for value in values]
        parameters: list[Tensor] = list({id(parameter): parameter for parameter in found}.values())
        if watch is not None:
            watch.warned = warned
            watch.end(tree_leaves(loss), [parameter.grad for parameter in parameters])
            self._steps.learn(watch, leaves, spec, parameters)
        self.optim(parameters)
        zero_grads(parameters)
        return _numbers(loss)


def _numbers(loss: Any) -> Any:
    """Return a loss as SVI does: a number, or a tuple of some."""
    if isinstance(loss, tuple):
        return type(loss)(map(torch_item, loss))
    return torch_item(loss)


class _OneOptimizer(PyroOptim):
    """A torch optimizer for all parameters together, in the place of Pyro's, one for each."""

    def __init__(self, make: Callable[[list[Tensor]], Optimizer]) -> None:
        super().__init__(make, {})
        self._make = make
        self.optimizer: Optimizer | None = None
        self._known: set[int] = set()

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Take a step for all of them; the first call makes the optimizer."""
        new = [parameter for parameter in params if id(parameter) not in self._known]
        if self.optimizer is None:
            self.optimizer = self._make(new)
            if not isinstance(self.optimizer, Optimizer):
                raise TypeError(
                    "Expected optim to be a function that makes a torch optimizer of a list of parameters, actual one "
                    f"that makes {self.optimizer!r}."
                )
        elif new:
            self.optimizer.add_param_group({"params": new})
        self._known |= {id(parameter) for parameter in new}
        self.optimizer.step(*args, **kwargs)

    def get_state(self) -> dict[str, Any]:
        """Return the optimizer's state."""
        return {} if self.optimizer is None else self.optimizer.state_dict()

    def set_state(self, state_dict: dict[str, Any]) -> None:
        """Set the optimizer's state, once there is one."""
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state_dict)
