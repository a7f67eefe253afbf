"""Contract tests, to be run on likelihoods, priors and pairs of your own: in a test, ``check_likelihood(Mine())``.

Each raises an AssertionError that says what was expected, what came, and where. The arguments are left as they are.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.distributions import Independent, constraints

from pyro_ricvae._core.distributions import describe
from pyro_ricvae._core.isolation import evaluation, own_parameters, same_random_numbers
from pyro_ricvae.diagnostics.pair.check import check
from pyro_ricvae.inference.training.recipe import checked_schedule
from pyro_ricvae.likelihoods.likelihood import as_likelihood, shapes_of
from pyro_ricvae.pair import Guide, Model, likelihood_of, next_input, recycle_at_test_time, recycle_in_training
from pyro_ricvae.priors.from_distribution import as_prior

_LEADS = ((), (3,), (2, 3))
_N_ROWS = 4
_DISTANCES = (
    -25.0,
    100.0,
    200_001,
)  # of the quadrature: ends and number of their logarithms
_INTEGRAL_TOLERANCE = 1e-3


def check_likelihood(
    likelihood: Any, n_features: int = 5, *, location: float | None = None, value: float | None = None
) -> None:
    """Check a likelihood against the contract of `likelihoods.Likelihood`.

    Attributes; the distribution of the cells for rows with and without leading dimensions, and for a replicate
    (``x=None``); finite log-densities with gradients; draws or a mean, as it is recycled; its own next input; its
    schedule; and, where it is ``normalised`` and its support is real, that a cell's density integrates to one.

    Parameters
    ----------
    likelihood : torch.nn.Module or callable
        The likelihood.
    n_features : int, default=5
        The number d of features of the rows that are tried.
    location : float, optional
        What the first output of the decoder is; the others are 1. By default 0, or 1/2 where the support is not real.
    value : float, optional
        What x is: a value of the support. By default the first of 0, 1/2 and 1 that is one.

    Raises
    ------
    AssertionError
        If something is not as the contract says.

    Examples
    --------
    >>> from pyro_ricvae.likelihoods import StudentT
    >>> from pyro_ricvae.testing import check_likelihood
    >>> check_likelihood(StudentT(scale=0.5))
    """
    with _in_words(likelihood):
        module: Any = deepcopy(as_likelihood(likelihood))
        is_real = module.support is constraints.real
        values = [each for each in (0.0, 0.5, 1.0) if bool(module.support.check(torch.tensor(each)))]
        x_at = value if value is not None else next(iter(values), math.nan)
        _expect(not math.isnan(x_at), "a value of the support, value=...", "none of 0, 1/2 and 1")
        at = location if location is not None else 0.0 if is_real else 0.5
        shapes = shapes_of(module, n_features)
        with own_parameters(), same_random_numbers([]):
            for lead in _LEADS:
                rows = torch.full((_N_ROWS, n_features), x_at)
                for x in (rows, rows.expand(*lead, *rows.shape)):  # with particles, x may have no dimension of them
                    _check_cells(module, _outputs(shapes, at, (*lead, _N_ROWS)), x, (*lead, *rows.shape))
            _check_replicate(module, shapes, at, n_features)
            checked_schedule(module)
            _check_cells_alone(module.eval(), shapes, at, rows)
            if module.normalised and is_real:
                _check_integral(module, shapes, at, n_features)


def check_prior(prior: Any) -> None:
    """Check a prior: a module whose ``forward()`` returns a Pyro distribution, or such a distribution.

    Batch shape (), event shape (n_latent,); draws with any leading dimensions, their log-densities, finite; and that it
    follows `torch.nn.Module.double`.

    Parameters
    ----------
    prior : torch.nn.Module or pyro.distributions.TorchDistribution
        The prior.

    Raises
    ------
    AssertionError
        If something is not as the contract says.

    Examples
    --------
    >>> from pyro_ricvae.priors import GaussianMixture
    >>> from pyro_ricvae.testing import check_prior
    >>> check_prior(GaussianMixture(10))
    """
    with _in_words(prior), own_parameters(), same_random_numbers([]):
        module = deepcopy(as_prior(prior))
        found: Any = module()
        _expect(isinstance(found, TorchDistributionMixin), "a distribution of pyro.distributions", describe(found))
        shapes = tuple(found.batch_shape), tuple(found.event_shape)
        _expect(shapes[0] == () and len(shapes[1]) == 1, "batch shape () and event shape (n_latent,)", f"{shapes}")
        for lead in _LEADS:
            z = found.sample(torch.Size(lead))
            _expect(tuple(z.shape) == (*lead, *shapes[1]), f"draws of shape {(*lead, *shapes[1])}", f"{tuple(z.shape)}")
            log_prob = found.log_prob(z)
            _expect(tuple(log_prob.shape) == lead, f"log-densities of shape {lead}", f"{tuple(log_prob.shape)}")
            _expect(bool(log_prob.isfinite().all()), "finite log-densities of its own draws", f"{log_prob}")
        dtype = module.double()().sample().dtype
        _expect(dtype == torch.float64, "draws in float64 after .double(): keep its constants as buffers", f"{dtype}")


def check_pair(model: Model, guide: Guide, x: Tensor) -> None:
    """Check a pair against `pyro_ricvae.pair`, and by `check`.

    `decode` and `encode` with and without rows, masks and leading dimensions; that cells which are not observed have no
    part in the log-density; that a row can be passed on, in training and at test time; and all that `check` looks at.

    Parameters
    ----------
    model, guide : pair.Model, pair.Guide
        The pair.
    x : Tensor, shape (B, d)
        Two rows or more.

    Raises
    ------
    AssertionError
        If something is not as the contract says.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae import guides, likelihoods, models, networks, priors
    >>> from pyro_ricvae.testing import check_pair
    >>> model = models.VAE(networks.MLPDecoder(2, 5, ()), likelihoods.FixedNormal(1.0), priors.StandardNormal(2))
    >>> check_pair(model, guides.AmortizedNormal(networks.MLPEncoder(5, 2, ())), torch.randn(8, 5))
    """
    report = check(model, guide, x)
    _expect(report.ok, "a pair in which check finds nothing", "\n".join(report.problems))
    with _in_words(model), same_random_numbers([x]), evaluation(model, guide):
        event = tuple(model.prior().event_shape)
        for lead in _LEADS:
            rows = x.expand(*lead, *x.shape)
            posterior = guide.encode(rows)
            _expect_shapes("encode", posterior, rows.shape[:-1], event)
            z = posterior.sample()
            for given in (rows, None):
                _expect_shapes(
                    f"decode with x={'x' if given is rows else None}",
                    model.decode(z, given),
                    z.shape[:-1],
                    x.shape[-1:],
                )
        z = guide.encode(x).sample()
        hows = {recycle_at_test_time(model)}
        if likelihood_of(model) is not None or model.decode(z, x).has_rsample:  # one of others is asked when it trains
            hows.add(recycle_in_training(model))
        for how in hows:
            following = next_input(model.decode(z, x), x, how, model=model)
            _expect(following.shape == x.shape, f"a next input of shape {tuple(x.shape)}", f"{tuple(following.shape)}")
        _check_observed(model, guide, z, x)


def _check_observed(model: Model, guide: Guide, z: Tensor, x: Tensor) -> None:
    """Hide every other cell: the log-density is that of the rest, whatever stands there."""
    rows = model.decode(z, x)
    same = torch.equal(model.decode(z, x, torch.ones_like(x, dtype=torch.bool)).log_prob(x), rows.log_prob(x))
    _expect(same, "decode to be the same with all cells observed as without a mask", "another log-density")
    observed = (torch.arange(x.shape[-2]).unsqueeze(-1) + torch.arange(x.shape[-1])).to(x.device) % 2 == 0
    other = torch.where(observed, x, x.roll((1, 1), (-2, -1)))

    def by_forward(given: Tensor) -> Tensor:
        trace = poutine.trace(poutine.condition(model, data={"z": z})).get_trace(given, observed)
        site: Any = trace.nodes["x"]
        log_prob: Tensor = site["fn"].log_prob(given)
        return log_prob

    for what, one, two in (
        ("decode", model.decode(z, x, observed).log_prob(x), model.decode(z, other, observed).log_prob(other)),
        ("the model", by_forward(x), by_forward(other)),
        ("encode", guide.encode(x, observed).mean, guide.encode(other, observed).mean),
    ):
        _expect(torch.equal(one, two), f"{what} not to depend on cells that are not observed", "that it does")
    if isinstance(rows, Independent):
        rest = (rows.base_dist.log_prob(x) * observed).sum(-1)
        masked = model.decode(z, x, observed).log_prob(x)
        _expect(torch.allclose(masked, rest, rtol=1e-4), f"the log-density of observed cells, {rest}", f"{masked}")


def _outputs(shapes: Any, at: float, rows: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Any:
    """Return a decoder's output: the location at a value, the others 1."""
    made = [
        torch.full((*rows, *shape), 1.0 if number else at, dtype=dtype, requires_grad=True)
        for number, shape in enumerate(shapes)
    ]
    return made[0] if len(made) == 1 else tuple(made)


