"""The split of errors, against all splits in exact arithmetic; the loss, against a loop over them."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_ricvae.estimators import discriminative_threshold
from pyro_ricvae.estimators.discriminative import discriminative_loss


def share_within(errors: list[float], k: int) -> Fraction:
    """The criterion as it is written down, for the k smallest and the others."""
    exact = sorted(map(Fraction, errors))

    def scatter(values: list[Fraction]) -> Fraction:
        mean = sum(values, Fraction()) / len(values)
        return sum(((value - mean) ** 2 for value in values), Fraction())

    return (scatter(exact[:k]) + scatter(exact[k:])) / scatter(exact)


any_errors = st.lists(
    st.one_of(st.floats(0, 1e9), st.integers(0, 5).map(float), st.floats(1e15, 1.1e15)), min_size=1, max_size=12
)


@given(any_errors)
@settings(max_examples=300, deadline=None)
def test_no_split_is_better(errors: list[float]) -> None:
    threshold = discriminative_threshold(errors)
    n_inliers = sum(error <= threshold for error in errors)
    if min(errors) == max(errors):
        assert (threshold, n_inliers) == (errors[0], len(errors))
        return
    assert 0 < n_inliers < len(errors)
    best = min(share_within(errors, k) for k in range(1, len(errors)))
    assert float(1 - share_within(errors, n_inliers)) >= float(1 - best) * (1 - 1e-11)


def test_the_threshold_lies_halfway() -> None:
    assert discriminative_threshold([0.1, 5.0, 0.2, 4.0, 0.3]) == pytest.approx(2.15)
    assert discriminative_threshold(torch.tensor([1.0, 2.0, 10.0])) == 6.0
    assert discriminative_threshold([1, 2]) == 1.5


def test_equal_errors_have_no_outlier() -> None:
    for errors in ([3.0], [3.0, 3.0], [0.0] * 5, [0.1] * 1000):
        threshold = discriminative_threshold(errors)
        assert threshold == errors[0]
        assert not (np.asarray(errors) > threshold).any()


def test_equal_errors_are_on_the_same_side() -> None:
    assert discriminative_threshold([1, 1, 1, 2, 2, 2]) == 1.5
    assert discriminative_threshold([0, 1, 1, 1, 1, 1]) == 0.5


def test_of_equally_good_splits_the_one_with_the_fewest_outliers() -> None:
    assert discriminative_threshold([0, 1, 2]) == 1.5
    assert discriminative_threshold(np.arange(10) * 0.1) == pytest.approx(0.45)


@pytest.mark.parametrize("offset", [0.0, 2.0**30, -(2.0**40), 2.0**52])
def test_a_large_offset_changes_nothing(offset: float) -> None:
    errors = 2.0 * np.random.default_rng(0).integers(0, 20, size=20_000)
    errors[:5000] += 60
    assert discriminative_threshold(errors + offset) - offset == discriminative_threshold(errors)


@pytest.mark.parametrize("factor", [2.0**-1040, 2.0**-500, 2.0**1000])
def test_nor_does_any_unit(factor: float) -> None:
    errors = np.array([1.0, 1.5, 2.0, 1.0, 30.0, 31.0])
    assert discriminative_threshold(errors * factor) == discriminative_threshold(errors) * factor == 16 * factor


def test_the_ends_of_numbers() -> None:
    largest, tiniest = np.finfo(float).max, np.finfo(float).smallest_subnormal
    assert discriminative_threshold([-largest, largest]) == 0.0
    above = np.nextafter(1.0, 2.0)
    for errors in ([0.0, tiniest], [1.0, above], [largest, np.nextafter(largest, 0.0)], [tiniest, 2 * tiniest]):
        threshold = discriminative_threshold(errors)
        assert (np.asarray(errors) > threshold).sum() == 1


def test_what_is_not_errors_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected errors of shape \(n,\), one a row, with n >= 1, actual \(0,\)"):
        discriminative_threshold([])
    with pytest.raises(ValueError, match=r"shape \(n,\)"):
        discriminative_threshold([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"Expected finite errors, actual 2 of 3 that are NaN or infinite.*row 1"):
        discriminative_threshold([0.0, np.nan, np.inf])


# The loss


def loss_over_all_splits(errors: torch.Tensor, weight: float) -> torch.Tensor:
    ordered = errors.sort()[0]
    total = ((errors - errors.mean()) ** 2).sum()
    best, loss = float("inf"), errors.mean()
    for k in range(1, len(errors)):
        small, large = ordered[:k], ordered[k:]
        within = ((small - small.mean()) ** 2).sum() + ((large - large.mean()) ** 2).sum()
        if float((within / total).detach()) < best:
            best, loss = float((within / total).detach()), small.mean() + weight * within / total
    return loss


@pytest.mark.parametrize("weight", [0.0, 0.1, 3.0])
def test_the_loss_and_its_gradient(weight: float) -> None:
    for size in (2, 3, 10, 50):
        errors = torch.randn(size, dtype=torch.double).exp().requires_grad_()
        found, expected = discriminative_loss(errors, weight), loss_over_all_splits(errors, weight)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(*(torch.autograd.grad(loss, errors)[0] for loss in (found, expected)))


def test_the_gradient_draws_the_groups_apart() -> None:
    errors = torch.tensor([1.0, 2.0, 10.0, 13.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(discriminative_loss(errors, 100.0), errors)
    assert gradient[1] > 0  # the largest small error falls
    assert gradient[2] < 0  # and the smallest large one rises


def test_the_loss_of_equal_errors_is_their_mean() -> None:
    for size in (1, 4):
        errors = torch.full((size,), 2.0, requires_grad=True)
        loss = discriminative_loss(errors, 0.1)
        assert loss.item() == 2
        torch.testing.assert_close(torch.autograd.grad(loss, errors)[0], torch.full((size,), 1 / size))


def test_the_loss_of_huge_errors_is_a_number() -> None:
    errors = torch.tensor([1.0, 2.0, 1e37], requires_grad=True)
    loss = discriminative_loss(errors, 0.1)
    assert loss.item() == pytest.approx(1.5)
    assert torch.autograd.grad(loss, errors)[0].isfinite().all()
