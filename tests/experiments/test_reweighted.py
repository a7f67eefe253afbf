"""Reweighted l1 beside recycling at tiny sizes: the linear program, what counts as found, and the page."""

from typing import Any

import numpy as np
import pytest

from experiments.paper import reweighted


def test_found_is_the_share_of_as_many_largest_as_there_are() -> None:
    truth = np.array([[0.0, 3.0, 0.0], [-2.0, 0.5, 0.1]])
    assert reweighted.found_support(truth, truth) == (1.0, 1.0)
    assert reweighted.found_support(np.array([[1.0, -9, 0], [2, 1, 0]]), truth) == (0.75, 1.0)
    assert reweighted.found_support(np.array([[1.0, 0, 2], [0, 3, 4]]), truth) == (0.5, 0.0)


def test_the_weighted_l1_norm_is_least_among_what_fits() -> None:
    rng = np.random.default_rng(0)
    sensing, weights = rng.normal(size=(4, 9)), rng.uniform(0.1, 2, size=9)
    measured = sensing @ rng.normal(size=9)
    x = reweighted.weighted_l1(sensing, measured, weights)
    np.testing.assert_allclose(sensing @ x, measured, atol=1e-8)
    null = np.linalg.svd(sensing)[2][4:]
    for _ in range(200):
        other = x + rng.normal(scale=0.3, size=5) @ null
        assert weights @ np.abs(other) >= weights @ np.abs(x) - 1e-9


@pytest.mark.slow
def test_reweighting_finds_more_than_one_pass() -> None:
    found = reweighted._sensing(40, 3, seed=0)
    assert found["support 5"] > found["support 1"]
    assert found["error 5"] < found["error 1"]


@pytest.mark.parametrize("dirt", reweighted.DIRT)
def test_rows_have_errors_in_a_share_of_their_cells(dirt: str) -> None:
    known, judged = reweighted.rows_with_errors(dirt, 0, quick=True)
    for clean, dirty in (known, judged):
        assert clean.shape == dirty.shape
        assert 0.02 < (clean != dirty).mean() < 0.3
    assert (judged[0] != judged[1]).any(axis=1).mean() > 0.9


@pytest.mark.slow
def test_a_run_depends_on_its_configuration_alone() -> None:
    some = [
        {**each, "signals": 1} if "signals" in each else {**each, "passes": 1}
        for each in reweighted.configurations(1, quick=True)
    ]
    for configuration in some[-2:] + some[:2]:
        assert reweighted.run(configuration, "cpu") == reweighted.run(configuration, "cpu")


def test_claims_follow_the_figures() -> None:
    def run(kind: str, line: tuple[float, ...], **about: Any) -> dict[str, Any]:
        found = {f"support {m + 1}": value for m, value in enumerate(line)}
        found |= {f"larger half {m + 1}": value + 0.1 for m, value in enumerate(line)}
        return {"kind": kind, "seed": 0} | about | found | {f"error {m + 1}": 1 - value for m, value in enumerate(line)}

    rising, falling = (0.5, 0.6, 0.7, 0.75, 0.8), (0.5, 0.6, 0.55, 0.5, 0.4)
    table = reweighted.figures_by_pass(
        [
            run("reweighted l1", rising, nonzeros=40),
            run("RiC-VAE", rising, dirt="noise"),
            run("iC-VAE", falling, dirt="noise"),
            run("default", rising, dirt="noise"),
        ]
    )
    claims = reweighted.claims(table)
    assert [claim.held for claim in claims] == [True, True, True, True, True, False, True, True]
    assert "most after pass 2" in claims[5].figures
