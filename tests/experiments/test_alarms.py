"""The rates of the alarms, with tiny settings."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tables import cells

from experiments import alarms
from experiments.alarms import TABLES, Table, main
from experiments.linear_gaussian import LinearGaussian


def test_tables_and_runs_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "N_LATENT", (4,))
    monkeypatch.setattr(alarms, "TABLES", TABLES[:1])
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "out"), "--seeds", "2"], catch_exceptions=False)
    assert result.exit_code == 0
    assert (tmp_path / "out" / "guides.md").read_text().strip() == result.output.strip()
    runs = json.loads((tmp_path / "out" / "guides.json").read_text())
    rung = {(run["guide"], run["seed"]): (run["k-hat's alarm"], run["calibration's alarm"]) for run in runs}
    for seed in (0, 1):
        assert rung["exact", seed] == (False, False)
        assert rung["half the scale", seed] == rung["mean off by 1.5 scales", seed] == (True, True)
        assert rung["twice the scale", seed] == (False, True)
    lines = [cells(line) for line in result.output.splitlines()]
    assert ["4", "exact", "0 of 2", "0 of 2", "0", "0", "0"] in lines
    (half,) = (line for line in lines if line[:2] == ["4", "half the scale"])
    assert half[2:4] == ["2 of 2", "2 of 2"]
    assert half[4].startswith("0.")


def test_a_table_counts_rates_and_averages_means() -> None:
    table = Table("t", ("a", "b"), ("rang",), ("size",), lambda seed: [])
    runs = [{"a": a, "b": "x", "seed": s, "rang": s > a, "size": a + s} for s in (0, 1, 2) for a in (0, 1)]
    head, _, *lines = map(cells, table.markdown(runs).splitlines())
    assert head == ["a", "b", "rang", "size"]
    assert lines == [["0", "x", "2 of 3", "1"], ["1", "x", "1 of 3", "2"]]


@pytest.mark.parametrize("n_latent", [1, 3])
def test_the_exact_guide_is_the_posterior(n_latent: int) -> None:
    """By Bayes: log p(x, z) - log q(z | x) does not depend on z; a wrong guide's does, and is off as is said."""
    exact = LinearGaussian(20, n_latent, 0.5, 0)
    model, guide = exact.model, exact.guide()
    x, z = torch.randn(5, 20), torch.randn(7, 5, n_latent)
    posterior = guide.encode(x)
    log_weights = model.decode(z).log_prob(x) + model.prior().log_prob(z) - posterior.log_prob(z)
    torch.testing.assert_close(log_weights, log_weights[:1].expand(7, 5), rtol=1e-4, atol=1e-3)
    wrong = exact.guide(0.5, 1.5).encode(x)
    torch.testing.assert_close(wrong.mean, posterior.mean + 1.5 * posterior.stddev)
    torch.testing.assert_close(wrong.stddev, 0.5 * posterior.stddev)
