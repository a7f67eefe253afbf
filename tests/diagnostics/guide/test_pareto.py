"""Pareto k-hat, on a linear-Gaussian model whose posterior is known, with right and wrong guides."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from reference import Returns, make_pair
from scipy import stats

from experiments.linear_gaussian import LinearGaussian
from pyro_ricvae.diagnostics.guide.pareto import ParetoK, _tail_shapes, pareto_k


@pytest.fixture
def exact() -> LinearGaussian:
    return LinearGaussian(n_features=12, n_latent=4, scale=0.5, seed=0)


def test_the_exact_guide_has_no_tail(exact: LinearGaussian) -> None:
    found = pareto_k(exact.model, exact.guide(), exact.sample(100, seed=1))
    assert found.k.shape == (100,)
    assert torch.equal(found.k, torch.zeros(100).double())
    assert not found.alarm


def test_a_nearly_exact_guide_is_low(exact: LinearGaussian) -> None:
    found = pareto_k(exact.model, exact.guide(scale=0.95, shift=0.1), exact.sample(100, seed=1))
    assert found.share_above(0.5) == 0
    assert found.k.max() > 0
    assert not found.alarm


@pytest.mark.parametrize(
    ("scale", "shift"), [(0.5, 0.0), (1.0, 1.5)], ids=["half the scale", "a mean off by 1.5 scales"]
)
def test_a_wrong_guide_is_caught(exact: LinearGaussian, scale: float, shift: float) -> None:
    found = pareto_k(exact.model, exact.guide(scale, shift), exact.sample(100, seed=1))
    assert found.share_above(0.7) > 0.5  # 0.78 and 0.96 of 200 rows seen
    assert found.alarm
    assert "refine it row by row" in found.summary()


def test_a_guide_that_is_too_wide_is_safe(exact: LinearGaussian) -> None:
    assert pareto_k(exact.model, exact.guide(scale=2.0), exact.sample(100, seed=1)).share_above(0.7) == 0


def test_a_known_tail() -> None:
    """Of a Pareto distribution of shape 1 / k, the smoothing finds k."""
    rng = np.random.default_rng(0)
    for k in (0.3, 0.8, 1.2):
        log_weights = torch.from_numpy(stats.pareto(1 / k).rvs((4000, 200), random_state=rng)).log()
        assert _tail_shapes(log_weights).mean() == pytest.approx(k, abs=0.05)


def test_weights_without_a_tail_and_without_weight() -> None:
    log_weights = torch.zeros(1000, 4)
    log_weights[:, 1] = 1e-6 * torch.randn(1000)
    log_weights[:, 2] = -math.inf
    log_weights[:, 3] = torch.randn(1000)
    log_weights[::2, 3] = -math.inf
    k = _tail_shapes(log_weights)
    assert k[0] == k[1] == 0
    assert k[2] == math.inf
    assert 0 < k[3] < 1


def test_a_profile_likelihood_has_a_pseudo_posterior() -> None:
    """A guide made by quadrature of p(x | z) p(z) over one latent has a lower k-hat than one beside it."""
    model, guide = make_pair("index_conditioned", n_latent=1)
    x = torch.randn(1, 5)
    grid = torch.linspace(-8, 8, 4001)[:, None, None]
    with torch.no_grad():
        log_joint = (model.decode(grid, x.expand(4001, 1, 5)).log_prob(x) + model.prior().log_prob(grid)).squeeze(-1)
    p = log_joint.softmax(0)
    assert log_joint.isfinite().all()
    assert p[[0, -1]].max() < 1e-6 * p.max()  # it can be integrated
    mean = (p * grid.flatten()).sum()
    scale = (p * (grid.flatten() - mean).square()).sum().sqrt()

    def with_guide(loc: torch.Tensor, scale: torch.Tensor) -> float:
        guide.encoder = Returns((loc.reshape(1, 1), scale.reshape(1, 1)))
        return float(pareto_k(model, guide, x, 2000).k)

    assert with_guide(mean, 1.2 * scale) < 0.5
    assert with_guide(mean + 4 * scale, 0.5 * scale) > 0.7


def test_rows_keep_their_order_in_chunks(exact: LinearGaussian) -> None:
    """Rows that the guide has far wrong are found where they are, whatever the chunks."""
    x = exact.sample(40, seed=1)
    guide = exact.guide()
    shift = torch.zeros(40, 4)
    shift[[3, 17, 39]] = 3.0

    for batch_size in (1, 7, 1024):
        chunks = iter(shift.split(batch_size))
        encode = guide.encode

        def off(rows: torch.Tensor, chunks=chunks, encode=encode) -> dist.TorchDistribution:  # type: ignore[no-untyped-def]
            base = encode(rows).base_dist
            return dist.Normal(base.loc + next(chunks) * base.scale, base.scale).to_event(1)

        guide.encode = off  # type: ignore[method-assign]
        k = pareto_k(exact.model, guide, x, 200, batch_size=batch_size).k
        guide.encode = encode  # type: ignore[method-assign]
        assert (k > 0).nonzero().flatten().tolist() == [3, 17, 39]


def test_the_alarm_and_the_counsel() -> None:
    def of(*k: float) -> ParetoK:
        return ParetoK(torch.tensor(k).double(), 500)

    fine, some = of(*[0.1] * 10), of(*[0.1] * 9, 0.6)
    bad, alarming = of(*[0.1] * 9, 0.8), of(*[0.1] * 8, 0.8, 1.2)
    assert [each.alarm for each in (fine, some, bad, alarming)] == [False, False, False, True]
    assert "10 rows from 500 draws each: median 0.10, 0 (0.0%) above 0.5, 0 (0.0%) above 0.7" in fine.summary()
    assert "of use for all rows. That alone" in fine.summary()
    assert "those above 0.5 need more draws" in some.summary()
    assert "1 (10.0%) above 0.7" in bad.summary()
    assert "or leave them out" in bad.summary()
    assert "1 (10.0%) above 1." in alarming.summary()
    assert "those above 1 least of all" in alarming.summary()
    assert of(math.inf).share_above(1.0) == 1


def test_wrong_input(exact: LinearGaussian) -> None:
    x = exact.sample(3, seed=1)
    with pytest.raises(ValueError, match=r"Expected n_draws to be at least 100, .* actual 99"):
        pareto_k(exact.model, exact.guide(), x, 99)
    for value in (0, 1.5):
        with pytest.raises(ValueError, match=f"Expected n_draws to be a whole number >= 1, actual {value}"):
            pareto_k(exact.model, exact.guide(), x, value)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"Expected batch_size to be a whole number >= 1, actual {value}"):
            pareto_k(exact.model, exact.guide(), x, batch_size=value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected at least one row"):
        pareto_k(exact.model, exact.guide(), x[:0])
