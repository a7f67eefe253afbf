"""Networks of every kind, and what users change in them while training."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.nn import AutoRegressiveNN, ConditionalDenseNN, DenseNN, PyroModule, PyroSample
from pyro.nn.module import to_pyro_module_
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from conformance.harness import Setup
from conformance.parts import VAE, batches, line, no_guide, normal_guide, perceptron, positive, same, setup


def _fit(network: nn.Module, *columns: int, rows: int = 10, **others: Any) -> Setup:
    """Return a setup that fits a network's first output to a line, over batches."""

    def model(x: Tensor) -> None:
        pyro.module("network", network)
        mean = network(x).flatten(1).mean(1)
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.3), obs=x.flatten(1).sum(1))

    return setup(model, no_guide, batches(torch.randn(rows, *columns), size=4), watched=[network], **others)


def convolutions() -> Setup:
    """Convolutions, pooling, GroupNorm, transposed convolutions."""
    layers = nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(2, 1, 2)
    return _fit(nn.Sequential(*layers), 1, 6, 6)


def batch_norm() -> Setup:
    """BatchNorm in training mode, its running statistics compared."""
    return _fit(nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 1)), 3, rows=12)


def dropout() -> Setup:
    """Dropout in training mode."""
    return _fit(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1)), 3)


def recurrent() -> Setup:
    """A GRU over sequences."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRU(2, 3, batch_first=True)
            self.out = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.out(self.cell(x)[0][:, -1])
            return found

    return _fit(Recurrent(), 4, 2)


def long_short_term() -> Setup:
    """An LSTMCell in a loop of Python, from learnt first states."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(2, 3)
            self.first = nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            h = c = self.first.expand(len(x), 3)
            for t in range(x.shape[1]):
                h, c = self.cell(x[:, t], (h, c))
            return h

    return _fit(Recurrent(), 3, 2)


def attention() -> Setup:
    """A transformer's layer, with dropout."""
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, dropout=0.1, batch_first=True)
    # Not Adam, which makes steps of the rounding in the gradient of the keys' bias: that is 0.
    return _fit(layer, 3, 4, optim=pyro.optim.SGD({"lr": 0.01}))


def embedding() -> Setup:
    """An embedding of indices."""
    table = nn.Embedding(5, 2)

    def model(kinds: Tensor, y: Tensor) -> None:
        pyro.module("table", table)
        with pyro.plate("rows", len(kinds)):
            pyro.sample("y", dist.Normal(table(kinds).sum(-1), 0.3), obs=y)

    return setup(model, no_guide, batches(torch.randint(5, (12,)), torch.randn(12)), watched=[table])


def weights_tied() -> Setup:
    """Weights tied between two layers, `pyro.module` of both."""
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    two.weight = one.weight
    return _fit(nn.Sequential(one, nn.Tanh(), two), 3)


def weight_norm() -> Setup:
    """Weights parametrised by torch's weight_norm, and by a spectral norm with its own buffers."""
    one = parametrizations.weight_norm(nn.Linear(3, 4))
    two = parametrizations.spectral_norm(nn.Linear(4, 1))
    return _fit(nn.Sequential(one, nn.Tanh(), two), 3)


def checkpointed() -> Setup:
    """Layers under torch.utils.checkpoint."""

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = perceptron(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = checkpoint(self.inner, x, use_reentrant=False)
            return found

    return _fit(Checkpointed(), 3)


def scripted() -> Setup:
    """A function of torch.jit.trace as part of the model."""
    traced = torch.jit.trace(lambda x: torch.tanh(x) + x**2, torch.randn(3))

    def model(x: Tensor, y: Tensor) -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(traced(slope * x), 0.3), obs=y)

    return setup(model, normal_guide("slope"), batches(*line()))


def mapped() -> Setup:
    """torch.func: vmap and a derivative by jacrev within the model."""

    def model(x: Tensor, y: Tensor) -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        mean = torch.vmap(torch.func.jacrev(lambda each: slope * each**2))(x)
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.3), obs=y)

    return setup(model, normal_guide("slope"), batches(*line()))


