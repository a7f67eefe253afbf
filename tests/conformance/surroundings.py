"""What surrounds a step: handlers, modes and settings that the user turns on, other uses of model and guide."""

import contextlib
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from conformance.harness import Setup
from conformance.parts import VAE, batches, binary, no_guide, normal_guide, positive, same, setup


def _mean(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mean, 0.5), obs=x)


def _within(make: Any, first: int = 8, last: int = 12, **others: Any) -> Setup:
    """Return a setup whose steps from `first` to `last` run within a context, made by `make`."""
    stack = contextlib.ExitStack()

    def before(step: int) -> None:
        if step == first:
            stack.enter_context(make())
        if step == last:
            stack.close()

    return setup(_mean, normal_guide("mean"), batches(torch.randn(20)), before=before, **others)


def scale_around() -> Setup:
    """`poutine.scale` around some steps."""
    return _within(lambda: poutine.scale(scale=0.3))


def condition_around() -> Setup:
    """`poutine.condition` around some steps."""
    return _within(lambda: poutine.condition(data={"mean": torch.tensor(0.7)}))


def mask_around() -> Setup:
    """`poutine.mask` around some steps."""
    return _within(lambda: poutine.mask(mask=False))


def block_around() -> Setup:
    """`poutine.block` around some steps."""
    return _within(lambda: poutine.block(hide=["mean"]))


def trace_around() -> Setup:
    """`poutine.trace(param_only=True)` around some steps, as Pyro's own loops have it."""
    seen: list[list[str]] = []
    trace = poutine.trace(param_only=True)
    made = _within(lambda: trace)
    made.state = lambda: seen.append(sorted(trace.trace.nodes) if hasattr(trace, "trace") else []) or seen
    return made


def seed_around() -> Setup:
    """`poutine.seed` around some steps."""
    return _within(lambda: poutine.seed(rng_seed=3))


def plate_around() -> Setup:
    """A plate around some steps: the model's sites are in it."""
    return _within(lambda: pyro.plate("outer", 2, dim=-2))


def no_grad_around() -> Setup:
    """torch.no_grad around some steps: SVI moves by momentum."""
    return _within(torch.no_grad)


def autocast_around() -> Setup:
    """Autocast to bfloat16 around some steps of a VAE: compiled it rounds less often."""
    vae = VAE()
    made = _within(lambda: torch.autocast("cpu", dtype=torch.bfloat16), watched=[vae])
    made.model, made.guide, made.call = vae.model, vae.guide, batches(binary())
    made.rounding = 5e-2
    return made


def anomaly_detection_around() -> Setup:
    """torch.autograd.detect_anomaly around some steps: torch warns once more."""
    return _within(torch.autograd.detect_anomaly)


def function_mode_around() -> Setup:
    """A TorchFunctionMode of the user around some steps, which counts exponentials."""
    counts = [0]

    class Count(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            counts[0] += getattr(function, "__name__", "") in ("exp", "log")
            return function(*args, **(kwargs or {}))

    return _within(Count, state=lambda: counts)


def dispatch_mode_around() -> Setup:
    """A TorchDispatchMode of the user around some steps, which counts operations (as a FLOP counter does)."""
    counts = [0]

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            counts[0] += 1
            return function(*args, **(kwargs or {}))

    return _within(Count, state=lambda: counts)


def saved_tensors_around() -> Setup:
    """torch's hooks on saved tensors around some steps, which count what is kept for the gradient."""
    counts = [0]

    def pack(tensor: Tensor) -> Tensor:
        counts[0] += 1
        return tensor

    return _within(lambda: torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), state=lambda: counts)


def default_dtype_changed() -> Setup:
    """torch's default dtype changed at step 8."""

    def before(step: int) -> None:
        if step == 8:
            torch.set_default_dtype(torch.float64)

    return setup(_mean, normal_guide("mean"), same(torch.randn(6)), before=before)


def deterministic_algorithms() -> Setup:
    """torch.use_deterministic_algorithms turned on for some steps."""

    @contextlib.contextmanager
    def deterministic() -> Any:
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)

    return _within(deterministic)