def _check_cells(likelihood: Any, output: Any, x: Tensor, shape: tuple[int, ...]) -> None:
    cells = likelihood(output, x)
    _expect_shapes("the cells", cells, shape, ())
    log_prob = cells.log_prob(x)
    _expect(bool(log_prob.isfinite().all()), "finite log-densities", f"{log_prob.detach()}")
    outputs = output if isinstance(output, tuple) else (output,)
    gradients = torch.autograd.grad(log_prob.sum(), outputs, allow_unused=True)
    _expect(gradients[0] is not None, "a gradient for the location", "none")
    finite = all(each is None or bool(each.isfinite().all()) for each in gradients)
    _expect(finite, "finite gradients for the decoder's output", f"{gradients}")
    holder: Any = nn.Module()
    holder.likelihood = likelihood
    how = recycle_in_training(holder)
    following = next_input(cells, x, how, model=holder, whose=f"Recycled by {how!r}")
    _expect(tuple(following.shape) == shape, f"a next input of shape {shape}", f"{tuple(following.shape)}")


def _check_replicate(likelihood: Any, shapes: Any, at: float, n_features: int) -> None:
    shape = (_N_ROWS, n_features)
    before = deepcopy(likelihood.state_dict())
    cells = likelihood(_outputs(shapes, at, shape[:-1]), None)
    _expect_shapes("the cells of a replicate, x=None,", cells, shape, ())
    same = all(torch.equal(value, before[name]) for name, value in likelihood.state_dict().items())
    _expect(same, "a replicate, x=None, to leave buffers alone", "that they change")


