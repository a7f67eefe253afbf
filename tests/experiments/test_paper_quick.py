"""Every experiment of the paper by the command, on small data and with short trainings: it runs and writes a page."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.paper import EXPERIMENTS
from experiments.reproduce.command import main
from pyro_ricvae.data.datasets import find

FILES = {"fig2": "frey_faces.npz", "fig3": "frey_faces.npz", "table1": "adbench/14_glass.npz"}
FILES |= dict.fromkeys(("fig4", "fig5", "fig6"), "mnist.npz") | {"robust_vaes": "frey_faces.npz"}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_quick_run_writes_a_page(name: str, tmp_path: Path) -> None:
    if name in FILES and find(FILES[name]) is None:
        pytest.skip("needs the files that PYRO_RICVAE_DATA names")
    result = CliRunner().invoke(main, ["reproduce", name, "--quick", "--seeds", "1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    page = (tmp_path / f"paper/{name}.md").read_text()
    pictures = re.findall(r"\]\((.+?\.png)\)", page)
    assert pictures
    assert all((tmp_path / "paper" / picture).stat().st_size > 1000 for picture in pictures)
    assert "## Made by" in page
    assert not re.search(r"\bnan\b", page.split("## Made by")[0].replace("p = nan", ""))
    assert len((tmp_path / f"paper/{name}.csv").read_text().splitlines()) > 2
