import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pyro.distributions import TorchDistribution
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from pyro_ricvae._core.isolation import random_numbers
from pyro_ricvae.comparison import compare, with_single_passes
from pyro_ricvae.comparison.criteria import CRITERIA
from pyro_ricvae.comparison.result import Comparison
from pyro_ricvae.data.scaling import Scaling
from pyro_ricvae.diagnostics import importance_weighted_bound
from pyro_ricvae.estimators import RobustPCA
from pyro_ricvae.estimators.ricvae import RiCVAE
from pyro_ricvae.inference import Recipe, TrainingError
from pyro_ricvae.inference.training.trainer import TrainingWarning
from pyro_ricvae.likelihoods import Likelihood
from pyro_ricvae.plots import criteria, save

pytestmark = pytest.mark.filterwarnings("default::pyro_ricvae.inference.training.trainer.TrainingWarning")

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(40, 2)) @ RNG.normal(size=(2, 5)) * [1.0, 2.0, 3.0, 4.0, 50.0] + 7.0
DIRTY = RNG.random(TRUTH.shape) < 0.1
X = np.where(DIRTY, 300.0, TRUTH)
X_TEST = TRUTH[:10] + 0.5
QUICK: dict[str, Any] = {"n_latent": 2, "hidden": (4,), "epochs": 3}


class Shrink(BaseEstimator):  # type: ignore[misc]
    """Cleans by a known rule, which the seed moves: exact values can be worked out by hand."""

    def __init__(self, factor: float = 0.5, random_state: int | None = None) -> None:
        self.factor = factor
        self.random_state = random_state

    def fit(self, X: NDArray[Any]) -> "Shrink":
        self.shift_ = np.random.default_rng(self.random_state).normal()
        return self

    def clean(self, X: NDArray[Any]) -> NDArray[Any]:
        return self.factor * X + self.shift_

    def score_samples(self, X: NDArray[Any]) -> NDArray[Any]:
        return -abs(X - 7).reshape(len(X), -1).sum(axis=1)

    def cell_scores(self, X: NDArray[Any]) -> NDArray[Any]:
        return abs(X - 7)


class Plain(BaseEstimator):  # type: ignore[misc]
    """Has no more than it must have, and no seed."""

    def fit(self, X: NDArray[Any]) -> "Plain":
        return self

    def clean(self, X: NDArray[Any]) -> NDArray[Any]:
        return X + 1.0


class Own(Likelihood):
    def forward(self, decoder_output: Tensor, x: Tensor) -> TorchDistribution:
        distribution: TorchDistribution = dist.Laplace(decoder_output, 0.1)
        return distribution


def value(result: Comparison, name: str, criterion: str, seed: int = 0) -> float:
    return float(result.values(criterion).loc[name, seed])


def note(result: Comparison, name: str, criterion: str) -> str:
    table = result.table
    (text,) = table.loc[(table["name"] == name) & (table["criterion"] == criterion), "note"].unique()
    return str(text)


@pytest.fixture(scope="module")
def result() -> Comparison:
    estimators = {
        "robust": RiCVAE(likelihood="index_conditioned", **QUICK),
        "normal": RiCVAE(likelihood="fixed_normal", floor=1.0, train_passes=1, **QUICK),
        "learned": RiCVAE(likelihood="learned_normal", train_passes=1, **QUICK),
    }
    return compare(estimators, X, TRUTH, X_TEST, seeds=[0, 1], n_draws=20)


def test_the_table_is_tidy_and_whole(result: Comparison) -> None:
    assert list(result.table) == ["name", "seed", "criterion", "value", "note"]
    assert result.names == ["robust", "robust, single passes", "normal", "learned"]
    assert result.criteria == [name for name in CRITERIA if name != "bound_mass"]
    assert len(result.table) == 4 * 2 * len(result.criteria)
    assert not result.table.duplicated(["name", "seed", "criterion"]).any()
    empty = result.table["value"].isna()
    assert set(result.table.loc[empty, "criterion"]) == {"bound"}
    pd.testing.assert_series_equal(empty, result.table["note"] != "", check_names=False)
    assert (result.values("seconds") > 0).to_numpy().all()


