import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.estimators.ricvae import RiCVAE
from pyro_ricvae.likelihoods import FixedNormal, IndexConditionedNormal
from pyro_ricvae.priors import StandardNormal

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")

TINY: dict[str, Any] = {"n_latent": 2, "hidden": (4,), "epochs": 2, "random_state": 0, "device": "cpu"}
X = np.random.default_rng(0).normal(size=(30, 6))
FRAME = pd.DataFrame(X, columns=["a", "b", "c", "d", "e f", "ü"])
IMAGES = (50 * X.clip(0)).round().astype(np.uint8).reshape(30, 2, 3)


class StudentT(nn.Module):
    """A user's own likelihood, without a value that would be saved."""

    n_outputs = 1
    normalised = True
    support = dist.constraints.real

    def forward(self, decoder_output: Tensor, x: Tensor) -> Any:
        return dist.StudentT(3.0, decoder_output, 0.5)


class Laplace(StudentT):
    """Another one, which fits the same networks."""


class TiedNormal(nn.Module):
    """A user's own prior, which has two names for one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))
        self.same = self.loc

    def forward(self) -> Any:
        return dist.Normal(self.loc, 1.0).to_event(1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved model."""
    folder = tmp_path_factory.mktemp("saved") / "new" / "model"
    RiCVAE(**TINY).fit(X).save(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def _described(folder: Path, change: Callable[[Any], Any]) -> None:
    """Change what model.json says."""
    path = folder / "model.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def _same(loaded: RiCVAE, est: RiCVAE, data: Any) -> None:
    """Compare two estimators to the last bit."""
    for method in ("clean", "cell_scores", "score_samples", "transform"):
        np.testing.assert_array_equal(getattr(loaded, method)(data), getattr(est, method)(data))
    np.testing.assert_array_equal(loaded.clean(data, passes=3), est.clean(data, passes=3))
    np.testing.assert_array_equal(loaded.sample(7), est.sample(7))
    assert loaded.settings_ == est.settings_
    assert loaded.history_ == est.history_
    assert loaded.warnings_ == est.warnings_
    assert (loaded.event_shape_, loaded.n_features_in_) == (est.event_shape_, est.n_features_in_)
    names = getattr(est, "feature_names_in_", None)
    np.testing.assert_array_equal(getattr(loaded, "feature_names_in_", None), names)


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (X, {}),
        (X.astype(np.float32), {"train_passes": 3, "test_passes": 2, "floor": (0.8, 0.3)}),
        (FRAME, {"likelihood": "learned_normal", "hidden": ()}),
        (IMAGES, {"likelihood": "fixed_normal"}),
        (IMAGES, {"recipe": rv.inference.Recipe.plain()}),
        (X, {"recipe": rv.inference.Recipe(clip=0.5), "scaling": "none"}),
        (X, {"likelihood": StudentT()}),
        (X, {"likelihood": IndexConditionedNormal(0.7), "prior": StandardNormal(2)}),
        (X, {"prior": TiedNormal(), "recipe": rv.inference.Recipe(warmup_steps=0)}),
    ],
)
def test_what_is_loaded_is_what_was_saved_to_the_last_bit(data: Any, arguments: dict[str, Any], tmp_path: Path) -> None:
    est = RiCVAE(**TINY | arguments).fit(data)
    est.save(tmp_path / "model")
    fresh = {"likelihood": IndexConditionedNormal(99.0), "prior": StandardNormal(2)}
    if isinstance(arguments.get("likelihood"), StudentT):
        fresh["likelihood"] = StudentT()
    if "recipe" in arguments:
        fresh["prior"] = TiedNormal()
    objects = {name: fresh[name] for name, value in arguments.items() if isinstance(value, nn.Module)}
    loaded = rv.load(tmp_path / "model", device="cpu", **objects)
    _same(loaded, est, data)
    # Its arguments are what "auto" stood for.
    assert loaded.fit(data).settings_ == est.settings_ | {"likelihood_reason": "as given"}
    if "likelihood" in objects and hasattr(objects["likelihood"], "floor"):
        assert objects["likelihood"].floor == 99.0  # the object given is copied


