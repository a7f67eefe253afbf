"""One autoencoder of digits with two latents, under four priors: where the digits go, and what samples look like.

The priors are the standard normal, a Gaussian mixture, a Pyro distribution as it is (independent Student-t latents),
and a module of our own (a normalising flow). Printed are, for each, whether its KL has a closed form, the
importance-weighted bound of held-out digits, how well a classifier tells the digits' latents from draws of the prior,
and how far new samples lie from the nearest digit. Pictures show the digits' latents over the prior's density, and
the samples.

    python examples/swap_prior.py --out demo-output
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pyro.distributions.transforms import Permute, spline_coupling
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

import pyro_ricvae as rv
from pyro_ricvae.plots import image_grid, save

EDGE = 4.5  # of the pictures, in latent units
N_SHOWN = 12


class FlowPrior(torch.nn.Module):
    """A normal pushed through splines that are trained with the networks."""

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(n_latent))
        self.splines = torch.nn.ModuleList([spline_coupling(n_latent, bound=EDGE) for _ in range(2)])
        self.swap = Permute(torch.arange(n_latent).flip(0))

    def forward(self) -> dist.TransformedDistribution:
        """Return a distribution of batch shape () and event shape (n_latent,)."""
        base = dist.Normal(self.zeros, torch.ones_like(self.zeros)).to_event(1)
        return dist.TransformedDistribution(base, [self.splines[0], self.swap, self.splines[1]])


def priors() -> dict[str, Any]:
    """Return the priors by name: a name the estimator knows, a distribution, or a module."""
    return {
        "standard normal": "standard_normal",
        "Gaussian mixture": "gaussian_mixture",
        "Student-t": dist.StudentT(3.0, torch.zeros(2), 1.0).to_event(1),
        "flow": FlowPrior(2),
    }


def draw_latents(ax: Axes, est: rv.RiCVAE, latents: Any, labels: Any) -> Any:
    """Draw the digits' latents by class over contours of the prior's density."""
    across = torch.linspace(-EDGE, EDGE, 121)
    grid = torch.stack(torch.meshgrid(across, across, indexing="xy"), dim=-1)
    with torch.no_grad():
        log_density = est.model_.prior().log_prob(grid.to(est.settings_["device"])).cpu()
    levels = log_density.max().item() + np.array([-8, -6, -4, -3, -2, -1, -0.5])  # nats under the highest
    ax.contour(across, across, log_density, levels=levels, colors="0.75", linestyles="solid", linewidths=0.7)
    ax.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", xticks=[-4, 0, 4], yticks=[-4, 0, 4])
    return ax.scatter(*latents.T, c=labels, cmap="tab10", s=3, vmin=-0.5, vmax=9.5)


def main() -> None:
    """Fit under every prior, print the table and draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the pictures")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)  # for the weights that the flow starts with

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(options.seed).permutation(len(images))
    images, labels = images[order].reshape(-1, 8, 8) / 16, labels[order]
    train, test = images[:1200], images[1200:]
    digits = NearestNeighbors(n_neighbors=1).fit(train.reshape(len(train), -1))
    distance = digits.kneighbors(test.reshape(len(test), -1))[0].mean()
    print(f"held-out digits lie {distance:.2f} from the nearest digit of the training data, on average")
    print(f"{'':18}{'KL':>13}{'bound':>9}{'told apart':>12}{'p':>9}{'distance of samples':>21}")

    figure = Figure(figsize=(9.5, 9), layout="constrained")
    axes = figure.subplots(2, 2)
    samples = {}
    for ax, (name, prior) in zip(axes.flat, priors().items(), strict=True):
        settings = {"train_passes": 1, "epochs": options.epochs, "random_state": options.seed}
        est = rv.RiCVAE(n_latent=2, likelihood="shared_normal", prior=prior, **settings).fit(train)
        pair, x = (est.model_, est.guide_), est.standardise(test)
        bound = rv.diagnostics.importance_weighted_bound(*pair, x, 200).mean().item()
        bound -= np.log(est.scaling_.scale).sum()  # in data units
        gap = rv.diagnostics.aggregate_posterior_test(*pair, est.standardise(train), random_state=options.seed)
        new = est.sample(600)
        far = digits.kneighbors(new.reshape(len(new), -1))[0].mean()
        print(f"{name:18}{est.settings_['kl']:>13}{bound:9.2f}{gap.accuracy:12.1%}{gap.p_value:9.2g}{far:21.2f}")
        dots = draw_latents(ax, est, est.transform(train), labels[:1200])
        ax.set_title(f"{name}: KL {est.settings_['kl']}, told apart {gap.accuracy:.0%}", fontsize=10)
        samples[name] = new[:N_SHOWN]
    figure.colorbar(dots, ax=axes, ticks=range(10), label="digit", shrink=0.6)
    FigureCanvasAgg(figure)
    figure.savefig(options.out / "swap-prior-latents.png", dpi=90, format="png")
    figure = image_grid(samples | {"digits": test[:N_SHOWN]}, limits=(0, 1))
    save(figure, options.out / "swap-prior-samples.png")
    print(f"\npictures: {options.out}/swap-prior-*.png")
    print(rv.check(*pair, x[:50]))


if __name__ == "__main__":
    main()
