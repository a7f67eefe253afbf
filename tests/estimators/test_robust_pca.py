"""Robust PCA: the decomposition against theory and a slow reference, the regression against linear programs."""

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline

from pyro_ricvae.estimators import RobustPCA, principal_component_pursuit, robust_pca

Array = NDArray[np.float64]


def planted(shape: tuple[int, int], rank: int, share: float = 0.05, seed: int = 0) -> tuple[Array, Array]:
    """Return a low-rank matrix of entries about 1, and errors of size about 5 in a share of the cells."""
    rng = np.random.default_rng(seed)
    low_rank = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1])) / rank**0.5
    return low_rank, np.where(rng.random(shape) < share, rng.normal(scale=5, size=shape), 0.0)


def objective(low_rank: Array, sparse: Array, lambda_scale: float = 1.0) -> float:
    weight = lambda_scale / max(sparse.shape) ** 0.5
    return float(np.linalg.svd(low_rank, compute_uv=False).sum() + weight * np.abs(sparse).sum())


def pursuit_by_hand(matrix: Array, lambda_scale: float, tol: float, max_iter: int) -> tuple[Array, Array]:
    """Follow algorithm 5 of Lin, Chen and Ma (2010) line by line, with SVDs and loops over the cells."""
    weight = lambda_scale / math.sqrt(max(matrix.shape))
    spectral = np.linalg.norm(matrix, 2)
    y = matrix / max(spectral, np.abs(matrix).max() / weight)
    mu, mu_max = 1.25 / spectral, 1e7 * 1.25 / spectral
    e = np.zeros_like(matrix)
    for _ in range(max_iter):
        u, s, vt = np.linalg.svd(matrix - e + y / mu, full_matrices=False)
        a = u @ np.diag([max(value - 1 / mu, 0.0) for value in s]) @ vt
        for index, value in np.ndenumerate(matrix - a + y / mu):
            e[index] = math.copysign(max(abs(value) - weight / mu, 0.0), value)
        y = y + mu * (matrix - a - e)
        mu = min(1.5 * mu, mu_max)
        if np.linalg.norm(matrix - a - e) / np.linalg.norm(matrix) < tol:
            break
    return a, e


@pytest.mark.parametrize(("shape", "rank"), [((100, 80), 4), ((80, 100), 3), ((90, 90), 1)])
def test_a_planted_decomposition_is_recovered_exactly(shape: tuple[int, int], rank: int) -> None:
    low_rank, sparse = planted(shape, rank)
    found_low_rank, found_sparse = principal_component_pursuit(low_rank + sparse)
    np.testing.assert_allclose(found_low_rank, low_rank, atol=1e-5)
    np.testing.assert_allclose(found_sparse, sparse, atol=1e-5)
    np.testing.assert_array_equal(np.abs(found_sparse) > 1e-4, np.abs(sparse) > 1e-4)
    assert np.linalg.matrix_rank(found_low_rank, tol=1e-4) == rank


@pytest.mark.parametrize("seed", range(3))
def test_a_subgradient_of_both_norms_proves_the_optimum(seed: int) -> None:
    """Find UV' + W, with W outside U and V and ||W||_2 <= 1, equal to weight sign(E) + F, F off E's support, <= weight.

    By projecting on the two sets in turn, which meet in such a matrix if there is one.
    """
    low_rank, sparse = principal_component_pursuit(sum(planted((50, 40), 2, 0.04, seed)))
    support, weight = np.abs(sparse) > 1e-4, 1 / 50**0.5
    u, s, vt = np.linalg.svd(low_rank)
    rank = int((s > 1e-4).sum())
    tangent = u[:, :rank] @ vt[:rank]
    of_sparse = np.zeros_like(sparse)
    for _ in range(500):
        left, values, right = np.linalg.svd(u[:, rank:].T @ of_sparse @ vt[rank:].T, full_matrices=False)
        of_low_rank = tangent + u[:, rank:] @ (left * np.minimum(values, 1)) @ right @ vt[rank:]
        of_sparse = np.where(support, weight * np.sign(sparse), np.clip(of_low_rank, -weight, weight))
    np.testing.assert_allclose(of_low_rank, of_sparse, atol=1e-6)


