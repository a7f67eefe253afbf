"""The discriminative autoencoder: what it finds, its units, its seed, its device, and on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

import pyro_ricvae as rv
from pyro_ricvae.estimators import DRAE, discriminative_threshold
from pyro_ricvae.estimators.discriminative import number_of_small

SMALL: dict[str, Any] = {"n_latent": 2, "hidden": (16,), "epochs": 100, "device": "cpu", "random_state": 0}


def planted(seed: int, n: int = 300, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two factors in eight columns, and outliers of such sizes without; and which those are."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)) @ rng.normal(size=(2, 8)) + 0.1 * rng.normal(size=(n, 8))
    outlying = rng.random(n) < share
    x[outlying] = 1.5 * rng.normal(size=(outlying.sum(), 8)) * x.std(axis=0)
    return x, outlying


X, OUTLYING = planted(0)


@pytest.fixture(scope="module")
def fitted() -> DRAE:
    return DRAE(**SMALL).fit(X)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_planted_outliers_are_found(share: float) -> None:
    for seed in range(3):
        x, outlying = planted(seed, share=share)
        est = DRAE(**SMALL | {"random_state": seed}).fit(x)
        assert roc_auc_score(outlying, -est.score_samples(x)) > 0.98
        assert f1_score(~outlying, est.predict(x) == 1) > 0.88


def test_training_lowers_the_loss_and_draws_the_groups_apart() -> None:
    def share_within(discrimination: float, seed: int) -> float:
        est = DRAE(**SMALL | {"discrimination": discrimination, "random_state": seed}).fit(X)
        assert est.losses_.shape == (100,)
        assert est.losses_[-1] < 0.5 * est.losses_[0]
        errors = np.sort(-est.score_samples(X))
        groups = np.split(errors, [number_of_small(errors)])
        return float(sum(len(each) * each.var() for each in groups) / (len(errors) * errors.var()))

    assert all(share_within(30.0, seed) < share_within(0.0, seed) - 0.05 for seed in range(2))


def test_the_threshold_is_that_of_the_errors(fitted: DRAE) -> None:
    errors = -fitted.score_samples(X)
    assert (errors >= 0).all()
    assert fitted.offset_ == pytest.approx(-discriminative_threshold(errors))
    np.testing.assert_array_equal(fitted.predict(X) == -1, errors > -fitted.offset_)


def test_scores_are_squared_errors_in_standardised_units(fitted: DRAE) -> None:
    squares = ((X - fitted.clean(X)) / fitted.scaling_.scale) ** 2
    np.testing.assert_allclose(fitted.cell_scores(X), squares, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(fitted.score_samples(X), -squares.sum(axis=1), rtol=1e-3, atol=1e-5)
    assert fitted.score_samples(X).dtype == np.float64


def test_the_code_gives_the_clean_row(fitted: DRAE) -> None:
    code = fitted.transform(X)
    with torch.no_grad():
        rows = fitted.decoder_(torch.tensor(code, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(fitted.scaling_.restore(rows), fitted.clean(X), rtol=1e-4, atol=1e-4)


def test_another_unit_changes_nothing(fitted: DRAE) -> None:
    est = DRAE(**SMALL).fit(1024 * X)
    np.testing.assert_allclose(est.score_samples(1024 * X), fitted.score_samples(X), rtol=1e-5)
    np.testing.assert_allclose(est.clean(1024 * X), 1024 * fitted.clean(X), rtol=1e-4, atol=1e-2)


def test_a_seed_gives_the_same_and_the_process_keeps_its_own() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    first, second = (DRAE(**SMALL | {"epochs": 2}).fit(X).score_samples(X) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index] # noqa: NPY002
    np.testing.assert_array_equal(first, second)
    other = DRAE(**SMALL | {"epochs": 2, "random_state": 1}).fit(X).score_samples(X)
    assert np.abs(other - first).max() > 1e-3


def test_what_is_automatic() -> None:
    est = DRAE(device="cpu", random_state=0).fit(X)
    assert est.settings_ == {"n_latent": 4, "hidden": [128, 64], "epochs": 30, "scaling": "robust"}
    assert len(est.losses_) == 30
    images = (255 * torch.rand(20, 4, 4)).to(torch.uint8)
    est = DRAE(epochs=1, device="cpu", random_state=0).fit(images)
    assert est.settings_["scaling"] == "range"
    cleaned = est.clean(images)
    assert isinstance(cleaned, torch.Tensor)
    assert cleaned.shape == est.cell_scores(images).shape == (20, 4, 4)


def test_frames_come_as_frames(fitted: DRAE) -> None:
    frame = pd.DataFrame(X, columns=list("abcdefgh"), index=[f"row {i}" for i in range(len(X))])
    est = DRAE(**SMALL).fit(frame)
    cleaned = est.clean(frame)
    assert (list(cleaned.columns), list(cleaned.index)) == (list(frame.columns), list(frame.index))
    np.testing.assert_array_equal(cleaned.to_numpy(), fitted.clean(X))


def test_batches_of_any_size() -> None:
    for n, batch_size in ((2, 100), (7, 3), (5, 1)):
        est = DRAE(**SMALL | {"epochs": 2}, batch_size=batch_size).fit(X[:n])
        assert np.isfinite(est.score_samples(X)).all()
        assert np.isfinite(est.losses_).all()


def test_a_gross_error_does_not_stop_it() -> None:
    x = X.copy()
    x[3, 4] = 1e12
    est = DRAE(**SMALL).fit(x)
    assert np.flatnonzero(est.predict(x) == -1).tolist() == [3]
    assert np.isfinite(est.losses_).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"discrimination": -0.1}, "Expected discrimination to be a finite number >= 0, actual -0.1"),
        ({"n_latent": 0}, "n_latent"),
        ({"hidden": "wide"}, "Expected hidden to be 'auto'"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"scaling": "standard"}, "scaling"),
        ({"device": "nowhere"}, "Expected a device of this machine"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DRAE(**SMALL | wrong).fit(X)


def test_it_is_saved_whole(fitted: DRAE, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    before = torch.get_rng_state()
    loaded = rv.load(tmp_path / "model", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    for method in ("clean", "cell_scores", "decision_function", "transform"):
        np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(fitted, method)(X))
    np.testing.assert_array_equal(loaded.losses_, fitted.losses_)
    assert (loaded.offset_, loaded.settings_) == (fitted.offset_, fitted.settings_)
    np.testing.assert_array_equal(loaded.fit(X).score_samples(X), fitted.score_samples(X))
    with pytest.raises(ValueError, match="Expected no likelihood, which a DRAE has not"):
        rv.load(tmp_path / "model", likelihood="laplace")
