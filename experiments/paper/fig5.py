"""Figure 5: the aggregate posterior of models of MNIST against the prior."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.paper import fig4
from experiments.reproduce.report import Claim, Report
from pyro_ricvae.plots.style import BLUE, GREY, new_figure

SUMMARY = "The aggregate posterior of 2,000 digits against N(0, I), for iC-VAE, RiC-VAE and the default."
RUNS_OF = fig4


def report(runs: list[dict[str, Any]]) -> Report:
    """Return the page."""
    models = [run for run in runs if run["scenario"] != "real" and run["model"] != "l2-VAE"]
    lines = []
    for run in models:
        z = run["aggregate"]
        lines.append(
            {
                "scenario": run["scenario"],
                "model": fig4.name_of(run),
                "seed": run["seed"],
                "variance, least": float(z.var(0).min()),
                "variance, largest": float(z.var(0).max()),
                "largest mean": float(np.abs(z.mean(0)).max()),
                "KL of a normal fit": _kl(z),
            }
        )
    table = pd.DataFrame(lines)
    means = table.groupby(["scenario", "model"], sort=False).mean(numeric_only=True).drop(columns="seed").reset_index()
    text = (
        "A draw from the posterior of each of 2,000 training rows. If the model is right, their distribution is the "
        "prior's, N(0, I), with variance 1 in each of 30 latents. *KL of a normal fit*: of N(mean, covariance) of the "
        "draws from N(0, I), in nats; 2,000 draws of N(0, I) itself have about 0.12, and so has "
        "a model whose latents say nothing of the rows. *plain* is the paper's procedure. "
        "The picture has the two latents whose variances are farthest from 1."
    )
    claims = []
    for (scenario, _), some in table.groupby(["scenario", "seed"]):
        kl = some.set_index("model")["KL of a normal fit"]
        for of, other in (("RiC(5)", "iC-VAE"), ("RiC(5), plain", "iC-VAE, plain")):
            if {of, other} <= set(kl.index):
                figures = f"KL {kl[of]:.2f} for {kl[other]:.2f} nats"
                words = f"{of} is nearer to the prior than {other}, {scenario}"
                claims.append(Claim(words, "section 5.3, figure 5", figures, bool(kl[of] < kl[other])))
    shown = [run for run in models if run["seed"] == 0 and run["scenario"] == models[-1]["scenario"]]
    seen = "Scatter of two latents' draws for each model, beside draws from the prior"
    pictures = {"latents": (seen, _draw(shown))}
    return Report("Figure 5: the aggregate posterior", text, claims, {"Moments": means}, pictures)


def _kl(z: "np.ndarray[Any, Any]") -> float:
    """Return the KL divergence of the normal with the draws' mean and covariance from N(0, I), in nats."""
    covariance = np.cov(z.astype(float), rowvar=False)
    away = np.trace(covariance) + np.square(z.mean(0)).sum() - len(covariance)
    return float(0.5 * (away - np.linalg.slogdet(covariance)[1]))


def _draw(runs: list[dict[str, Any]]) -> Figure:
    figure = new_figure(2.2 * (len(runs) + 1), 2.6)
    panels = figure.subplots(1, len(runs) + 1, sharex=True, sharey=True, squeeze=False)[0]
    draws = {fig4.name_of(run): run["aggregate"] for run in runs}
    draws["N(0, I)"] = np.random.default_rng(0).standard_normal((2000, 30))
    for panel, (name, z) in zip(panels, draws.items(), strict=True):
        first, second = np.argsort(np.abs(np.log(z.var(0))))[-2:]  # where the variance is farthest from 1
        panel.plot(z[:, first], z[:, second], ".", color=BLUE, markersize=1.5, alpha=0.4)
        panel.set(title=name, xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
        panel.title.set_fontsize(9)
        panel.grid(color=GREY, linewidth=0.5)
    return figure