def test_errors_are_in_the_units_of_the_data_and_by_cell_of_a_table() -> None:
    estimator = Shrink()
    got = compare({"shrink": estimator}, X, TRUTH, seeds=[3])
    error = ((0.5 * X + np.random.default_rng(3).normal() - TRUTH) / Scaling.fit(X, "robust").scale) ** 2
    assert value(got, "shrink", "error", 3) == pytest.approx(error.mean())
    assert value(got, "shrink", "error_dirty", 3) == pytest.approx(error[DIRTY].mean())
    assert value(got, "shrink", "error_clean", 3) == pytest.approx(error[~DIRTY].mean())
    assert not hasattr(estimator, "shift_")  # copies are fitted
    assert estimator.random_state is None


def test_errors_of_images_are_by_whole_image() -> None:
    clean = np.linspace(0, 1, 120).reshape(10, 3, 4)
    dirty = clean.copy()
    dirty[2, 1, 1] = dirty[5, 0, 0] = 2.0
    got = compare({"shrink": Shrink()}, dirty, clean, seeds=[0])
    error = ((0.5 * dirty + np.random.default_rng(0).normal() - clean) / 2.0) ** 2  # the range of the data is 2
    assert value(got, "shrink", "error_dirty") == pytest.approx(error[[2, 5]].mean())
    assert value(got, "shrink", "error_clean") == pytest.approx(np.delete(error, [2, 5], axis=0).mean())
    assert "error_dirty and error_clean are over whole rows." in got.notes


def test_robust_errors_need_no_truth_and_are_on_the_test_rows() -> None:
    got = compare({"plain": Plain(), "shrink": Shrink(1.0)}, X, X_test=X_TEST, seeds=[0])
    assert got.criteria == ["bound", "median_log_error", "trimmed_error", "seconds"]
    scale = Scaling.fit(X, "robust").scale
    away = np.sort(np.broadcast_to(1 / scale, X_TEST.shape).ravel())
    assert value(got, "plain", "median_log_error") == pytest.approx(np.log(np.median(away)))
    assert value(got, "plain", "trimmed_error") == pytest.approx((away[:40] ** 2).mean())  # 40 of 50
    shift = abs(np.random.default_rng(0).normal())
    assert value(got, "shrink", "trimmed_error") == pytest.approx(shift**2 * (away[:40] ** 2).mean())


def test_log_errors_have_a_floor_that_is_stated() -> None:
    quantised = RNG.integers(0, 16, (30, 2, 4)).astype(float)
    got = compare({"plain": Plain()}, quantised, seeds=[0])  # wrong by one step everywhere
    assert value(got, "plain", "median_log_error") == pytest.approx(math.log(1 / 15))
    assert any("below 0.0667 count as that, the step at which X is recorded" in text for text in got.notes)

    class Copy(Plain):
        def clean(self, X: NDArray[Any]) -> NDArray[Any]:
            return X

    assert value(compare({"copy": Copy()}, quantised, seeds=[0]), "copy", "median_log_error") == pytest.approx(
        math.log(1 / 15)
    )
    assert value(compare({"copy": Copy()}, X, seeds=[0]), "copy", "median_log_error") == pytest.approx(math.log(1e-4))


def test_the_bound_is_that_of_the_fitted_pair_in_data_units() -> None:
    est = RiCVAE(likelihood="fixed_normal", floor=1.0, train_passes=1, random_state=1, **QUICK)
    got = compare({"normal": est}, X, X_test=X_TEST, seeds=[1], n_draws=20)
    est.fit(X)
    with random_numbers(1, torch.device("cpu")):
        bound = importance_weighted_bound(est.model_, est.guide_, est.standardise(X_TEST), 20)
    expected = float(bound.mean()) - np.log(est.scaling_.scale).sum()
    assert value(got, "normal", "bound", 1) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scaling", ["robust", "range"])
