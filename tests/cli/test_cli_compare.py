from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pyro_ricvae import comparison
from pyro_ricvae.cli.main import main
from pyro_ricvae.comparison import compare
from pyro_ricvae.estimators.ricvae import RiCVAE

pytestmark = pytest.mark.filterwarnings("default::pyro_ricvae.inference.training.trainer.TrainingWarning")

RNG = np.random.default_rng(0)
TRUTH = pd.DataFrame(RNG.normal(size=(30, 2)) @ RNG.normal(size=(2, 4)), columns=["a", "b", "c d", "e"])
TABLE = TRUTH.where(RNG.random(TRUTH.shape) > 0.1, 50.0)
SMALL: dict[str, Any] = {"n_latent": 1, "hidden": (4,), "epochs": 3}
QUICK = ["--epochs", "3", "--hidden", "4", "--n-latent", "1"]


def _ricvae(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the tables and, in out, what a comparison made of them."""
    folder = tmp_path_factory.mktemp("compare")
    for name, table in {"table": TABLE, "truth": TRUTH, "test": TRUTH[:12]}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    files = ["--truth", folder / "truth.csv", "--test", folder / "test.csv"]
    likelihoods = ["--likelihoods", "fixed_normal,index_conditioned", "--seeds", "4,5"]
    result = _ricvae(folder / "table.csv", "--out", folder / "out", *files, *likelihoods, *QUICK)
    assert result.exit_code == 0, result.output
    (folder / "stdout.txt").write_text(result.stdout)
    return folder


def test_files_and_summary_are_those_of_compare(folder: Path) -> None:
    out = folder / "out"
    names = {"comparison.csv", "summary.csv", "summary.md", "picture.png", ".ricvae"}
    assert {path.name for path in out.iterdir()} == names
    estimators = {name: RiCVAE(likelihood=name, **SMALL) for name in ("fixed_normal", "index_conditioned")}
    expected = compare(estimators, TABLE, TRUTH, TRUTH[:12], seeds=[4, 5])
    table = pd.read_csv(out / "comparison.csv", keep_default_na=False, na_values={"value": [""]})
    timeless = table["criterion"] != "seconds"
    pd.testing.assert_frame_equal(table[timeless], expected.table[timeless], rtol=1e-5, check_dtype=False)
    summary = pd.read_csv(out / "summary.csv", index_col="name").filter(regex="^(?!seconds)")
    wide = expected.summary("fixed_normal").filter(regex="^(?!seconds)")
    pd.testing.assert_frame_equal(summary, wide, rtol=1e-5, atol=1e-6)
    text = (out / "summary.md").read_text()
    assert "In brackets: the difference to fixed_normal" in text
    printed = (folder / "stdout.txt").read_text()
    assert printed.startswith("| criterion")
    assert "In brackets" not in printed
    assert "No bound of 'index_conditioned'" in printed
    assert printed.endswith(f"Written to {out}: summary.md, summary.csv, comparison.csv and picture.png.\n")
    with Image.open(out / "picture.png") as picture:
        assert picture.width > 1000


def test_the_options_reach_the_estimators(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def spy(estimators: dict[str, Any], *data: Any, **options: Any) -> Any:
        given.update(estimators=estimators, data=data, options=options)
        raise ValueError("enough")

    monkeypatch.setattr(comparison, "compare", spy)
    options = [*QUICK, "--train-passes", 3, "--device", "cpu", "--no-single-passes", "--quiet", "--seeds", "7"]
    assert _ricvae(folder / "table.csv", "--out", tmp_path / "out", *options).exit_code == 2
    assert list(given["estimators"]) == ["shared_normal", "index_conditioned", "student_t"]
    for name, estimator in given["estimators"].items():
        arguments = estimator.get_params()
        wanted = {**SMALL, "likelihood": name, "train_passes": 3, "device": "cpu"}
        assert {key: arguments[key] for key in wanted} == wanted
    assert given["options"] == {"seeds": (7,), "single_passes": False, "verbose": False}
    pd.testing.assert_frame_equal(given["data"][0], TABLE)
    assert given["data"][1:] == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_images_and_archives_are_compared_quietly(tmp_path: Path) -> None:
    images = RNG.integers(0, 255, (12, 3, 3)).astype("uint8")
    np.savez(tmp_path / "images.npz", x=images, y=np.zeros(3))
    np.savez(tmp_path / "truth.npz", x=images // 2, y=np.zeros(3))
    np.save(tmp_path / "test.npy", images[:1])
    files = ["--truth", tmp_path / "truth.npz", "--test", tmp_path / "test.npy", "--key", "x"]
    one = ["--likelihoods", "index_conditioned", "--seeds", 0, "--no-single-passes", "--quiet"]
    result = _ricvae(tmp_path / "images.npz", "--out", tmp_path / "out", *files, *one, *QUICK)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert {"error", "median_log_error"} < set(table.loc[table["value"].notna(), "criterion"])
    assert set(table["name"]) == {"index_conditioned"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--likelihoods", "student_t,student_t"], "Expected different likelihoods, actual 'student_t,student_t'"),
        (["--likelihoods", "best"], "'best': Expected likelihood to be one of"),
        (["--likelihoods", ""], "'': Expected likelihood to be one of"),
        (["--likelihoods", "bernoulli"], "support of Bernoulli"),
        (["--seeds", "a"], "expected whole numbers such as 0,1,2, actual 'a'"),
        (["--seeds", "1,1"], "Expected seeds to be different whole numbers >= 0"),
        (["--epochs", "0"], "Expected epochs to be a whole number >= 1, actual 0"),
        (["--truth", "{folder}/test.csv"], "Expected truth of shape (30, 4), as X, actual (12, 4)"),
        (["--test", "{folder}/none.csv"], "none.csv, actual nothing: check the path."),
        (["--key", "x"], "Expected a key only for an .npz archive"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    filled = [argument.format(folder=folder) for argument in arguments]
    result = _ricvae(folder / "table.csv", "--out", tmp_path / "out", *filled)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert (result.stdout, list(tmp_path.iterdir())) == ("", [])


def test_earlier_output_is_replaced_only_on_request(folder: Path) -> None:
    command = [folder / "table.csv", "--out", folder / "out", "--likelihoods", "fixed_normal", "--seeds", 0, *QUICK]
    assert "Expected a new or an empty folder" in " ".join(_ricvae(*command).stderr.split())
    assert _ricvae(*command, "--no-single-passes", "--overwrite").exit_code == 0
    assert set(pd.read_csv(folder / "out" / "comparison.csv")["name"]) == {"fixed_normal"}
