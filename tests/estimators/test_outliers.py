"""Finding outlying rows by scikit-learn's conventions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import is_outlier_detector
from sklearn.exceptions import NotFittedError

import pyro_ricvae as rv
from pyro_ricvae.estimators.outliers import offset_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 2)) @ RNG.normal(size=(2, 5)) + 0.1 * RNG.normal(size=(120, 5))
X[::20] += 8 * RNG.normal(size=(6, 5))
SMALL: dict[str, Any] = {"n_latent": 2, "hidden": (8,), "epochs": 300, "random_state": 0, "verbose": False}


@pytest.fixture(scope="module")
def est() -> rv.RiCVAE:
    return rv.RiCVAE(**SMALL).fit(X)


def test_outlying_rows_are_those_below_the_offset(est: rv.RiCVAE) -> None:
    assert is_outlier_detector(est)
    scores, decision, predicted = est.score_samples(X), est.decision_function(X), est.predict(X)
    assert scores.dtype == decision.dtype == np.float64
    np.testing.assert_allclose(decision, scores - est.offset_)
    np.testing.assert_array_equal(predicted == -1, decision < 0)
    assert set(predicted) == {-1, 1}
    assert (predicted[::20] == -1).sum() >= 5
    assert (np.delete(predicted, np.s_[::20]) == -1).mean() < 0.1
    deviation = np.median(np.abs(scores - np.median(scores))) * 1.4826
    assert est.offset_ == pytest.approx(np.median(scores) - 2.5 * deviation, rel=1e-3)
    np.testing.assert_array_equal(rv.RiCVAE(**SMALL).fit_predict(X), predicted)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_a_given_share_of_the_rows_is_outlying(share: float, est: rv.RiCVAE) -> None:
    other = rv.RiCVAE(contamination=share, **SMALL).fit(pd.DataFrame(X))
    assert (other.predict(pd.DataFrame(X)) == -1).mean() == pytest.approx(share)
    np.testing.assert_array_equal(other.score_samples(pd.DataFrame(X)), est.score_samples(X))  # it changes nothing else
    assert other.settings_["contamination"] == share


def test_the_threshold_is_saved_with_the_model(tmp_path: Path) -> None:
    est = rv.RiCVAE(contamination=0.1, **SMALL).fit(X)
    est.save(tmp_path / "model")
    loaded = rv.load(tmp_path / "model", device="cpu")
    assert (loaded.offset_, loaded.contamination) == (est.offset_, 0.1)
    np.testing.assert_array_equal(loaded.predict(X), est.predict(X))
    np.testing.assert_array_equal(loaded.score_samples(X), est.score_samples(X))


def test_scores_are_those_of_diagnostics(est: rv.RiCVAE, tmp_path: Path) -> None:
    pair, x = (est.model_, est.guide_), est.standardise(X)
    floor = est.settings_["floor_end"]
    expected = rv.diagnostics.outlier_scores(*pair, x, 2, floor=floor, center=x.median(0).values)
    np.testing.assert_allclose(est.score_samples(X, 2), -expected, rtol=1e-5)
    est.save(tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    description = json.loads(path.read_text())
    del description["floor"]  # as an older version had it
    path.write_text(json.dumps(description))
    old = rv.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(old.score_samples(X, 2), rv.diagnostics.row_scores(*pair, x, 2), rtol=1e-5)


def test_a_pair_that_was_trained_elsewhere_has_a_threshold(est: rv.RiCVAE) -> None:
    other = rv.RiCVAE.from_pair(est.model_, est.guide_, X, hidden=(8,), contamination=0.1, device="cpu")
    assert (other.predict(X) == -1).sum() == 12


def test_scores_that_are_all_the_same_are_not_outlying() -> None:
    assert not (np.zeros(10) < offset_of(np.zeros(10), "auto")).any()
    assert not (np.zeros(10) < offset_of(np.zeros(10), 0.3)).any()


@pytest.mark.parametrize("contamination", [0, 0.0, -0.1, 0.51, 1, True, "high", None, float("nan")])
def test_wrong_shares_are_refused_before_training(contamination: Any) -> None:
    with pytest.raises(ValueError, match=r"contamination to be 'auto', or a share of the rows above 0 and up to 0\.5"):
        rv.RiCVAE(contamination=contamination, **SMALL).fit(X)


def test_what_is_not_fitted_predicts_nothing() -> None:
    for method in ("predict", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(rv.RiCVAE(), method)(X)