def test_a_density_is_lower_in_finer_units_by_the_change_of_units_alone(scaling: str) -> None:
    normal = {"normal": RiCVAE(likelihood="learned_normal", train_passes=1, scaling=scaling, **QUICK)}
    got = [compare(normal, factor * X, seeds=[0], n_draws=5) for factor in (1.0, 1024.0)]
    shift = value(got[0], "normal", "bound") - value(got[1], "normal", "bound")
    assert shift == pytest.approx(5 * math.log(1024.0), rel=1e-6)
    assert value(got[0], "normal", "trimmed_error") == pytest.approx(value(got[1], "normal", "trimmed_error"))


def test_a_profile_likelihood_has_no_bound_and_is_not_ranked_by_it(result: Comparison) -> None:
    for name in ("robust", "robust, single passes"):
        assert np.isnan(value(result, name, "bound"))
        assert "needs a normalised likelihood, actual IndexConditionedNormal" in note(result, name, "bound")
    ranked = result.rank("bound")
    assert ranked["rank"].dropna().tolist() == [1, 2]
    assert set(ranked.index[:2]) == {"normal", "learned"}
    assert ranked["rank"].isna().tolist() == [False, False, True, True]
    assert "no log p(x) behind it" in ranked.loc["robust", "note"]
    assert result.best("bound") in ("normal", "learned")
    with pytest.raises(ValueError, match=r"actual \['robust'\], which have none: An importance-weighted bound needs"):
        result.rank("bound", ["robust", "normal"])
    with pytest.raises(ValueError, match="needs a normalised likelihood"):
        result.best("bound", ["robust"])
    assert result.rank("bound", ["learned", "normal"])["rank"].tolist() == [1, 2]


def test_ranks_go_by_the_direction_of_the_criterion(result: Comparison) -> None:
    for criterion in result.criteria:
        ranked = result.rank(criterion)["value"].dropna()
        means = result.summary()[criterion].dropna()
        assert result.best(criterion) == ranked.index[0]
        assert ranked.iloc[0] == (means.min() if CRITERIA[criterion].better == "lower" else means.max())
        assert ranked.tolist() == sorted(means, reverse=CRITERIA[criterion].better == "higher")


def test_densities_and_probabilities_are_not_beside_each_other() -> None:
    black_and_white = (RNG.random((30, 6)) < 0.4).astype(np.uint8) * 255
    estimators = {
        "coins": RiCVAE(likelihood="bernoulli", train_passes=1, **QUICK),
        "normal": RiCVAE(likelihood="learned_normal", train_passes=1, **QUICK),
    }
    got = compare(estimators, black_and_white, seeds=[0], n_draws=5)
    assert np.isnan(value(got, "coins", "bound"))
    assert np.isnan(value(got, "normal", "bound_mass"))
    assert note(got, "coins", "bound") == "Its likelihood gives probabilities: see bound_mass."
    assert note(got, "normal", "bound_mass") == "Its likelihood gives densities: see bound."
    est = estimators["coins"].set_params(random_state=0).fit(black_and_white)
    with random_numbers(0, torch.device("cpu")):
        bound = importance_weighted_bound(est.model_, est.guide_, est.standardise(black_and_white), 5)
    assert est.scaling_.scale[0] == 255  # which a probability does not change with
    assert value(got, "coins", "bound_mass") == pytest.approx(float(bound.mean()), rel=1e-6)
    with pytest.raises(ValueError, match=r"actual \['coins'\], which have none: Its likelihood gives probabilities"):
        got.rank("bound", ["normal", "coins"])


def test_a_likelihood_of_the_users_own_takes_part() -> None:
    got = compare({"own": RiCVAE(likelihood=Own(), train_passes=1, **QUICK)}, X, TRUTH, seeds=[0], n_draws=5)
    assert np.isfinite(got.table["value"]).all()


def test_finding_dirt_is_by_the_estimators_scores() -> None:
    got = compare({"shrink": Shrink(), "plain": Plain()}, X, TRUTH, seeds=[0])
    rows, cells = abs(X - 7).sum(axis=1), abs(X - 7).ravel()
    dirty = DIRTY.any(axis=1)
    assert value(got, "shrink", "row_average_precision") == pytest.approx(average_precision_score(dirty, rows))
    assert value(got, "shrink", "row_roc_auc") == pytest.approx(roc_auc_score(dirty, rows))
    assert value(got, "shrink", "cell_average_precision") == pytest.approx(
        average_precision_score(DIRTY.ravel(), cells)
    )
    assert value(got, "shrink", "cell_roc_auc") == pytest.approx(roc_auc_score(DIRTY.ravel(), cells))
    assert note(got, "plain", "row_roc_auc") == "Plain has no score_samples."
    assert note(got, "plain", "cell_roc_auc") == "Plain has no cell_scores."


