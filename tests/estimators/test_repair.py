"""Probabilities of dirt, and rows in which only what is dirty is replaced."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.exceptions import NotFittedError

import pyro_ricvae as rv
from pyro_ricvae.data import corruption, load_digits, load_mnist
from pyro_ricvae.estimators.ricvae import RiCVAE
from pyro_ricvae.inference import Recipe

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")

N = 400
RNG = np.random.default_rng(0)
CLEAN = RNG.normal(size=(N, 2)) @ RNG.normal(size=(2, 6)) + 0.05 * RNG.normal(size=(N, 6))
WRONG = RNG.random((N, 6)) < 0.06
DIRTY = np.where(WRONG, CLEAN + 8 * RNG.choice([-1, 1], (N, 6)) * (1 + RNG.random((N, 6))), CLEAN)


def table() -> pd.DataFrame:
    """Return a table with whole numbers, names of rows, and a constant."""
    frame = pd.DataFrame(DIRTY, columns=list("abcdef"), index=[f"row {i}" for i in range(N)])
    frame["f"] = np.rint(10 * frame["f"]).astype("int16")
    frame["id"] = np.arange(N) + 1001
    frame["unit"] = 1.5
    return frame


def fit(x: Any, likelihood: Any) -> RiCVAE:
    recipe = Recipe(batch_size=50, learning_rate=1e-2, warmup_steps=10)
    return RiCVAE(
        2, hidden=(16,), epochs=80, train_passes=1, likelihood=likelihood, recipe=recipe, random_state=0, device="cpu"
    ).fit(x)


@pytest.fixture(scope="module", params=["spike_and_slab", "index_conditioned", "student_t"])
def fitted(request: pytest.FixtureRequest) -> RiCVAE:
    return fit(DIRTY, request.param)


@pytest.fixture(scope="module")
def of_table() -> RiCVAE:
    return fit(table(), "spike_and_slab")


def error(rows: NDArray[Any], where: NDArray[np.bool_]) -> float:
    return float(np.square(rows - CLEAN)[where].mean())


def test_probabilities_tell_dirty_cells_from_clean_ones(fitted: RiCVAE) -> None:
    probability = fitted.cell_probabilities(DIRTY)
    assert probability.shape == DIRTY.shape
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert probability[WRONG].mean() > 0.9
    assert probability[~WRONG].mean() < 0.1
    assert fitted.contamination_ == pytest.approx(probability.mean(), abs=1e-6)
    assert fitted.contamination_ == pytest.approx(WRONG.mean(), abs=0.06)


def test_probabilities_are_calibrated_where_columns_have_nothing_to_do_with_each_other() -> None:
    """No model makes clean cells much narrower than such data: the mixture takes over all the same."""
    rng = np.random.default_rng(1)
    clean = rng.standard_t(8, size=(N, 6))
    wrong = rng.random((N, 6)) < 0.1
    dirty = np.where(wrong, 8 * rng.choice([-1, 1], (N, 6)) * (1 + rng.random((N, 6))), clean)
    est = fit(dirty, "auto")
    assert est.contamination_ == pytest.approx(wrong.mean(), abs=0.03)
    probability = est.cell_probabilities(dirty)
    truth, said = calibration_curve(wrong.ravel(), probability.ravel(), n_bins=2)
    np.testing.assert_allclose(truth, said, atol=0.05)
    assert wrong[probability > 0.5].mean() > 0.9
    assert (probability[wrong] > 0.5).mean() > 0.95


def test_repaired_rows_are_nearer_to_the_truth_than_dirty_or_denoised_ones(fitted: RiCVAE) -> None:
    repaired = fitted.repair(DIRTY)
    assert error(repaired, WRONG) < 0.1 * error(DIRTY, WRONG)
    assert error(repaired, ~WRONG) < error(fitted.clean(DIRTY), ~WRONG)


def test_with_a_threshold_whole_cells_change_and_all_others_stay_as_they_are(fitted: RiCVAE) -> None:
    probability = fitted.cell_probabilities(DIRTY)
    for threshold in (0.5, 0.9):
        repaired = fitted.repair(DIRTY, threshold=threshold)
        np.testing.assert_array_equal(repaired[probability <= threshold], DIRTY[probability <= threshold])
        np.testing.assert_allclose(
            repaired[probability > threshold], fitted.clean(DIRTY)[probability > threshold], rtol=1e-6
        )
    np.testing.assert_array_equal(fitted.repair(DIRTY, threshold=1.0), DIRTY)


def test_tables_keep_their_types_their_names_and_what_nobody_can_judge(of_table: RiCVAE) -> None:
    frame = table()
    repaired = of_table.repair(frame, threshold=0.5)
    assert repaired.dtypes.equals(frame.dtypes)
    assert repaired.index.equals(frame.index)
    assert list(repaired.columns) == list(frame.columns)
    changed = (repaired != frame).sum()
    assert changed[["a", "b", "c", "d", "e", "f"]].min() > 5
    assert changed[["id", "unit"]].sum() == 0
    assert {column: why.partition(":")[0] for column, why in of_table.not_judged_.items()} == {6: "'id'", 7: "'unit'"}
    probability = of_table.cell_probabilities(frame)
    assert isinstance(probability, pd.DataFrame)
    assert (probability[["id", "unit"]] == 0).all(axis=None)
    mixed = of_table.repair(frame)
    np.testing.assert_array_equal(mixed["id"], frame["id"])
    assert mixed.columns.equals(frame.columns)


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_containers_come_back(threshold: float | None) -> None:
    est = fit(DIRTY, "spike_and_slab")
    tensor = torch.as_tensor(DIRTY, dtype=torch.float32)
    for given in (tensor, DIRTY.astype(np.float32), DIRTY.tolist()):
        repaired = est.repair(given, threshold=threshold)
        assert isinstance(repaired, torch.Tensor if given is tensor else np.ndarray)
        assert tuple(repaired.shape) == DIRTY.shape
    images = np.clip(128 + 20 * DIRTY, 0, 255).astype(np.uint8).reshape(N, 2, 3)
    of_images = fit(images, "spike_and_slab").repair(images, threshold=threshold)
    assert of_images.shape == images.shape
    assert of_images.dtype == (np.float32 if threshold is None else np.uint8)


def test_saved_and_loaded_it_says_the_same(fitted: RiCVAE, of_table: RiCVAE, tmp_path: Path) -> None:
    for number, (est, x) in enumerate(((fitted, DIRTY), (of_table, table()))):
        est.save(tmp_path / str(number))
        loaded = rv.load(tmp_path / str(number))
        np.testing.assert_array_equal(loaded.cell_probabilities(x), est.cell_probabilities(x))
        assert (loaded.contamination_, loaded.not_judged_) == (est.contamination_, est.not_judged_)


def test_a_pair_that_was_trained_elsewhere_tells_dirt_too(fitted: RiCVAE) -> None:
    est = RiCVAE.from_pair(fitted.model_, fitted.guide_, DIRTY, hidden=(16,), device="cpu")
    np.testing.assert_allclose(est.cell_probabilities(DIRTY), fitted.cell_probabilities(DIRTY), atol=1e-6)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, "high", float("nan")])
def test_wrong_thresholds(of_table: RiCVAE, threshold: Any) -> None:
    with pytest.raises(ValueError, match="Expected threshold to lie between 0 and 1"):
        of_table.repair(table(), threshold=threshold)


def test_what_is_not_fitted_or_has_no_residuals() -> None:
    with pytest.raises(NotFittedError):
        RiCVAE().repair(DIRTY)
    yes_or_no = rv.likelihoods.FromFunction(
        lambda logits, x: dist.Bernoulli(logits=logits, validate_args=False),
        normalised=True,
        support=dist.constraints.boolean,
        recycle="mean",
    )
    est = RiCVAE(2, hidden=(4,), epochs=2, likelihood=yes_or_no, random_state=0, scaling="none").fit(DIRTY > 0)
    assert np.isnan(est.contamination_)
    for method in (est.cell_probabilities, est.repair):
        with pytest.raises(ValueError, match="has no mean or is of yes and no"):
            method(DIRTY > 0)


# Images


@pytest.mark.slow
@pytest.mark.skipif("PYRO_RICVAE_DATA" not in os.environ, reason="needs the files that PYRO_RICVAE_DATA names")
def test_noise_on_digits_is_not_taken_for_clean() -> None:
    """The scale that EM finds for clean pixels is as wide as the noise: the log penalty has to stay."""
    digits = load_mnist()[:1000]
    noisy, _ = corruption.salt_and_pepper(digits, cell_share=0.4, random_state=0)
    est = RiCVAE(epochs=80, hidden=(128, 64), precision="fp32", random_state=0, device="cpu").fit(noisy)
    black = (digits == 0).mean(axis=0) > 0.99
    assert est.clean(noisy)[:, black].mean() / 255 < 0.08  # 0.2 is the noise's mean
    assert est.contamination_ > 0.2
    assert not est.model_.likelihood.explains


@pytest.mark.slow
@pytest.mark.skipif("PYRO_RICVAE_DATA" not in os.environ, reason="needs the files that PYRO_RICVAE_DATA names")
def test_strokes_of_clean_digits_are_not_taken_for_dirt() -> None:
    """Most pixels are black and stay so: the scale of clean ones must not follow them to 0."""
    digits = load_mnist()[:1000]
    est = RiCVAE(epochs=80, hidden=(128, 64), precision="fp32", random_state=0, device="cpu").fit(digits)
    assert est.contamination_ < 0.15
    assert est.clean(digits).mean() > 0.65 * digits.mean()


def test_what_is_dirty_in_images_is_the_same_after_loading(tmp_path: Path) -> None:
    images, _ = corruption.blocks(load_digits()[:100], share=0.4, random_state=0)
    est = fit(images, "student_t")
    est.save(tmp_path / "model")
    probabilities = est.cell_probabilities(images)
    assert probabilities.max() > 0.9
    np.testing.assert_array_equal(rv.load(tmp_path / "model", device="cpu").cell_probabilities(images), probabilities)
