"""Compare a standard VAE, trained by plain Pyro SVI, with robust ones, on dirty images whose truth is known.

The standard VAE is written out as in Pyro's tutorial. First it is shown to be this package's l2-VAE, step by step; then
`rv.compare` fits it, and others, with several seeds on scikit-learn's digits, some of them under a bright block.

    python examples/compare_with_vae.py --out demo-output
    python examples/compare_with_vae.py --out demo-output --share 0    # the same without dirt
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from pyro.infer import SVI, TraceMeanField_ELBO
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.comparison import with_single_passes
from pyro_ricvae.data import corruption
from pyro_ricvae.plots import criteria, image_grid, save

N_LATENT, HIDDEN, BATCH_SIZE = 9, (256, 128, 64), 100  # the estimator's own choice for these data
N_TRAIN = 1000
SHOWN = ("error_dirty", "error_clean", "bound", "trimmed_error", "row_average_precision", "cell_average_precision")


class TutorialVAE(nn.Module):
    """A variational autoencoder as in Pyro's tutorial, with a normal likelihood of one fixed scale."""

    def __init__(self, x: Tensor, scale: float) -> None:
        super().__init__()
        center = x.median(0).values
        self.encoder = rv.networks.MLPEncoder(x.shape[1], N_LATENT, HIDDEN, center=center)
        self.decoder = rv.networks.MLPDecoder(N_LATENT, x.shape[1], HIDDEN[::-1], center=center)
        self.scale = scale

    def model(self, x: Tensor) -> None:
        """Sample latents and pixels."""
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), N_LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), self.scale).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """Sample latents, given pixels."""
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(*self.encoder(x)).to_event(1))


class PlainSVI(BaseEstimator):  # type: ignore[misc]
    """The tutorial's VAE as an estimator: `fit`, `clean` and scikit-learn's parameters are all that compare needs."""

    def __init__(self, scale: float = 0.6, epochs: int = 60, random_state: int = 0) -> None:
        self.scale, self.epochs, self.random_state = scale, epochs, random_state

    def fit(self, X: NDArray[Any], y: None = None) -> "PlainSVI":  # noqa: N803
        """Train by SVI."""
        x = torch.as_tensor(X, dtype=torch.float32).flatten(1)
        pyro.set_rng_seed(self.random_state)
        self.vae_ = TutorialVAE(x, self.scale)
        train(self.vae_.model, self.vae_.guide, TraceMeanField_ELBO(), x, self.epochs)
        return self

    def clean(self, X: NDArray[Any]) -> NDArray[Any]:  # noqa: N803
        """Return the mean of what is decoded at the mean of the latents."""
        with torch.no_grad():
            loc, _ = self.vae_.encoder(torch.as_tensor(X, dtype=torch.float32).flatten(1))
            return self.vae_.decoder(loc).reshape(X.shape).numpy()


def train(model: Any, guide: Any, elbo: Any, x: Tensor, epochs: int) -> list[float]:
    """Return the loss of every step of plain SVI."""
    with pyro.get_param_store().scope():  # Pyro's store is global: without a scope a second model would not learn
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 2e-3}), elbo)
        return [svi.step(batch) for _ in range(epochs) for batch in x[torch.randperm(len(x))].split(BATCH_SIZE)]


def same_losses(x: Tensor, scale: float, seed: int) -> tuple[int, float]:
    """Train the tutorial's VAE and this package's l2-VAE alike; return steps and the greatest relative difference."""
    pyro.set_rng_seed(seed)
    vae = TutorialVAE(x, scale)
    networks = copy.deepcopy(vae)
    likelihood, prior = rv.likelihoods.FixedNormal(scale), rv.priors.StandardNormal(N_LATENT)
    model, guide = rv.models.VAE(networks.decoder, likelihood, prior), rv.guides.AmortizedNormal(networks.encoder)
    losses = []
    for pair in ((vae.model, vae.guide, TraceMeanField_ELBO()), (model, guide, rv.inference.RecyclingELBO(passes=1))):
        pyro.set_rng_seed(seed)
        losses.append(np.array(train(*pair, x, epochs=5)))
    return len(losses[0]), float(np.abs(losses[1] / losses[0] - 1).max())


def main() -> None:
    """Compare, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of data, tables and pictures")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--scale", type=float, default=0.6, help="of the l2-VAEs, as a share of the range")
    parser.add_argument("--share", type=float, default=0.4, help="of the training images that are dirty")
    parser.add_argument("--seed", type=int, default=0, help="of the dirt; the first of the seeds of training")
    parser.add_argument("--n-seeds", type=int, default=3)
    options = parser.parse_args()

    clean = (load_digits().images / 16)[np.random.default_rng(options.seed).permutation(1797)]
    truth, test = clean[:N_TRAIN], clean[N_TRAIN:]
    dirty, _ = corruption.blocks(truth, share=options.share, random_state=options.seed)
    steps, difference = same_losses(torch.as_tensor(dirty, dtype=torch.float32).flatten(1), options.scale, options.seed)
    print(f"the tutorial's VAE and this package's l2-VAE, {steps} steps: losses differ by {difference:.1e} at most\n")

    robust = rv.RiCVAE(likelihood="index_conditioned", epochs=options.epochs)
    passes = with_single_passes(robust, dirty).epochs  # as many as the RiC-VAE makes, for all
    one = {"train_passes": 1, "epochs": passes}
    estimators = {
        "plain SVI": PlainSVI(options.scale, passes),
        "l2-VAE": rv.RiCVAE(likelihood="fixed_normal", floor=options.scale, **one),
        "sigma-VAE": rv.RiCVAE(likelihood="shared_normal", **one),
        "Student-t": rv.RiCVAE(likelihood="student_t", **one),
        "RiC-VAE": robust,
    }
    seeds = range(options.seed, options.seed + options.n_seeds)
    result = rv.compare(estimators, dirty, truth, test, seeds=seeds)

    shown = [criterion for criterion in SHOWN if criterion in result.criteria]
    print(result.summary()[[*shown, "seconds"]].T.to_string(float_format="{:.4g}".format, na_rep="none"))
    for criterion in shown:
        ranked = result.rank(criterion)
        print(f"{criterion}, best first: {', '.join(ranked.index[ranked['rank'].notna()])}")
    try:
        result.rank("bound", ["l2-VAE", "RiC-VAE"])
    except ValueError as error:
        print(f"\nRefused: {error}")

    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "comparison.md").write_text(result.to_markdown(baseline="sigma-VAE") + "\n", encoding="utf-8")
    result.to_csv(options.out / "comparison.csv")
    save(criteria(result), options.out / "comparison.png")
    for name, images in {"dirty": dirty, "truth": truth, "test": test}.items():
        np.save(options.out / f"{name}.npy", images)
    some = np.flatnonzero((dirty != truth).any(axis=(1, 2)))[:12] if options.share else np.arange(12)
    rows = {"data": dirty[some]}
    for name, estimator in estimators.items():  # once more: a comparison keeps numbers, not models
        rows[name] = estimator.set_params(random_state=options.seed).fit(dirty).clean(dirty[some])
    save(image_grid(rows | {"truth": truth[some]}), options.out / "cleaned.png")
    print(f"\nwritten to {options.out}: comparison.md, .csv and .png, cleaned.png, and the data as .npy")


if __name__ == "__main__":
    main()
