"""Unsupervised one-class learning: its steps against brute force, its objective as the paper has it, its outliers."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import f1_score, roc_auc_score

import pyro_ricvae as rv
from pyro_ricvae.estimators import UOCL, discriminative_threshold
from pyro_ricvae.estimators.soft_labels import best_labels


def planted(seed: int, n: int = 150, share: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """A cluster of inliers in five dimensions, and outliers spread all around; and which rows those are."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    outlying = rng.random(n) < share
    x[outlying] = rng.uniform(-12, 12, size=(outlying.sum(), 5))
    return x, outlying


def labels_of(inliers: np.ndarray) -> np.ndarray:
    n, n_inliers = len(inliers), inliers.sum()
    return np.where(inliers, ((n - n_inliers) / n_inliers) ** 0.5, -((n_inliers / (n - n_inliers)) ** 0.5))


# The labels


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0, 20.0])
def test_no_other_labels_are_better(margin: float) -> None:
    for n in (2, 3, 5, 8):
        f = np.random.default_rng(n).normal(size=n) + n / 2
        labels, gain = best_labels(f, margin)
        choices = [np.array(c) for c in itertools.product([False, True], repeat=n) if 0 < sum(c) < n]
        losses = [((f - labels_of(c)) ** 2).sum() - 2 * margin * f[c].mean() for c in choices]
        np.testing.assert_array_equal(labels, labels_of(choices[int(np.argmin(losses))]))
        assert f @ f - 2 * gain + n == pytest.approx(min(losses))  # so that the gain is all there is to compare


def test_labels_have_mean_0_and_variance_1() -> None:
    for seed in range(5):
        labels, _ = best_labels(np.random.default_rng(seed).exponential(size=40), 1.0)
        assert labels.sum() == pytest.approx(0, abs=1e-12)
        assert labels @ labels == pytest.approx(40)


@pytest.mark.parametrize("seed", range(5))
def test_without_a_margin_the_groups_are_the_most_compact(seed: int) -> None:
    f = -np.random.default_rng(seed).exponential(size=60)
    np.testing.assert_array_equal(best_labels(f, 0.0)[0] > 0, -f <= discriminative_threshold(-f))


# The objective


def objective(x: np.ndarray, fitted: UOCL, gamma_1: float, gamma_2: float, k: int) -> float:
    """The objective as it is written down, a row at a time."""
    n = len(x)
    distances = np.linalg.norm(x[:, None] - x[None], axis=2)
    bandwidth = np.sqrt((distances**2).mean())
    assert fitted.bandwidth_ == pytest.approx(bandwidth)
    kernel = np.exp(-(distances**2) / (2 * bandwidth**2))
    f = kernel @ fitted.coefficients_
    np.testing.assert_allclose(fitted.score_samples(x), f, atol=1e-10)
    y = fitted.soft_labels_
    nearest = np.argsort(distances + np.diag(np.full(n, np.inf)), axis=1)[:, :k]
    edges = {frozenset((i, int(j))) for i in range(n) for j in nearest[i]}
    rough = sum(kernel[i, j] * (f[i] - f[j]) ** 2 for i, j in map(sorted, edges))
    return float(((f - y) ** 2).sum() + gamma_1 * rough - 2 * gamma_2 * f[y > 0].mean())


@pytest.mark.parametrize(("gamma_1", "gamma_2", "k"), [(1.0, 1.0, 10), (0.0, 0.0, 5), (3.0, 40.0, 3)])
def test_the_objective_is_the_one_of_the_notes(gamma_1: float, gamma_2: float, k: int) -> None:
    x, _ = planted(0, n=60)
    fitted = UOCL(smoothness=gamma_1, margin=gamma_2, n_neighbors=k).fit(x)
    assert fitted.objective_[-1] == pytest.approx(objective(x, fitted, gamma_1, gamma_2, k))
    assert np.linalg.norm(fitted.coefficients_) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(6))
def test_it_never_rises(seed: int) -> None:
    for settings in ({}, {"smoothness": 0.0}, {"margin": 100.0}, {"smoothness": 20.0, "bandwidth": 2.0}):
        fitted = UOCL(**settings).fit(planted(seed)[0])
        falls = -np.diff(fitted.objective_)
        assert (falls >= -1e-8 * fitted.objective_[0]).all()
        assert falls[0] > 0
        assert len(fitted.objective_) == fitted.n_iter_ + 1


def test_no_coefficients_nearby_are_better() -> None:
    """Neither a turn of the last ones, nor any other unit vector that was tried."""
    x, _ = planted(1, n=40)
    fitted = UOCL().fit(x)
    least, rng = objective(x, fitted, 1.0, 1.0, 10), np.random.default_rng(0)
    found = fitted.coefficients_
    for scale in (0.01, 0.1, 1.0, 10.0) * 5:
        turned = found + scale * rng.normal(size=40) / 40**0.5
        fitted.coefficients_ = turned / np.linalg.norm(turned)
        assert objective(x, fitted, 1.0, 1.0, 10) > least


# What it finds


