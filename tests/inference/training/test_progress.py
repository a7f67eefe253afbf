from typing import Any

import pytest
import torch
from reference import make_pair

from pyro_ricvae.inference import Recipe, Trainer
from pyro_ricvae.inference.training.progress import Progress

ENTRY = {
    "phase": "single passes",
    "passes": 1,
    "epoch": 2.0,
    "epochs": 7,
    "loss": 12.34,
    "reconstruction": 10.04,
    "kl": 2.26,
    "active_units": 3.0,
    "rows": 20,
}


def shown(captured: Any) -> str:
    return str(captured.err.split("\r")[-1] or captured.err.split("\r")[-2])


def at_once(progress: Progress) -> Progress:
    """Draw the bar at every call, not ten times a second."""
    progress._bar.mininterval = 0
    return progress


@pytest.mark.parametrize("verbose", ["auto", False])
def test_quiet(capsys: pytest.CaptureFixture[str], verbose: Any) -> None:
    """Under a test, as in a job, standard error is no terminal."""
    with at_once(Progress(100, verbose)) as progress:
        progress(ENTRY)
    assert capsys.readouterr() == ("", "")


def test_auto_is_shown_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress(100):
        pass
    assert "0/100" in capsys.readouterr().err.replace("0.00/100", "0/100")


def test_terms_and_speed_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with at_once(Progress(100, verbose=True)) as progress:
        progress(ENTRY)
        line = shown(capsys.readouterr())
        assert "single passes, epoch 2/7" in line
        assert "20%" in line
        assert "20.0/100" in line
        assert "row/s" in line
        assert "loss=12.3, reconstruction=10.0, KL=2.3, active=3" in line
        progress(ENTRY | {"phase": "recycling", "passes": 3, "kl": 1.0})
        line = shown(capsys.readouterr())
        assert "recycling, epoch 2/7" in line
        assert "40.0/100" in line
        assert "KL=1.0" in line


def test_the_bar_is_closed_where_training_stops(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), at_once(Progress(100, verbose=True)) as progress:
        raise KeyboardInterrupt
    before = capsys.readouterr()
    progress(ENTRY)
    assert capsys.readouterr().err == ""
    assert "0%" in before.err


@pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")
@pytest.mark.parametrize("passes", [1, 3])
def test_a_run_reaches_the_end_of_the_bar(capsys: pytest.CaptureFixture[str], passes: int) -> None:
    trainer = Trainer(*make_pair(), epochs=4, passes=passes, recipe=Recipe(batch_size=8, single_pass_share=0.5))
    with at_once(Progress(80, verbose=True)) as trainer.on_log:
        trainer.fit(torch.randn(20, 5))
        line = shown(capsys.readouterr())
    assert "100%" in line
    assert "80.0/80.0" in line