@pytest.mark.parametrize("lambda_scale", [1.0, 0.5])
def test_where_nothing_can_be_recovered_the_objective_is_near_its_minimum(lambda_scale: float) -> None:
    matrix = np.random.default_rng(0).normal(size=(20, 15))
    weight, penalty = lambda_scale / 20**0.5, 4 / np.linalg.norm(matrix, 2)
    sparse, y = np.zeros_like(matrix), np.zeros_like(matrix)
    for _ in range(2000):  # ADMM with a constant penalty: slow, but it does reach the minimum
        u, s, vt = np.linalg.svd(matrix - sparse + y / penalty, full_matrices=False)
        low_rank = (u * np.maximum(s - 1 / penalty, 0)) @ vt
        rest = matrix - low_rank + y / penalty
        y = np.clip(penalty * rest, -weight, weight)
        sparse = rest - y / penalty
    bound = (matrix * y).sum() / max(1.0, np.linalg.norm(y, 2))  # by duality no decomposition has less
    found = principal_component_pursuit(matrix, lambda_scale=lambda_scale)
    assert bound - 1e-6 <= objective(*found, lambda_scale) <= 1.01 * bound


@pytest.mark.parametrize(("tol", "max_iter"), [(1e-7, 1000), (1e-3, 1000), (1e-7, 3)])
@pytest.mark.parametrize("lambda_scale", [1.0, 0.4])
@pytest.mark.parametrize("shape", [(25, 12), (9, 20), (10, 10), (8, 1)])
def test_it_is_the_algorithm_of_the_paper(shape: Any, lambda_scale: float, tol: float, max_iter: int) -> None:
    matrix = np.random.default_rng(1).normal(size=shape) + sum(planted(shape, 1, 0.2))
    expected_low_rank, expected_sparse = pursuit_by_hand(matrix, lambda_scale, tol, max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if max_iter == 3 else "error", ConvergenceWarning)
        low_rank, sparse = principal_component_pursuit(matrix, lambda_scale=lambda_scale, tol=tol, max_iter=max_iter)
    np.testing.assert_allclose(low_rank, expected_low_rank, atol=1e-8)
    np.testing.assert_allclose(sparse, expected_sparse, atol=1e-8)
    np.testing.assert_array_equal(sparse == 0, expected_sparse == 0)
    assert np.linalg.norm(matrix - low_rank - sparse) < tol * np.linalg.norm(matrix) or max_iter == 3


def test_transposing_permuting_and_scaling_the_data_does_the_same_to_the_parts() -> None:
    matrix = sum(planted((30, 20), 2, 0.1)) + 0.1 * np.random.default_rng(2).normal(size=(30, 20))
    parts = principal_component_pursuit(matrix)
    rows, columns = np.random.default_rng(3).permutation(30), np.random.default_rng(4).permutation(20)
    for part, transposed in zip(parts, principal_component_pursuit(matrix.T), strict=True):
        np.testing.assert_array_equal(transposed.T, part)
    for part, permuted in zip(parts, principal_component_pursuit(matrix[rows][:, columns]), strict=True):
        np.testing.assert_allclose(permuted, part[rows][:, columns], atol=1e-8)
    for exponent in (-700, -3, 40, 900):  # squares of the smallest and the largest are out of range
        for part, scaled in zip(parts, principal_component_pursuit(np.ldexp(matrix, exponent)), strict=True):
            np.testing.assert_array_equal(scaled, np.ldexp(part, exponent))
    for part, negated in zip(parts, principal_component_pursuit(-matrix), strict=True):
        np.testing.assert_allclose(negated, -part, atol=1e-8)


