"""The same networks and prior under ten likelihoods, on digits of which two in five are under a bright block.

All models see only the dirty images. Printed are, for each likelihood, the scale it ended with, its error against the
clean images, how many cells it gives up (farther than 0.3 of the range from what it expects), how well its scores find
the dirty cells, and its bound on the log-density where there is one. Pictures show what each makes of dirty images,
which cells it gives up, and why: what a residual costs it.

    python examples/swap_likelihood.py --out demo-output
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

import pyro_ricvae as rv
from pyro_ricvae.data import corruption, load_digits
from pyro_ricvae.plots import image_grid, save

LIKELIHOODS: dict[str, dict[str, Any]] = {
    "index_conditioned": {},
    "inverse_gamma": {},
    "student_t": {},
    "laplace": {},
    "contaminated_normal": {},
    "shared_normal": {},
    "learned_normal": {},
    "fixed_normal": {},
    "fixed_normal, 0.5": {"likelihood": "fixed_normal", "floor": 0.5},  # the best of four, with the truth at hand
    "bernoulli": {},
}
GIVEN_UP = 0.3  # of the range
N_SHOWN = 10


def scale_of(likelihood: Any) -> str:
    """Return the scale or floor that a fitted likelihood ended with, in standardised units."""
    if hasattr(likelihood, "current_scale"):
        return f"{likelihood.current_scale().item():.3f}"
    if hasattr(likelihood, "variance"):
        return f"{likelihood.variance.sqrt().item():.3f}"
    constant = getattr(likelihood, "floor", getattr(likelihood, "scale", None))
    return "-" if constant is None else f"{constant.item():.3f}"


def bound(est: rv.RiCVAE, x: NDArray[Any]) -> str:
    """Return the mean bound on a row's log-density, in nats of the data, or "-" where there is none."""
    try:
        each = rv.diagnostics.importance_weighted_bound(est.model_, est.guide_, est.standardise(x), 20)
    except ValueError:  # it says why; the page does, too
        return "-"
    return f"{each.mean().item() - np.log(est.scaling_.scale).sum():.1f}"


def draw_costs(likelihoods: dict[str, Any], path: Path) -> None:
    """Draw what a residual costs, and how hard it pulls, under likelihoods that look at nothing but the residual."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    cost, pull = figure.subplots(1, 2)
    r = torch.linspace(0, 1, 401)[:, None]
    for i, (name, likelihood) in enumerate(likelihoods.items()):
        location = torch.zeros_like(r, requires_grad=True)
        log_density = likelihood.cpu()(location, r).log_prob(r)
        (gradient,) = torch.autograd.grad(log_density.sum(), location)
        style = {"color": f"C{i}", "linestyle": "-" if likelihood.normalised else "--", "label": name}
        cost.plot(r[:, 0], (log_density[0] - log_density).detach(), **style)
        pull.plot(r[:, 0], gradient[:, 0], **style)
    cost.set(xlabel="residual, of the range", ylabel="cost in nats, above that of no residual", ylim=(0, 12))
    pull.set(xlabel="residual, of the range", ylabel="pull on the decoder: its derivative", ylim=(0, 20))
    figure.legend(*cost.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, format="png")


def main() -> None:
    """Dirty the digits, fit under every likelihood, print the table and draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the pictures")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    clean = load_digits() / 16
    dirty, _ = corruption.blocks(clean, share=0.4, random_state=options.seed)
    where = dirty != clean  # a block over pixels that are white already does no harm
    hit = where.any((1, 2))
    shown = np.flatnonzero(hit)[:N_SHOWN]
    cleaned = {"dirty": dirty[shown]}
    given_up = {"dirty": dirty[shown], "the dirt": where[shown].astype(float)}
    costs = {}
    print(f"{hit.sum()} of {len(dirty)} images are dirty, {where.sum()} of {where.size} cells; errors x 1000")
    print(f"{'':45}{'given up':^20}")
    print(f"{'':21}{'scale':>6}{'dirty':>8}{'clean':>8}{'of dirty':>11}{'of clean':>11}{'AP':>7}{'bound':>8}")
    print(f"{'input':27}{1000 * ((dirty - clean)[hit] ** 2).mean():8.1f}{0:8.1f}")
    for name, arguments in LIKELIHOODS.items():
        settings = {"likelihood": name, "train_passes": 1, "epochs": options.epochs, "random_state": options.seed}
        est = rv.RiCVAE(**(settings | arguments)).fit(dirty)
        expected = est.clean(dirty)
        error = 1000 * ((expected - clean) ** 2).mean((1, 2))
        far = np.abs(dirty - expected) > GIVEN_UP
        found = average_precision_score(where.ravel(), est.cell_scores(dirty).ravel())
        scale = scale_of(est.model_.likelihood)
        shares = f"{far[where].mean():11.1%}{far[~where].mean():11.1%}"
        print(f"{name:21}{scale:>6}{error[hit].mean():8.1f}{error[~hit].mean():8.1f}{shares}{found:7.2f}", end="")
        print(f"{bound(est, dirty):>8}", flush=True)
        label = name.replace("_", "\n").replace(", ", "\n")
        cleaned[label], given_up[label] = expected[shown], far[shown].astype(float)
        if name not in ("learned_normal", "bernoulli"):
            costs[name] = est.model_.likelihood.eval()
    save(image_grid(cleaned | {"truth": clean[shown]}, limits=(0, 1)), options.out / "swap-likelihood-cleaned.png")
    save(image_grid(given_up, limits=(0, 1)), options.out / "swap-likelihood-given-up.png")
    draw_costs(costs, options.out / "swap-likelihood-costs.png")
    print(f"\npictures: {options.out}/swap-likelihood-*.png")


if __name__ == "__main__":
    main()
