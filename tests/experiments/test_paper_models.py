"""The paper's models as arguments: each trains, an autoencoder has no KL, and all make as many passes over the data."""

import itertools

import numpy as np
import pytest

from experiments.paper.models import MODELS, PROCEDURES, estimator
from pyro_ricvae.data import load_digits

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")
X = np.random.default_rng(0).random((40, 4, 3))


@pytest.mark.parametrize(("model", "procedure"), [*itertools.product(MODELS, PROCEDURES)])
def test_every_model_trains_as_it_is_named(model: str, procedure: str) -> None:
    est = estimator(model, procedure, 6, 0, "cpu", n_latent=2, hidden=(4,)).fit(X)
    assert np.isfinite(est.clean(X)).all()
    settings = est.settings_
    recurrent = model.startswith(("R", "default"))
    assert settings["train_passes"] == (2 if recurrent else 1)
    assert settings["recipe"]["affine_path"] == (procedure == "recipe")
    weights = {line["kl_weight"] for line in est.history_}
    assert weights == ({0.0} if model == "AE" else {1.0})
    if "l2" in model:
        assert (settings["likelihood"], settings["floor_end"]) == ("fixed_normal", 1.0)


@pytest.mark.parametrize("train_passes", [1, 2, 5])
@pytest.mark.parametrize("procedure", PROCEDURES)
def test_all_make_as_many_passes_over_the_data(procedure: str, train_passes: int) -> None:
    est = estimator("RiC-VAE", procedure, 120, 0, "cpu", train_passes=train_passes)
    phases = PROCEDURES[procedure].phases(est.epochs, train_passes)
    assert sum(phase.passes_in_all(10) for phase in phases) / 10 == pytest.approx(120, rel=0.03)


def test_an_autoencoder_has_hardly_any_noise_in_its_code() -> None:
    digits, scales = load_digits()[:300], {}
    for model in ("AE", "l2-VAE"):
        est = estimator(model, "recipe", 150, 0, "cpu", n_latent=5, hidden=(16,)).fit(digits)
        code = est.guide_.encode(est.standardise(digits))
        scales[model] = float((code.stddev / code.mean.std(0)).median().detach())
    assert scales["AE"] < 0.2 < scales["l2-VAE"]
