"""Networks, buffers and modes that change while a model trains, whoever changes them."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from conformance.harness import Setup
from conformance.parts import VAE, batches, binary, line, no_guide, normal_guide, perceptron, positive, same, setup

NETWORK: Any = None


def _points(mean: Tensor, y: Tensor) -> None:
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(mean, pyro.param("scale", torch.tensor(0.5), constraint=positive)), obs=y)


def _fit(network: nn.Module, **others: Any) -> Setup:
    """Return a function-style model that knows a network by its closure."""

    def model(x: Tensor, y: Tensor) -> None:
        pyro.module("network", network)
        _points(network(x[:, None])[:, 0], y)

    return setup(model, no_guide, batches(*line()), watched=[network], **others)


def layer_replaced() -> Setup:
    """A layer of a network replaced before step 7."""
    network = perceptron(1, 1)

    def before(step: int) -> None:
        if step == 7:
            network[0] = nn.Linear(1, 5)

    return _fit(network, before=before)


def activation_replaced() -> Setup:
    """An activation without parameters replaced before step 7."""
    network = perceptron(1, 1)

    def before(step: int) -> None:
        if step == 7:
            network[1] = nn.Tanh()

    return _fit(network, before=before)


def layer_appended() -> Setup:
    """A layer appended to a network before step 7 (which grows)."""
    network = perceptron(1, 1)

    def before(step: int) -> None:
        if step == 7:
            network.append(nn.Linear(1, 1))

    return _fit(network, before=before)


def weights_replaced_by_data() -> Setup:
    """`parameter.data` replaced before step 7."""
    network = perceptron(1, 1)

    def before(step: int) -> None:
        if step == 7:
            network[0].weight.data = torch.full((5, 1), 0.3)

    return _fit(network, before=before)


def dropout_changed() -> Setup:
    """The probability of dropout lowered at each epoch."""
    network = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))

    def before(step: int) -> None:
        network[1].p = 0.5 * 0.5 ** (step // 6)

    return _fit(network, before=before)


# BatchNorm takes away what a layer of one column scales and shifts: Adam would make steps of the rounding that is left.


def modes_toggled_in_closure() -> Setup:
    """train() and eval() of a network with dropout and BatchNorm, known by a closure."""
    network = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))

    def before(step: int) -> None:
        network.train(step % 8 < 5)

    return _fit(network, before=before, optim=pyro.optim.SGD({"lr": 0.01}))


def modes_toggled_in_global() -> Setup:
    """train() and eval() of a network with dropout that is a global variable of the model."""
    global NETWORK
    NETWORK = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))

    def model(x: Tensor, y: Tensor) -> None:
        pyro.module("network", NETWORK)
        _points(NETWORK(x[:, None])[:, 0], y)

    def before(step: int) -> None:
        NETWORK.train(step < 9)

    return setup(model, no_guide, batches(*line()), watched=[NETWORK], before=before)


def mode_of_one_layer() -> Setup:
    """Only the BatchNorm of a VAE's encoder is frozen by eval(), at step 6; its loss is evaluated too."""
    vae = VAE()
    vae.encoder[0] = nn.Linear(6, 5, bias=False)
    vae.encoder.insert(1, nn.BatchNorm1d(5))

    def before(step: int) -> None:
        if step == 6:
            vae.encoder[1].eval()

    return setup(vae.model, vae.guide, same(binary()), before=before, watched=[vae], evaluate_every=5)


def momentum_changed() -> Setup:
    """BatchNorm's momentum changed at step 8, and its statistics reset at step 12."""
    network = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def before(step: int) -> None:
        if step == 8:
            network[1].momentum = 0.5
        if step == 12:
            network[1].reset_running_stats()

    return _fit(network, before=before, optim=pyro.optim.SGD({"lr": 0.01}))


def hook_registered() -> Setup:
    """A forward hook registered at step 6, which keeps a layer's mean."""
    network = perceptron(1, 1)
    seen: list[float] = []

    def before(step: int) -> None:
        if step == 6:
            network[1].register_forward_hook(lambda module, inputs, output: seen.append(output.mean().item()))

    return _fit(network, before=before, state=lambda: seen)


