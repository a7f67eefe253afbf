"""Any ELBOModule as one compiled graph."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer.elbo import ELBOModule
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from pyro_ricvae._core.errors import explained_out_of_memory
from pyro_ricvae._core.isolation import own_parameters, undisturbed
from pyro_ricvae.inference.compile.capture import batch_length
from pyro_ricvae.inference.compile.graphs import Graphs
from pyro_ricvae.inference.compile.kinds import Options
from pyro_ricvae.inference.compile.patches import LOCK
from pyro_ricvae.inference.compile.precision import Precision, check_precision
from pyro_ricvae.inference.compile.program import gradients_of, without_hooks
from pyro_ricvae.inference.compile.quiet import counted_warnings
from pyro_ricvae.inference.compile.watch import leaves_of_gradient

# Calls as Pyro makes them, until there is a graph or it is known that there will be none.
_MOST_PREPARATIONS = 5


def compile_elbo(
    elbo_module: ELBOModule,
    *args: Any,
    precision: Precision = "auto",
    fallback_random: bool = False,
    dynamic: bool = True,
    compiled: bool = True,
) -> "CompiledELBO":
    """Compile an objective, with its model and guide, into one graph.

    Pyro's handlers cost Python time at every step, and ``torch.compile`` breaks its graph at each of them. Here they
    run once: a non-strict ``torch.export`` records the tensor operations of one call, and ``torch.compile`` gets those
    alone. It works for any model, guide and objective without control flow that depends on the values of tensors.

    Parameters
    ----------
    elbo_module : pyro.infer.elbo.ELBOModule
        ``elbo(model, guide)``.
    *args
        Arguments to capture it with, as of one step: tensors, or anything else. What is no tensor is part of the graph.
    precision : {"auto", "fp32", "bf16"}, default="auto"
        Of the matrix products. "bf16" is autocast to bfloat16: this package's models and guides still compute
        residuals, logarithms, KL and sums in float32; another model does so only where it casts its networks' outputs,
        and may then say so by an attribute ``autocast_safe = True``. "auto" is "bf16" for such a model and guide where
        the hardware is faster at it, and "fp32" otherwise.
    fallback_random : bool, default=False
        Draw the random numbers as the eager loss does, which is slower: one seed then gives the eager loss to 2e-6 of
        its size and its gradient to 2e-5 on CPUs (on CUDA 3e-4 was seen once). "auto" is "fp32" with it.
        Otherwise one seed gives one result, but not that of the eager loss.
    dynamic : bool, default=True
        Whether the length of the batch may change: the first dimension of every tensor that is as long as that of
        the first one. A batch of one row gets a graph of its own. False keeps all shapes.

    Returns
    -------
    CompiledELBO
        Called like `elbo_module`, with arguments of the same kind.

    Raises
    ------
    TypeError
        If `elbo_module` is not an ELBOModule.
    ValueError
        If `precision` is unknown.
    Exception
        What the loss itself raises: it is called once, validated as Pyro's settings say, before it is captured.

    Warns
    -----
    CompilationWarning
        Where it cannot be captured, or not compiled: it then runs eagerly, or as an uncompiled graph.

    Examples
    --------
    >>> import pyro, torch
    >>> from pyro.infer import Trace_ELBO
    >>> from pyro_ricvae.inference import compile_elbo
    >>> def model(x):
    ...     scale = pyro.param("scale", torch.tensor(1.0), constraint=pyro.distributions.constraints.positive)
    ...     with pyro.plate("data", x.shape[0]):
    ...         pyro.sample("x", pyro.distributions.Normal(0.0, scale), obs=x)
    >>> x = torch.randn(100)
    >>> loss = compile_elbo(Trace_ELBO()(model, lambda x: None), x)  # doctest: +SKIP
    >>> loss(x[:30]).backward()  # doctest: +SKIP
    """
    loss = CompiledELBO(
        elbo_module, precision=precision, fallback_random=fallback_random, dynamic=dynamic, compiled=compiled
    )
    return loss.prepare(*args)


class CompiledELBO(nn.Module):
    """An objective that is captured and compiled at its second call of a kind; see `compile_elbo`.

    Parameters
    ----------
    module, precision, fallback_random, dynamic
        As in `compile_elbo`.
    compiled : bool, default=True
        Whether the captured graph is compiled. Without, it runs as it is: in less time than Pyro needs, ready in a
        second or two, and equal to the eager loss to the last bit.

    Attributes
    ----------
    module : ELBOModule
        As given.
    options : Options
        As given.
    precision : {"auto", "fp32", "bf16"}
        What "auto" came to, once something is captured.
    engines : list of str
        How it runs, one entry for each graph: "compiled", "captured" or "eager".
    """

    def __init__(
        self,
        module: ELBOModule,
        *,
        precision: Precision = "auto",
        fallback_random: bool = False,
        dynamic: bool = True,
        compiled: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(module, ELBOModule):
            raise TypeError(
                f"Expected an ELBOModule, actual {type(module).__name__}: give elbo(model, guide), for example "
                "Trace_ELBO()(model, guide)."
            )
        check_precision(precision)
        self.module = module
        self.options = Options(precision, fallback_random, dynamic, compiled)
        self._begin()

    def _begin(self) -> None:
        module = self.module
        differentiable = hasattr(module.elbo, "differentiable_loss")
        self._loss = _called if differentiable else with_gradient
        self._graphs = Graphs(
            module if differentiable else partial(_value, module),
            {"module": module},
            ["module"],
            lambda: (module.model, module.guide),
            self.options,
            by_value=differentiable,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the graphs out, which belong to these parameters: a copy makes its own."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_graphs", "_loss")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.options = Options(**vars(self.options))
        self._begin()

    @property
    def precision(self) -> Precision:
        """Of the matrix products."""
        return self.options.precision

    @property
    def engines(self) -> list[str]:
        """How it runs, one entry for each graph."""
        return self._graphs.engines

    def prepare(self, *args: Any, **kwargs: Any) -> "CompiledELBO":
        """Capture and compile for arguments like these, unless that was done; return the objective itself."""
        self.captures(*args, **kwargs)
        return self

    def captures(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether arguments like these run as a graph, which is made if there is none yet."""
        leaves, spec = tree_flatten((args, kwargs))
        self._place_kl_weight(leaves)
        with LOCK, explained_out_of_memory(batch_length(leaves)), torch.inference_mode(False), torch.enable_grad():
            leaves = [leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf for leaf in leaves]
            for _ in range(_MOST_PREPARATIONS):
                if self._graphs.find(leaves, spec) is not None:
                    return True
                if self._graphs.refuses(leaves, spec):
                    return False
                with undisturbed(self.module, leaves, self._graphs.tensors()):
                    self._as_pyro(leaves, spec, at_once=True)
        return False

    def has_graph(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether these arguments have a graph, and nothing has changed that Python read for it."""
        leaves, spec = tree_flatten((args, kwargs))
        with LOCK:
            return self._graphs.has(leaves, spec)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss, as the module itself does.

        Raises
        ------
        torch.OutOfMemoryError
            If memory does not suffice: the message suggests a batch size.
        Exception
            What the module itself raises.
        """
        leaves, spec = tree_flatten((args, kwargs))
        with explained_out_of_memory(batch_length(leaves)):
            with LOCK:
                program = self._graphs.find(leaves, spec)
                if program is None:
                    return self._as_pyro(leaves, spec)
            with self._graphs.autocast():
                values, surrogates = program(leaves)
            loss: Tensor = values[0]
            if program.engine == "compiled" and loss.grad_fn is not None:
                loss.grad_fn.register_prehook(_refuse_second_derivatives)
            for surrogate in surrogates:
                loss = loss.detach() if surrogate is surrogates[0] else loss
                loss = loss + (surrogate - surrogate.detach())
            return loss

    def _as_pyro(self, leaves: Sequence[Any], spec: TreeSpec, *, at_once: bool = False) -> Tensor:
        """Return the loss as Pyro computes it; learn from it what a graph has to do."""
        self._place_kl_weight(leaves)
        watch = self._graphs.watch(leaves, spec, at_once=at_once)
        args, kwargs = tree_unflatten(leaves, spec)
        with own_parameters(), self._graphs.autocast(), counted_warnings() as warned:
            loss: Tensor = self._loss(self.module, args, kwargs)
        if watch is not None and isinstance(loss, Tensor):
            trained = leaves_of_gradient(loss)
            with without_hooks(trained):
                gradients = gradients_of([loss], trained)
            watch.warned = warned
            watch.end([loss], gradients)
            self._graphs.learn(watch, leaves, spec, trained)
        return loss

    def _place_kl_weight(self, leaves: Sequence[Any]) -> None:
        """Bring the KL weight to the device: a graph takes it from there."""
        kl_weight = getattr(self.module.elbo, "kl_weight", None)
        tensors = (*self.module.parameters(), *(leaf for leaf in leaves if isinstance(leaf, Tensor)))
        if isinstance(kl_weight, Tensor) and tensors and kl_weight.device != tensors[0].device:
            kl_weight.data = kl_weight.to(tensors[0].device)


def _refuse_second_derivatives(_: Any) -> None:
    """Say what to do where torch's own error says only that a compiled function has none."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "A compiled loss has no second derivatives (create_graph=True): give compile_elbo compiled=False, for a "
            "graph that has them."
        )


def _called(module: ELBOModule, args: Any, kwargs: Any) -> Tensor:
    loss: Tensor = module(*args, **kwargs)
    return loss


def _value(module: ELBOModule, *args: Any, **kwargs: Any) -> Any:
    elbo: Any = module.elbo
    return elbo.loss_and_grads(module.model, module.guide, *args, **kwargs)


def with_gradient(module: ELBOModule, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    """Return the loss of an objective that has nothing but ``loss_and_grads``, such as Rényi's, differentiable.

    Its backward gives the gradient that the objective has taken by itself.
    """
    known = _all_parameters(module)
    before = [(tensor, tensor.grad) for tensor in known]
    for tensor in known:
        tensor.grad = None
    value = _value(module, *args, **kwargs)
    tensors = _all_parameters(module)
    gradients = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    for tensor, gradient in before:
        tensor.grad = gradient
    pairs = [(tensor, gradient) for tensor, gradient in zip(tensors, gradients, strict=True) if gradient is not None]
    given: Any = _Given
    loss: Tensor = given.apply(value, [gradient for _, gradient in pairs], *(tensor for tensor, _ in pairs))
    return loss


def _all_parameters(module: ELBOModule) -> list[Tensor]:
    stored = [value for _, value in pyro.get_param_store().named_parameters()]
    return list({id(tensor): tensor for tensor in (*module.parameters(), *stored)}.values())


class _Given(torch.autograd.Function):
    """A number, as a function of tensors whose gradient is known."""

    @staticmethod
    def forward(ctx: Any, value: Any, gradients: list[Tensor], *tensors: Tensor) -> Tensor:
        ctx.gradients = gradients
        return torch.as_tensor(value, dtype=tensors[0].dtype if tensors else None).clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        return None, None, *(upstream[0] * gradient for gradient in ctx.gradients)
