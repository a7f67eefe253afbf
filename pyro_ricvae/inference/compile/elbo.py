"""Any ELBOModule as one compiled graph."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from pyro.infer.elbo import ELBOModule
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten

from pyro_ricvae._core.errors import explained_out_of_memory
from pyro_ricvae.inference.compile.capture import batch_length
from pyro_ricvae.inference.compile.precision import Precision, check_precision, warn_if_slow, worth_bf16
from pyro_ricvae.inference.compile.program import Program, build_program, warn

# Arguments that are part of a graph are compared by value if they are of these types, otherwise by identity.
_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


def compile_elbo(
    elbo_module: ELBOModule,
    *args: Any,
    precision: Precision = "auto",
    fallback_random: bool = False,
    dynamic: bool = True,
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
        its size and its gradient to 2e-5. Otherwise one seed gives one result, but not that of the eager loss.
        "auto" is "fp32" with it.
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
    compiled = CompiledELBO(elbo_module, precision=precision, fallback_random=fallback_random, dynamic=dynamic)
    compiled.prepare(*args)
    return compiled


class CompiledELBO(nn.Module):
    """An objective that is captured and compiled when it is first called; see `compile_elbo`.

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
    precision : {"fp32", "bf16"}
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
        self.precision = precision
        self.fallback_random = fallback_random
        self.dynamic = dynamic
        self.compiled = compiled
        self._programs: dict[Any, Program] = {}
        self._kind: list[Any] | None = None
        self._with_rows: list[bool] | None = None
        self._parts = list(module.modules())  # to walk through them takes longer than to ask each for its mode

    @property
    def engines(self) -> list[str]:
        """How it runs, one entry for each graph."""
        return [program.engine for program in self._programs.values()]

    def prepare(self, *args: Any, **kwargs: Any) -> "CompiledELBO":
        """Capture and compile for arguments like these, unless that was done; return the objective itself."""
        self.captures(*args, **kwargs)
        return self

    def captures(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether arguments like these run as a graph, which is made if there is none yet."""
        leaves, spec = tree_flatten((args, kwargs))
        with explained_out_of_memory(batch_length(leaves)):
            return self._program(leaves, spec).engine != "eager"

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss, as the module itself does.

        Raises
        ------
        TypeError, ValueError
            If the arguments are not of the kind that was captured.
        RuntimeError
            If a ``pyro.param`` has been replaced since.
        torch.OutOfMemoryError
            If memory does not suffice: the message suggests a batch size.
        """
        leaves, spec = tree_flatten((args, kwargs))
        with explained_out_of_memory(batch_length(leaves)):
            program = self._program(leaves, spec)
            program.check_store()
            run = program.run if torch.is_grad_enabled() else program.evaluate
            with self._autocast():
                return run(*(leaf for leaf in leaves if isinstance(leaf, Tensor)))

    def _program(self, leaves: Sequence[Any], spec: TreeSpec) -> Program:
        """Return the graph for these arguments, which is made if there is none yet."""
        rows = batch_length(leaves) if self.dynamic else None
        kind, with_rows = self._checked(leaves, spec, rows)
        fixed_by = next((each.fixed_by for each in self._programs.values() if each.fixed_by), None)
        varies = rows is not None and rows >= 2 and fixed_by is None
        if (key := self._key("any" if varies else rows)) not in self._programs:
            if fixed_by is not None:
                warn(
                    f"A batch of {rows} rows is captured anew, since the length of the batch is part of the graph "
                    f"(a loop over it, or a plate that draws some of it, makes it so): {fixed_by}."
                )
            program = build_program(
                self.module,
                leaves,
                spec,
                with_rows=with_rows if varies else None,
                engine="compiled" if self.compiled else "captured",
                fallback_random=self.fallback_random,
                autocast=self._autocast,
            )
            # Not the key of before: the first call may set what Pyro finds out by itself.
            key = self._key("any" if varies and program.fixed_by is None else rows)
            self._programs[key] = program
        self._kind, self._with_rows = kind, with_rows
        return self._programs[key]

    def _key(self, rows: int | str | None) -> tuple[Any, ...]:
        """Return what a graph is made for: the length of a batch, "any" where it may vary, modes and settings."""
        return rows, tuple([part.training for part in self._parts]), _constants(self.module.elbo)

    def _checked(self, leaves: Sequence[Any], spec: TreeSpec, rows: int | None) -> tuple[list[Any], list[bool] | None]:
        """Return the kind of the arguments, and which tensors hold the batch; raise an error if they have changed."""
        with_rows = self._with_rows
        new = with_rows is None and rows is not None and rows >= 2
        if new:
            # Of a batch of one row nobody knows what else is one: it is decided by the first that is longer.
            tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            with_rows = [tensor.dim() > 0 and tensor.shape[0] == rows for tensor in tensors]
        varying = iter(with_rows or [])
        kind = [
            spec,
            *(_kind(leaf, next(varying, False), rows) if isinstance(leaf, Tensor) else leaf for leaf in leaves),
        ]
        if self._kind is None:
            self._choose_precision(leaves)
        elif new:
            _check_kind([_without_length(each) for each in self._kind], [_without_length(each) for each in kind], True)
        else:
            _check_kind(self._kind, kind, self.dynamic)
        return kind, with_rows

    def _choose_precision(self, leaves: Sequence[Any]) -> None:
        """Choose the precision, and bring the KL weight to the device: a graph takes it from there."""
        self._device = _device(self.module, leaves)
        if self.precision == "auto":
            # Of another pair nobody knows whether it can bear its networks' outputs in bfloat16.
            known = all(getattr(part, "autocast_safe", False) for part in (self.module.model, self.module.guide))
            faster = known and worth_bf16(self.module, batch_length(leaves) or 1, self._device)
            self.precision = "bf16" if faster and not self.fallback_random else "fp32"
        elif self.precision == "bf16":
            warn_if_slow(self._device)
        kl_weight = getattr(self.module.elbo, "kl_weight", None)
        if isinstance(kl_weight, Tensor) and kl_weight.device != self._device:
            kl_weight.data = kl_weight.to(self._device)

    def _autocast(self) -> Any:
        return torch.autocast(self._device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def _device(module: nn.Module, leaves: Sequence[Any]) -> torch.device:
    """Return the device of the parameters, or of the arguments where there are none."""
    for tensor in (*module.parameters(), *leaves):
        if isinstance(tensor, Tensor):
            return tensor.device
    return torch.get_default_device()


def _kind(tensor: Tensor, varies: bool, rows: int | None) -> Any:
    """Return what has to be the same of a tensor in every call."""
    batch = varies and tensor.dim() > 0 and tensor.shape[0] == rows
    return (("rows", *tensor.shape[1:]) if batch else tuple(tensor.shape), tensor.dtype, tensor.device)


def _without_length(kind: Any) -> Any:
    """Return the kind of a tensor without the length of its first dimension."""
    return (("any", *kind[0][1:]), *kind[1:]) if isinstance(kind, tuple) else kind


def _check_kind(captured: list[Any], actual: list[Any], dynamic: bool) -> None:
    """Raise an error unless the arguments are of the kind that was captured."""
    if captured[0] != actual[0]:
        raise TypeError(f"Expected arguments as captured, {captured[0]}, actual {actual[0]}: compile again for these.")
    for position, (one, other) in enumerate(zip(captured[1:], actual[1:], strict=True)):
        if one is other or (type(one) is type(other) and isinstance(one, (*_PLAIN, tuple)) and one == other):
            continue
        if isinstance(one, tuple) and isinstance(other, tuple):
            raise ValueError(
                f"Argument {position}: expected a tensor of shape {one[0]}, {one[1]}, on {one[2]}, as captured, actual "
                f"{other[0]}, {other[1]}, on {other[2]}: convert it, or compile again for it"
                f"{'' if dynamic else ', with dynamic=True if batches differ in length'}."
            )
        raise ValueError(
            f"Argument {position}: expected {_described(one)}, which is part of the graph, actual {_described(other)}: "
            "compile again for it, or give numbers that change as 0-dim tensors."
        )


def _described(kind: Any) -> str:
    return f"a tensor of shape {kind[0]}" if isinstance(kind, tuple) else repr(kind)


def _constants(elbo: Any) -> tuple[Any, ...]:
    """Return the settings of an objective, such as its passes, that are part of a graph."""
    return tuple((name, value) for name, value in vars(elbo).items() if isinstance(value, bool | int | float | str))
