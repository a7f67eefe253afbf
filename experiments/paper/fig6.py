"""Figure 6: how far new digits are from the nearest training digit: whether a model copies."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import mannwhitneyu

from experiments.paper import fig4
from experiments.reproduce.report import Claim, Report
from pyro_ricvae.plots.style import BLUE, new_figure

SUMMARY = "Distances of samples to their nearest training digits, beside those among the digits themselves."
RUNS_OF = fig4
_COPY = 0.01  # the quantile of the digits' own distances, below which a sample is called a copy


def report(runs: list[dict[str, Any]]) -> Report:
    """Return the page."""
    own = next(run["nearest 1"] for run in runs if run["scenario"] == "real")
    limit = float(np.quantile(own, _COPY))
    lines, claims, shown = [], [], {"digits themselves": own}
    for run in runs:
        for m in fig4.NEIGHBOURS:
            distances = run.get(f"nearest {m}")
            if distances is None or run["scenario"] == "real":
                continue
            name = f"{fig4.name_of(run)}, {run['scenario']}, M = {m}"
            copies = float((distances < limit).mean())
            p_value = float(mannwhitneyu(distances, own, alternative="less").pvalue)
            lines.append([name, run["seed"], *map(float, (distances.mean(), np.median(distances), copies, p_value))])
            if run["seed"] == 0:
                shown[name] = distances
                claims.append(
                    Claim(
                        f"{name}: does not copy, the mean distance is as large as among the digits",
                        "section 5.3, figure 6",
                        f"mean {distances.mean():.2f} for {own.mean():.2f}; {copies:.2%} nearer than the digits' 1%",
                        bool(distances.mean() >= own.mean()),
                    )
                )
    columns = ["samples", "seed", "mean distance", "median", "copies", "p, smaller"]
    text = (
        f"Euclidean distances of pixels on [0, 1] from each sample to the nearest of the 60,000 training digits, and "
        f"from each digit to the nearest other one (mean {own.mean():.2f}), by an exact search. *copies*: the share of "
        f"samples nearer than {limit:.2f}, within which 1% of the digits have another. *p, smaller*: of Mann and "
        "Whitney's test that samples are nearer than digits. Blurred or averaged images are near to much, and so a "
        "small distance need not be a copy."
    )
    table = pd.DataFrame(lines, columns=columns)
    pictures = {"nearest": (_SEEN, _draw(shown))}
    return Report("Figure 6: nearest neighbours", text, claims, {"Distances": table}, pictures)


_SEEN = "Histograms of the distance to the nearest training digit, for the digits themselves and for samples"


def _draw(shown: dict[str, Any]) -> Figure:
    figure = new_figure(3.4 * min(3, len(shown)), 2.3 * -(-len(shown) // 3))
    panels = figure.subplots(-(-len(shown) // 3), min(3, len(shown)), sharex=True, squeeze=False).ravel()
    for panel, (name, distances) in zip(panels, shown.items(), strict=False):
        panel.hist(distances, bins=60, range=(0, 14), color=BLUE, density=True)
        panel.axvline(float(distances.mean()), color="black", linewidth=1)
        panel.set_title(f"{name}, mean {distances.mean():.2f}", fontsize=9)
        panel.set_yticks([])
        panel.tick_params(labelbottom=True)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    return figure