def test_matrices_at_the_limits() -> None:
    for part in principal_component_pursuit(np.zeros((4, 3))):
        np.testing.assert_array_equal(part, np.zeros((4, 3)))
    matrix = np.random.default_rng(0).normal(size=(6, 5))
    low_rank, sparse = principal_component_pursuit(matrix, lambda_scale=100)
    np.testing.assert_allclose(low_rank, matrix, atol=1e-6)
    assert not sparse.any()
    low_rank, sparse = principal_component_pursuit(matrix, lambda_scale=0.01)
    np.testing.assert_allclose(sparse, matrix, atol=1e-6)
    assert not low_rank.any()


def test_a_search_cut_short_says_so() -> None:
    with pytest.warns(
        ConvergenceWarning, match=r"within 1e-07 of its norm, actual .* after 2 steps: raise max_iter"
    ) as log:
        principal_component_pursuit(sum(planted((30, 20), 2)), max_iter=2)
    assert log[0].filename == __file__


@pytest.mark.parametrize(
    ("matrix", "arguments", "message"),
    [
        (np.ones((2, 3, 4)), {}, r"Expected D of shape \(m, n\), actual rows of shape \(3, 4\)"),
        (np.ones(3), {}, r"actual shape \(3,\)"),
        (np.ones((0, 3)), {}, "at least one row"),
        ([[1.0, math.nan]], {}, "1 NaN, the first in row 0, column 1"),
        ([[1.0, math.inf]], {}, "1 infinite ones, the first in row 0, column 1"),
        (np.eye(3), {"lambda_scale": 0}, "lambda_scale to be a positive and finite number"),
        (np.eye(3), {"lambda_scale": math.nan}, "lambda_scale to be a positive and finite number"),
        (np.eye(3), {"tol": -1e-7}, "tol to be a positive and finite number"),
        (np.eye(3), {"max_iter": 0}, "max_iter to be a whole number >= 1"),
    ],
)
def test_a_wrong_matrix_or_argument_is_refused(matrix: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        principal_component_pursuit(matrix, **arguments)


@pytest.fixture(scope="module")
def dirty() -> Array:
    """60 images of 5 x 8, of rank 3 about a centre far from 0, with errors."""
    low_rank, sparse = planted((60, 40), 3)
    return (low_rank + sparse + np.linspace(-20, 20, 40)).reshape(60, 5, 8)


@pytest.fixture(scope="module")
def fitted(dirty: Array) -> RobustPCA:
    return RobustPCA(random_state=0).fit(dirty)


def test_fitting_is_the_pursuit_of_the_centred_rows(dirty: Array, fitted: RobustPCA) -> None:
    rows = dirty.reshape(60, 40)
    median = np.sort(rows, axis=0)[29:31].mean(axis=0)
    low_rank, sparse = principal_component_pursuit(rows - median)
    np.testing.assert_allclose(fitted.center_, median)
    np.testing.assert_allclose(fitted.low_rank_, (low_rank + median).reshape(60, 5, 8))
    np.testing.assert_allclose(fitted.sparse_, sparse.reshape(60, 5, 8))
    np.testing.assert_allclose(fitted.low_rank_ + fitted.sparse_, dirty, atol=1e-4)
    assert fitted.n_features_in_ == 40


def test_without_a_centre_it_is_the_pursuit_of_the_rows(dirty: Array) -> None:
    model = RobustPCA(center=None, lambda_scale=0.8).fit(dirty)
    low_rank, _ = principal_component_pursuit(dirty.reshape(60, 40), lambda_scale=0.8)
    np.testing.assert_array_equal(model.low_rank_, low_rank.reshape(60, 5, 8))
    np.testing.assert_array_equal(model.center_, np.zeros(40))


def test_components_are_the_singular_vectors_of_the_low_rank_part(fitted: RobustPCA) -> None:
    centred = fitted.low_rank_.reshape(60, 40) - fitted.center_
    singular_values = np.linalg.svd(centred, compute_uv=False)
    rank = int((singular_values > 1e-6 * singular_values[0]).sum())
    assert 3 <= rank < 40
    assert fitted.components_.shape == (rank, 40)
    np.testing.assert_allclose(fitted.singular_values_, singular_values[:rank])
    np.testing.assert_allclose(fitted.components_ @ fitted.components_.T, np.eye(rank), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(centred @ fitted.components_.T, axis=0), fitted.singular_values_)


def test_the_median_takes_shifts_of_the_features_out(dirty: Array, fitted: RobustPCA) -> None:
    shift = np.random.default_rng(5).integers(-50, 50, size=(5, 8))
    moved = RobustPCA().fit(dirty + shift)
    np.testing.assert_allclose(moved.low_rank_, fitted.low_rank_ + shift, atol=1e-6)
    np.testing.assert_allclose(moved.sparse_, fitted.sparse_, atol=1e-6)


def least_sum_by_linear_program(row: Array, components: Array) -> float:
    k, d = components.shape
    solution = linprog(
        np.concatenate([np.zeros(k), np.ones(2 * d)]),
        A_eq=np.hstack([components.T, np.eye(d), -np.eye(d)]),
        b_eq=row,
        bounds=[(None, None)] * k + [(0, None)] * 2 * d,
    )
    return float(solution.fun)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "errors in the subspace", "training rows"])