def test_scores_that_are_not_finite_find_nothing() -> None:
    class Lost(Shrink):
        def cell_scores(self, X: NDArray[Any]) -> NDArray[Any]:
            return np.full(X.shape, np.nan)

    got = compare({"lost": Lost()}, X, TRUTH, seeds=[0])
    assert np.isnan(value(got, "lost", "cell_roc_auc"))
    assert note(got, "lost", "cell_roc_auc") == "cell_scores gave values that are not finite."


def test_what_is_dirty_may_be_given_by_cell_or_by_row() -> None:
    given = compare({"shrink": Shrink()}, X, TRUTH, dirty=DIRTY, seeds=[0])
    found = compare({"shrink": Shrink()}, X, TRUTH, seeds=[0])
    for criterion in ("error_dirty", "cell_roc_auc", "row_roc_auc"):
        assert value(given, "shrink", criterion) == value(found, "shrink", criterion)
    by_row = compare({"shrink": Shrink()}, X, TRUTH, dirty=DIRTY.any(axis=1), seeds=[0])
    assert "cell_roc_auc" not in by_row.criteria
    assert value(by_row, "shrink", "row_roc_auc") == value(found, "shrink", "row_roc_auc")
    error = ((0.5 * X + np.random.default_rng(0).normal() - TRUTH) / Scaling.fit(X, "robust").scale) ** 2
    assert value(by_row, "shrink", "error_dirty") == pytest.approx(error[DIRTY.any(axis=1)].mean())
    without_truth = compare({"shrink": Shrink()}, X, dirty=DIRTY, seeds=[0])
    assert {"row_roc_auc", "cell_roc_auc"} < set(without_truth.criteria)
    assert not {"error", "error_dirty"} & set(without_truth.criteria)


def test_rounding_to_float32_is_no_dirt() -> None:
    got = compare({"shrink": Shrink()}, X.astype(np.float32), TRUTH, seeds=[0])
    assert value(got, "shrink", "cell_roc_auc") == pytest.approx(roc_auc_score(DIRTY.ravel(), abs(X - 7).ravel()))
    assert "error_dirty" not in compare({"shrink": Shrink()}, TRUTH.astype(np.float32), TRUTH, seeds=[0]).criteria


def test_where_every_row_is_dirty_none_is_to_be_found() -> None:
    got = compare({"shrink": Shrink()}, np.where(np.arange(5) == 2, 300.0, TRUTH), TRUTH, seeds=[0])
    assert "row_roc_auc" not in got.criteria
    assert "cell_roc_auc" in got.criteria
    assert "No rows to find: all are dirty, or none is." in got.notes


@pytest.mark.parametrize(("epochs", "passes", "share"), [(3, 2, 2 / 3), (5, 3, 0.6), (4, 2, 0.0), (2, 4, 1.0)])
def test_a_companion_has_as_many_passes_over_the_data(epochs: int, passes: int, share: float) -> None:
    est = RiCVAE(n_latent=2, hidden=(), epochs=epochs, train_passes=passes, recipe=Recipe(single_pass_share=share))
    single = with_single_passes(est, X)
    assert (single.train_passes, est.train_passes) == (1, passes)
    trained = [
        sum(entry["row_passes"] for entry in each.set_params(random_state=0).fit(X).history_) for each in (est, single)
    ]
    assert abs(trained[0] - trained[1]) <= len(X) / 2  # an epoch is the least that there is
    assert {entry["passes"] for entry in single.history_} == {1}