def networks_of_pyro() -> Setup:
    """DenseNN, ConditionalDenseNN and AutoRegressiveNN of pyro.nn."""
    dense, conditional, causal = DenseNN(2, [3], [1]), ConditionalDenseNN(2, 1, [3], [1]), AutoRegressiveNN(2, [4])

    def model(x: Tensor) -> None:
        for number, network in enumerate((dense, conditional, causal)):
            pyro.module(f"network_{number}", network)
        shift, scale = causal(x)
        mean = dense(x)[:, 0] + conditional(x, x[:, :1])[:, 0] + (shift * scale.exp()).sum(-1)
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.3), obs=x.sum(-1))

    return setup(model, no_guide, batches(torch.randn(12, 2)))


def lifted_with_priors() -> Setup:
    """`pyro.random_module`: a prior over a layer's weights."""
    layer = nn.Linear(1, 1)

    def model(x: Tensor, y: Tensor) -> None:
        priors = {"weight": dist.Normal(torch.zeros(1, 1), 1.0).to_event(2), "bias": dist.Normal(torch.zeros(1), 1.0)}
        priors["bias"] = priors["bias"].to_event(1)
        lifted = pyro.random_module("layer", layer, priors)()
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(lifted(x[:, None])[:, 0], 0.3), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        weight = dist.Normal(pyro.param("w", torch.zeros(1, 1)), 0.2).to_event(2)
        bias = dist.Normal(pyro.param("b", torch.zeros(1)), 0.2).to_event(1)
        pyro.random_module("layer", layer, {"weight": weight, "bias": bias})()

    return setup(model, guide, batches(*line()))


def lifted_module() -> Setup:
    """PyroModule[nn.Linear] with PyroSample in a network, priors by a function, weights and bias in a guide."""

    class Regression(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = PyroModule[nn.Linear](1, 2)
            self.hidden.weight = PyroSample(lambda own: dist.Normal(0.0, own.spread).expand([2, 1]).to_event(2))
            self.hidden.spread = PyroSample(dist.LogNormal(0.0, 0.3))
            self.out = nn.Linear(2, 1)

        def forward(self, x: Tensor, y: Tensor) -> None:
            mean = self.out(torch.tanh(self.hidden(x[:, None])))[:, 0]
            with pyro.plate("rows", len(x)):
                pyro.sample("y", dist.Normal(mean, 0.3), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        loc = pyro.param("loc", torch.zeros(2, 1))
        pyro.sample("hidden.spread", dist.LogNormal(pyro.param("spread", torch.tensor(0.0)), 0.2))
        scale = pyro.param("scale", torch.full((2, 1), 0.3), constraint=positive)
        pyro.sample("hidden.weight", dist.Normal(loc, scale).to_event(2))

    model = Regression()
    return setup(model, guide, batches(*line()), watched=[model])


def turned_into_pyro_module() -> Setup:
    """`to_pyro_module_` of a plain network, then priors over all its parameters."""
    network = perceptron(1, 1, 2)
    to_pyro_module_(network)
    for part in network.modules():
        for name, value in list(part.named_parameters(recurse=False)):
            setattr(part, name, PyroSample(dist.Normal(0.0, 1.0).expand(value.shape).to_event(value.dim())))

    def model(x: Tensor, y: Tensor) -> None:
        mean = network(x[:, None])[:, 0]
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.3), obs=y)

    return setup(model, AutoNormal(model), batches(*line()))


def wrapped_network() -> Setup:
    """Networks that a function-style model knows by its closure only, without `pyro.module`: they do not train."""
    network: Callable[[Tensor], Tensor] = perceptron(1, 1)

    def model(x: Tensor, y: Tensor) -> None:
        shift = pyro.param("shift", torch.tensor(0.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(network(x[:, None])[:, 0] + shift, 0.3), obs=y)

    return setup(model, no_guide, batches(*line()), watched=[network])


def copied_vae() -> Setup:
    """A VAE of which the user keeps the best copy of the parameters, and goes back to it at step 12."""
    vae = VAE()
    kept: dict[str, Tensor] = {}

    def before(step: int) -> None:
        if step == 6:
            kept.update({name: value.clone() for name, value in vae.state_dict().items()})
        if step == 12:
            vae.load_state_dict(kept)

    return setup(vae.model, vae.guide, same(torch.ones(4, 6)), before=before, watched=[vae])
