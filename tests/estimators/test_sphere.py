"""The least value of a quadratic on the sphere: against grids, descent, and the eigenvalue of a larger matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_ricvae.estimators.sphere import smallest_on_sphere


def solved(p: np.ndarray, b: np.ndarray) -> np.ndarray:
    a = smallest_on_sphere(*np.linalg.eigh(p), b)
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-14)
    return a


def value(p: np.ndarray, b: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Of one point, or of points in rows."""
    return np.sum(a @ p * a, axis=-1) - 2 * a @ b


def problem(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Definite, indefinite and singular ones, with small and large linear parts."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, rng.integers(1, n + 1)))
    return root @ root.T - rng.integers(0, 2) * np.eye(n), rng.choice([0.01, 1.0, 30.0]) * rng.normal(size=n)


def on_grid(n: int) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 20_001 if n == 2 else 801)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if n == 2:
        return circle
    heights = np.linspace(-1, 1, 801)[:, None, None]
    rings = np.sqrt(1 - heights**2) * circle
    return np.concatenate([rings, np.broadcast_to(heights, (801, 801, 1))], axis=2).reshape(-1, 3)


@pytest.mark.parametrize("n", [2, 3])
def test_no_point_of_a_dense_grid_is_lower(n: int) -> None:
    points = on_grid(n)
    for seed in range(30 if n == 2 else 8):
        p, b = problem(seed, n)
        found, lowest = value(p, b, solved(p, b)), value(p, b, points).min()
        assert found <= lowest + 1e-12
        spacing = 4e-4 if n == 2 else 1e-2
        assert lowest <= found + spacing**2 * 4 * (np.abs(np.linalg.eigvalsh(p)).max() + np.linalg.norm(b))


@pytest.mark.parametrize("n", [4, 5, 6])
def test_descent_from_many_starts_ends_no_lower(n: int) -> None:
    for seed in range(5):
        p, b = problem(seed, n)
        a = np.random.default_rng(seed).normal(size=(200, n))
        step = 0.5 / (np.abs(np.linalg.eigvalsh(p)).max() + np.linalg.norm(b))
        for _ in range(1000):
            a /= np.linalg.norm(a, axis=1, keepdims=True)
            a -= step * (a @ p - b)
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        assert value(p, b, solved(p, b)) == pytest.approx(value(p, b, a).min(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_published_solution(seed: int) -> None:
    """(P - lambda I) a = b with the smallest real eigenvalue of [[P, -I], [-bb', P]] (Gander, Golub and von Matt)."""
    p, b = problem(seed, 6)
    eigenvalues = np.linalg.eigvals(np.block([[p, -np.eye(6)], [-np.outer(b, b), p]]))
    smallest = eigenvalues[np.abs(eigenvalues.imag) < 1e-9].real.min()
    a = np.linalg.solve(p - smallest * np.eye(6), b)
    np.testing.assert_allclose(solved(p, b), a, atol=1e-6)


# The hard case: b has nothing in the lowest eigenspace, and the others' part is too short.


def rotation(seed: int, n: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


@pytest.mark.parametrize("turned", [False, True])
def test_the_hard_case(turned: bool) -> None:
    turn = rotation(0, 3) if turned else np.eye(3)
    p, b = turn @ np.diag([1.0, 2.0, 5.0]) @ turn.T, turn @ [0.0, 0.3, 0.4]
    a = turn.T @ solved((p + p.T) / 2, b)
    np.testing.assert_allclose([abs(a[0]), a[1], a[2]], [0.9**0.5, 0.3, 0.1], atol=1e-7)
    assert value(p, b, turn @ a) <= value(p, b, on_grid(3)).min() + 1e-12


def test_the_hard_case_in_an_eigenspace_of_two() -> None:
    p, b = np.diag([1.0, 1.0, 2.0]), np.array([0.0, 0.0, 0.5])
    a = solved(p, b)
    np.testing.assert_allclose([np.hypot(a[0], a[1]), a[2]], [0.75**0.5, 0.5], atol=1e-12)


def test_nothing_linear_gives_the_lowest_eigenvector() -> None:
    np.testing.assert_allclose(np.abs(solved(np.diag([3.0, 1.0, 2.0]), np.zeros(3))), [0, 1, 0], atol=1e-12)
    assert value(2 * np.eye(3), np.zeros(3), solved(2 * np.eye(3), np.zeros(3))) == pytest.approx(2)


def test_an_orthogonal_part_that_is_long_enough_is_no_hard_case() -> None:
    a = solved(np.diag([1.0, 2.0]), np.array([0.0, 4.0]))
    np.testing.assert_allclose(a, [0, 1], atol=1e-12)
    a = solved(np.diag([1.0, 2.0]), np.array([0.0, 1.0]))  # just long enough
    np.testing.assert_allclose(a, [0, 1], atol=1e-7)


@pytest.mark.parametrize("little", [1e-3, 1e-8, 1e-15, 1e-150, -1e-15])
def test_nearly_the_hard_case(little: float) -> None:
    a = solved(np.diag([1.0, 2.0, 5.0]), np.array([little, 0.3, 0.4]))
    assert a[0] * little > 0
    np.testing.assert_allclose(np.abs(a), [0.9**0.5, 0.3, 0.1], atol=2e-3)


@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=6).flatmap(
        lambda d: st.tuples(st.just(sorted(d)), st.lists(st.floats(-1e6, 1e6), min_size=len(d), max_size=len(d)))
    )
)
@settings(max_examples=200, deadline=None)
def test_a_unit_vector_as_low_as_any(spectrum: tuple[list[float], list[float]]) -> None:
    d, b = np.array(spectrum[0]), np.array(spectrum[1])
    a = smallest_on_sphere(d, np.eye(len(d)), b)
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-12)
    others = np.concatenate([np.eye(len(d)), -np.eye(len(d)), np.random.default_rng(0).normal(size=(200, len(d)))])
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    size = np.abs(d).max() + np.abs(b).max() + 1e-290
    assert value(np.diag(d), b, a) <= value(np.diag(d), b, others).min() + 1e-12 * size