def _check_cells_alone(likelihood: Any, shapes: Any, at: float, x: Tensor) -> None:
    """In evaluation mode a cell's density depends on no other row; and float64 stays what it is."""
    for dtype in (torch.float32, torch.float64):
        likelihood, x = likelihood.to(dtype), x.to(dtype)
        outputs = _outputs(shapes, at, x.shape[:-1], dtype)
        first = outputs[:1] if isinstance(outputs, Tensor) else tuple(output[:1] for output in outputs)
        log_prob = likelihood(outputs, x).log_prob(x)
        _expect(log_prob.dtype == dtype, f"log-densities in {dtype} for x of that type", f"{log_prob.dtype}")
        alone = likelihood(first, x[:1]).log_prob(x[:1])
        _expect(torch.allclose(alone, log_prob[:1]), "in evaluation mode a density by row", "one by others too")


def _check_integral(likelihood: Any, shapes: Any, at: float, n_features: int) -> None:
    """Integrate over the distance of each cell from the location, on both sides, in steps of its logarithm."""
    start, end, n = _DISTANCES
    log_distance = torch.linspace(start, end, n, dtype=torch.float64)
    output, total = _outputs(shapes, at, (n,), torch.float64), torch.zeros(n_features, dtype=torch.float64)
    with torch.no_grad():
        for column in range(n_features):
            for side in (-1, 1):
                x = torch.full((n, n_features), at, dtype=torch.float64)
                x[:, column] = at + side * log_distance.exp()
                log_mass = likelihood(output, x).log_prob(x)[:, column] + log_distance
                total[column] += torch.trapezoid(log_mass.exp(), log_distance)
                # What is farther out, where the tail is a power: a geometric rest.
                slope = float((log_mass[-1] - log_mass[-1001]) / (log_distance[-1] - log_distance[-1001]))
                if slope < 0:
                    total[column] += log_mass[-1].exp() / -slope
    worst = total[(total - 1).abs().argmax()].item()
    _expect(
        abs(worst - 1) < _INTEGRAL_TOLERANCE,
        "a density that integrates to one over a cell, or normalised = False",
        f"{worst:.4f}",
    )


def _expect_shapes(what: str, found: Any, batch: Any, event: Any) -> None:
    _expect(isinstance(found, TorchDistributionMixin), f"{what} to be a distribution of Pyro", describe(found))
    shapes = tuple(found.batch_shape), tuple(found.event_shape)
    _expect(
        shapes == (tuple(batch), tuple(event)),
        f"{what} of batch shape {tuple(batch)} and event shape {tuple(event)}",
        describe(found),
    )


def _expect(holds: bool, expected: str, actual: str) -> None:
    if not holds:
        raise AssertionError(f"Expected {expected}, actual {actual}.")


@contextmanager
def _in_words(part: Any) -> Iterator[None]:
    """Turn an error of a part into one of its contract."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{type(part).__name__}: {error}") from None
    except Exception as error:
        raise AssertionError(f"{type(part).__name__} fails: {type(error).__name__}: {error}") from error
