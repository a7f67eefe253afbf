"""Optimizers of Pyro and torch, and what users change in them while training."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import VAE, batches, binary, line, positive, setup


def _model(x: Tensor, y: Tensor) -> None:
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    bias = pyro.param("bias", torch.tensor(0.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(slope * x + bias, 0.3), obs=y)


def _guide(x: Tensor, y: Tensor) -> None:
    scale = pyro.param("scale", torch.tensor(0.3), constraint=positive)
    pyro.sample("slope", dist.Normal(pyro.param("loc", torch.tensor(0.0)), scale))


def _by(optim: Any, **others: Any) -> Setup:
    return setup(_model, _guide, batches(*line()), optim=optim, **others)


def clipped_adam() -> Setup:
    """ClippedAdam with a decaying rate."""
    return _by(pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.99, "clip_norm": 1.0, "betas": (0.95, 0.999)}))


def sgd_momentum() -> Setup:
    """SGD with momentum and weight decay."""
    return _by(pyro.optim.SGD({"lr": 0.001, "momentum": 0.9, "weight_decay": 0.1}))


def adagrad_rmsprop() -> Setup:
    """AdagradRMSProp."""
    return _by(pyro.optim.AdagradRMSProp({"eta": 0.1}))


def rmsprop_clipped() -> Setup:
    """RMSprop with gradients clipped by Pyro's clip_args."""
    return _by(pyro.optim.RMSprop({"lr": 0.01}, {"clip_norm": 0.5}))


def clipped_by_value() -> Setup:
    """Adam with gradients clipped by value, for each parameter its own."""

    def clip(module: str, name: str) -> dict[str, float]:
        return {"clip_value": 0.1} if name == "bias" else {"clip_norm": 1.0}

    return _by(pyro.optim.Adam({"lr": 0.05}, clip))


def rates_by_name() -> Setup:
    """Adam with a rate for each name of a parameter."""
    return _by(pyro.optim.Adam(lambda name: {"lr": 0.1 if name == "bias" else 0.01}))


def rates_by_module() -> Setup:
    """Adam with a rate for each module and parameter, by a function of two arguments (Pyro's older form)."""
    vae = VAE()

    def rates(module: str, name: str) -> dict[str, float]:
        return {"lr": 0.05} if module == "encoder" else {"lr": 0.001}

    return setup(vae.model, vae.guide, batches(binary()), optim=pyro.optim.Adam(rates), watched=[vae])


def adamax() -> Setup:
    """Adamax."""
    return _by(pyro.optim.Adamax({"lr": 0.02}))


def dct_adam() -> Setup:
    """DCTAdam."""
    return _by(pyro.optim.DCTAdam({"lr": 0.02}))


def exponential_schedule() -> Setup:
    """ExponentialLR, which the user steps at each end of an epoch."""
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.7}
    scheduler = pyro.optim.ExponentialLR(settings)

    def before(step: int) -> None:
        if step and step % 3 == 0:
            scheduler.step()

    return _by(scheduler, before=before)


def lambda_schedule() -> Setup:
    """LambdaLR over SGD, stepped after every step."""
    settings = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.005}, "lr_lambda": lambda epoch: 0.9**epoch}
    scheduler = pyro.optim.LambdaLR(settings)

    def before(step: int) -> None:
        if step:
            scheduler.step()

    return _by(scheduler, before=before)


def plateau_schedule() -> Setup:
    """ReduceLROnPlateau, stepped by a number of the user's."""
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "factor": 0.5, "patience": 1}
    scheduler = pyro.optim.ReduceLROnPlateau(settings)

    def before(step: int) -> None:
        if step:
            scheduler.step(1.0)

    return _by(scheduler, before=before)


def rate_changed() -> Setup:
    """The learning rate changed in the optimizers of torch at step 10."""
    optim = pyro.optim.Adam({"lr": 0.05})

    def before(step: int) -> None:
        if step == 10:
            for each in optim.optim_objs.values():
                for group in each.param_groups:
                    group["lr"] = 0.001

    return _by(optim, before=before)


def optimizer_saved_and_loaded() -> Setup:
    """State of optimizer and store saved at step 5, loaded at step 10."""
    optim = pyro.optim.Adam({"lr": 0.05})
    kept: list[Any] = []

    def before(step: int) -> None:
        if step == 5:
            state = pyro.get_param_store().get_state()
            copied = {name: value.detach().clone().requires_grad_() for name, value in state["params"].items()}
            kept.extend([{"params": copied, "constraints": dict(state["constraints"])}, optim.get_state()])
        if step == 10:
            pyro.get_param_store().set_state(kept[0])
            optim.set_state(kept[1])

    return _by(optim, before=before)


def gradients_logged() -> Setup:
    """Norms of gradients, logged by hooks on the parameters (as in Pyro's tutorial)."""
    norms: dict[str, list[float]] = {}

    def before(step: int) -> None:
        if step == 1:
            for name, value in pyro.get_param_store().named_parameters():
                value.register_hook(lambda grad, name=name: norms.setdefault(name, []).append(grad.norm().item()))

    return _by(pyro.optim.Adam({"lr": 0.05}), before=before, state=lambda: norms)


def gradients_logged_late() -> Setup:
    """The same, with hooks registered at step 8."""
    norms: list[float] = []

    def before(step: int) -> None:
        if step == 8:
            value = dict(pyro.get_param_store().named_parameters())["loc"]
            value.register_hook(lambda grad: norms.append(grad.norm().item()))

    return _by(pyro.optim.Adam({"lr": 0.05}), before=before, state=lambda: norms)


def gradients_changed_by_hook() -> Setup:
    """A hook on a parameter, registered at step 8, that halves its gradient."""

    def before(step: int) -> None:
        if step == 8:
            dict(pyro.get_param_store().named_parameters())["loc"].register_hook(lambda grad: 0.5 * grad)

    return _by(pyro.optim.Adam({"lr": 0.05}), before=before)


def gradients_left_after_steps() -> Setup:
    """What `.grad` of the parameters holds after a step: zeros."""

    def grads() -> list[str]:
        found = pyro.get_param_store().named_parameters()
        return sorted(f"{name}: {None if value.grad is None else value.grad.tolist()}" for name, value in found)

    return _by(pyro.optim.Adam({"lr": 0.05}), state=grads)


def frozen_in_between() -> Setup:
    """A network frozen (requires_grad_(False)) at step 6 and thawed at step 12."""
    vae = VAE()

    def before(step: int) -> None:
        if step in (6, 12):
            vae.decoder.requires_grad_(step == 12)

    return setup(vae.model, vae.guide, batches(binary()), before=before, watched=[vae])


def parameter_set_by_user() -> Setup:
    """A parameter's value set in place under no_grad, at step 9 (a projection)."""

    def before(step: int) -> None:
        if step == 9:
            with torch.no_grad():
                pyro.param("loc").fill_(1.5)

    return _by(pyro.optim.Adam({"lr": 0.05}), before=before)
