"""Check fitted models on rows they have not seen: posterior predictive checks, ArviZ, diagnostics of the guide.

Twenty sensors follow two common factors. In the first data set their noise has heavy tails: a normal likelihood is the
wrong model, Student-t the right one. In the second the noise is normal, and one cell in twenty a gross error, in the
training rows as well: there the index-conditioned likelihood is fitted, and checked with the dirty cells masked.

    python examples/posterior_predictive.py --out demo-output
"""

import argparse
from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

import pyro_ricvae as rv
from pyro_ricvae import plots
from pyro_ricvae.data import corruption
from pyro_ricvae.diagnostics.replicates import statistics

N_TRAIN, N_TEST, N_FACTORS, N_SENSORS = 2000, 300, 2, 20


def sensors(noise: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and test rows: two factors, and noise that is "normal" or "heavy", Student-t with 4 degrees."""
    rng = np.random.default_rng(seed)
    size = (N_TRAIN + N_TEST, N_SENSORS)
    weights = np.linalg.qr(rng.normal(size=(N_SENSORS, N_FACTORS)))[0] * [2, 4]
    errors = rng.standard_t(4, size) if noise == "heavy" else rng.normal(size=size)
    rows = rng.normal(size=(len(errors), N_FACTORS)) @ weights.T + 0.5 * errors
    frame = pd.DataFrame(rows, columns=[f"sensor {i:02d}" for i in range(N_SENSORS)])
    return frame[:N_TRAIN], frame[N_TRAIN:]


def soil(rows: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Return the rows with a gross error in one cell of twenty, and where those are."""
    dirty, where = corruption.impulses(rows.to_numpy(), share=0.05, random_state=seed)
    return pd.DataFrame(dirty, rows.index, rows.columns), where


def widest_gap(x: Tensor, mask: Tensor) -> Tensor:
    """Return a statistic of one's own: the mean over rows of the farthest cell from its row's median.

    It gets many data sets at once, (S, n, d), and which of their cells count, (n, d); it returns one number for each.
    """
    middle = x.masked_fill(~mask, torch.nan).nanmedian(-1, keepdim=True).values
    return (x - middle).abs().masked_fill(~mask, 0).amax(-1).mean(-1)


def check(name: str, est: rv.RiCVAE, rows: pd.DataFrame, out: Path, dirty: NDArray[np.bool_] | None = None) -> None:
    """Print what a posterior predictive check finds, and draw it; dirty cells do not count."""
    x = est.standardise(rows)
    counts = torch.ones_like(x, dtype=torch.bool) if dirty is None else torch.as_tensor(~dirty)
    chosen = {
        "maximum": statistics.maximum,
        "kurtosis": statistics.kurtosis,
        "outlying cells": statistics.Outlying.of(x, counts),
        "widest gap": widest_gap,
    }
    found = rv.diagnostics.ppc(est.model_, est.guide_, x, statistics=chosen, mask=counts)
    missed = ", ".join(found.missed) or "nothing"
    print(f"{name:40}{missed:54}{found.pit.tail_probability:.2f}")
    file = name.lower().replace(", ", "-").replace(" ", "-")
    plots.save(plots.statistics(found), out / f"ppc-{file}.png")
    plots.save(plots.pit_histogram(found), out / f"pit-{file}.png")


def diagnose(name: str, est: rv.RiCVAE, clean: pd.DataFrame, out: Path) -> None:
    """Print what the guide's diagnostics say, on clean rows that were not fitted."""
    pair, x = (est.model_, est.guide_), est.standardise(clean)
    k = rv.diagnostics.pareto_k(*pair, x)
    gap = rv.diagnostics.amortisation_gap(*pair, x).mean()
    dirty, where = soil(clean, 0)
    hidden = rv.diagnostics.interval_calibration(*pair, est.standardise(dirty), x, torch.as_tensor(where))
    seen = rv.diagnostics.interval_calibration(*pair, x)
    try:
        simulated = rv.diagnostics.simulation_based_calibration(*pair)
        units = f"{len(simulated.faults())} of {N_FACTORS} wrong"
        plots.save(plots.rank_histograms(simulated), out / f"ranks-{name}.png")
    except ValueError:
        units = "refused"  # rows cannot be simulated from a profile likelihood
    covered = f"{seen.coverage[2]:14.1%}{hidden.coverage[2]:12.1%}, {hidden.verdicts()[2]}"
    print(f"{name:20}{k.share_above(0.7):14.0%}{gap:9.2f} nats{units:>20}{covered}")
    plots.save(plots.k_hat(k), out / f"k-hat-{name}.png")
    plots.save(plots.coverage(hidden), out / f"coverage-{name}.png")


def main() -> None:
    """Fit, check, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of pictures and of draws.nc")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    heavy, heavy_test = sensors("heavy", options.seed)
    normal, normal_test = sensors("normal", options.seed)
    dirty, _ = soil(normal, options.seed)
    dirty_test, where = soil(normal_test, options.seed + 1)
    # All sensors have noise of one scale, so that the columns are left as they are. No hidden layers: affine.
    settings = {"hidden": (), "train_passes": 1, "scaling": "none", "epochs": options.epochs}
    fitted = {
        likelihood: rv.RiCVAE(N_FACTORS, likelihood=likelihood, random_state=options.seed, **settings).fit(rows)
        for likelihood, rows in {"shared_normal": heavy, "student_t": heavy, "index_conditioned": dirty}.items()
    }
    shared_normal, student_t, robust = fitted.values()

    torch.manual_seed(options.seed)
    print(f"{'posterior predictive check':40}{'what the model misses':54}PIT tail probability")
    check("normal on heavy tails", shared_normal, heavy_test, options.out)
    check("Student-t on heavy tails", student_t, heavy_test, options.out)
    check("index-conditioned, clean rows", robust, normal_test, options.out)
    check("index-conditioned, dirty rows", robust, dirty_test, options.out)
    check("index-conditioned, dirty cells masked", robust, dirty_test, options.out, where)

    print(f"\n{'guide':20}{'k-hat > 0.7':>14}{'gap':>14}{'calibration':>20}{'90%: seen':>14}{'hidden':>12}")
    for (name, est), clean in zip(fitted.items(), (heavy_test, heavy_test, normal_test), strict=True):
        diagnose(name, est, clean, options.out)

    draws = student_t.to_arviz(heavy_test, n_draws=200, constant_data={"site": ["north"] * N_TEST})
    draws.to_netcdf(options.out / "draws.nc")
    read = az.from_netcdf(options.out / "draws.nc")
    print(f"\ndraws.nc: z {dict(read.posterior['z'].sizes)}, {read.attrs['likelihood']}")
    print(az.summary(read, var_names=["z"], coords={"row": [N_TRAIN]}, kind="stats"))
    print(robust.to_arviz(normal_test, n_draws=2).attrs["no_log_likelihood"])
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
