"""The posteriors of all rows together: whether they make up the prior, and which latent units say anything."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ricvae._core.checks import check_rows
from pyro_ricvae._core.extras import extra
from pyro_ricvae._core.isolation import device_of, evaluation, random_numbers
from pyro_ricvae.inference.predictive import draw_posterior, in_chunks
from pyro_ricvae.inference.training.monitor import ACTIVE_VARIANCE
from pyro_ricvae.pair import Guide, Model

#: `AggregateTest.alarm` rings at a p-value below this.
ALARM_P = 0.01

_FEWEST_ROWS = 100
_ITERATIONS = 50


@dataclass(frozen=True)
class AggregateTest:
    """Whether a classifier tells draws of the rows' posteriors from draws of the prior.

    Parameters
    ----------
    accuracy : float
        The share of the draws kept back that it names rightly: 0.5 if the two are the same.
    p_value : float
        Of an accuracy as high by chance, where the two are the same.
    n_tested : int
        The number of draws kept back, of either kind.
    """

    accuracy: float
    p_value: float
    n_tested: int

    @property
    def alarm(self) -> bool:
        """Whether the aggregate posterior is not the prior: a p-value below 0.01."""
        return self.p_value < ALARM_P

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Return what was found, and what it means for new rows, in words."""
        found = (
            f"A classifier names {self.accuracy:.1%} of {self.n_tested} draws rightly, of the rows' posteriors or of "
            f"the prior (p = {self.p_value:.2g}): "
        )
        if not self.alarm:
            return found + "no difference was found between the two."
        return found + (
            "the rows do not fill the prior. New rows drawn from it partly come from where no data are: give a prior "
            "that can follow the rows, such as a Gaussian mixture, or train for longer."
        )


class ActiveUnits(NamedTuple):
    """Which latent units say anything.

    Parameters
    ----------
    variances : Tensor, shape (n_latent,)
        Of each unit's posterior mean over the rows.
    n_active : int
        How many are active: above `inference.training.monitor.ACTIVE_VARIANCE`.
    """

    variances: Tensor
    n_active: int


def aggregate_posterior_test(
    model: Model, guide: Guide, x: Tensor, *, random_state: int | None = None, batch_size: int = 1024
) -> AggregateTest:
    r"""Test whether :math:`\frac1n \sum_i q(z \mid x_i)` is the prior, by a classifier (Lopez-Paz and Oquab, 2017).

    One draw from the posterior of each row, and as many from the prior, are split in halves; scikit-learn's boosted
    trees learn to tell the two apart on one, and an exact binomial test of their accuracy is made on the other.

    Parameters
    ----------
    model : pair.Model
        The generative model, with any likelihood: it is not used, only the prior is.
    guide : pair.Guide
        Its guide.
    x : Tensor, shape (n, d)
        The rows, in the model's units: at least 100, independent of each other. Copies of one row in both halves make
        it find differences that are not there.
    random_state : int, optional
        A seed. By default random numbers come from torch's global generator.
    batch_size : int, default=1024
        The number of rows in a chunk.

    Returns
    -------
    AggregateTest
        The accuracy and its p-value, one-sided.

    Raises
    ------
    ValueError
        If there are fewer than 100 rows, or an argument is not as said.

    Notes
    -----
    At the optimum of the ELBO, with a guide and a model that can express anything, the two are the same: there is
    a gap if the data are not as the model says, or if guide or training fall short, and the test does not say which.
    The more rows, the smaller the differences it finds; look at the accuracy as well.
    """
    with extra("estimators"):
        from scipy.stats import binomtest
        from sklearn.ensemble import HistGradientBoostingClassifier

    check_rows(x)
    if x.dim() != 2 or len(x) < _FEWEST_ROWS:
        raise ValueError(
            f"Expected x of shape (n, d) with n >= {_FEWEST_ROWS}, enough rows to learn from, actual {tuple(x.shape)}."
        )
    seeded = nullcontext() if random_state is None else random_numbers(random_state, device_of(guide))
    with evaluation(model, guide), seeded:
        n = len(x)
        posterior = draw_posterior(guide, x, 1, batch_size=batch_size)[0].cpu()[torch.randperm(n)]
        prior = model.prior().sample((n,)).cpu()
        seed = int(torch.randint(2**31, ()))
    half = n // 2
    labels = torch.tensor([1, 0])
    classifier = HistGradientBoostingClassifier(max_iter=_ITERATIONS, random_state=seed)
    classifier.fit(torch.cat([posterior[:half], prior[:half]]).numpy(), labels.repeat_interleave(half).numpy())
    predicted = classifier.predict(torch.cat([posterior[half:], prior[half:]]).numpy())
    right = int((predicted == labels.repeat_interleave(n - half).numpy()).sum())
    result = binomtest(right, len(predicted), 0.5, alternative="greater")
    return AggregateTest(right / len(predicted), float(result.pvalue), len(predicted))


def active_units(guide: Guide, x: Tensor, *, batch_size: int = 1024) -> ActiveUnits:
    """Return the variance of each unit's posterior mean over the rows, and how many units are active.

    Parameters
    ----------
    guide : pair.Guide
        The guide.
    x : Tensor, shape (n, d)
        The rows, in the model's units, two or more.
    batch_size : int, default=1024
        The number of rows in a chunk.

    Returns
    -------
    ActiveUnits
        The variances, on the device of `x`, and the number of those above 0.01 (Burda et al., 2016).

    Raises
    ------
    ValueError
        If there is one row alone, or an argument is not as said.
    """
    check_rows(x)
    if x.dim() != 2 or len(x) < 2:
        raise ValueError(f"Expected x of shape (n, d) with n >= 2, rows that can vary, actual {tuple(x.shape)}.")
    variances = in_chunks((guide,), x, batch_size, lambda chunk: guide.encode(chunk).mean).var(0)
    return ActiveUnits(variances, int((variances > ACTIVE_VARIANCE).sum()))
