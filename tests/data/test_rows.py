"""Every container in, the same container out, and every error."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array

from pyro_ricvae.data.rows import Rows, as_rows, check_for_training, with_cells

VALUES = np.arange(12).reshape(4, 3)


def doubled(rows: Rows) -> Any:
    """Return, as the data's container, what a model makes of the rows in its own precision."""
    return rows.like(rows.values.astype(np.float64) * 2)


# In and out


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.longdouble, np.float64),
        (np.bool_, np.float32),
        (np.uint8, np.float32),
        (np.int16, np.float32),
        (np.int32, np.float64),
        (np.uint64, np.float64),
        (">f4", np.float32),
        (">f8", np.float64),
        (">i2", np.float32),
    ],
)
@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3), (1, 12), (3, 2, 2, 1)])
def test_arrays(dtype: Any, result: Any, shape: tuple[int, ...]) -> None:
    data = VALUES.reshape(shape).astype(dtype)
    rows = as_rows(data)
    assert np.shares_memory(rows.values, data)
    assert np.array_equal(rows.values, data.reshape(shape[0], -1))
    assert (rows.event_shape, rows.columns) == (shape[1:], None)
    actual = doubled(rows)
    assert type(actual) is np.ndarray
    assert actual.dtype == np.dtype(result)
    assert np.array_equal(actual, 2 * data.astype(np.float64))


def test_fortran_order_and_strides() -> None:
    for data in (np.asfortranarray(VALUES), VALUES[::2, ::-1], VALUES.T, np.asfortranarray(VALUES.reshape(2, 2, 3))):
        rows = as_rows(data)
        assert rows.values.tolist() == data.reshape(len(data), -1).tolist()
        assert doubled(rows).tolist() == (2 * data).tolist()
    fortran = np.asfortranarray(VALUES)
    assert np.shares_memory(as_rows(fortran).values, fortran)


def test_memmap_stays_on_the_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", VALUES.astype(np.float32))
    data = np.load(tmp_path / "rows.npy", mmap_mode="r")
    rows = as_rows(data)
    assert np.shares_memory(rows.values, data)
    assert type(doubled(rows)) is np.ndarray
    assert doubled(rows).tolist() == (2 * VALUES).tolist()


def test_lists() -> None:
    rows = as_rows([[1, 2.5], (3, 4)])
    assert rows.values.tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert doubled(rows).tolist() == [[2.0, 5.0], [6.0, 8.0]]
    assert doubled(as_rows([[[1], [2]]])).shape == (1, 2, 1)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.uint8, torch.float32),
        (torch.int64, torch.float64),
        (torch.bool, torch.float32),
    ],
)
@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3)])
def test_tensors(dtype: torch.dtype, result: torch.dtype, shape: tuple[int, ...]) -> None:
    data = torch.as_tensor(VALUES).reshape(shape).to(dtype)
    rows = as_rows(data)
    assert rows.values.tolist() == data.double().reshape(shape[0], -1).tolist()
    assert rows.event_shape == shape[1:]
    actual = doubled(rows)
    assert actual.dtype == result
    assert torch.equal(actual.double(), 2 * data.double())


def test_a_tensor_in_a_graph_is_left_in_it() -> None:
    data = torch.ones(2, 3, requires_grad=True)
    actual = doubled(as_rows(data * 1))
    assert actual.tolist() == [[2.0] * 3] * 2
    assert not actual.requires_grad
    assert data.requires_grad


@pytest.mark.parametrize(
    ("columns", "result"),
    [
        ({"a": [1, 2], "b": [0.5, 1.5]}, np.float64),
        ({"a": np.array([1, 2], np.int8), "b": np.array([0.5, 1.5], np.float32)}, np.float32),
        ({"a": [True, False], "b": [False, True]}, np.float32),
        ({"a": [True, False], "b": [1, 2], "c": [0.5, 1.5]}, np.float64),
        ({"a": pd.array([1, 2], "Int64"), "b": [0.5, 1.5]}, np.float64),
        ({"a": pd.array([1, 2], "Int64"), "b": pd.array([0.5, 1.5], "Float64")}, np.float64),
        ({"a": pd.array([True, False], "boolean"), "b": pd.array([1, 2], "UInt8")}, np.float64),
    ],
)
def test_data_frames(columns: dict[str, Any], result: Any) -> None:
    frame = pd.DataFrame(columns, index=pd.Index(["second", "first"], name="when"))
    rows = as_rows(frame)
    assert rows.columns == list(columns)
    assert rows.event_shape == (len(columns),)
    expected = frame.astype(np.float64)
    assert np.array_equal(rows.values.astype(np.float64), expected.to_numpy())
    pd.testing.assert_frame_equal(doubled(rows), (2 * expected).astype(result))