def test_models_that_were_saved_before_there_were_others_are_read(folder: Path) -> None:
    _described(folder, lambda described: {k: v for k, v in described.items() if k not in ("estimator", "is_own_pair")})
    np.testing.assert_array_equal(rv.load(folder, device="cpu").clean(X), RiCVAE(**TINY).fit(X).clean(X))


@pytest.mark.parametrize("arguments", [{}, {"likelihood": "student_t"}])
@pytest.mark.parametrize("data", [X, X.reshape(len(X), 2, -1)])
def test_models_whose_spike_stood_among_their_settings_are_read(
    data: Any, arguments: dict[str, Any], tmp_path: Path
) -> None:
    est = RiCVAE(**TINY | arguments).fit(data)
    est.save(tmp_path / "model")
    names = ("takeover", "clean_df", "widest", "narrowest", "ratio", "draws")

    def as_before(described: dict[str, Any]) -> dict[str, Any]:
        spike = described["settings"].pop("spike")
        described["settings"] |= {name: spike.get(name) for name in names}
        return described

    _described(tmp_path / "model", as_before)
    loaded = rv.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(loaded.clean(data), est.clean(data))
    np.testing.assert_allclose(loaded.cell_probabilities(data), est.cell_probabilities(data), rtol=1e-6)


def test_a_spike_that_is_none_is_damaged(folder: Path) -> None:
    def broken(described: dict[str, Any]) -> dict[str, Any]:
        described["settings"]["spike"]["breadth"] = 1.0
        return described

    _described(folder, broken)
    with pytest.raises(ValueError, match="damaged files"):
        rv.load(folder)


def test_nothing_is_pickled(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "model.safetensors"]
    tensors = load_file(saved / "model.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"model", "guide", "scaling"}
    assert tensors["scaling.scale"].dtype == torch.float64
    described = json.loads((saved / "model.json").read_text())
    assert (described["format_version"], described["pyro_ricvae"]) == (1, rv.__version__)


@pytest.mark.parametrize(
    ("random_state", "kept"), [(5, 5), (np.int64(5), 5), (None, None), (np.random.RandomState(5), None)]
)
def test_whole_numbers_as_random_state_are_kept(random_state: Any, kept: int | None, tmp_path: Path) -> None:
    est = RiCVAE(**TINY | {"random_state": random_state}).fit(X)
    est.save(tmp_path)
    loaded = rv.load(tmp_path)
    assert loaded.random_state == kept
    if kept is not None:
        np.testing.assert_array_equal(loaded.sample(3), est.sample(3))


def test_what_was_set_after_training_is_kept(tmp_path: Path) -> None:
    est = RiCVAE(**TINY).fit(X).set_params(random_state=7, test_passes=3)
    est.save(tmp_path)
    loaded = rv.load(tmp_path, device="cpu")
    assert (loaded.random_state, loaded.test_passes) == (7, 3)
    np.testing.assert_array_equal(loaded.sample(3), est.sample(3))
    np.testing.assert_array_equal(loaded.clean(X), est.clean(X))


def test_a_loaded_model_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    rv.load(saved, device="cpu").save(str(tmp_path / "again"))
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_devices(saved: Path) -> None:
    for device in ("cpu", torch.device("cpu")):
        loaded = rv.load(saved, device=device)
        assert (loaded.device, loaded.settings_["device"]) == (torch.device("cpu"), "cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert next(rv.load(saved).model_.parameters()).device.type == expected
    with pytest.raises(ValueError, match="a device of this machine, actual 'nonsense'"):
        rv.load(saved, device="nonsense")


def test_objects_of_the_users_are_asked_for(saved: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"likelihood": StudentT(), "prior": TiedNormal()}
    RiCVAE(**TINY | given).fit(X).save(tmp_path)
    with pytest.raises(ValueError, match=r"likelihood, of .*StudentT, whose code is not saved: .*likelihood=\.\.\."):
        rv.load(tmp_path)
    with pytest.raises(ValueError, match=r"as prior, of .*TiedNormal, whose code is not saved: .*prior=\.\.\."):
        rv.load(tmp_path, likelihood=StudentT())
    another, none = r"Expected as likelihood an object of .*StudentT, .* actual", "expected likelihood to be a torch.nn"
    others: list[tuple[Any, str]] = [
        (Laplace(), another),
        (FixedNormal(1.0), another),
        (StudentT, none),
        ("index_conditioned", none),
    ]
    for other, message in others:
        with pytest.raises(ValueError, match=message):
            rv.load(tmp_path, likelihood=other, prior=TiedNormal())
    bigger = TiedNormal()
    bigger.loc = bigger.same = nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match=r"(?s)the tensors of the model that model.json describes, .* prior\.loc"):
        rv.load(tmp_path, likelihood=StudentT(), prior=bigger)
    for name in given:
        with pytest.raises(ValueError, match=f"Expected no {name}, as the model was saved with '.*', actual"):
            rv.load(saved, **{name: given[name]})


def test_no_folder_is_overwritten_and_nothing_unfitted_saved(saved: Path, tmp_path: Path) -> None:
    est = RiCVAE(**TINY)
    with pytest.raises(NotFittedError):
        est.save(tmp_path / "unfitted")
    assert not (tmp_path / "unfitted").exists()
    est.fit(X)
    before = {path: path.read_bytes() for path in saved.iterdir()}
    for taken in (saved, saved / "model.json"):
        with pytest.raises(FileExistsError, match=f"a new or an empty folder, actual {taken}: name another, or remove"):
            est.save(taken)
    assert {path: path.read_bytes() for path in saved.iterdir()} == before
    est.save(tmp_path)  # an empty one


@pytest.mark.parametrize("missing", ["model.json", "model.safetensors", "model.json and model.safetensors"])
def test_missing_files_are_named(folder: Path, missing: str) -> None:
    for name in missing.split(" and "):
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"Expected a folder with a saved model, .* which lacks {missing}: "):
        rv.load(folder)