def test_companions_may_be_left_out_and_are_there_for_what_recycles_alone() -> None:
    estimators = {"a": RiCVAE(**QUICK), "b": RiCVAE(train_passes=1, **QUICK)}
    assert compare(estimators, X, seeds=[0], single_passes=False).names == ["a", "b"]
    got = compare(estimators, X, seeds=[0])
    assert got.names == ["a", "a, single passes", "b"]
    assert "'a, single passes' has 4 epochs of one pass, 'a' 3 epochs with up to 2: as many passes over the data." in (
        got.notes
    )
    with pytest.raises(ValueError, match="Expected no estimator named 'a, single passes': rename it"):
        compare({**estimators, "a, single passes": Plain()}, X)


def test_robust_pca_takes_part_with_its_answer_for_the_rows_it_was_fitted_on() -> None:
    got = compare({"rpca": RobustPCA(random_state=0)}, X, TRUTH, X_TEST, seeds=[0])
    scale = Scaling.fit(X, "robust").scale
    expected = (((RobustPCA().fit_clean(X) - TRUTH) / scale) ** 2).mean()
    assert value(got, "rpca", "error") == pytest.approx(expected)
    assert note(got, "rpca", "bound") == "RobustPCA is no RiCVAE: of it no likelihood is known."
    assert got.table.loc[got.table["criterion"] != "bound", "value"].notna().all()


def test_a_failed_fit_is_not_the_end_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = RiCVAE.fit

    def fail(self: RiCVAE, X: Any, y: None = None) -> RiCVAE:
        if self.likelihood == "learned_normal" and self.random_state == 1:
            raise TrainingError("The loss is\nnot finite.")
        return fit(self, X, y)

    monkeypatch.setattr(RiCVAE, "fit", fail)
    small = QUICK | {"train_passes": 1}
    estimators = {"fails": RiCVAE(likelihood="learned_normal", **small), "normal": RiCVAE(**small)}
    got = compare(estimators, X, TRUTH, seeds=[0, 1])
    assert got.values("error").isna().loc["fails"].tolist() == [False, True]
    assert got.values("error").loc["normal"].notna().all()
    assert got.summary()["error"]["fails"] == value(got, "fails", "error", 0)
    difference = got.summary("normal").loc["fails"]
    assert difference["error_difference"] == value(got, "fails", "error", 0) - value(got, "normal", "error", 0)
    assert np.isnan(difference["error_low"])  # one pair has no interval
    assert "- No values of 'fails' (seed 1): training failed: The loss is not finite." in str(got)
    assert got.rank("error").loc["fails", "note"] == "training failed: The loss is not finite."


def test_intervals_over_seeds_are_those_of_a_paired_t_test() -> None:
    got = compare({"a": Shrink(0.5), "b": Shrink(0.9)}, X, TRUTH, seeds=[0, 1, 2, 3])
    row = got.summary("a").loc["b"]
    paired = stats.ttest_rel(got.values("error").loc["b"], got.values("error").loc["a"])
    low, high = paired.confidence_interval(0.95)
    assert row["error_difference"] == pytest.approx(
        (got.values("error").loc["b"] - got.values("error").loc["a"]).mean()
    )
    assert (row["error_low"], row["error_high"]) == (pytest.approx(low), pytest.approx(high))
    assert got.interval_kind.startswith("95% t intervals of the paired difference over 4 seeds")
    baseline = got.summary("a").loc["a"]
    assert (baseline["error_difference"], baseline["error_low"], baseline["error_high"]) == (0, 0, 0)


def test_with_one_seed_rows_are_resampled_in_pairs() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(400, 3))
    dirty = rng.random(truth.shape) < 0.2
    got = compare({"a": Shrink(0.5), "b": Shrink(0.9)}, np.where(dirty, 9.0, truth), truth, seeds=[0])
    assert "bootstrap resamples of the rows" in got.interval_kind
    row = got.summary("a").loc["b"]
    shift = np.random.default_rng(0).normal()
    errors = [
        ((f * np.where(dirty, 9.0, truth) + shift - truth) / Scaling.fit(np.where(dirty, 9.0, truth), "robust").scale)
        ** 2
        for f in (0.5, 0.9)
    ]
    for criterion, where in (("error", np.ones_like(dirty)), ("error_dirty", dirty), ("error_clean", ~dirty)):
        difference = (errors[1] - errors[0]) * where
        ratio = difference.sum() / where.sum()
        # The standard error of a ratio of two sums over rows, to first order.
        linear = (difference - ratio * where).sum(axis=1)
        half = 1.96 * np.sqrt((linear**2).sum()) / where.sum()
        assert row[f"{criterion}_difference"] == pytest.approx(ratio)
        assert row[f"{criterion}_low"] == pytest.approx(ratio - half, abs=0.25 * half)
        assert row[f"{criterion}_high"] == pytest.approx(ratio + half, abs=0.25 * half)
    assert np.isnan(row["trimmed_error_low"])
    assert np.isfinite(row["trimmed_error_difference"])