def test_data_frames_with_unusual_names() -> None:
    frame = pd.DataFrame([[1.0, 2.0, 3.0]] * 2, columns=["a", "a", 7], index=[5, 5])
    rows = as_rows(frame)
    assert rows.columns == ["a", "a", "7"]
    pd.testing.assert_frame_equal(doubled(rows), 2 * frame)


# Errors


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            VALUES.astype(complex),
            ValueError,
            "real numbers, actual an array of type complex128, as complex numbers are not",
        ),
        (torch.ones(2, 3, dtype=torch.complex64), ValueError, "actual an array of type complex64, as complex numbers"),
        (
            np.array([[1.0, {}]], dtype=object),
            TypeError,
            "actual an array of type object: convert or encode them (float() argument",
        ),
        (
            csr_array(VALUES),
            TypeError,
            "actual a sparse matrix, which is not supported: give X.toarray().",
        ),
        ([["a", "b"], ["c", "d"]], TypeError, "actual an array of type <U1: convert or encode them."),
        (np.array([["2020-01-01"]], "datetime64[D]"), TypeError, "actual an array of type datetime64[D]"),
        (None, TypeError, "actual an array of type object"),
        (np.arange(3.0), ValueError, "(n, height, width), actual shape (3,): give a single column as X.reshape(-1, 1)"),
        (3.0, ValueError, "actual shape (): give a single column"),
        (torch.tensor(3.0), ValueError, "actual shape (): give a single column"),
        (pd.Series([1.0, 2.0]), ValueError, "actual shape (2,): give a single column"),
        (np.empty((0, 3)), ValueError, "at least one row and one feature, actual shape (0, 3): the data are empty."),
        (np.empty((3, 0)), ValueError, "actual shape (3, 0): the data are empty."),
        (np.empty((3, 4, 0)), ValueError, "actual shape (3, 4, 0): the data are empty."),
        (pd.DataFrame({"a": []}, dtype=float), ValueError, "actual shape (0, 1): the data are empty."),
        (pd.DataFrame(index=[1, 2]), ValueError, "actual shape (2, 0): the data are empty."),
        (
            pd.DataFrame({"a": [1.0], "b": ["red"]}),
            TypeError,
            "columns of real numbers, actual column 'b' of type",
        ),
        (pd.DataFrame({"b": ["red"]}), TypeError, "which holds 'red': drop it, or encode it as numbers."),
        (
            pd.DataFrame({"a": [1.0], "c": [1j]}),
            TypeError,
            "actual column 'c' of type complex128, which holds 1j: drop it",
        ),
        (pd.DataFrame({"a": pd.Categorical(["x", "y"])}), TypeError, "actual column 'a' of type category"),
        (pd.DataFrame({"when": pd.to_datetime(["2020-01-01"])}), TypeError, "actual column 'when' of type datetime64"),
        (pd.DataFrame({7: [1.0], 8: np.array([1], object)}), TypeError, "actual column '8' of type object"),
    ],
)
def test_wrong_data(data: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        as_rows(data)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_missing_values_are_counted_and_placed(dtype: Any) -> None:
    data = VALUES.astype(dtype)
    data[2, 1] = data[3, 0] = np.nan
    data[0, 0] = np.inf  # NaN come first
    with pytest.raises(ValueError, match=r"actual 2 NaN, the first in row 2, column 1: they are not supported yet"):
        as_rows(data)
    with pytest.raises(ValueError, match=r"actual 2 NaN, the first in row 1, column 0, 1: they are"):
        as_rows(data.reshape(2, 2, 3))
    with pytest.raises(ValueError, match=r"actual 2 NaN, the first in row 2, column 'b': they are"):
        as_rows(pd.DataFrame(data, columns=list("abc"), index=[9, 8, 7, 6]))
    with pytest.raises(ValueError, match=r"actual 2 NaN, the first in row 2, column 1: they are"):
        as_rows(torch.as_tensor(data))


def test_infinite_values_are_counted_and_placed() -> None:
    data = VALUES.astype(np.float32)
    data[1, 2], data[3, 0], data[3, 1] = np.inf, -np.inf, np.inf
    with pytest.raises(
        ValueError, match=r"Expected finite values, actual 3 infinite ones, .* row 1, column 2: replace them"
    ):
        as_rows(data)
    with pytest.raises(ValueError, match=r"actual 3 infinite ones, the first in row 0, column 1, 2: replace"):
        as_rows(data.reshape(2, 2, 3))
    with pytest.raises(ValueError, match=r"actual 3 infinite ones, the first in row 1, column 'c': replace"):
        as_rows(pd.DataFrame(data, columns=list("abc")))


def test_a_value_beyond_the_first_chunk_is_found() -> None:
    data = np.zeros((70_000, 2), dtype=np.float32)
    data[-1, -1] = np.nan
    with pytest.raises(ValueError, match="actual 1 NaN, the first in row 69999, column 1:"):
        as_rows(data)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean"])
def test_pandas_own_missing_values_are_missing(dtype: str) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": pd.array([1, None, 0], dtype)})
    with pytest.raises(ValueError, match="actual 1 NaN, the first in row 1, column 'b':"):
        as_rows(frame)


def test_masked_cells_are_missing() -> None:
    data = np.ma.masked_equal(VALUES, 5)
    with pytest.raises(ValueError, match="actual 1 NaN, the first in row 1, column 2:"):
        as_rows(data)
    rows = as_rows(np.ma.masked_equal(VALUES, 99))  # nothing is
    assert rows.values.dtype == VALUES.dtype


def test_objects_that_are_numbers_are_numbers() -> None:
    rows = as_rows(VALUES.astype(object))
    np.testing.assert_array_equal(rows.values, VALUES)
    assert rows.values.dtype == rows.dtype == np.float64
    with pytest.raises(ValueError, match="Expected no missing values, actual 1 NaN"):
        as_rows(np.array([[1.0, None], [2.0, 3.0]], dtype=object))


def test_what_can_be_learned_from() -> None:
    check_for_training(as_rows([[1.0, 2.0], [1.0, 2.5]]))
    late = np.zeros((70_000, 2), dtype=np.uint8)
    late[-1, -1] = 1
    check_for_training(as_rows(late))
    with pytest.raises(ValueError, match=r"Expected two rows or more to learn from, actual 1: give all rows at once"):
        check_for_training(as_rows([[1.0, 2.0]]))
    for data in (np.full((3, 2), 0.1), late[:-1], np.tile(np.arange(5), (4, 1))):
        with pytest.raises(ValueError, match=rf"data that vary, actual {len(data)} equal rows: .* how the data were"):
            check_for_training(as_rows(data))


def test_other_values_in_some_cells_leave_all_others_as_they_are() -> None:
    mask = np.array([[True, False], [False, True], [True, True]])
    values = np.array([[0.7, 9.0], [9.0, 1.6], [-5.0, 1e9]])
    for given in (
        np.arange(6.0).reshape(3, 2) / 7,
        np.arange(6, dtype=np.int16).reshape(3, 2),
        torch.arange(6).reshape(3, 2),
    ):
        changed = with_cells(given, mask, values)
        assert type(changed) is type(given)
        assert changed.dtype == given.dtype
        found, before = np.asarray(changed), np.asarray(given)
        np.testing.assert_array_equal(found[~mask], before[~mask])
        if before.dtype.kind == "f":
            np.testing.assert_array_equal(found[mask], values[mask])
        else:  # rounded, and within the bounds of the type
            assert found[mask].tolist() == [1, 2, -5, min(10**9, np.iinfo(before.dtype).max)]
    assert with_cells(np.arange(6.0).reshape(3, 2), mask, values)[mask].tolist() == [
        1,
        2,
        -5,
        1e9,
    ]  # whole, as they were
    images = np.arange(6, dtype=np.uint8).reshape(3, 2, 1)
    assert with_cells(images, mask, values)[mask].ravel().tolist() == [1, 2, 0, 255]
    frame = pd.DataFrame(
        {"yes": [True, False, True], "whole": pd.array([1, None, 3], dtype="Int64")}, index=list("abc")
    )
    changed = with_cells(
        frame, np.array([[True, False], [False, True], [False, True]]), np.array([[0.2, 0], [0, 2.4], [0, 7.6]])
    )
    assert changed.dtypes.equals(frame.dtypes)
    assert changed.index.equals(frame.index)
    assert changed["yes"].tolist() == [False, False, True]
    assert changed["whole"].tolist() == [1, 2, 8]
    assert frame["yes"].tolist() == [True, False, True]


@pytest.mark.parametrize("container", [np.asarray, pd.DataFrame, torch.as_tensor])
def test_other_values_have_the_decimals_of_their_column(container: Any) -> None:
    data = np.array([[1.25, 10.0, 0.1], [3.5, 20.0, 1 / 3], [7.0, 5.0, 0.7]])
    changed = with_cells(container(data), np.eye(3, dtype=bool)[[1, 0, 2]], np.full((3, 3), 2 / 3))
    found = np.asarray(changed)
    assert found[1, 0] == 0.67  # as 1.25
    assert found[0, 1] == 1.0
    assert found[2, 2] == 2 / 3  # whose column has more decimals than are written
