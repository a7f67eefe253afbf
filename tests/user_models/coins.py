"""The coin of Pyro's tutorial, written in ways that are hard to capture."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor
from torch.distributions import constraints

from user_models.case import Case, fewer


def _coin_guide(tosses: Tensor) -> None:
    a = pyro.param("a", torch.tensor(2.0), constraint=constraints.positive)
    b = pyro.param("b", torch.tensor(2.0), constraint=constraints.positive)
    pyro.sample("fairness", dist.Beta(a, b))


def coin() -> Case:
    """Coin of Pyro's tutorial, a plate as a Python loop, Beta guide."""

    def model(tosses: Tensor) -> None:
        fairness = pyro.sample("fairness", dist.Beta(10.0, 10.0))
        for i in pyro.plate("tosses", len(tosses)):
            pyro.sample(f"toss_{i}", dist.Bernoulli(fairness), obs=tosses[i])

    return Case(model, _coin_guide, Trace_ELBO(), *fewer(torch.tensor([1.0] * 6 + [0.0] * 4), rows=7))


def branch_on_data() -> Case:
    """Coin, a branch on the data."""

    def model(tosses: Tensor) -> None:
        prior = dist.Beta(1.0, 1.0) if tosses.mean() > 0.9 else dist.Beta(10.0, 10.0)
        fairness = pyro.sample("fairness", prior)
        with pyro.plate("tosses", len(tosses)):
            pyro.sample("toss", dist.Bernoulli(fairness), obs=tosses)

    return Case(model, _coin_guide, Trace_ELBO(), *fewer(torch.tensor([1.0] * 6 + [0.0] * 4), rows=7))


def rows_drawn_by_numpy() -> Case:
    """Coin, NumPy draws the rows."""

    def model(tosses: Tensor) -> None:
        fairness = pyro.sample("fairness", dist.Beta(10.0, 10.0))
        rows = torch.from_numpy(np.random.choice(len(tosses), 5, replace=False))  # noqa: NPY002  # as users do
        with pyro.plate("tosses", len(tosses), subsample=rows):
            pyro.sample("toss", dist.Bernoulli(fairness), obs=tosses[rows])

    return Case(model, _coin_guide, Trace_ELBO(), *fewer(torch.tensor([1.0] * 6 + [0.0] * 4), rows=7))