def local_parameters_of_modules() -> Setup:
    """Pyro's setting module_local_params: parameters of modules stay out of the store, and SVI raises."""
    pyro.settings.set(module_local_params=True)

    class Model(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.scale = PyroParam(torch.tensor(0.7), constraint=positive)
            self.linear = torch.nn.Linear(1, 1)

        def forward(self, x: Tensor) -> None:
            mean = self.linear(x[:, None])[:, 0]
            with pyro.plate("rows", len(x)):
                z = pyro.sample("z", dist.Normal(mean, 1.0))
                pyro.sample("x", dist.Normal(z, self.scale), obs=x)

    class Guide(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.loc = PyroParam(torch.tensor(0.1))

        def forward(self, x: Tensor) -> None:
            with pyro.plate("rows", len(x)):
                pyro.sample("z", dist.Normal(self.loc, 0.5))

    model, guide = Model(), Guide()
    return setup(model, guide, batches(torch.randn(20)), watched=[model, guide])


def predictive_between_steps() -> Setup:
    """Predictive of model and guide between steps, its draws kept."""
    guide, x = AutoNormal(_mean), torch.randn(6)
    kept: list[list[float]] = []

    def before(step: int) -> None:
        if step and step % 5 == 0:
            draws = Predictive(_mean, guide=guide, num_samples=3)(x)
            kept.append(draws["mean"].flatten().tolist())

    return setup(_mean, guide, same(x), before=before, state=lambda: kept)


def guide_read_between_steps() -> Setup:
    """Medians and quantiles of an automatic guide read between steps, and its model traced by the user."""
    guide, x = AutoNormal(_mean), torch.randn(6)
    kept: list[float] = []

    def before(step: int) -> None:
        if step and step % 4 == 0:
            kept.append(guide.median()["mean"].item())
            kept.append(guide.quantiles([0.1])["mean"].item())
            kept.append(float(poutine.trace(_mean).get_trace(x).log_prob_sum()))

    return setup(_mean, guide, same(x), before=before, state=lambda: kept)


def loss_computed_between_steps() -> Setup:
    """The user computes Trace_ELBO's loss and gradient by hand between steps: gradients are left behind."""
    x = torch.randn(6)
    guide = normal_guide("mean")

    def before(step: int) -> None:
        if step in (7, 8, 13):
            Trace_ELBO().loss_and_grads(_mean, guide, x)

    return setup(_mean, guide, same(x), before=before)


def gradients_set_between_steps() -> Setup:
    """The user sets gradients of parameters to None at step 7, and adds to them at step 10."""

    def before(step: int) -> None:
        for value in pyro.get_param_store()._params.values():
            if step == 7:
                value.grad = None
            if step == 10 and value.grad is not None:
                value.grad.add_(0.5)

    return setup(_mean, normal_guide("mean"), same(torch.randn(6)), before=before)


def two_models_in_turn() -> Setup:
    """Two SVIs with objectives of their own train the same parameters in turn."""

    def penalised(x: Tensor) -> None:
        _mean(x)
        pyro.factor("penalty", -(pyro.param("mean_scale") ** 2))

    guide, optim, call = normal_guide("mean"), pyro.optim.Adam({"lr": 0.05}), batches(torch.randn(20))
    also = Setup(penalised, guide, optim, Trace_ELBO(num_particles=2), call)
    return setup(_mean, guide, call, optim=optim, also=also)


def adversaries() -> Setup:
    """Two SVIs with optimizers of their own: one trains the model's network, the other what the first one reads."""
    network = torch.nn.Linear(1, 1)

    def one(x: Tensor) -> None:
        pyro.module("network", network)
        with pyro.plate("rows", len(x)):
            pyro.sample(
                "x", dist.Normal(network(x[:, None])[:, 0], pyro.param("noise", torch.tensor(0.5)).abs()), obs=x
            )

    def other(x: Tensor) -> None:
        mean = network(x[:, None])[:, 0].detach()
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, pyro.param("noise", torch.tensor(0.5)).abs()), obs=x)

    call = batches(torch.randn(16))
    also = Setup(other, no_guide, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO(), call)
    return setup(one, no_guide, call, watched=[network], also=also)