def test_cleaning_finds_the_least_sum_of_absolute_differences(dirty: Array, fitted: RobustPCA, kind: str) -> None:
    rng = np.random.default_rng(6)
    rows = {
        "normal": rng.normal(size=(15, 40)) * rng.uniform(0.01, 100, size=(15, 1)),
        "heavy tails": rng.standard_t(1, size=(15, 40)),
        "errors in the subspace": sum(planted((15, len(fitted.components_)), 3)) @ fitted.components_
        + planted((15, 40), 1, 0.1)[1],
        "training rows": dirty[:15].reshape(15, 40) - fitted.center_,
    }[kind]
    x = (rows + fitted.center_).reshape(15, 5, 8)
    least = np.array([least_sum_by_linear_program(row, fitted.components_) for row in rows])
    found = -fitted.score_samples(x)
    assert (found >= least - 1e-6).all()
    assert (found <= least + 1e-4 * np.abs(rows).sum(axis=1) + 1e-6).all()
    cleaned = fitted.clean(x)
    np.testing.assert_allclose(np.abs(x - cleaned).sum(axis=(1, 2)), found, rtol=1e-9, atol=1e-9)
    residual = cleaned.reshape(15, 40) - fitted.center_
    np.testing.assert_allclose(residual @ fitted.components_.T @ fitted.components_, residual, atol=1e-9)


def test_new_rows_with_a_few_gross_errors_are_cleaned_to_the_truth() -> None:
    low_rank, sparse = planted((120, 60), 2)
    model = RobustPCA(center=None).fit((low_rank + sparse)[:100])
    assert model.components_.shape == (2, 60)
    truth, errors = low_rank[100:], 10 * sparse[100:]
    np.testing.assert_allclose(model.clean(truth + errors), truth, atol=1e-2)
    np.testing.assert_allclose(model.clean(truth), truth, atol=1e-5)
    scores = model.cell_scores(truth + errors)
    assert scores[errors != 0].min() > scores[errors == 0].max()


def test_scores_are_distances_to_the_cleaned_rows(dirty: Array, fitted: RobustPCA) -> None:
    x = dirty[:7] + 3 * np.eye(5, 8)
    scores = fitted.cell_scores(x)
    np.testing.assert_allclose(scores, np.abs(x - fitted.clean(x)), atol=1e-10)
    np.testing.assert_allclose(fitted.score_samples(x), -scores.sum(axis=(1, 2)))
    assert (scores >= 0).all()
    spoiled = x.copy()
    spoiled[0] += 100 * np.random.default_rng(0).normal(size=(5, 8))
    assert fitted.score_samples(spoiled)[0] < fitted.score_samples(x)[0]


