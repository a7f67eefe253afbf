"""Clean dirty digits with plain Pyro SVI: an l2-VAE beside an iC-VAE.

Two in five of scikit-learn's digits get a bright block at a random place. Both models see only those dirty images,
without being told which or where; they differ in their likelihood alone. Printed is their error against the clean
images, and a picture shows what each makes of the dirty ones, with new samples of each.

    python examples/svi.py --out demo-output
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from pyro.infer import SVI
from sklearn.datasets import load_digits
from torch import Tensor

import pyro_ricvae as rv

N_LATENT = 10
HIDDEN = (256, 128, 64)
BATCH_SIZE = 100
DIRTY_SHARE = 0.4
BLOCK = 3  # pixels a side
N_SHOWN = 12


def dirty_digits(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the digits on [0, 1], a copy with a bright block on some of the images, and which images those are."""
    clean = load_digits().images.astype(np.float32) / 16
    generator = np.random.default_rng(seed)
    dirty, is_dirty = clean.copy(), generator.random(len(clean)) < DIRTY_SHARE
    for i in np.flatnonzero(is_dirty):
        top, left = generator.integers(0, 8 - BLOCK + 1, size=2)
        dirty[i, top : top + BLOCK, left : left + BLOCK] = 1
    return torch.from_numpy(clean).flatten(1), torch.from_numpy(dirty).flatten(1), torch.from_numpy(is_dirty)


def fit(
    x: Tensor, likelihood: rv.likelihoods.Likelihood, epochs: int
) -> tuple[rv.models.VAE, rv.guides.AmortizedNormal]:
    """Train a VAE with the given likelihood on the rows of `x`, and return model and guide."""
    center = x.median(0).values
    decoder = rv.networks.MLPDecoder(N_LATENT, x.shape[1], HIDDEN[::-1], center=center)
    encoder = rv.networks.MLPEncoder(x.shape[1], N_LATENT, HIDDEN, center=center)
    model = rv.models.VAE(decoder, likelihood, rv.priors.StandardNormal(N_LATENT), size=len(x))
    guide = rv.guides.AmortizedNormal(encoder, size=len(x))
    with pyro.get_param_store().scope():  # Pyro's store is global: without a scope a second model would not learn
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 2e-3}), rv.inference.RecyclingELBO())
        for epoch in range(epochs):
            losses = [svi.step(batch) for batch in x[torch.randperm(len(x))].split(BATCH_SIZE)]
            if epoch % max(1, epochs // 5) == 0 or epoch == epochs - 1:
                print(f"  epoch {epoch + 1:4d} {sum(losses) / len(losses) / len(x):8.2f} nats a row")
    return model, guide


def draw(path: Path, rows: dict[str, Tensor]) -> None:
    """Draw each row of images under its name."""
    columns = max(len(images) for images in rows.values())
    figure, axes = plt.subplots(len(rows), columns, figsize=(0.8 * columns + 1, 0.85 * len(rows)), squeeze=False)
    for row_axes, (name, images) in zip(axes, rows.items(), strict=True):
        row_axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axis, image in zip(row_axes, images, strict=True):
            axis.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Dirty the digits, train both models, print their errors and draw a picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the picture")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--scale", type=float, default=0.6, help="scale of the l2-VAE, as a share of the range")
    parser.add_argument("--floor", type=float, default=0.2, help="floor of the iC-VAE, as a share of the range")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    clean, dirty, is_dirty = dirty_digits(options.seed)
    shown = is_dirty.nonzero().flatten()[:N_SHOWN]
    cleaned, samples = {}, {}
    for name, likelihood in {
        "l2-VAE": rv.likelihoods.FixedNormal(options.scale),
        "iC-VAE": rv.likelihoods.IndexConditionedNormal(options.floor),
    }.items():
        print(name if likelihood.normalised else f"{name} (a profile likelihood: its nats and others do not compare)")
        pyro.set_rng_seed(options.seed)
        model, guide = fit(dirty, likelihood, options.epochs)
        cleaned[name] = rv.inference.reconstruct(model, guide, dirty)
        samples[f"{name}, new samples"] = rv.inference.generate(model, guide, len(shown))

    print(f"\nmean squared error x 1000 against the clean images, {is_dirty.sum()} of {len(dirty)} of them dirty")
    print(f"{'':10}{'dirty images':>14}{'clean images':>14}")
    for name, images in {"input": dirty, **cleaned}.items():
        errors = 1000 * (images - clean).square().mean(1)
        print(f"{name:10}{errors[is_dirty].mean():14.1f}{errors[~is_dirty].mean():14.1f}")

    options.out.mkdir(parents=True, exist_ok=True)
    rows = {name: images[shown] for name, images in {"dirty": dirty, **cleaned, "truth": clean}.items()}
    draw(options.out / "svi.png", rows | samples)
    print(f"\npicture: {options.out / 'svi.png'}")


if __name__ == "__main__":
    main()