@pytest.mark.parametrize(("share", "auc", "f1"), [(0.1, 0.97, 0.95), (0.3, 0.97, 0.95), (0.5, 0.85, 0.83)])
def test_planted_outliers_are_found(share: float, auc: float, f1: float) -> None:
    for seed in range(5):
        x, outlying = planted(seed, share=share)
        fitted = UOCL().fit(x)
        assert roc_auc_score(outlying, -fitted.score_samples(x)) > auc
        assert f1_score(~outlying, fitted.predict(x) == 1) > f1


def test_predictions_are_the_labels() -> None:
    x, _ = planted(3)
    fitted = UOCL().fit(x)
    inliers = fitted.soft_labels_ > 0
    np.testing.assert_array_equal(fitted.predict(x) == 1, inliers)
    assert fitted.n_inliers_ == inliers.sum()
    f = fitted.score_samples(x)
    assert fitted.offset_ == pytest.approx((f[inliers].min() + f[~inliers].max()) / 2)
    np.testing.assert_array_equal(UOCL().fit_predict(x), fitted.predict(x))


def test_new_rows_near_the_inliers_are_inliers() -> None:
    fitted = UOCL().fit(planted(0)[0])
    new, outlying = planted(100, n=2500)  # more than are scored at once
    assert f1_score(~outlying, fitted.predict(new) == 1) > 0.9
    np.testing.assert_allclose(fitted.score_samples(new[2000:2010]), fitted.score_samples(new)[2000:2010], atol=1e-10)


def test_far_from_all_rows_f_is_0() -> None:
    assert UOCL().fit(planted(0)[0]).score_samples(np.full((1, 5), 1e6)) == [0.0]


def test_a_shift_and_another_unit_change_nothing() -> None:
    x, _ = planted(4)
    expected = UOCL().fit(x).score_samples(x)
    for factor, shift in ((1.0, 1e7), (1e-9, 0.0), (1e9, -1e12)):
        moved = factor * x + shift
        np.testing.assert_allclose(UOCL().fit(moved).score_samples(moved), expected, atol=1e-4)
    np.testing.assert_allclose(UOCL(bandwidth=2.0).fit(x).bandwidth_, 2.0)


def test_columns_weigh_alike_in_the_units_they_come_in() -> None:
    x, _ = planted(5)
    scaled = x * [1e6, 1, 1, 1, 1]
    np.testing.assert_allclose(
        UOCL().fit(scaled).score_samples(scaled), UOCL().fit(x[:, :1]).score_samples(x[:, :1]), atol=1e-3
    )


def test_two_rows_and_equal_rows() -> None:
    assert UOCL().fit([[0.0], [1.0]]).n_inliers_ == 1
    fitted = UOCL().fit(np.array([[0.0, 0.0]] * 20 + [[1.0, 5.0]] * 3))
    assert fitted.n_inliers_ == 20
    assert (fitted.predict([[0.0, 0.0], [1.0, 5.0]]) == [1, -1]).all()


def test_images_and_frames() -> None:
    x, _ = planted(6, n=60)
    expected = UOCL().fit(x[:, :4]).predict(x[:, :4])
    images = x[:, :4].reshape(60, 2, 2)
    np.testing.assert_array_equal(UOCL().fit(images).predict(images), expected)
    frame = pd.DataFrame(x[:, :4], columns=list("abcd"))
    fitted = UOCL().fit(frame)
    assert list(fitted.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="actual 'b' in the place of 'a'"):
        fitted.predict(frame[list("bacd")])


# Arguments, and on disk


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"smoothness": -1}, "Expected smoothness to be a finite number >= 0, actual -1"),
        ({"margin": float("nan")}, "Expected margin to be a finite number >= 0, actual nan"),
        ({"bandwidth": 0}, "bandwidth.*positive and finite.*actual 0"),
        ({"bandwidth": "mean"}, "bandwidth.*positive and finite.*actual 'mean'"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"max_iter": 0}, "max_iter"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UOCL(**wrong).fit(planted(0)[0])


def test_rows_too_far_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected rows whose distances have squares that are numbers, actual 1e"):
        UOCL().fit([[0.0], [1e200], [1.0]])


def test_labels_that_still_change_are_said() -> None:
    x, _ = planted(0)
    assert UOCL().fit(x).n_iter_ > 1
    with pytest.warns(ConvergenceWarning, match="change after 1 alternations: raise max_iter"):
        UOCL(max_iter=1).fit(x)


def test_it_is_saved_whole(tmp_path: Path) -> None:
    x, _ = planted(7)
    fitted = UOCL(margin=2, bandwidth=3, n_neighbors=4).fit(x)
    fitted.save(tmp_path / "model")
    loaded = rv.load(tmp_path / "model")
    assert loaded.get_params() == fitted.get_params()
    np.testing.assert_array_equal(loaded.decision_function(x), fitted.decision_function(x))
    for name in ("soft_labels_", "coefficients_", "objective_", "n_iter_", "n_inliers_", "bandwidth_", "offset_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(fitted, name))
    with pytest.raises(ValueError, match="Expected no prior, which a UOCL has not"):
        rv.load(tmp_path / "model", prior=rv.priors.StandardNormal(2))