def test_coefficients_lead_back_to_the_cleaned_rows(dirty: Array, fitted: RobustPCA) -> None:
    z = fitted.transform(dirty[:7])
    assert z.shape == (7, len(fitted.components_))
    np.testing.assert_allclose(fitted.inverse_transform(z), fitted.clean(dirty[:7]), atol=1e-10)
    np.testing.assert_allclose(fitted.transform(fitted.inverse_transform(z)), z, atol=1e-10)


def test_a_row_is_cleaned_the_same_in_any_company(fitted: RobustPCA) -> None:
    x = 5 * np.random.default_rng(7).normal(size=(1500, 5, 8))  # more than one batch
    together = fitted.clean(x)
    for rows in (slice(0, 1), slice(1020, 1030), slice(1499, 1500)):
        np.testing.assert_allclose(fitted.clean(x[rows]), together[rows], atol=1e-8)


def test_a_fit_that_is_not_certified_says_so(dirty: Array, fitted: RobustPCA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust_pca, "_GAP_TOLERANCE", -1e-9)
    with pytest.warns(ConvergenceWarning, match="actual 2 of 2 rows that are not: take their results with care") as log:
        fitted.clean(dirty[:2])
    assert log[0].filename == __file__


def test_samples_have_the_mean_and_covariance_of_the_clean_training_rows(fitted: RobustPCA) -> None:
    clean = fitted.low_rank_.reshape(60, 40)
    drawn = fitted.sample(20_000).reshape(-1, 40)
    spread = clean.std(axis=0)
    assert (np.abs(drawn.mean(axis=0) - clean.mean(axis=0)) < 5 * spread / 20_000**0.5).all()
    error = np.abs(np.cov(drawn.T) - np.cov(clean.T)) / np.outer(spread, spread)
    assert error.max() < 5 * 2**0.5 / 20_000**0.5
    inside = (drawn - fitted.center_) @ fitted.components_.T @ fitted.components_
    np.testing.assert_allclose(inside, drawn - fitted.center_, atol=1e-9)


def test_samples_follow_the_random_state(dirty: Array, fitted: RobustPCA) -> None:
    assert fitted.sample().shape == (1, 5, 8)
    np.testing.assert_array_equal(fitted.sample(3), fitted.sample(3))
    shared = RobustPCA(random_state=np.random.RandomState(0)).fit(dirty)
    first = shared.sample(3)
    np.testing.assert_array_equal(first, fitted.sample(3))
    assert (shared.sample(3) != first).all()


@pytest.mark.parametrize(("lambda_scale", "rank"), [(0.001, 0), (100.0, 5)])
def test_subspaces_of_no_and_of_all_dimensions(lambda_scale: float, rank: int) -> None:
    x = np.random.default_rng(0).normal(size=(30, 5))
    model = RobustPCA(lambda_scale=lambda_scale, random_state=0).fit(x)
    assert model.components_.shape == (rank, 5)
    np.testing.assert_allclose(model.clean(x), x if rank else np.tile(model.center_, (30, 1)), atol=1e-12)
    assert model.sample(4).shape == (4, 5)
    assert rank or (model.sample(4) == model.center_).all()


@pytest.mark.parametrize("container", [np.ndarray.tolist, torch.tensor, pd.DataFrame, np.asfortranarray])
def test_any_container_of_numbers_gives_arrays(container: Any, dirty: Array) -> None:
    rows = dirty.reshape(60, 40)
    model = RobustPCA().fit(container(rows))
    expected = RobustPCA().fit(rows)
    assert type(model.low_rank_) is type(model.clean(container(rows))) is np.ndarray
    np.testing.assert_allclose(model.low_rank_, expected.low_rank_, atol=1e-9)
    np.testing.assert_allclose(model.clean(container(rows[:3])), expected.clean(rows[:3]), atol=1e-9)


