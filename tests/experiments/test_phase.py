"""The phase diagram at tiny sizes: its matrices, its runs, and what its page claims of them."""

from typing import Any

import numpy as np
import pytest

from experiments.paper import free_encoder, phase


def test_the_matrices_are_of_the_rank_and_the_share_that_they_are_said_to_be() -> None:
    low_rank, sparse = phase.planted(60, 4, 0.3, 2.0, 0)
    assert np.linalg.matrix_rank(low_rank) == 4
    assert low_rank.std() == pytest.approx(1, abs=0.2)
    assert (sparse != 0).mean() == pytest.approx(0.3, abs=0.03)
    assert 1.9 < np.abs(sparse).max() < 2.0
    np.testing.assert_array_equal(low_rank, phase.planted(60, 4, 0.3, 2.0, 0)[0])


@pytest.mark.slow
def test_a_free_encoder_recovers_what_the_bound_does() -> None:
    low_rank, sparse = phase.planted(40, 2, 0.1, 10.0, 0)
    cleaned = free_encoder.clean(low_rank + sparse, 40, 600, (3.0, 0.01), seed=0)
    assert np.linalg.norm(cleaned - low_rank) < 0.1 * np.linalg.norm(low_rank)


@pytest.mark.slow
def test_a_run_depends_on_its_configuration_alone() -> None:
    some = [{**each, "n": 20, "steps": 40} for each in phase.configurations(1, quick=True)]
    for configuration in some[-2:] + some[:2]:
        assert phase.run(configuration, "cpu") == phase.run(configuration, "cpu")


def runs_with(bayes: float) -> list[dict[str, Any]]:
    common = {"n": 10, "steps": 1, "size": 10.0, "rank": 0.1, "shares": [0.1, 0.3], "seed": 0}
    found = {
        "pursuit": {"theory 0.1": 0.5, "error 0.1": 0.001, "theory 0.3": 0.5, "error 0.3": 0.5},
        "empirical Bayes": {"error 0.1": bayes, "error 0.3": 0.001},
        "iC-VAE, free encoder": {"error 0.1": 0.05, "error 0.3": 0.5},
    }
    return [common | {"method": name} | errors for name, errors in found.items()]


@pytest.mark.parametrize(("bayes", "first"), [(0.001, True), (0.3, False)])
def test_claims_are_of_who_recovers_where(bayes: float, first: bool) -> None:
    held = phase.claims(phase.errors(runs_with(bayes)))
    assert [claim.held for claim in held] == [first, first, first, True, None]
    assert ("not: none" in held[0].figures) == first
    assert first or "r/d 0.1, share 0.1, errors to 10, seed 0" in held[0].figures
    assert "the pursuit 1 (at the theory's lambda 0)" in held[1].figures
    assert "of all 2, 1 to 0.1 and 0 to 0.01" in held[3].figures
