"""The module that knows ArviZ. Needs neither torch nor Pyro: `make test-arviz1` runs it with ArviZ 1.x as well."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyro_ricvae._core.arviz import from_groups, import_arviz, pareto_k, plot_ppc

ROOT = Path(__file__).parents[2]
OLD = import_arviz().__version__.startswith("0.")


def groups(n_draws: int = 40, n_rows: int = 30, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    replicate = ("chain", "draw", "row", "feature")
    return {
        "posterior": {"z": (("chain", "draw", "row", "latent"), rng.normal(size=(1, n_draws, n_rows, 2)))},
        "posterior_predictive": {"x": (replicate, rng.normal(size=(1, n_draws, n_rows, 3)))},
        "prior_predictive": {"x": (replicate, 3 * rng.normal(size=(1, n_draws, n_rows, 3)))},
        "log_likelihood": {"x": (("chain", "draw", "row"), rng.normal(size=(1, n_draws, n_rows)))},
        "observed_data": {"x": (("row", "feature"), rng.normal(size=(n_rows, 3)))},
        "constant_data": {"label": (("row",), np.array(["a", None] * (n_rows // 2), dtype=object))},
        "training_history": {"loss": (("look",), np.array([2.0, 1.0])), "phase": (("look",), np.array(["a", "b"]))},
    }


def test_groups_become_arviz_own_container_with_dimensions_coordinates_and_attributes() -> None:
    given = groups()
    data = from_groups(given, {"feature": ["a", "b", "c"]}, {"/": {"settings": "{}"}, "posterior": {"note": "n"}})
    assert type(data).__name__ == ("InferenceData" if OLD else "DataTree")
    assert data.attrs == {"settings": "{}"}
    assert data.posterior.attrs == {"note": "n"}
    for group, variables in given.items():
        for name, (dims, values) in variables.items():
            assert data[group][name].dims == dims
            if values.dtype != object:
                np.testing.assert_array_equal(data[group][name], values)
    assert data.observed_data["feature"].values.tolist() == ["a", "b", "c"]
    assert data.posterior["row"].values.tolist() == list(range(30))  # numbered where no coordinates are given
    assert data.constant_data["label"].values[:2].tolist() == ["a", "None"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.5, 1.0], [2.5, 1.0]),
        (np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[ns]"), None),
        ([("a", 1), ("b", 2)], None),  # what the index of a data frame may hold, but netCDF may not
        (np.array(["a", 1], dtype=object), ["a", "1"]),
    ],
)
def test_coordinates_are_numbers_dates_or_text(values: Any, expected: list[Any] | None) -> None:
    if isinstance(values, list) and isinstance(values[0], tuple):
        index = np.empty(2, dtype=object)
        index[:] = values
        values, expected = index, ["('a', 1)", "('b', 2)"]
    data = from_groups({"observed_data": {"x": (("row",), np.zeros(2))}}, {"row": values})
    found = data.observed_data["row"].values
    assert found.tolist() == (values.tolist() if expected is None else expected)


@pytest.mark.parametrize(
    ("given", "coords", "message"),
    [
        ({"a": {"x": (("row",), np.zeros(3))}}, {"row": [1, 2]}, r"Expected 3 coordinates for the dimension 'row'"),
        ({"a": {"x": (("row",), np.zeros(3))}}, {"rows": [1, 2, 3]}, r"dimensions \['row'\], actual ones of 'rows'"),
        ({"a": {"x": (("row",), np.zeros((3, 2)))}}, {}, r"a.x to have the dimensions \('row',\), actual .* \(3, 2\)"),
        (
            {"a": {"x": (("row",), np.zeros(3))}, "b": {"y": (("row",), np.zeros(4))}},
            {},
            "Expected b.y to be of length 3 along 'row', as elsewhere, actual 4",
        ),
    ],
)
def test_wrong_dimensions_are_named(given: Any, coords: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_groups(given, coords)


def test_netcdf_gives_back_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    given = groups()
    rows = [f"row {i}" for i in range(30)]
    data = from_groups(given, {"row": rows}, {"/": {"settings": '{"a": 1}'}})
    data.to_netcdf(str(tmp_path / "data.nc"))
    read = import_arviz().from_netcdf(str(tmp_path / "data.nc"))
    assert read.attrs["settings"] == '{"a": 1}'
    for group, variables in given.items():
        for name, (dims, _) in variables.items():
            assert read[group][name].dims == dims
            np.testing.assert_array_equal(read[group][name], data[group][name])
    assert read.posterior["row"].values.tolist() == rows
    read.close()


def test_arviz_finds_the_log_likelihood_and_the_predictive_groups() -> None:
    rng = np.random.default_rng(0)
    given = groups(n_draws=200)
    values = rng.normal(scale=0.1, size=(1, 200, 30)) - 1.0
    given["log_likelihood"] = {"x": (("chain", "draw", "row"), values)}
    loo = import_arviz().loo(from_groups(given, {}), reff=1.0)
    assert float(loo.elpd_loo if OLD else loo.elpd) == pytest.approx(-30.0, abs=0.5)  # 30 rows of about -1 each


@pytest.mark.parametrize("shape", [0.3, 0.7, 1.1])
def test_k_hat_is_the_shape_of_the_tail_of_the_weights(shape: float) -> None:
    rng = np.random.default_rng(0)
    log_weights = shape * rng.exponential(size=(4000, 20))  # Pareto, of this shape
    k = pareto_k(log_weights)
    assert k.shape == (20,)
    assert k.mean() == pytest.approx(shape, abs=0.12)  # within 0.09 over six seeds
    np.testing.assert_allclose(pareto_k(log_weights.astype(np.float32)), k, atol=1e-3)
    np.testing.assert_allclose(pareto_k(log_weights - 1e4), k, atol=1e-6)  # weights need not be normalised
    assert pareto_k(-log_weights).max() < 0.0  # bounded weights: the sign counts


def test_k_hat_of_tails_that_arviz_cannot_fit() -> None:
    rng = np.random.default_rng(0)
    one = np.zeros(100)
    one[0] = 50.0
    some = np.where(rng.random(100) < 0.5, -np.inf, rng.normal(size=100))
    columns = np.stack([np.zeros(100), one, np.full(100, -np.inf), some], axis=1)
    given = columns.copy()
    k = pareto_k(columns)
    assert k[:3].tolist() == [-np.inf, np.inf, np.inf]
    assert np.isfinite(k[3])
    np.testing.assert_array_equal(columns, given)  # ArviZ works in place


@pytest.mark.parametrize("n_draws", [30, 31, 37, 100])
def test_k_hat_is_there_from_thirty_draws_on(n_draws: int) -> None:
    rng = np.random.default_rng(0)
    assert np.isfinite(pareto_k(rng.normal(size=(n_draws, 50)))).all()
    with pytest.raises(ValueError, match=r"30 draws or more.*actual shape \(29, 50\).*Take more draws"):
        pareto_k(rng.normal(size=(29, 50)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_k_hat_of_log_weights_that_are_not_numbers_is_refused(wrong: float) -> None:
    log_weights = np.zeros((40, 3))
    log_weights[5, 1] = wrong
    with pytest.raises(ValueError, match="actual NaN or inf in 1 of 3 columns"):
        pareto_k(log_weights)


@pytest.mark.parametrize("group", ["posterior_predictive", "prior_predictive"])
def test_the_picture_shows_each_replicate_and_the_data_and_leaves_pyplot_alone(group: str, tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    data = from_groups(groups(), {})
    figure = plot_ppc(data, group=group, n_draws=7)
    figure.savefig(tmp_path / "ppc.png")
    assert (tmp_path / "ppc.png").stat().st_size > 5000
    assert pyplot.get_fignums() == before
    curves = [line for ax in figure.axes for line in ax.lines if len(line.get_xdata()) > 10]
    assert len(curves) == 7 + (2 if OLD else 1)  # the data; 0.x draws the mean over the replicates as well
    assert plot_ppc(data, group=group, n_draws=1000).axes  # no more than there are


def test_the_picture_may_be_of_some_columns_alone() -> None:
    given = groups()
    given["observed_data"]["x"][1][:, 2] += 1000.0
    given["posterior_predictive"]["x"][1][..., 2] += 1000.0
    data = from_groups(given, {"feature": ["a", "b", "c"]})
    assert plot_ppc(data).axes[0].get_xlim()[1] > 1000
    for chosen in ("a", ["a", "b"]):
        assert plot_ppc(data, coords={"feature": chosen}).axes[0].get_xlim()[1] < 10


def test_a_group_that_is_not_replicated_data_has_no_picture() -> None:
    with pytest.raises(ValueError, match="'posterior_predictive' or 'prior_predictive', actual 'posterior'"):
        plot_ppc(from_groups(groups(), {}), group="posterior")


def test_arviz_is_imported_without_a_warning_and_alone(tmp_path: Path) -> None:
    code = """
import sys, warnings
import pyro_ricvae._core.arviz as module
assert "arviz" not in sys.modules
before = list(warnings.filters)
module.import_arviz()
assert warnings.filters == before
module.from_groups({"observed_data": {"x": (("row",), [1, 2])}}, {})
assert not {"torch", "pyro"} & set(sys.modules)
"""
    # ArviZ 0.23 warns once a day, and keeps the day in the user's cache.
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error::FutureWarning", "-c", code], check=True, cwd=ROOT, env=environment)