def test_a_newer_format_is_refused(folder: Path) -> None:
    _described(folder, lambda plain: {**plain, "format_version": 2, "pyro_ricvae": "9.0", "settings": "otherwise"})
    with pytest.raises(ValueError, match=r"format 1 or older, actual 2, saved by pyro_ricvae 9\.0: install that"):
        rv.load(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{garbage", b"\xff\xfe\x00", b"[]", b"3", b"null", b"{}", b'{"format_version": "1"}']
)
def test_a_damaged_description_is_said_to_be_one(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"Expected a saved model in {folder}, actual damaged files"):
        rv.load(folder)


@pytest.mark.parametrize("name", ["format_version", "settings", "random_state", "event_shape", "history", "warnings"])
def test_what_is_missing_in_the_description_is_named(folder: Path, name: str) -> None:
    _described(folder, lambda plain: {key: value for key, value in plain.items() if key != name})
    with pytest.raises(ValueError, match=f"actual damaged files .*{name}"):
        rv.load(folder)


@pytest.mark.parametrize("name", ["n_latent", "hidden", "likelihood", "scaling", "floor_start", "recipe"])
def test_settings_of_another_shape_are_refused(folder: Path, name: str) -> None:
    settings = json.loads((folder / "model.json").read_text())["settings"]
    without = {key: value for key, value in settings.items() if key != name}
    for wrong in (without, settings | {"unknown": 3}, settings | {"recipe": {"unknown": 3}}, [], None):
        _described(folder, lambda plain, wrong=wrong: {**plain, "settings": wrong})
        with pytest.raises(ValueError, match="actual damaged files"):
            rv.load(folder)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_tensors_are_refused(folder: Path, length: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=f"Expected a saved model in {folder}, actual damaged files"):
        rv.load(folder)


def test_tensors_that_do_not_fit_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for part, match in (("scaling", "damaged files"), ("guide", "the tensors of the guide"), ("model", "of the model")):
        save_file({name: value for name, value in tensors.items() if not name.startswith(part)}, path)
        with pytest.raises(ValueError, match=match):
            rv.load(folder)
    save_file(tensors | {"model.more": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"(?s)the tensors of the model that model.json describes, .*: \"more\""):
        rv.load(folder)
    save_file(tensors, path)
    _described(folder, lambda plain: {**plain, "settings": plain["settings"] | {"hidden": [5]}})
    with pytest.raises(ValueError, match=r"(?s)the tensors of the model that model.json describes, .*\tsize mismatch"):
        rv.load(folder)
