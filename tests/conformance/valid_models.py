"""Valid models beyond single plates: plates in each other, at given dimensions, and handlers around models."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam
from torch import Tensor

from conformance.harness import Call, Setup
from conformance.parts import batches, line, no_guide, normal_guide, positive, same, setup


def sequential_in_sequential() -> Setup:
    """A loop of plates in a loop of plates, both with latents."""

    def model(x: Tensor) -> None:
        for i in pyro.plate("groups", len(x)):
            mean = pyro.sample(f"mean_{i}", dist.Normal(0.0, 1.0))
            for j in pyro.plate(f"rows_{i}", x.shape[1]):
                pyro.sample(f"x_{i}_{j}", dist.Normal(mean, 0.5), obs=x[i, j])

    return setup(model, normal_guide("mean_0", "mean_1"), same(torch.randn(2, 3)))


def vectorised_in_sequential() -> Setup:
    """A vectorised plate of another length in each turn of a loop."""
    groups = [torch.randn(rows) for rows in (3, 5, 2)]

    def model() -> None:
        for i in pyro.plate("groups", len(groups)):
            mean = pyro.sample(f"mean_{i}", dist.Normal(0.0, 1.0))
            with pyro.plate(f"rows_{i}", len(groups[i])):
                pyro.sample(f"x_{i}", dist.Normal(mean, 0.5), obs=groups[i])

    return setup(model, normal_guide("mean_0", "mean_1", "mean_2"), same())


def subsampled_twice() -> Setup:
    """Rows and columns drawn by plates, one in the other."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        columns = pyro.plate("columns", x.shape[1], subsample_size=3, dim=-1)
        rows = pyro.plate("rows", x.shape[0], subsample_size=4, dim=-2)
        with columns as j, rows as i:
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x[i[:, None], j])

    return setup(model, normal_guide("mean"), same(torch.randn(10, 6)))


def subsample_drawn_by_user() -> Setup:
    """Indices of a mini-batch drawn anew by the user at each step, and given to the plate."""

    def model(x: Tensor, rows: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 20, subsample=rows):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    x = torch.randn(20)

    def call(step: int) -> Call:
        rows = torch.randperm(20)[:6]
        return (x[rows], rows), {}

    return setup(model, normal_guide("mean"), call)


def pyro_subsample() -> Setup:
    """`pyro.subsample` of all data in a plate, for a mini-batch."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("rows", len(x), subsample_size=5):
            batch = pyro.subsample(x, event_dim=1)
            pyro.sample("x", dist.Normal(mean, 0.5).to_event(1), obs=batch)

    return setup(model, normal_guide("mean", shape=(3,)), same(torch.randn(20, 3)))


def plates_to_the_left() -> Setup:
    """Plates at dimensions that leave one free, entered in both orders."""

    def model(x: Tensor) -> None:
        rows = pyro.plate("rows", x.shape[0], dim=-3)
        columns = pyro.plate("columns", x.shape[2], dim=-1)
        with rows:
            a = pyro.sample("a", dist.Normal(torch.zeros(x.shape[0], 1, 1), 1.0))
        with columns, rows:
            pyro.sample("x", dist.Normal(a, 0.5), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("rows", x.shape[0], dim=-3):
            pyro.sample("a", dist.Normal(pyro.param("loc", torch.zeros(4, 1, 1)), 0.3))

    return setup(model, guide, same(torch.randn(4, 1, 3)))


def plate_stack() -> Setup:
    """`pyro.plate_stack` of two plates."""

    def model(x: Tensor) -> None:
        with pyro.plate_stack("plates", x.shape):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(x: Tensor) -> None:
        loc = pyro.param("loc", torch.zeros(x.shape))
        with pyro.plate_stack("plates", x.shape):
            pyro.sample("z", dist.Normal(loc, 0.4))

    return setup(model, guide, same(torch.randn(4, 3)))


def mask_drawn_each_step() -> Setup:
    """`poutine.mask` of rows that the model drops at random, and a distribution's own `.mask`."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)), poutine.mask(mask=torch.rand(len(x)) < 0.7):
            pyro.sample("x", dist.Normal(mean, 0.5).mask(x > -1.0), obs=x)

    return setup(model, normal_guide("mean"), same(torch.randn(9)))


