"""Numbers, tensors and arrays as arguments, which change from call to call."""

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import in_turn, no_guide, normal_guide, observe_rows, positive, same, setup


def _late(first: tuple[Any, ...], later: tuple[Any, ...], model: Any = observe_rows, at: int = 8) -> Setup:
    """Return a setup whose arguments change for good at step 8."""
    return setup(model, normal_guide("mean"), lambda step: (first if step < at else later, {}))


def float_changed() -> Setup:
    """A float that changes at step 8, and back at step 14."""
    x = torch.randn(6)
    return setup(observe_rows, normal_guide("mean"), lambda step: ((x, 0.5 if step < 8 or step >= 14 else 0.8), {}))


def float_becomes_tensor() -> Setup:
    """A float that becomes a tensor of the same value at step 8."""
    x = torch.randn(6)
    return _late((x, 0.5), (x, torch.tensor(0.5)))


def float_becomes_int() -> Setup:
    """A float 1.0 that becomes the int 1, then True: equal, but no float."""
    kinds: list[str] = []
    x = torch.randn(6)

    def model(x: Tensor, scale: Any) -> None:
        kinds.append(type(scale).__name__)
        observe_rows(x, scale if isinstance(scale, float) else 2.0)

    return setup(model, normal_guide("mean"), lambda step: ((x, (1.0, 1, True)[step // 7]), {}), state=lambda: kinds)


def optional_argument() -> Setup:
    """An optional argument given in some calls, by position or by name."""
    x = torch.randn(6)

    def call(step: int) -> Any:
        return [((x,), {}), ((x, 0.7), {}), ((x,), {"scale": 0.7}), ((), {"x": x})][step % 4]

    return setup(observe_rows, normal_guide("mean"), call)


def new_keyword() -> Setup:
    """A keyword that first comes at step 9, taken by **kwargs."""

    def model(x: Tensor, **options: Any) -> None:
        observe_rows(x + options.get("shift", 0.0))

    x = torch.randn(6)
    return setup(model, normal_guide("mean"), lambda step: ((x,), {"shift": 1.0} if step >= 9 else {}))


def columns_changed() -> Setup:
    """Another number of columns, in turn."""
    return in_turn(observe_rows, (torch.randn(5, 3),), (torch.randn(5, 4),))


def dimensions_changed() -> Setup:
    """Another number of dimensions, at step 8."""
    return _late((torch.randn(5, 3),), (torch.randn(5, 3, 2),))


def batch_in_second_dimension() -> Setup:
    """A batch whose length is in the second dimension, and changes."""

    def model(x: Tensor) -> None:
        observe_rows(x.T)

    return in_turn(model, *((torch.randn(3, rows),) for rows in (6, 4, 5)))


def two_lengths() -> Setup:
    """Two arguments of different lengths, which change independently."""

    def model(x: Tensor, y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("xs", len(x)):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)
        with pyro.plate("ys", len(y)):
            pyro.sample("y", dist.Normal(-mean, 0.5), obs=y)

    lengths = (5, 5), (5, 7), (3, 7), (4, 4), (7, 5)
    return in_turn(model, *((torch.randn(one), torch.randn(other)) for one, other in lengths))


def one_row_and_none() -> Setup:
    """A batch of one row, and an empty one, among others."""
    return in_turn(observe_rows, *((torch.randn(rows, 2),) for rows in (4, 4, 4, 1, 0, 2)))


def one_row_first() -> Setup:
    """Batches of one row first, then of many."""
    return _late((torch.randn(1, 2),), (torch.randn(7, 2),))


def ones_broadcast() -> Setup:
    """A length that equals that of the features at times: broadcasting must not be baked in."""

    def model(x: Tensor, weights: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean * weights, 0.5).expand([len(x)]), obs=x)

    return in_turn(model, *((torch.randn(rows), torch.rand(of)) for rows, of in ((4, 4), (4, 1), (1, 1), (3, 3))))


def dtype_changed() -> Setup:
    """Double precision from step 8 on."""
    return _late((torch.randn(6),), (torch.randn(6).double(),))


def integers() -> Setup:
    """Integer tensors: counts observed as int64, then as float."""

    def model(x: Tensor) -> None:
        rate = pyro.param("rate", torch.tensor(1.5), constraint=positive)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Poisson(rate), obs=x)

    counts = torch.tensor([1, 2, 0, 3])
    return setup(model, no_guide, lambda step: ((counts if step < 9 else counts.float(),), {}))


def strides_changed() -> Setup:
    """Tensors that are not contiguous, expanded, or views of others."""
    x = torch.randn(3, 5)
    return in_turn(observe_rows, (x.T,), (x.T.contiguous(),), (x[:1].T.expand(5, 3),), (x.flip(0).T,))


def array_argument() -> Setup:
    """A NumPy array, changed in place between steps."""
    values = np.linspace(-1.0, 1.0, 6, dtype=np.float32)

    def model(x: Any) -> None:
        observe_rows(torch.as_tensor(x))

    def before(step: int) -> None:
        if step in (8, 9, 15):
            values[0] = float(step)

    return setup(model, normal_guide("mean"), same(values), before=before)


def array_new_each_time() -> Setup:
    """A new NumPy array at each step, turned into a tensor by the model."""

    def model(x: Any) -> None:
        observe_rows(torch.tensor(x, dtype=torch.float32))

    return setup(model, normal_guide("mean"), lambda step: ((np.full(4, 0.1 * step),), {}))