def test_integers_and_single_precision_are_taken_as_they_are_and_left_alone(dirty: Array) -> None:
    for x in (np.round(dirty).astype(np.int16), dirty.astype(np.float32)):
        x.flags.writeable = False
        before = x.copy()
        model = RobustPCA()
        np.testing.assert_array_equal(model.fit_clean(x), RobustPCA().fit(x.astype(np.float64)).low_rank_)
        assert model.clean(x).dtype == np.float64
        np.testing.assert_array_equal(x, before)


def test_it_follows_the_conventions_of_scikit_learn(dirty: Array) -> None:
    model = RobustPCA(lambda_scale=-1, center="mean", random_state=3)  # type: ignore[arg-type]
    assert model.get_params() == {"lambda_scale": -1, "center": "mean", "random_state": 3}
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(lambda_scale=1.0, center=None).fit(dirty) is model
    assert make_pipeline(RobustPCA()).fit(dirty[:, 0]).transform(dirty[:2, 0]).shape[0] == 2


@pytest.mark.parametrize("method", ["clean", "cell_scores", "score_samples", "transform", "inverse_transform"])
def test_what_needs_a_fit_says_so(method: str) -> None:
    with pytest.raises(NotFittedError):
        getattr(RobustPCA(), method)(np.eye(3))
    with pytest.raises(NotFittedError):
        RobustPCA().sample()


@pytest.mark.parametrize(
    ("x", "parameters", "message"),
    [
        (np.eye(3), {"lambda_scale": 0.0}, "lambda_scale to be a positive and finite number"),
        (np.eye(3), {"lambda_scale": "1"}, "lambda_scale to be a positive and finite number"),
        (np.eye(3), {"center": "mean"}, "Expected center to be \"median\" or None, actual 'mean'"),
        (np.eye(3), {"center": np.zeros(3)}, 'Expected center to be "median" or None, actual array'),
        (np.ones(3), {}, r"actual shape \(3,\)"),
        (np.ones((1, 3)), {}, "two rows or more"),
        (np.ones((4, 3)), {}, "4 equal rows"),
        ([[1.0, math.nan], [math.nan, 2.0]], {}, "2 NaN, the first in row 0, column 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x: Any, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RobustPCA(**parameters).fit(x)


def test_text_is_refused() -> None:
    with pytest.raises(TypeError, match="Expected real numbers"):
        RobustPCA().fit([["a", "b"], ["c", "d"]])
    with pytest.raises(ValueError, match="Expected real numbers"):
        principal_component_pursuit(np.eye(2) * 1j)


@pytest.mark.parametrize("method", ["clean", "cell_scores", "score_samples", "transform"])
def test_rows_of_another_shape_are_refused(fitted: RobustPCA, method: str) -> None:
    with pytest.raises(ValueError, match=r"rows of shape \(5, 8\), as in fit, actual \(8, 5\)"):
        getattr(fitted, method)(np.ones((2, 8, 5)))
    with pytest.raises(ValueError, match="1 NaN, the first in row 1, column 2, 3"):
        getattr(fitted, method)(np.where(np.arange(80).reshape(2, 5, 8) == 59, math.nan, 0.0))


def test_wrong_coefficients_and_numbers_of_samples_are_refused(fitted: RobustPCA) -> None:
    k = len(fitted.components_)
    with pytest.raises(ValueError, match=f"Expected {k} coefficients a row, actual {k + 1}"):
        fitted.inverse_transform(np.ones((2, k + 1)))
    with pytest.raises(ValueError, match=f"{k} NaN, the first in row 0, column 0"):
        fitted.inverse_transform(np.full((1, k), math.nan))
    with pytest.raises(ValueError, match="n to be a whole number >= 1, actual 0"):
        fitted.sample(0)