def scaled_by_argument() -> Setup:
    """`poutine.scale` as decorator, and within by a number that rises at each step (annealing)."""

    @poutine.scale(scale=0.1)  # type: ignore[untyped-decorator]
    def model(x: Tensor, weight: float) -> None:
        with poutine.scale(scale=weight):
            mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    guide = poutine.scale(normal_guide("mean"), scale=0.1)
    x = torch.randn(9)
    return setup(model, guide, lambda step: ((x, (step + 1) / 20), {}))


def conditioned() -> Setup:
    """`pyro.condition` of a generative model."""

    def generate() -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 6):
            pyro.sample("x", dist.Normal(mean, 0.5))

    return setup(pyro.condition(generate, data={"x": torch.randn(6)}), normal_guide("mean"), same())


def conditioned_anew() -> Setup:
    """`pyro.condition` within the model, on the arguments of the call (as in the tutorial of Pyro's probe)."""

    def generate(rows: int) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", rows):
            pyro.sample("x", dist.Normal(mean, 0.5))

    def model(x: Tensor) -> None:
        pyro.condition(generate, data={"x": x})(len(x))

    return setup(model, normal_guide("mean"), batches(torch.randn(20)))


def intervened() -> Setup:
    """`pyro.do` sets a site, which the model then takes for given."""

    def generate(x: Tensor) -> None:
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        mean = pyro.sample("mean", dist.Normal(shift, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    return setup(pyro.do(generate, data={"shift": torch.tensor(0.4)}), normal_guide("mean"), same(torch.randn(6)))


def reparametrised() -> Setup:
    """`poutine.reparam` with a learnt centredness, over batches of ragged length."""

    @poutine.reparam(config={"slope": LocScaleReparam()})  # type: ignore[untyped-decorator]
    def model(x: Tensor, y: Tensor) -> None:
        scale = pyro.param("prior_scale", torch.tensor(2.0), constraint=positive)
        slope = pyro.sample("slope", dist.Normal(0.0, scale))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(slope * x, 0.3), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.sample("slope_decentered", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.3))

    return setup(model, guide, batches(*line()))


def no_sites() -> Setup:
    """A model and a guide without sites and parameters."""
    return setup(lambda x: x.sum(), no_guide, same(torch.randn(4)))


def no_parameters() -> Setup:
    """A model and a guide with sites and no parameters: nothing to train."""

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    return setup(model, lambda x: pyro.sample("mean", dist.Normal(0.2, 0.3)), same(torch.randn(4)))


def observed_only() -> Setup:
    """Maximum likelihood: nothing but observed sites."""

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(1.0), constraint=positive)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc, scale), obs=x)

    return setup(model, no_guide, batches(torch.randn(20)))


def many_distributions() -> Setup:
    """Sites of many families: Gamma, Beta, Dirichlet, StudentT, Wishart-free covariances, Poisson, Multinomial."""

    def model(x: Tensor, counts: Tensor) -> None:
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        df = pyro.sample("df", dist.LogNormal(1.0, 0.3))
        corr = pyro.sample("corr", dist.LKJCholesky(2, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.MultivariateStudentT(df, torch.zeros(2), corr), obs=x)
            pyro.sample("counts", dist.Multinomial(5, weights, validate_args=False), obs=counts)
            pyro.sample("n", dist.Poisson(rate), obs=counts[:, 0])
            pyro.sample("any", dist.ZeroInflatedPoisson(rate, gate=share), obs=counts[:, 1])

    def guide(x: Tensor, counts: Tensor) -> None:
        pyro.sample("rate", dist.Gamma(pyro.param("a", torch.tensor(3.0), constraint=positive), 2.0))
        pyro.sample("weights", dist.Dirichlet(pyro.param("b", torch.full((3,), 2.0), constraint=positive)))
        pyro.sample("share", dist.Beta(pyro.param("c", torch.tensor(2.0), constraint=positive), 2.0))
        pyro.sample("df", dist.LogNormal(pyro.param("d", torch.tensor(1.0)), 0.2))
        pyro.sample("corr", dist.LKJCholesky(2, pyro.param("e", torch.tensor(1.5), constraint=positive)))

    counts = dist.Multinomial(5, torch.tensor([0.2, 0.3, 0.5])).sample((8,))
    return setup(model, guide, same(torch.randn(8, 2), counts))