def test_results_are_the_same_every_time_and_nothing_global_moves() -> None:
    state = torch.get_rng_state()
    estimators = {"robust": RiCVAE(**QUICK, verbose=True)}
    got = [compare(estimators, X, TRUTH, seeds=[0], n_draws=5, verbose=False).table for _ in range(2)]
    kept = got[0]["criterion"] != "seconds"
    pd.testing.assert_frame_equal(got[0][kept], got[1][kept])
    assert torch.equal(torch.get_rng_state(), state)
    assert (estimators["robust"].random_state, estimators["robust"].verbose) == (None, True)


@pytest.mark.parametrize("wrap", [pd.DataFrame, torch.as_tensor, np.ndarray.tolist])
def test_data_may_come_in_any_container(wrap: Callable[[NDArray[Any]], Any]) -> None:
    got, expected = (
        compare({"a": RiCVAE(**QUICK)}, *map(each, (X, TRUTH, X_TEST)), seeds=[0]).summary().drop(columns="seconds")
        for each in (wrap, np.asarray)
    )
    pd.testing.assert_frame_equal(got, expected)


def test_what_training_warns_of_is_in_the_notes() -> None:
    coarse = RiCVAE(likelihood="index_conditioned", floor=1e4, train_passes=1, random_state=0, **QUICK)
    got = compare({"a": coarse}, X, seeds=[0, 1])
    with pytest.warns(TrainingWarning, match="under the floor"):
        est = coarse.fit(X)
    assert est.warnings_
    for message in est.warnings_:
        assert f"'a', in training: {message}" in got.notes


def test_bars_are_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    compare({"plain": Plain()}, X, seeds=[0, 1], verbose=True)
    assert "plain, seed 1" in capsys.readouterr().err
    compare({"plain": Plain()}, X, seeds=[0, 1])
    assert capsys.readouterr().err == ""


def test_text_has_every_value_reason_and_note(result: Comparison) -> None:
    text = result.to_markdown("normal")
    lines = text.splitlines()
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert head == ["criterion", "better", *result.names]
    assert len({len(line) for line in lines[: 2 + len(result.criteria)]}) == 1
    summary = result.summary("normal")
    for line in lines[2 : 2 + len(result.criteria)]:
        criterion, better, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert better == CRITERIA[criterion].better
        for name, cell in zip(result.names, cells, strict=True):
            row = summary.loc[name]
            if np.isnan(row[criterion]):
                assert cell == ""
                continue
            shown = f"{row[criterion]:.4g}"
            if name != "normal":
                ends = " to ".join(f"{row[f'{criterion}_{end}']:+.2g}" for end in ("low", "high"))
                shown += f" ({row[f'{criterion}_difference']:+.2g}, {ends})"
            assert cell == shown
    assert "the difference to normal, low to high: 95% t intervals" in text
    assert "- No bound of 'robust' and 'robust, single passes': An importance-weighted bound needs" in text
    for each in result.notes:
        assert f"- {each}" in text
    assert "(+0" not in str(result).split("\n\n")[0]
    assert "\\|" in compare({"a|b": Plain()}, X, seeds=[0]).to_markdown()


def test_the_table_is_written_whole(result: Comparison, tmp_path: Path) -> None:
    result.to_csv(tmp_path / "table.csv")
    read = pd.read_csv(tmp_path / "table.csv", keep_default_na=False, na_values={"value": [""]})
    pd.testing.assert_frame_equal(read, result.table, check_dtype=False)


