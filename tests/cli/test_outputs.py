from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pyro_ricvae.cli.files import InputError
from pyro_ricvae.cli.outputs import output_file, output_folder


def _tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def _make(path: Path, text: str, overwrite: bool = False) -> None:
    with output_folder(path, overwrite) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a.txt").write_text(text)
        assert _tree(path) != _tree(folder)  # nothing appears before the end


def test_a_folder_appears_whole_with_the_folders_above_it(tmp_path: Path) -> None:
    _make(tmp_path / "x" / "y", "first")
    assert _tree(tmp_path) == {"x/y/.ricvae": "", "x/y/inner/a.txt": "first"}
    plain = tmp_path / "plain"
    plain.mkdir()
    assert (tmp_path / "x" / "y").stat().st_mode == plain.stat().st_mode


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    _make(tmp_path / "out", "first")
    assert _tree(tmp_path / "out")["inner/a.txt"] == "first"


def _fail(output: AbstractContextManager[Path], name: str, error: type[BaseException]) -> None:
    with output as path:
        (path / name).write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [True, False])
def test_nothing_is_left_after_an_exception(tmp_path: Path, error: type[BaseException], before: bool) -> None:
    out = tmp_path / "x" / "out"
    if before:
        _make(out, "first")
    expected = sorted(tmp_path.rglob("*"))
    with pytest.raises(error):
        _fail(output_folder(out, overwrite=True), "half.txt", error)
    with pytest.raises(error):
        _fail(output_file(tmp_path / "z" / "file.txt"), "", error)
    assert sorted(tmp_path.rglob("*")) == expected
    if before:
        assert _tree(out)["inner/a.txt"] == "first"


def test_a_folder_with_files_is_replaced_only_on_request_and_only_if_made_here(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _make(out, "first")
    (out / "old.txt").write_text("old")
    with pytest.raises(InputError, match=r"a new or an empty folder, actual .*out with files: .* overwrite"):
        _make(out, "second")
    _make(out, "second", overwrite=True)
    assert _tree(tmp_path) == {"out/.ricvae": "", "out/inner/a.txt": "second"}
    (out / ".ricvae").unlink()
    with pytest.raises(InputError, match=r"an earlier output, actual a folder with other files, .*out: choose another"):
        _make(out, "third", overwrite=True)
    assert _tree(out) == {"inner/a.txt": "second"}


def test_the_earlier_folder_comes_back_when_the_new_one_cannot_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    _make(out, "first")
    rename = Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if (self / "new.txt").exists():
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(KeyboardInterrupt), output_folder(out, overwrite=True) as folder:
        (folder / "new.txt").touch()
    assert _tree(tmp_path) == {"out/.ricvae": "", "out/inner/a.txt": "first"}


def test_what_must_stay_is_never_replaced(tmp_path: Path) -> None:
    _make(tmp_path / "out", "first")
    given = tmp_path / "out" / "inner" / "a.txt"
    with pytest.raises(InputError, match=r"Expected an output beside the input .*, which would replace it"):
        output_folder(tmp_path / "out", overwrite=True, keep=given).__enter__()
    with pytest.raises(InputError, match="Expected an output beside the input"):
        output_file(given, overwrite=True, keep=given).__enter__()
    assert _tree(tmp_path / "out")["inner/a.txt"] == "first"


def test_a_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "x" / "a.txt"
    with output_file(path) as file:
        assert file.name == "a.txt"
        file.write_text("first")
    with pytest.raises(InputError, match=r"Expected no file at .*, actual one"):
        output_file(path).__enter__()
    with output_file(path, overwrite=True) as file:
        file.write_text("second")
        assert path.read_text() == "first"
    assert _tree(tmp_path) == {"x/a.txt": "second"}
    assert [entry.name for entry in (tmp_path / "x").iterdir()] == ["a.txt"]


def test_files_and_folders_are_not_taken_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="the name of a folder to make, actual the file"):
        output_folder(tmp_path / "file", overwrite=True).__enter__()
    with pytest.raises(InputError, match="the name of a file to write, actual the folder"):
        output_file(tmp_path, overwrite=True).__enter__()
    with pytest.raises(InputError, match=r"Expected to write to .*, actual: Not a directory"):
        output_folder(tmp_path / "file" / "out").__enter__()
