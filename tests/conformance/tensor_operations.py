"""What models do with tensors: gradients of their own, values read, shapes that depend on values, other dtypes."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from conformance.harness import Setup
from conformance.parts import batches, line, no_guide, normal_guide, positive, same, setup


def _points(mean: Tensor, y: Tensor) -> None:
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(mean, pyro.param("scale", torch.tensor(0.5), constraint=positive)), obs=y)


def _slope() -> Tensor:
    found: Tensor = pyro.sample("slope", dist.Normal(0.0, 1.0))
    return found


def _by(mean: Any) -> Setup:
    """Return a regression whose mean is a function of slope and x, over batches."""
    return setup(lambda x, y: _points(mean(_slope(), x), y), normal_guide("slope"), batches(*line()))


def no_grad_block() -> Setup:
    """A part of the mean under torch.no_grad."""

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            offset = slope * x.mean()
        return slope * x + offset

    return _by(mean)


def detached() -> Setup:
    """A straight-through estimator: rounding with detach."""
    return _by(lambda slope, x: slope * x + ((slope * x).round() - slope * x).detach())


def drawn_without_gradient() -> Setup:
    """A site under torch.no_grad, and one made with its gradient cut."""

    def model(x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        _points(_slope().detach() * x + shift, y)

    return setup(model, normal_guide("slope", "shift"), batches(*line()))


class _Clamp(torch.autograd.Function):
    """A clamp through which the gradient goes unchanged."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(-1.0, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Scaled(torch.autograd.Function):
    """A gradient reversed and scaled, by what forward keeps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return -ctx.factor * gradients[0] * x.sign(), None


def own_function() -> Setup:
    """A torch.autograd.Function with a gradient that is not the derivative."""
    clamp: Any = _Clamp.apply
    return _by(lambda slope, x: clamp(3 * slope * x))


def own_function_with_numbers() -> Setup:
    """A torch.autograd.Function that keeps tensors and a number for its gradient."""
    scaled: Any = _Scaled.apply
    return _by(lambda slope, x: scaled(slope * x, 0.5))


def in_place() -> Setup:
    """Operations in place on what the model makes: add_, masked_fill_, item assignment."""

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        found = torch.zeros_like(x)
        found[1:] = slope * x[:-1]
        found[0] = slope
        return found.add_(0.1).masked_fill_(x > 0.9, 0.0)

    return _by(mean)


def in_place_on_data() -> Setup:
    """The model changes its data in place, so each call sees what the last one has left."""

    def model(x: Tensor, y: Tensor) -> None:
        y.mul_(0.99)
        _points(_slope() * x, y)

    x, y = line(8)
    return setup(model, normal_guide("slope"), same(x, y), watched=[y])


def gradient_penalty() -> Setup:
    """torch.autograd.grad inside the model, with create_graph (a penalty)."""

    def model(x: Tensor, y: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.5))
        inputs = x.clone().requires_grad_()
        mean = torch.tanh(slope * inputs)
        (gradient,) = torch.autograd.grad(mean.sum(), inputs, create_graph=True)
        pyro.factor("penalty", -gradient.pow(2).sum())
        _points(mean, y)

    return setup(model, no_guide, batches(*line()))


def gradient_of_energy() -> Setup:
    """A step of Langevin's inside the model: autograd.grad without create_graph, and noise."""

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        state = torch.zeros_like(x).requires_grad_()
        energy = ((state - slope * x) ** 2).sum()
        (gradient,) = torch.autograd.grad(energy, state, retain_graph=True)
        return slope * x + state - 0.1 * gradient + 0.01 * torch.randn_like(x)

    return _by(mean)


def backward_in_model() -> Setup:
    """The model calls backward() of a tensor of its own."""

    def model(x: Tensor, y: Tensor) -> None:
        weights = torch.ones(len(x), requires_grad=True)
        (weights * x).pow(2).sum().backward()
        _points(_slope() * x + 0.1 * weights.grad, y)  # type: ignore[operator]

    return setup(model, normal_guide("slope"), batches(*line()))


def requires_grad_set() -> Setup:
    """The model calls requires_grad_() on its data, and reads whether tensors need gradients."""

    def model(x: Tensor, y: Tensor) -> None:
        x.requires_grad_()
        slope = _slope()
        _points(slope * x + (0.1 if slope.requires_grad else 0.2), y)

    x, y = line(8)
    return setup(model, normal_guide("slope"), same(x, y), state=lambda: (x.requires_grad, x.grad is None))