def test_a_picture_is_drawn(result: Comparison, tmp_path: Path) -> None:
    save(criteria(result), tmp_path / "all.png")
    save(criteria(compare({"plain": Plain()}, X, seeds=[0])), tmp_path / "few.png")  # none has a bound
    with Image.open(tmp_path / "all.png") as many, Image.open(tmp_path / "few.png") as few:
        assert many.height > few.height > 50


@pytest.mark.parametrize(
    ("estimators", "options", "message"),
    [
        ({}, {}, "Expected estimators by name, such as"),
        ([RiCVAE()], {}, "Expected estimators by name, such as"),
        ({"a": RiCVAE}, {}, "give an instance, such as RiCVAE"),
        ({"a": "RiCVAE"}, {}, "estimators that have fit, clean and get_params, actual 'a': 'RiCVAE'"),
        ({1: Plain()}, {}, "give an instance, such as RiCVAE.., under a string"),
        ({"a": RiCVAE(epochs=0)}, {}, "'a': Expected epochs to be a whole number >= 1, actual 0"),
        ({"a": RiCVAE(likelihood="best")}, {}, "'a': Expected likelihood to be one of"),
        ({"a": RiCVAE(likelihood="bernoulli")}, {}, "'a': .*support of Bernoulli"),
        ({"a": Plain()}, {"truth": TRUTH[:5]}, r"Expected truth of shape \(40, 5\), as X, actual \(5, 5\)"),
        ({"a": Plain()}, {"truth": TRUTH * np.nan}, "truth: Expected no missing values"),
        ({"a": Plain()}, {"X_test": TRUTH[:, :3]}, r"Expected X_test of shape \('m', 5\), as X, actual \(40, 3\)"),
        ({"a": Plain()}, {"dirty": DIRTY[:5]}, r"shape \(40,\), actual bool of shape \(5, 5\)"),
        ({"a": Plain()}, {"dirty": DIRTY.astype(int)}, "give a mask such as X != truth"),
        ({"a": Plain()}, {"seeds": []}, r"such as \(0, 1, 2\), actual \[\]"),
        ({"a": Plain()}, {"seeds": 3}, r"Expected seeds to be different whole numbers >= 0.*actual 3"),
        ({"a": Plain()}, {"seeds": [1, 1]}, r"actual \[1, 1\]"),
        ({"a": Plain()}, {"seeds": [-1]}, r"actual \[-1\]"),
        ({"a": Plain()}, {"seeds": [0.5]}, r"actual \[0.5\]"),
        ({"a": Plain()}, {"n_draws": 0}, "Expected n_draws to be a whole number >= 1, actual 0"),
    ],
)
def test_bad_input_is_refused_before_any_training(
    estimators: Any, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any) -> None:
        raise AssertionError("trained")

    for each in (RiCVAE, Plain):
        monkeypatch.setattr(each, "fit", fit)
    with pytest.raises((ValueError, TypeError), match=message):
        compare(estimators, X, **options)


def test_columns_in_another_order_are_refused() -> None:
    frame = pd.DataFrame(X, columns=list("abcde"))
    with pytest.raises(ValueError, match="Expected X_test with the columns of X in their order, actual"):
        compare({"a": Plain()}, frame, X_test=frame[list("edcba")])


def test_names_and_criteria_that_are_not_there_are_refused(result: Comparison) -> None:
    with pytest.raises(ValueError, match=r"Expected a list of names of \['robust', .* actual \['best'\]"):
        result.summary("best")
    with pytest.raises(ValueError, match=r"Expected a list of names of .* actual \['best'\]"):
        result.rank("error", ["best"])
    with pytest.raises(ValueError, match=r"Expected a list of names of .* actual 'normal'"):
        result.rank("error", "normal")
    with pytest.raises(ValueError, match=r"Expected a criterion of \['error', .* actual 'loss'"):
        result.rank("loss")
    with pytest.raises(ValueError, match=r"which have none: Plain is no RiCVAE: .* known\. Rank the others"):
        compare({"plain": Plain()}, X, seeds=[0]).rank("bound")
