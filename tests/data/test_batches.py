"""The third seam: sources of rows, and batches in an order that can be resumed."""

from typing import Any

import pytest
import torch

from pyro_ricvae.data.batches import ArrayRows, Batches

X = torch.arange(22.0).reshape(11, 2)


def test_a_source_says_how_many_and_gives_those_asked_for() -> None:
    source = ArrayRows(X)
    assert (source.n_rows, source.n_features, source.device) == (11, 2, X.device)
    assert torch.equal(source.take(torch.tensor([3, 0, 3])), X[[3, 0, 3]])


def test_a_sample_is_evenly_spaced_and_the_same_every_time() -> None:
    source = ArrayRows(X)
    state = torch.get_rng_state()
    assert torch.equal(source.sample(3), X[[0, 5, 10]])
    assert torch.equal(source.sample(100), X)
    assert torch.equal(torch.get_rng_state(), state)


def test_each_epoch_has_all_rows_in_an_order_of_its_own() -> None:
    batches = ArrayRows(X).batches(4)
    torch.manual_seed(0)
    orders = [torch.cat([next(batches) for _ in range(3)]) for _ in range(2)]
    torch.manual_seed(0)
    for order in orders:
        assert torch.equal(order, X[torch.randperm(11)])
    assert [len(next(batches)) for _ in range(6)] == [4, 4, 3, 4, 4, 3]


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
def test_batches_go_on_from_where_they_were(taken: int) -> None:
    batches = ArrayRows(X).batches(4)
    for _ in range(taken):
        next(batches)
    state, random = batches.state_dict(), torch.get_rng_state()
    expected = [next(batches) for _ in range(5)]
    other = Batches(ArrayRows(X), 4)
    other.load_state_dict(state)
    torch.set_rng_state(random)
    assert all(map(torch.equal, expected, [next(other) for _ in range(5)]))


def test_an_order_of_other_rows_is_refused() -> None:
    batches = ArrayRows(X).batches(4)
    next(batches)
    with pytest.raises(ValueError, match="Expected an order of 10 rows, actual one of 11"):
        ArrayRows(X[:10]).batches(4).load_state_dict(batches.state_dict())


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (X[0], ValueError, r"\(..., rows, features\), actual \(2,\)"),
        (X[:1], ValueError, "two rows or more"),
        (X.expand(2, 11, 2), ValueError, r"of shape \(n, d\)"),
        (X.long(), ValueError, "floating-point"),
        (X.log().log(), ValueError, "Expected finite values in x"),
        (X.numpy(), TypeError, "Expected x to be a tensor"),
    ],
)
def test_what_is_no_array_of_rows_is_refused(wrong: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ArrayRows(wrong)