def hook_from_the_start() -> Setup:
    """A forward hook that keeps a layer's output, as users do to look at activations."""
    network = perceptron(1, 1)
    kept: dict[str, Tensor] = {"hidden": torch.zeros(())}
    network[1].register_forward_hook(lambda module, inputs, output: kept.update(hidden=output.detach()))
    return _fit(network, state=lambda: kept["hidden"].tolist())


def hook_that_changes() -> Setup:
    """A forward hook that changes what a layer gives, removed at step 9."""
    network = perceptron(1, 1)
    handle = network[1].register_forward_hook(lambda module, inputs, output: output + 1.0)

    def before(step: int) -> None:
        if step == 9:
            handle.remove()

    return _fit(network, before=before)


def backward_hook() -> Setup:
    """A full backward hook of a layer, which keeps the norm of its gradient."""
    network = perceptron(1, 1)
    norms: list[float] = []
    network[2].register_full_backward_hook(lambda module, inputs, outputs: norms.append(outputs[0].norm().item()))
    return _fit(network, state=lambda: norms)


def hook_on_latent() -> Setup:
    """A hook that the model registers on a latent at each call, to log its gradient."""
    norms: list[float] = []

    def model(x: Tensor, y: Tensor) -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        if slope.requires_grad:
            slope.register_hook(lambda grad: norms.append(grad.item()))
        _points(slope * x, y)

    return setup(model, normal_guide("slope"), batches(*line()), state=lambda: norms)


class _Centred(nn.Module):
    """A layer with a running mean of its own, in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.inner = nn.Linear(1, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("calls", torch.tensor(0))
        self.plain = torch.zeros(())
        self.number = 0.0

    def forward(self, x: Tensor) -> Tensor:
        mean = x.detach().mean()
        if self.way == "buffer in place":
            self.mean.mul_(0.9).add_(0.1 * mean)
            self.calls += 1
        elif self.way == "buffer replaced":
            self.mean = 0.9 * self.mean + 0.1 * mean
        elif self.way == "plain in place":
            self.plain.mul_(0.9).add_(0.1 * mean)
        elif self.way == "plain replaced":
            self.plain = 0.9 * self.plain + 0.1 * mean
        elif self.way == "number":
            self.number = 0.9 * self.number + 0.1 * mean.item()
        found: Tensor = self.inner(x) - self.mean - self.plain - self.number
        return found


def _centred(way: str) -> Setup:
    layer = _Centred(way)
    return _fit(layer, state=lambda: (layer.plain.item(), layer.number))


def buffer_written() -> Setup:
    """A buffer that forward writes in place, and a counter of calls in a buffer."""
    return _centred("buffer in place")


def buffer_replaced() -> Setup:
    """A buffer that forward replaces by a new tensor."""
    return _centred("buffer replaced")


def plain_tensor_written() -> Setup:
    """A tensor, no buffer, that forward writes in place."""
    return _centred("plain in place")


def plain_tensor_replaced() -> Setup:
    """A tensor, no buffer, that forward replaces by a new one."""
    return _centred("plain replaced")


def running_number() -> Setup:
    """A running mean as number, by `.item()` in forward."""
    return _centred("number")


def buffer_of_a_holder() -> Setup:
    """A buffer of a module whose forward is never called, written by the model and by the user."""
    holder = nn.Module()
    holder.register_buffer("shift", torch.zeros(()))

    def model(x: Tensor, y: Tensor) -> None:
        holder.shift.add_(0.01)
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        _points(slope * x + holder.shift, y)

    def before(step: int) -> None:
        if step == 10:
            holder.shift = torch.tensor(0.5)

    return setup(model, normal_guide("slope"), batches(*line()), before=before, watched=[holder])


def tensor_attribute_replaced() -> Setup:
    """A tensor that the model reads from an object, replaced by the user at some steps."""

    class Regression:
        shift = torch.tensor(0.0)

        def model(self, x: Tensor, y: Tensor) -> None:
            slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
            _points(slope * x + self.shift, y)

    regression = Regression()

    def before(step: int) -> None:
        if step % 5 == 4:
            regression.shift = torch.tensor(0.1 * step)

    return setup(regression.model, normal_guide("slope"), batches(*line()), before=before)
