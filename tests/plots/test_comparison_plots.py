"""The picture of a comparison: a panel a criterion."""

import numpy as np
import pandas as pd

from pyro_ricvae.comparison import CRITERIA, Comparison
from pyro_ricvae.plots import criteria


def test_every_criterion_has_a_panel_that_says_what_is_better() -> None:
    lines = []
    for name, scale in (("one", 1.0), ("other", 100.0)):
        for seed in (0, 1):
            lines.append((name, seed, "error", scale * (1 + seed), ""))
            lines.append((name, seed, "row_roc_auc", 0.5 + 0.1 * seed, ""))
            lines.append(
                (name, seed, "bound", -3.0 if name == "one" else np.nan, "" if name == "one" else "no density")
            )
    table = pd.DataFrame(lines, columns=["name", "seed", "criterion", "value", "note"])
    figure = criteria(Comparison(table, ()))
    panels = {axes.get_title().split("\n")[0]: axes for axes in figure.axes if axes.get_visible() and axes.get_title()}
    assert list(panels) == ["error", "bound", "row_roc_auc"]
    for name, axes in panels.items():
        assert axes.get_title().endswith(f"{CRITERIA[name].better} is better")
    assert panels["error"].get_xscale() == "log"  # they are a hundredfold apart
    assert panels["row_roc_auc"].get_xscale() == "linear"
    assert [text.get_text() for text in panels["bound"].texts] == ["none"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["one", "other"]
    dots = [line.get_xdata() for line in panels["error"].lines]
    np.testing.assert_array_equal(dots, [[1.0, 2.0], [100.0, 200.0]])
