"""What all estimators of rows share: names, frames out, a score, models on disk by the name of their class."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.estimators import DRAE, UOCL, EmpiricalBayesRobustPCA, RobustPCA, RowEstimator, persistence

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")

TINY: dict[str, Any] = {"n_latent": 2, "hidden": (4,), "epochs": 4, "random_state": 0, "device": "cpu"}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2)) @ RNG.normal(size=(2, 6)) + 0.1 * RNG.normal(size=(60, 6))
FRAME = pd.DataFrame(X, columns=list("abcdef"), index=[f"row {i}" for i in range(60)])
ESTIMATORS = [
    rv.RiCVAE(**TINY),
    RobustPCA(lambda_scale=0.5, random_state=0),
    EmpiricalBayesRobustPCA(random_state=0),
    DRAE(**TINY),
    UOCL(),
]
GRIDS: dict[type, dict[str, list[Any]]] = {
    rv.RiCVAE: {"test_passes": [1, 2]},
    RobustPCA: {"lambda_scale": [0.3, 0.5]},
    EmpiricalBayesRobustPCA: {"n_latent": [1, 2]},
    DRAE: {"discrimination": [0.0, 0.1]},
    UOCL: {"smoothness": [0.0, 1.0]},
}


@pytest.fixture(params=ESTIMATORS, ids=lambda est: type(est).__name__)
def fitted(request: pytest.FixtureRequest) -> Any:
    return clone(request.param).fit(FRAME)


def test_latents_have_names_and_come_as_frames_where_that_is_asked_for(fitted: Any) -> None:
    names = list(fitted.get_feature_names_out())
    prefix = type(fitted).__name__.lower()
    z = fitted.transform(FRAME)
    assert names == [f"{prefix}{i}" for i in range(z.shape[1])]
    frame = clone(fitted).set_output(transform="pandas").fit(FRAME).transform(FRAME)
    assert isinstance(frame, pd.DataFrame)
    assert (list(frame.columns), list(frame.index)) == (names, list(FRAME.index))
    np.testing.assert_array_equal(frame.to_numpy(), z)


def test_a_score_is_the_mean_over_rows_and_serves_a_search(fitted: Any) -> None:
    assert fitted.score(X) == pytest.approx(np.mean(fitted.score_samples(X)))
    assert len(GridSearchCV(clone(fitted), GRIDS[type(fitted)], cv=2).fit(X).cv_results_["mean_test_score"]) == 2


def test_columns_are_checked_by_name(fitted: Any) -> None:
    with pytest.raises(ValueError, match="actual 'b' in the place of 'a'"):
        fitted.score_samples(FRAME[list("bacdef")])
    with pytest.raises(ValueError, match=rf"X has 5 features, but {type(fitted).__name__} is expecting 6 features"):
        fitted.score_samples(X[:, :5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_latents_are_of_the_type_of_the_data(dtype: Any) -> None:
    x = (10 * X).astype(dtype)
    est = rv.RiCVAE(**TINY).fit(x)
    assert est.transform(x).dtype == np.result_type(dtype, np.float32)


# On disk


def test_any_estimator_is_saved_and_loaded_by_its_name(fitted: Any, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = rv.load(tmp_path / "model", device="cpu")
    assert type(loaded) is type(fitted)
    for method in ("clean", "cell_scores", "score_samples", "transform"):
        if hasattr(fitted, method):
            np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(fitted, method)(X))
    if hasattr(fitted, "sample"):
        np.testing.assert_array_equal(loaded.sample(5), fitted.sample(5))
    assert list(loaded.feature_names_in_) == list("abcdef")
    assert (loaded.event_shape_, loaded.n_features_in_) == (fitted.event_shape_, fitted.n_features_in_)
    assert json.loads((tmp_path / "model" / "model.json").read_text())["estimator"] == type(fitted).__name__


class Median(RowEstimator):
    """Another estimator: nothing else in the package knows of it."""

    def fit(self, X: Any, y: None = None) -> "Median":
        from pyro_ricvae.data.rows import as_rows

        rows = as_rows(X)
        self.median_ = np.median(rows.values, axis=0)
        self._remember(rows)
        return self

    def clean(self, X: Any) -> Any:
        rows = self._like_those_of_fit(X)
        return rows.like(np.broadcast_to(self.median_, rows.values.shape))

    def _to_save(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {"said": "hello"}, {"median": torch.as_tensor(self.median_)}

    @classmethod
    def _from_saved(cls, description: dict[str, Any], tensors: dict[str, Tensor], **given: Any) -> "Median":
        estimator = cls()
        assert description["said"] == "hello"
        estimator.median_ = tensors["median"].numpy()
        return estimator


def test_a_second_estimator_needs_no_change_anywhere(tmp_path: Path) -> None:
    est = Median().fit(FRAME)
    est.save(tmp_path / "model")
    loaded = rv.load(tmp_path / "model")
    assert isinstance(loaded, Median)
    pd.testing.assert_frame_equal(loaded.clean(FRAME), est.clean(FRAME))


def test_a_class_that_is_not_there_is_named(tmp_path: Path) -> None:
    Median().fit(X).save(tmp_path / "model")
    described = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(described | {"estimator": "Other"}))
    with pytest.raises(ValueError, match=r"Expected the class 'Other', with which .* was saved, actual none: import"):
        rv.load(tmp_path / "model")


def test_a_model_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    est = rv.RiCVAE(**TINY).fit(X)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    for folder in (tmp_path / "new" / "model", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir(mode=0o700)
        with monkeypatch.context() as patch:
            patch.setattr(persistence.Path, "write_text", fail)  # when the tensors are written already
            with pytest.raises(OSError, match="no space left"):
                est.save(folder)
        assert not folder.exists() or not any(folder.iterdir())
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        est.save(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
        for path in folder.iterdir():
            path.unlink()


def test_an_empty_folder_is_filled_and_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    est = rv.RiCVAE(**TINY).fit(X)
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    monkeypatch.chdir(folder)
    before = folder.stat()
    est.save(".")
    after = folder.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)  # a mount point could not be another
    assert sorted(path.name for path in Path().iterdir()) == ["model.json", "model.safetensors"]
    np.testing.assert_array_equal(rv.load(".", device="cpu").clean(X), est.clean(X))


def test_a_subclass_is_not_taken_for_its_parent(tmp_path: Path) -> None:
    class RiCVAE(rv.RiCVAE):
        """Of the same name."""

    class Wider(rv.RiCVAE):
        def __init__(self, width: int = 1) -> None:
            super().__init__(**TINY)
            self.width = width

    rv.RiCVAE(**TINY).fit(X).save(tmp_path / "plain")
    assert type(rv.load(tmp_path / "plain")) is rv.RiCVAE
    RiCVAE(**TINY).fit(X).save(tmp_path / "own")
    assert type(rv.load(tmp_path / "own")) is RiCVAE
    with pytest.raises(NotImplementedError, match="Expected of Wider, which has arguments of its own"):
        Wider(3).fit(X).save(tmp_path / "wider")


def test_what_is_given_to_load_is_no_damage(tmp_path: Path) -> None:
    rv.RiCVAE(**TINY).fit(X).save(tmp_path / "model")
    for given in ({"likelihood": "student_t"}, {"likelihood": rv.likelihoods.StudentT}, {"prior": 3}, {"pair": 3}):
        with pytest.raises(ValueError, match="xpected") as caught:
            rv.load(tmp_path / "model", **given)
        assert "damaged" not in str(caught.value)


def test_robust_pca_has_no_parts_to_give(tmp_path: Path) -> None:
    RobustPCA().fit(X).save(tmp_path / "model")
    with pytest.raises(ValueError, match="Expected no prior, which a RobustPCA has not"):
        rv.load(tmp_path / "model", prior=rv.priors.StandardNormal(2))


# From a pair


def trained_pair(x: Tensor, encoder: Any = None) -> tuple[Any, Any]:
    torch.manual_seed(0)
    decoder = rv.networks.MLPDecoder(2, 6, (4,))
    model = rv.models.VAE(decoder, rv.likelihoods.StudentT(0.5), rv.priors.StandardNormal(2))
    guide = rv.guides.AmortizedNormal(encoder or rv.networks.MLPEncoder(6, 2, (4,)))
    with pyro.get_param_store().scope():
        svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), rv.inference.RecyclingELBO())
        for _ in range(5):
            svi.step(x)
    return model, guide


class Plain(nn.Module):
    """A user's own encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc = self.loc(x)
        return loc, torch.ones_like(loc)


