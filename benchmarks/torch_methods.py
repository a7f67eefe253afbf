"""Pyro's SVI, hand-written PyTorch, and this package, eager and compiled."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pyro
import torch
from torch import Tensor, nn

import pyro_ricvae as rv
from benchmarks.cuda_graph import captured_step
from benchmarks.method import Method
from benchmarks.shapes import FLOOR, LEARNING_RATE, Shape

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class HandWritten(nn.Module):
    """The recycling loss as a PyTorch user would write it: (7'), (8') and the KL in closed form, over all passes."""

    floor: Tensor

    def __init__(self, encoder: nn.Module, decoder: nn.Module, passes: int, precision: str = "fp32") -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.passes = passes
        self.precision = precision
        self.register_buffer("floor", torch.tensor(FLOOR))  # a tensor, since it moves in training

    def forward(self, x: Tensor) -> Tensor:
        """Return the loss of the rows `x`, in nats, summed over rows and passes."""
        total = x.new_zeros(())
        for k in range(self.passes):
            with self._network_precision(x):
                loc, scale = self.encoder(x)
            loc, scale = loc.float(), scale.float()
            z = loc + scale * torch.randn_like(loc)
            with self._network_precision(x):
                mean = self.decoder(z)
            mean = mean.float()
            residual = x - mean
            spread = torch.maximum(residual.abs(), self.floor)
            cells = 0.5 * (residual / spread).square() + spread.log() + _HALF_LOG_TWO_PI
            kl = 0.5 * (loc.square() + scale.square() - 1) - scale.log()
            total = total + cells.sum() + kl.sum()
            if k + 1 < self.passes:
                x = mean + spread * torch.randn_like(mean)
        return total

    def _network_precision(self, x: Tensor) -> AbstractContextManager[Any]:
        return torch.autocast(x.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def hand_written(shape: Shape, passes: int, device: str, *, precision: str, compiled: bool, graph: bool) -> Method:
    """Return the method of hand-written PyTorch with a fused Adam, under a CUDA graph if `graph`."""
    loss = HandWritten(*shape.networks(device), passes, precision).to(device)
    # For one shape alone, without dynamic sizes: what suits it best.
    run = torch.compile(loss, fullgraph=True) if compiled else loss
    return _method(run, loss.parameters(), shape.rows(device), graph, same_noise=not compiled)


def ours(shape: Shape, passes: int, device: str, *, precision: Any, compiled: bool, graph: bool) -> Method:
    """Return the method of this package with a fused Adam, under a CUDA graph if `graph`."""
    loss, _, _ = _pair(shape, passes, device)
    x = shape.rows(device)
    parameters = list(loss.parameters())
    if compiled:
        warnings.simplefilter("error", rv.inference.CompilationWarning)  # what falls back must not pass for compiled
        return _method(rv.inference.compile_elbo(loss, x, precision=precision), parameters, x, graph)
    return _method(loss, parameters, x, graph, same_noise=True, around=_validation_off)


def svi(shape: Shape, passes: int, device: str) -> Method:
    """Return the method of plain Pyro, as a user has it: its Adam, validation on, a number from every step."""
    loss, model, guide = _pair(shape, passes, device)
    x = shape.rows(device)
    engine = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": LEARNING_RATE}), loss.elbo)
    parameters = list(loss.parameters())
    state: Any = {"params": {}, "constraints": {}}

    @contextmanager
    def around() -> Iterator[None]:
        # Compiling the others may have switched the validation off for the process.
        with pyro.validation_enabled(True), pyro.get_param_store().scope(state):
            yield

    def loss_and_norm(seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        with around():
            value = loss.elbo.loss_and_grads(model, guide, x)
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        for parameter in parameters:
            parameter.grad = None
        return value, norm

    return Method(lambda: engine.step(x), loss_and_norm, same_noise=True, around=around)


def _pair(shape: Shape, passes: int, device: str) -> tuple[Any, Any, Any]:
    """Return the loss module of a pair, and the pair."""
    encoder, decoder = shape.networks(device)
    prior = rv.priors.StandardNormal(shape.n_latent)
    model = rv.models.VAE(decoder, rv.likelihoods.IndexConditionedNormal(FLOOR), prior).to(device)
    guide = rv.guides.AmortizedNormal(encoder).to(device)
    return rv.inference.RecyclingELBO(passes)(model, guide), model, guide


def _validation_off() -> AbstractContextManager[Any]:
    # As the package's trainer runs it.
    validation: AbstractContextManager[Any] = pyro.validation_enabled(False)
    return validation


def _method(
    run: Callable[[Tensor], Tensor],
    parameters: Any,
    x: Tensor,
    graph: bool,
    *,
    same_noise: bool = False,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Method:
    """Return the method of stepping along the gradient of `run`, with a fused Adam."""
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True, capturable=graph)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = run(x)
        loss.backward()
        optimizer.step()
        return loss

    def loss_and_norm(seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        with around():
            loss = run(x)
            gradients = torch.autograd.grad(loss, parameters)
        return float(loss.detach()), float(torch.nn.utils.get_total_norm(gradients))

    if graph:
        return Method(captured_step(step, optimizer), None, around=around)
    return Method(step, loss_and_norm, same_noise, around)
