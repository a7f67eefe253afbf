import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from pyro_ricvae.cli import cleaning
from pyro_ricvae.cli.files import DataFile, read
from pyro_ricvae.cli.main import main
from pyro_ricvae.estimators import load
from pyro_ricvae.estimators.ricvae import RiCVAE
from pyro_ricvae.inference import TrainingError

pytestmark = pytest.mark.filterwarnings("default::pyro_ricvae.inference.training.trainer.TrainingWarning")

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(RNG.normal(size=(40, 2)) @ RNG.normal(size=(2, 5)), columns=["a", "b", "c d", "e", "f"])
TABLE.index = pd.Index([f"r{i}" for i in range(40)])
TABLE.loc["r7", "c d"] = 1e6
IMAGES = (np.outer(np.ones(30), [0, 50, 100, 250] * 5).reshape(30, 4, 5) + RNG.integers(0, 5, (30, 4, 5))).astype(
    "uint8"
)
QUICK = ["--epochs", "3", "--hidden", "8", "--n-latent", "2"]


def _ricvae(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _refused(result: Result, message: str, exit_code: int = 2) -> None:
    assert result.exit_code == exit_code, result.output
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "\n" not in result.stderr.split("Error: ")[-1].rstrip()  # one paragraph


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds table.csv and, in out, what a cleaning made of it."""
    folder = tmp_path_factory.mktemp("table")
    TABLE.to_csv(folder / "table.csv")
    result = _ricvae("clean", folder / "table.csv", "--out", folder / "out", "--seed", 3, *QUICK)
    assert result.exit_code == 0, result.output
    (folder / "stdout.txt").write_text(result.stdout)
    (folder / "stderr.txt").write_text(result.stderr)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds images and, in out, what a cleaning made of them."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "images").mkdir()
    (folder / "images" / "notes.txt").touch()
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / "images" / f"{i:02d}.png")
    result = _ricvae("clean", folder / "images", "--out", folder / "out", "--quiet", *QUICK)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert "Warning: 1 other files or folders in " in result.stderr
    return folder


def test_a_table_is_cleaned_into_its_own_format(table: Path) -> None:
    out = table / "out"
    names = {"cleaned.csv", "cell_scores.csv", "row_scores.csv", "picture.png", "summary.json", "model", ".ricvae"}
    names |= {"changes.csv", "cell_probabilities.csv"}
    assert {path.name for path in out.iterdir()} == names
    est = load(out / "model")
    read_back = read(out / "cleaned.csv")
    assert read_back.labels.tolist() == list(TABLE.index)
    data = cleaning.model_input(read(table / "table.csv"))
    np.testing.assert_allclose(read_back.values, est.repair(data, threshold=0.5), rtol=1e-5)
    probabilities = pd.read_csv(out / "cell_probabilities.csv", index_col=0)
    pd.testing.assert_frame_equal(probabilities, est.cell_probabilities(data), rtol=1e-4, atol=1e-5)
    cells = pd.read_csv(out / "cell_scores.csv", index_col=0)
    pd.testing.assert_frame_equal(cells, est.cell_scores(data), rtol=1e-4, atol=1e-5)
    rows = pd.read_csv(out / "row_scores.csv")
    assert list(rows) == ["row", "score", "worst_cell", "worst_cell_score"]
    assert rows["row"].tolist() == list(TABLE.index)
    np.testing.assert_allclose(rows["score"], est.decision_function(data), rtol=1e-4, atol=1e-4)
    assert rows.loc[7, ["row", "worst_cell"]].tolist() == ["r7", "c d"]
    assert rows["worst_cell"].tolist() == cells.idxmax(axis=1).tolist()
    np.testing.assert_allclose(rows["worst_cell_score"], cells.max(axis=1), rtol=1e-6)


def test_the_summary_says_what_was_done_and_found(table: Path) -> None:
    summary = json.loads((table / "out" / "summary.json").read_text())
    assert summary["input"]["shape"] == [40, 5]
    assert (summary["settings"]["epochs"], summary["settings"]["hidden"]) == (3, [8])
    assert summary["settings"]["floor_end"] > 0
    cells = pd.read_csv(table / "out" / "cell_scores.csv", index_col=0)
    assert summary["cells"]["n"] == 200
    probabilities = pd.read_csv(table / "out" / "cell_probabilities.csv", index_col=0)
    is_dirty = (probabilities > 0.5).to_numpy()
    assert summary["cells"]["n_dirty"] == is_dirty.sum() > 0
    assert (summary["cells"]["threshold"], summary["cells"]["denoised"]) == (0.5, False)
    assert summary["cells"]["changed"] == {
        name: number for name, number in (probabilities > 0.5).sum().items() if number > 0
    }
    worst = summary["cells"]["worst"]
    assert len(worst) == len(summary["rows"]["worst"]) == 20
    assert [cell["score"] for cell in worst] == pytest.approx(sorted(cells.to_numpy().ravel())[:-21:-1])
    expected = load(table / "out" / "model").clean(TABLE)
    for cell in worst:
        assert cell["value"] == TABLE.loc[cell["row"], cell["cell"]]
        assert cell["expected"] == pytest.approx(expected.loc[cell["row"], cell["cell"]])
    rows = pd.read_csv(table / "out" / "row_scores.csv").sort_values("score")
    assert [row["row"] for row in summary["rows"]["worst"]] == rows["row"].tolist()[:20]
    limit = rows["score"].median() - 2.5 * 1.4826 * (rows["score"] - rows["score"].median()).abs().median()
    assert summary["rows"]["n_far"] == (rows["score"] < limit).sum()
    assert summary["seconds"]["total"] >= summary["seconds"]["fit"] > 0
    assert "torch" in summary["versions"]


def test_people_are_told_what_was_found_and_what_to_do_next(table: Path) -> None:
    printed = (table / "stdout.txt").read_text()
    assert printed.startswith("Cleaned 40 rows of 5 columns from ")
    assert "The farthest from what is expected is row r7, cell c d: 1e+06, where " in printed
    assert re.search(r"\d+ of 200 cells \([\d.]+%\) are dirty with a probability above 0.5, and have been rep", printed)
    assert f"ricvae score {table / 'out' / 'model'} NEW.csv" in printed
    warned = json.loads((table / "out" / "summary.json").read_text())["warnings"]
    assert (table / "stderr.txt").read_text() == "".join(f"Warning: {text}\n" for text in warned)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table as people write it, names of rows first, with three gross errors, and what became of it in out."""
    rng = np.random.default_rng(1)
    a = rng.normal(50, 5, size=80)
    lines = [
        f'r{i:03d},"{a[i]:.2f}",{0.5 * a[i] + rng.normal(0, 0.2):.1f},{round(a[i] / 5 + rng.normal(0, 0.1))},21.50,7'
        for i in range(80)
    ]
    lines[4] = lines[4].replace(",21.50,", ",-999,")
    cells = lines[9].split(",")
    lines[9] = ",".join([*cells[:2], "9999.0", *cells[3:]])
    cells = lines[15].split(",")
    lines[15] = ",".join([*cells[:3], "999", *cells[4:]])
    folder = tmp_path_factory.mktemp("written")
    (folder / "table.csv").write_text("\n".join([',"a, b",half,count,stuck,same', *lines]) + "\n")
    result = _ricvae("clean", folder / "table.csv", "--out", folder / "out", "--hidden", "8", "--epochs", 300)
    assert result.exit_code == 0, result.output
    (folder / "stdout.txt").write_text(result.stdout)
    return folder


def test_cells_that_are_not_dirty_stay_as_they_are_written(written: Path) -> None:
    before, after = (
        [line.split(",") for line in file.read_text().replace('"a, b"', "a").replace('"', "").splitlines()]
        for file in (written / "table.csv", written / "out" / "cleaned.csv")
    )
    changed = {
        (one[0], before[0][j]): (one[j], other[j])
        for one, other in zip(before, after, strict=True)
        for j in range(len(one))
        if one[j] != other[j]
    }
    assert changed.keys() >= {("r004", "stuck"), ("r009", "half"), ("r015", "count")}
    assert re.fullmatch(r"\d+", changed["r015", "count"][1])
    assert len(changed) <= 6
    assert changed["r004", "stuck"] == ("-999", "21.5")
    half = float(changed["r009", "half"][1])
    assert half == pytest.approx(0.5 * float(before[10][1]), abs=2)
    assert re.fullmatch(r"\d+\.\d", changed["r009", "half"][1])  # one decimal, as its column has
    listed = pd.read_csv(written / "out" / "changes.csv")
    assert list(listed) == ["row", "column", "value", "replaced_by", "probability"]
    assert set(zip(listed["row"], listed["column"].replace("a, b", "a"), strict=True)) == set(changed)
    assert listed["row"].is_monotonic_increasing
    assert (listed["probability"] > 0.5).all()
    found = listed.set_index(["row", "column"])
    assert found.loc[("r009", "half"), ["value", "replaced_by"]].tolist() == [9999.0, half]
    printed = (written / "stdout.txt").read_text()
    assert f"{len(changed)} of 400 cells" in printed
    assert "Note: 'same': all values are 7; its cells are left as they are.\n" in printed


def test_every_cell_is_replaced_where_that_is_asked_for(written: Path, tmp_path: Path) -> None:
    options = ["--hidden", "8", "--epochs", "3", "--denoise"]
    result = _ricvae("clean", written / "table.csv", "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "; every cell is now what the model makes of it." in result.stdout
    data = cleaning.model_input(read(written / "table.csv"))
    expected = load(tmp_path / "out" / "model").clean(data)
    cleaned = read(tmp_path / "out" / "cleaned.csv").values
    np.testing.assert_allclose(cleaned[:, :2], expected.to_numpy()[:, :2], rtol=1e-5)
    np.testing.assert_array_equal(cleaned[:, 2], expected["count"].round())
    assert not (tmp_path / "out" / "changes.csv").exists()


def test_what_is_replaced_is_by_the_threshold(written: Path, tmp_path: Path) -> None:
    options = ["--hidden", "8", "--epochs", "3", "--threshold"]
    numbers = {}
    for threshold in (0.0, 0.9, 1.0):
        out = tmp_path / str(threshold)
        assert _ricvae("clean", written / "table.csv", "--out", out, *options, threshold).exit_code == 0
        numbers[threshold] = json.loads((out / "summary.json").read_text())["cells"]["n_changed"]
    assert numbers[0.0] > numbers[0.9] >= numbers[1.0] == 0
    assert (tmp_path / "1.0" / "cleaned.csv").read_text().replace('"', "") == (
        (written / "table.csv").read_text().replace('"', "")
    )
    _refused(_ricvae("clean", written / "table.csv", "--out", tmp_path / "x", *options, 1.5), "1.5 is not in the range")


def test_a_saved_index_is_names_of_rows(tmp_path: Path) -> None:
    table = TABLE.reset_index(drop=True)
    table.to_csv(tmp_path / "once.csv")
    pd.read_csv(tmp_path / "once.csv").to_csv(tmp_path / "twice.csv", index=False)
    assert (tmp_path / "twice.csv").read_text().startswith("Unnamed: 0,a,")
    for options in ((), ("--denoise",)):
        out = tmp_path / f"out{len(options)}"
        assert _ricvae("clean", tmp_path / "twice.csv", "--out", out, *QUICK, *options).exit_code == 0
        cleaned = pd.read_csv(out / "cleaned.csv")
        assert list(cleaned) == ["Unnamed: 0", *TABLE.columns]
        assert cleaned["Unnamed: 0"].tolist() == list(range(40))
        assert len(pd.read_csv(out / "cell_scores.csv").columns) == 6


def test_images_are_cleaned_into_a_folder_of_images(images: Path) -> None:
    cleaned = read(images / "out" / "cleaned")
    assert (cleaned.values.shape, cleaned.values.dtype) == ((30, 4, 5), np.uint8)
    expected = load(images / "out" / "model").repair(IMAGES, threshold=0.5)
    np.testing.assert_array_equal(cleaned.values, expected)
    assert np.load(images / "out" / "cell_probabilities.npy").shape == (30, 4, 5)
    assert not (images / "out" / "changes.csv").exists()
    cells = np.load(images / "out" / "cell_scores.npy")
    assert cells.shape == (30, 4, 5)
    rows = pd.read_csv(images / "out" / "row_scores.csv")
    assert rows["row"].tolist() == [f"{i:02d}.png" for i in range(30)]
    line, column = (int(i) for i in rows["worst_cell"][4].split())
    assert cells[4, line, column] == pytest.approx(rows["worst_cell_score"][4]) == pytest.approx(cells[4].max())
    with Image.open(images / "out" / "picture.png") as picture:
        assert picture.width > 12 * 50


@pytest.mark.parametrize("shape", [(12, 6), (12, 2, 3, 3), (6, 2, 3, 2, 1)])
def test_arrays_of_any_rank_are_cleaned(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    np.savez(tmp_path / "pair.npz", x=values, y=np.zeros(3))
    result = _ricvae("clean", tmp_path / "pair.npz", "--out", tmp_path / "out", "--key", "x", *QUICK)
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "out" / "cleaned.npz") as cleaned:
        assert list(cleaned) == ["x"]
        assert (cleaned["x"].shape, cleaned["x"].dtype) == (shape, np.float32)
    assert np.load(tmp_path / "out" / "cell_scores.npy").shape == shape
    assert len(pd.read_csv(tmp_path / "out" / "row_scores.csv")) == shape[0]


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the time of drawing."""
    monkeypatch.setattr(cleaning, "_draw", lambda *_: None)


@pytest.mark.usefixtures("no_picture")
def test_the_options_reach_the_estimator(table: Path, tmp_path: Path) -> None:
    options = ["--epochs", 4, "--hidden", "8,4", "--n-latent", 1, "--floor", "0.5,0.25", "--train-passes", 3]
    options += ["--passes", 2, "--scaling", "none", "--device", "cpu", "--quiet"]
    assert _ricvae("clean", table / "table.csv", "--out", tmp_path / "out", *options).exit_code == 0
    settings = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    expected = {"epochs": 4, "hidden": [8, 4], "n_latent": 1, "floor_start": 0.5, "floor_end": 0.25, "device": "cpu"}
    expected |= {"train_passes": 3, "test_passes": 2, "scaling": "none"}
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.usefixtures("no_picture")
def test_the_seed_decides_the_results(table: Path, tmp_path: Path) -> None:
    def cleaned(seed: int, name: str) -> str:
        command = ["clean", table / "table.csv", "--out", tmp_path / name, "--seed", seed, *QUICK]
        assert _ricvae(*command).exit_code == 0
        return (tmp_path / name / "cleaned.csv").read_text()

    first = (table / "out" / "cleaned.csv").read_text()
    assert cleaned(3, "same") == first
    assert cleaned(4, "other") != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--floor", "a,b"], "expected a number, START,END or auto, actual 'a,b'"),
        (["--floor", "1,2,3"], "expected a number, START,END or auto, actual '1,2,3'"),
        (["--floor", "-1"], "Expected floor to be a positive and finite number"),
        (["--hidden", "8;4"], "expected sizes such as 256,128,64 or auto, actual '8;4'"),
        (["--hidden", "0"], "whole number >= 1, actual 0"),
        (["--n-latent", "many"], "expected a whole number or auto, actual 'many'"),
        (["--epochs", "0"], "Expected epochs to be a whole number >= 1, actual 0"),
        (["--passes", "0"], "Expected test_passes to be a whole number >= 1, actual 0"),
        (["--scaling", "best"], "'best' is not one of"),
        (["--device", "cuda:99"], "Expected a device of this machine, actual 'cuda:99'"),
        (["--device", "abacus"], "Expected a device of this machine, actual 'abacus'"),
        (["--key", "x"], "Expected a key only for an .npz archive"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    table: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    _refused(_ricvae("clean", table / "table.csv", "--out", tmp_path / "x" / "out", *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_refused(tmp_path: Path) -> None:
    _refused(
        _ricvae("clean", tmp_path / "no.csv", "--out", tmp_path / "out"), "no.csv, actual nothing: check the path."
    )
    (tmp_path / "same.csv").write_text("a,b\n1,2\n1,2\n")
    _refused(_ricvae("clean", tmp_path / "same.csv", "--out", tmp_path / "out"), "Expected data that vary")
    assert [path.name for path in tmp_path.iterdir()] == ["same.csv"]


@pytest.mark.usefixtures("no_picture")
def test_earlier_output_is_replaced_only_on_request(table: Path, tmp_path: Path) -> None:
    command = ["clean", table / "table.csv", "--out", tmp_path / "out", *QUICK]
    assert _ricvae(*command).exit_code == 0
    (tmp_path / "out" / "old.txt").touch()
    _refused(_ricvae(*command), "Expected a new or an empty folder")
    assert _ricvae(*command, "--overwrite").exit_code == 0
    assert not (tmp_path / "out" / "old.txt").exists()


def test_the_input_is_never_replaced(table: Path) -> None:
    given = table / "out" / "cleaned.csv"
    _refused(_ricvae("clean", given, "--out", table / "out", "--overwrite"), "which would replace it")
    _refused(_ricvae("score", table / "out" / "model", given, "--out", given, "--overwrite"), "which would replace it")


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (KeyboardInterrupt(), 130, "Interrupted: no output was written."),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (TrainingError("The loss is\nnot finite."), 1, "Error: The loss is not finite."),
    ],
)
def test_what_fails_on_the_way_leaves_nothing_behind(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: int, message: str
) -> None:
    def fail(_: RiCVAE, data: DataFile, folder: Path, **__: Any) -> None:
        data.write(data.values, folder, "cleaned")
        raise error

    monkeypatch.setattr(cleaning, "write_cleaning", fail)
    _refused(_ricvae("clean", table / "table.csv", "--out", tmp_path / "x" / "out", *QUICK), message, exit_code)
    assert list(tmp_path.iterdir()) == []


def test_faults_of_the_program_are_not_hidden(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(RiCVAE, "fit", fail)
    result = _ricvae("clean", table / "table.csv", "--out", tmp_path / "out")
    assert isinstance(result.exception, RuntimeError)
    assert list(tmp_path.iterdir()) == []


def test_scores_are_those_of_the_cleaning(table: Path, tmp_path: Path) -> None:
    expected = pd.read_csv(table / "out" / "row_scores.csv")
    printed = _ricvae("score", table / "out" / "model", table / "table.csv")
    assert printed.stderr == ""
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(printed.stdout)), expected, rtol=1e-4)
    written = _ricvae("score", table / "out" / "model", table / "table.csv", "--out", tmp_path / "scores.csv")
    assert written.stdout == f"Written to {tmp_path / 'scores.csv'}: the scores of 40 rows.\n"
    assert (tmp_path / "scores.csv").read_text() == printed.stdout


def test_a_single_row_can_be_scored(images: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", IMAGES[5:6])
    printed = _ricvae("score", images / "out" / "model", tmp_path / "one.npy", "--device", "cpu")
    (row,) = pd.read_csv(io.StringIO(printed.stdout)).to_dict("records")
    expected = pd.read_csv(images / "out" / "row_scores.csv").to_dict("records")[5]
    assert row["score"] == pytest.approx(expected["score"], rel=1e-4)


def test_scoring_refuses_what_the_model_was_not_made_for(table: Path, images: Path, tmp_path: Path) -> None:
    TABLE[["b", "a", "c d", "e", "f"]].to_csv(tmp_path / "swapped.csv")
    model = table / "out" / "model"
    _refused(_ricvae("score", model, tmp_path / "swapped.csv"), "actual 'b' in the place of 'a'")
    _refused(_ricvae("score", model, images / "images"), "Expected rows of shape (5,), as in fit, actual (4, 5)")
    _refused(_ricvae("score", table, table / "table.csv"), "Expected a folder with a saved model")
    _refused(_ricvae("score", model, table / "table.csv", "--device", "cuda:99"), "Expected a device of this machine")
    _refused(_ricvae("score", model, table / "table.csv", "--out", table / "table.csv"), "Expected no file at")


def _samples(model: Path, path: Path, *arguments: object) -> NDArray[Any]:
    result = _ricvae("sample", model, "--out", path, *arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    values: NDArray[Any] = np.load(path) if path.suffix == ".npy" else pd.read_csv(path).to_numpy()
    return values


def test_samples_depend_on_seed_and_passes_alone(table: Path, tmp_path: Path) -> None:
    model = table / "out" / "model"
    first = _samples(model, tmp_path / "a.npy", "-n", 7)
    assert first.shape == (7, 5)
    np.testing.assert_array_equal(_samples(model, tmp_path / "b.npy", "-n", 7, "--seed", 0), first)
    assert not np.array_equal(_samples(model, tmp_path / "c.npy", "-n", 7, "--seed", 1), first)
    assert not np.array_equal(_samples(model, tmp_path / "d.npy", "-n", 7, "--passes", 3), first)
    np.testing.assert_allclose(_samples(model, tmp_path / "e.csv", "-n", 7), first)
    assert list(pd.read_csv(tmp_path / "e.csv")) == list(TABLE.columns)
    assert _ricvae("score", model, tmp_path / "e.csv").exit_code == 0


@pytest.mark.usefixtures("no_picture")
def test_samples_of_arrays_get_columns_that_can_be_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", TABLE.to_numpy())
    assert _ricvae("clean", tmp_path / "rows.npy", "--out", tmp_path / "out", *QUICK).exit_code == 0
    samples = _samples(tmp_path / "out" / "model", tmp_path / "a.csv", "-n", 3)
    np.testing.assert_allclose(read(tmp_path / "a.csv").values, samples)
    assert list(pd.read_csv(tmp_path / "a.csv")) == ["x0", "x1", "x2", "x3", "x4"]


def test_samples_of_images_can_be_a_picture(images: Path, tmp_path: Path) -> None:
    assert _ricvae("sample", images / "out" / "model", "-n", 5, "--out", tmp_path / "a.png").exit_code == 0
    samples = _samples(images / "out" / "model", tmp_path / "a.npy", "-n", 5)
    low, high = IMAGES.min(), IMAGES.max()
    expected = np.rint(255 * np.clip((samples - low) / (high - low), 0, 1))
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture)
    np.testing.assert_allclose(pixels[2:50:12, 2:62:12], expected[0], atol=1)  # enlarged 12 times


def test_samples_in_another_format_are_refused(table: Path, images: Path, tmp_path: Path) -> None:
    for folder, name, formats in [(table, "a.png", ".npy or .csv"), (images, "a.csv", ".npy or .png")]:
        result = _ricvae("sample", folder / "out" / "model", "-n", 5, "--out", tmp_path / name)
        _refused(result, f"with the ending {formats}, actual")
    _refused(_ricvae("sample", table / "out" / "model", "-n", 0, "--out", tmp_path / "a.npy"), "0 is not in the range")
    _refused(_ricvae("sample", tmp_path, "-n", 5, "--out", tmp_path / "a.npy"), "Expected a folder with a saved model")
    (tmp_path / "a.npy").touch()
    _refused(_ricvae("sample", table / "out" / "model", "-n", 5, "--out", tmp_path / "a.npy"), "Expected no file at")


def test_the_demo_fills_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(out: Path, seed: int, quiet: bool) -> None:
        (out / "given.json").write_text(json.dumps([seed, quiet]))

    monkeypatch.setitem(sys.modules, "pyro_ricvae.demo", SimpleNamespace(run=run, format_table=None))
    assert _ricvae("demo", "--out", tmp_path / "out", "--seed", 5, "--quiet").exit_code == 0
    assert json.loads((tmp_path / "out" / "given.json").read_text()) == [5, True]


@pytest.mark.parametrize("command", [[], ["clean"], ["score"], ["sample"], ["demo"]])
def test_every_command_has_help_and_needs_its_arguments(command: list[str]) -> None:
    assert "Usage:" in _ricvae(*command, "--help").stdout
    if command:
        _refused(_ricvae(*command), "Missing ")
