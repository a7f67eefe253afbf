"""Python state that a model reads or writes: counters, logs, lists, branches."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import VAE, binary, line, no_guide, normal_guide, observe_mean, positive, same, setup

READ = [0.0]


def kl_weight_resumed() -> Setup:
    """KL weight step / 5000 of a training resumed at step 2000, as attribute of a VAE."""
    vae = VAE()
    vae.kl_weight = 0.0  # type: ignore[assignment]

    def weighted(function: Any) -> Any:
        def call(x: Tensor) -> None:
            with poutine.scale(scale=vae.kl_weight):
                function(x)

        return call

    def before(step: int) -> None:
        vae.kl_weight = (2000 + step) / 5000  # type: ignore[assignment]

    return setup(weighted(vae.model), weighted(vae.guide), same(binary()), before=before, watched=[vae])


def counter_in_model() -> Setup:
    """A counter that the model itself raises, and which weighs its prior."""

    class Model:
        step = 0

        def __call__(self, x: Tensor) -> None:
            self.step += 1
            with poutine.scale(scale=min(1.0, self.step / 15)):
                mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
            with pyro.plate("rows", len(x)):
                pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    model = Model()
    return setup(model, normal_guide("mean"), same(torch.randn(6)), state=lambda: model.step)


def counter_not_read() -> Setup:
    """A counter that the model raises and nothing reads but the user."""
    calls = [0]

    def model(x: Tensor) -> None:
        calls[0] += 1
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    return setup(model, normal_guide("mean"), same(torch.randn(6)), state=lambda: calls)


def log_of_arguments() -> Setup:
    """A log to which the model appends a number of its arguments."""
    log: list[float] = []

    def model(x: Tensor, weight: float) -> None:
        log.append(weight)
        observe_mean(x)

    x = torch.randn(6)
    return setup(model, normal_guide("mean"), lambda step: ((x, float(step // 4)), {}), state=lambda: log)


def log_of_item() -> Setup:
    """A log to which the model appends the value of a latent, `.item()`."""
    log: list[float] = []

    def model(x: Tensor) -> None:
        log.append(observe_mean(x).item())

    return setup(model, normal_guide("mean"), same(torch.randn(6)), state=lambda: log)


def log_of_tensors() -> Setup:
    """A log to which the model appends a latent as detached tensor."""
    log: list[Tensor] = []

    def model(x: Tensor) -> None:
        log.append(observe_mean(x).detach())

    return setup(model, normal_guide("mean"), same(torch.randn(6)), state=lambda: [float(each) for each in log])


def last_value_kept() -> Setup:
    """The guide keeps its last scale as attribute, for a progress bar."""

    class Guide:
        scale = torch.tensor(0.0)

        def __call__(self, x: Tensor) -> None:
            scale = pyro.param("scale", torch.tensor(0.3), constraint=positive)
            self.scale = scale.detach()
            pyro.sample("mean", dist.Normal(pyro.param("loc", torch.tensor(0.0)), scale))

    guide = Guide()
    return setup(observe_mean, guide, same(torch.randn(6)), state=lambda: float(guide.scale))


def global_list_read() -> Setup:
    """A global list that the model reads and the user changes in place."""

    def model(x: Tensor) -> None:
        observe_mean(x, READ[0])

    def before(step: int) -> None:
        READ[0] = 0.5 * (step // 6)

    return setup(model, normal_guide("mean"), same(torch.randn(6)), before=before)


def list_that_grows() -> Setup:
    """A list of all rows seen, to which the user appends before some steps (online learning)."""
    seen: list[Tensor] = [torch.randn(2)]

    def model() -> None:
        observe_mean(torch.cat(seen))

    def before(step: int) -> None:
        if step % 4 == 3:
            seen.append(torch.randn(2))

    return setup(model, normal_guide("mean"), same(), before=before)


def look_up_by_item() -> Setup:
    """A dictionary looked up by the value of a drawn tensor."""
    scales = {0: 0.5, 1: 1.5}

    def model(x: Tensor) -> None:
        observe_mean(x, scale=scales[int(torch.randint(2, ()).item())])

    return setup(model, normal_guide("mean"), same(torch.randn(6)))


def names_from_tensors() -> Setup:
    """Names of sites made of the values of a tensor."""

    def model(kinds: Tensor, x: Tensor) -> None:
        for row, kind in enumerate(kinds):
            mean = pyro.param(f"mean_{kind}", torch.tensor(0.0))
            pyro.sample(f"x_{row}_{kind}", dist.Normal(mean, 1.0), obs=x[row])

    kinds, x = torch.tensor([0, 1, 0, 2]), torch.randn(4)
    return setup(model, no_guide, lambda step: ((kinds.roll(step // 5), x), {}))


def branch_on_latent() -> Setup:
    """A branch on the value of a latent."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        scale = 0.5 if mean > 0 else 2.0
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, scale), obs=x)

    return setup(model, normal_guide("mean"), same(torch.randn(6)))


def branch_on_data() -> Setup:
    """A branch on the data, which takes the other way in few batches only."""

    def model(x: Tensor) -> None:
        observe_mean(x, shift=1.0 if x.max() > 3 else 0.0)

    batches = [torch.zeros(4).index_fill(0, torch.tensor(1), 4.0 * (step in (9, 14))) for step in range(20)]
    return setup(model, normal_guide("mean"), lambda step: ((batches[step],), {}))


def branch_on_parameter() -> Setup:
    """A branch on the value of a parameter, which crosses its threshold in training."""

    def model(x: Tensor) -> None:
        mean = pyro.param("mean", torch.tensor(0.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0 if mean.item() < 0.1 else 0.2), obs=x)

    return setup(model, no_guide, same(torch.randn(6) + 2.0))


def loop_until_converged() -> Setup:
    """A loop whose number of turns depends on values (a fixed point)."""

    def model(x: Tensor) -> None:
        slope = torch.sigmoid(pyro.sample("slope", dist.Normal(0.0, 1.0)))
        value = torch.tensor(1.0)
        while (slope * value.cos() - value).abs() > 1e-3:
            value = slope * value.cos()
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(value, 0.5), obs=x)

    return setup(model, normal_guide("slope"), same(torch.randn(5)))


def codebook_moved() -> Setup:
    """A codebook moved by exponential averages under no_grad in the model (VQ-VAE)."""
    codes = torch.tensor([-1.0, 0.0, 1.0])

    def model(x: Tensor, y: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.5))
        hidden = slope * x
        nearest = (hidden[:, None] - codes).abs().argmin(-1)
        with torch.no_grad():
            for code in range(3):
                taken = hidden[nearest == code]
                if len(taken):
                    codes[code].mul_(0.9).add_(0.1 * taken.mean())
        with pyro.plate("rows", len(y)):
            pyro.sample("y", dist.Normal(hidden + (codes[nearest] - hidden).detach(), 0.5), obs=y)

    return setup(model, no_guide, same(*line()), watched=[codes])