def sparse_matrix() -> Setup:
    """A sparse matrix that multiplies."""
    matrix = torch.eye(8).roll(1, 0).to_sparse()
    x, y = line(8)

    def model(x: Tensor, y: Tensor) -> None:
        _points(torch.sparse.mm(matrix, (_slope() * x)[:, None])[:, 0], y)

    return setup(model, normal_guide("slope"), same(x, y))


def sparse_gradient() -> Setup:
    """An embedding with sparse gradients, under SGD."""
    table = torch.nn.Embedding(5, 1, sparse=True)

    def model(kinds: Tensor, y: Tensor) -> None:
        pyro.module("table", table)
        _points(table(kinds)[:, 0], y)

    optim = pyro.optim.SGD({"lr": 0.01})
    return setup(model, no_guide, batches(torch.randint(5, (12,)), torch.randn(12)), optim=optim, watched=[table])


def complex_numbers() -> Setup:
    """A Fourier transform, its spectrum weighted."""
    return _by(lambda slope, x: torch.fft.ifft(torch.fft.fft(x) * torch.exp(1j * slope)).real)


def double_precision() -> Setup:
    """Double precision as torch's default."""
    torch.set_default_dtype(torch.float64)
    return _by(lambda slope, x: slope * x + torch.tensor(0.1) + torch.linspace(0, 1, len(x)))


def mixed_precision() -> Setup:
    """bfloat16 by autocast inside the model, and half by hand."""
    weights = torch.randn(1, 3)

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = (slope * x)[:, None] @ weights
        return hidden.float().sum(-1) + x.half().float()

    return _by(mean)


def rows_selected() -> Setup:
    """Rows selected by a condition on values: the number of rows depends on the data."""

    def model(x: Tensor, y: Tensor) -> None:
        kept = y > 0
        _points(_slope() * x[kept], y[kept])

    return setup(model, normal_guide("slope"), batches(*line()))


def unique_values() -> Setup:
    """torch.unique and nonzero: groups found in the data."""

    def model(x: Tensor, y: Tensor) -> None:
        groups, index = torch.unique((x > 0).long(), return_inverse=True)
        with pyro.plate("groups", len(groups)):
            shift = pyro.sample("shift", dist.Normal(torch.zeros(len(groups)), 1.0).mask(False))
        _points(_slope() * x + shift[index], y)

    def guide(x: Tensor, y: Tensor) -> None:
        normal_guide("slope")()
        groups = len(torch.unique((x > 0).long()))
        with pyro.plate("groups", groups):
            pyro.sample("shift", dist.Normal(pyro.param("shifts", torch.zeros(2))[:groups], 0.2))

    return setup(model, guide, batches(*line()))


def values_as_lists() -> Setup:
    """Values read by tolist() and numpy() into Python."""

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        weights = [0.5 if value > 0 else 1.0 for value in x.tolist()]
        return slope * x * torch.tensor(weights) + float(x.numpy().max())

    return _by(mean)


def item_of_data() -> Setup:
    """`.item()` of the data as number: the scale of a prior."""

    def model(x: Tensor, y: Tensor) -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, y.std().item() + 0.1))
        _points(slope * x, y)

    return setup(model, normal_guide("slope"), batches(*line()))


def constants_copied() -> Setup:
    """`torch.tensor(tensor)` and `.data` of parameters: copies that torch warns of."""

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        return slope * x + torch.tensor(x.mean()) + pyro.param("shift", torch.tensor(0.1)).data

    return _by(mean)


def decompositions() -> Setup:
    """Decompositions of matrices: Cholesky with a jitter where it fails (try and except), eigenvalues, solve."""

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        covariance = slope**2 * x[:, None] * x + 0.2 * torch.eye(len(x))
        try:
            factor = torch.linalg.cholesky(covariance - 0.2 * torch.eye(len(x)))
        except torch.linalg.LinAlgError:
            factor = torch.linalg.cholesky(covariance)
        return torch.linalg.solve(covariance, x) + factor.diagonal() + torch.linalg.eigvalsh(covariance)

    return _by(mean)


def sorted_rows() -> Setup:
    """Sorting, top values, scatter_add, cumulative sums, searchsorted."""

    def mean(slope: Tensor, x: Tensor) -> Tensor:
        values, order = torch.sort(slope * x)
        back = torch.zeros_like(x).scatter_add(0, order, values.cumsum(0))
        return back + torch.topk(values, 2).values.sum() + torch.searchsorted(values.detach(), x).float()

    return _by(mean)