def test_a_pair_trained_by_svi_becomes_an_estimator() -> None:
    scaling = rv.RiCVAE(**TINY).fit(FRAME).scaling_
    model, guide = trained_pair(torch.as_tensor(scaling.standardise(X)))
    est = rv.RiCVAE.from_pair(model, guide, FRAME, test_passes=2, random_state=3, history=[{"loss": 1.0}])
    assert (est.model_, est.guide_, est.history_, est.warnings_) == (model, guide, [{"loss": 1.0}], [])
    assert not model.training
    assert (est.settings_["n_latent"], est.settings_["kl"], est.event_shape_) == (2, "closed form", (6,))
    x = est.standardise(FRAME)
    expected = scaling.restore(rv.inference.reconstruct(model, guide, x, passes=2).numpy())
    np.testing.assert_array_equal(est.clean(FRAME).to_numpy(), expected)
    np.testing.assert_array_equal(est.sample(4), est.sample(4))


def test_a_pair_of_the_estimators_own_networks_is_loaded_without_more(tmp_path: Path) -> None:
    reference = rv.RiCVAE(**TINY).fit(X)
    est = rv.RiCVAE.from_pair(reference.model_, reference.guide_, X, **reference.get_params())
    est.save(tmp_path / "model")
    np.testing.assert_array_equal(rv.load(tmp_path / "model", device="cpu").clean(X), reference.clean(X))
    with pytest.raises(ValueError, match="Expected no pair, as the networks are the estimator's own"):
        rv.load(tmp_path / "model", pair=(reference.model_, reference.guide_))


def test_a_pairs_own_spike_is_in_its_settings_and_is_loaded(tmp_path: Path) -> None:
    reference = rv.RiCVAE(**TINY).fit(X)
    spike = reference.settings_["spike"] | {"takeover": 0.5, "broadening": 3.0, "widest": 9.0}
    reference.model_.likelihood = rv.likelihoods.SpikeAndSlab(0.1, **spike).eval()
    arguments = reference.get_params() | {"floor": 0.1}
    est = rv.RiCVAE.from_pair(reference.model_, reference.guide_, X, **arguments)
    assert est.settings_["spike"] == pytest.approx(spike)
    est.save(tmp_path / "model")
    loaded = rv.load(tmp_path / "model", device="cpu").model_.likelihood
    assert (loaded.broadening, loaded.widest, loaded.schedule["mixed"].at) == (3.0, 9.0, 0.5)


@pytest.mark.parametrize("encoder", [Plain, lambda: rv.networks.MLPEncoder(6, 2, (4,), bound=0.5)])
def test_a_pair_of_other_networks_is_loaded_into_such_a_pair(encoder: Any, tmp_path: Path) -> None:
    """Also where they have the same tensors, and compute something else."""
    x = torch.as_tensor(X, dtype=torch.float32)
    model, guide = trained_pair(x, encoder())
    arguments = {"hidden": (4,), "n_latent": 2, "scaling": "none", "device": "cpu", "random_state": 0}
    est = rv.RiCVAE.from_pair(model, guide, X, **arguments)
    est.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"give load\(folder, pair=\(model, guide\)\) such a pair"):
        rv.load(tmp_path / "model")
    loaded = rv.load(tmp_path / "model", pair=trained_pair(torch.randn(60, 6), encoder()), device="cpu")
    for method in ("clean", "cell_scores", "score_samples", "transform"):
        np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(est, method)(X))
    np.testing.assert_array_equal(loaded.sample(5), est.sample(5))


class Foreign(nn.Module):
    """A model of the contract that has no likelihood, and a prior that is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(2, 6)
        self.prior = lambda: dist.Normal(torch.zeros(2), 1.0).to_event(1)

    def decode(self, z: Tensor, x: Tensor | None = None, observed: Tensor | None = None) -> Any:
        return dist.Normal(self.decoder(z), 1.0).to_event(1)


def test_a_model_without_a_likelihood_becomes_an_estimator(tmp_path: Path) -> None:
    guide = rv.guides.AmortizedNormal(rv.networks.MLPEncoder(6, 2, (4,)))
    est = rv.RiCVAE.from_pair(Foreign(), guide, X, scaling="none", device="cpu")
    assert est.settings_["likelihood"].endswith("test_base.Foreign")
    assert est.settings_["hidden"] == []
    est.save(tmp_path / "model")
    loaded = rv.load(tmp_path / "model", pair=(Foreign(), guide), device="cpu")
    np.testing.assert_array_equal(loaded.clean(X), est.clean(X))


def test_a_pair_of_other_rows_or_arguments_is_refused() -> None:
    model, guide = trained_pair(torch.randn(60, 6))
    with pytest.raises(ValueError, match="features"):
        rv.RiCVAE.from_pair(model, guide, X[:, :5], scaling="none")
    for wrong, message in (
        ({"likelihood": "laplace"}, "Expected as likelihood the model's, StudentT, actual Laplace"),
        ({"prior": "gaussian_mixture"}, "Expected as prior the model's, StandardNormal, actual GaussianMixture"),
        ({"floor": 0.7}, r"Expected as floor the model's, 0\.5, actual 0\.7: leave it out"),
    ):
        with pytest.raises(ValueError, match=message):
            rv.RiCVAE.from_pair(model, guide, X, scaling="none", **wrong)
    for pair in ((guide, model), (None, None), (nn.Linear(2, 6), guide)):
        with pytest.raises(TypeError, match="Expected a model with decode and prior"):
            rv.RiCVAE.from_pair(*pair, X)  # type: ignore[arg-type]


def test_what_the_pair_is_counts_and_not_what_is_automatic() -> None:
    decoder, encoder = rv.networks.MLPDecoder(4, 6, (4,)), rv.networks.MLPEncoder(6, 4, (4,))
    model = rv.models.VAE(decoder, rv.likelihoods.IndexConditionedNormal(0.2), rv.priors.StandardNormal(4))
    history = [{"loss": np.float32(1.5), "step": torch.tensor(2.0)}]
    est = rv.RiCVAE.from_pair(model, rv.guides.AmortizedNormal(encoder), X, hidden=(4,), history=history)
    assert (est.settings_["n_latent"], est.settings_["likelihood"], est.settings_["prior"]) == (
        4,
        "index_conditioned",
        "standard_normal",
    )
    assert est.settings_["floor_start"] == pytest.approx(0.2)
    assert est.inverse_transform(est.transform(X)).shape == (60, 6)
    assert est.history_ == [{"loss": 1.5, "step": 2.0}]
