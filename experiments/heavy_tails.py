"""How often a posterior predictive check rings, of a right and of a wrong model.

python -m experiments.heavy_tails --out DIR --seeds 20

Rows are W z + b + noise, with Student-t or normal noise. The models know W and b, and have the scale of their noise by
maximum likelihood, so that they differ in its shape alone. Or, with ``--trained``, they are trained estimators.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import scipy.stats
import torch
from tabulate import tabulate
from torch import Tensor, nn

from pyro_ricvae import RiCVAE
from pyro_ricvae.diagnostics.replicates.ppc import PosteriorPredictiveCheck, ppc
from pyro_ricvae.guides import AmortizedNormal
from pyro_ricvae.likelihoods import FixedNormal, StudentT
from pyro_ricvae.models import VAE
from pyro_ricvae.priors import StandardNormal

DF = 3.0  # of the heavy tails
NOISES = ("Student-t", "normal")

_N_ROWS, _N_FEATURES, _N_LATENT, _SCALE = 300, 20, 2, 0.5


class LinearData:
    """Rows W z + b + scale * noise, with z ~ N(0, I) and orthogonal columns of W.

    Parameters
    ----------
    noise : {"Student-t", "normal"}
        Of the cells, Student-t with 3 degrees of freedom.
    seed : int
        Of everything.
    """

    def __init__(self, noise: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        columns, _ = np.linalg.qr(rng.normal(size=(_N_FEATURES, _N_LATENT)))
        self.weights = columns * np.linspace(2.0, 4.0, _N_LATENT)
        self.bias = rng.normal(size=_N_FEATURES)
        size = (2 * _N_ROWS, _N_FEATURES)
        drawn = rng.standard_t(DF, size) if noise == "Student-t" else rng.normal(size=size)
        self.noise = _SCALE * drawn
        rows = rng.normal(size=(2 * _N_ROWS, _N_LATENT)) @ self.weights.T + self.bias + self.noise
        self.train, self.held_out = np.split(rows.astype(np.float32), 2)

    def pair(self, likelihood: str) -> tuple[VAE, AmortizedNormal]:
        """Return a model of the decoder W z + b, with a noise of its own fitted to the true one, and its guide.

        Parameters
        ----------
        likelihood : {"Student-t", "normal"}
            The model's noise; its scale is the one of maximum likelihood.
        """
        decoder = nn.Linear(_N_LATENT, _N_FEATURES)
        with torch.no_grad():
            decoder.weight.copy_(torch.as_tensor(self.weights))
            decoder.bias.copy_(torch.as_tensor(self.bias))
        if likelihood == "normal":
            scale, df = float(np.sqrt(np.mean(self.noise**2))), np.inf
            module: nn.Module = FixedNormal(scale)
        else:
            df = DF
            scale = float(scipy.stats.t.fit(self.noise.ravel(), fdf=df, floc=0.0)[2])
            module = StudentT(scale, df)
        return VAE(decoder, module, StandardNormal(_N_LATENT)), AmortizedNormal(_PosteriorEncoder(decoder, scale, df))


class _PosteriorEncoder(nn.Module):
    """The posterior of the latents of a linear decoder: exact for normal noise, around its mode for Student-t noise.

    The mode by expectation maximisation: each cell weighs (df + 1) / (df + (r / scale)²), as its variance is a latent.
    """

    def __init__(self, decoder: nn.Linear, scale: float, df: float) -> None:
        super().__init__()
        self.decoder, self.scale, self.df = decoder, scale, df

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = self.decoder.weight, self.decoder.bias
        cells = torch.ones_like(x)
        # Ten steps end within 0.05 posterior standard deviations of the mode.
        for _ in range(1 if self.df == np.inf else 10):
            weighted = cells.unsqueeze(-1) * weight / self.scale**2
            precision = weighted.mT @ weight + torch.eye(weight.shape[1])
            z = torch.linalg.solve(precision, (weighted.mT @ (x - bias).unsqueeze(-1)).squeeze(-1))
            if self.df < np.inf:
                cells = (self.df + 1) / (self.df + ((x - self.decoder(z)) / self.scale).square())
        return z, torch.diagonal(precision, dim1=-2, dim2=-1).rsqrt()


def exact(noise: str, likelihood: str, seed: int) -> PosteriorPredictiveCheck:
    """Check a model that knows all but the noise, on held-out rows."""
    data = LinearData(noise, seed)
    return ppc(*data.pair(likelihood), torch.as_tensor(data.held_out))


def trained(noise: str, likelihood: str, seed: int) -> PosteriorPredictiveCheck:
    """Check a trained estimator, on held-out rows; the scale of its noise is learned with the networks.

    After 100 epochs that scale still lags behind, and the PIT values show it.

    Columns are not scaled: the noise is of one scale in all, as in the models.
    """
    data = LinearData(noise, seed)
    module: Any = StudentT(_SCALE, DF, learn_scale=True) if likelihood == "Student-t" else "shared_normal"
    est = RiCVAE(
        _N_LATENT,
        hidden=(32,),
        train_passes=1,
        likelihood=module,
        epochs=400,
        scaling="none",
        random_state=seed,
        verbose=False,
    ).fit(data.train)
    return ppc(est.model_, est.guide_, est.standardise(data.held_out))


def rates(check: Callable[[str, str, int], PosteriorPredictiveCheck], seeds: int) -> list[dict[str, Any]]:
    """Return how often a check rings for every pair of noise and model, and which statistics are missed.

    Parameters
    ----------
    check : callable
        `exact` or `trained`.
    seeds : int
        How many seeds, from 0.
    """
    lines = []
    for noise in NOISES:
        for likelihood in NOISES:
            began, missed, alarms, pit = time.perf_counter(), defaultdict[str, int](int), 0, 0
            for seed in range(seeds):
                torch.manual_seed(seed)
                found = check(noise, likelihood, seed)
                alarms += found.alarm
                pit += found.pit.tail_probability < 0.05
                for name in found.missed:
                    missed[name] += 1
            seconds = (time.perf_counter() - began) / seeds
            lines.append(
                {
                    "noise": noise,
                    "model": likelihood,
                    "rings": f"{alarms} of {seeds}",
                    "missed": ", ".join(f"{name} {count}" for name, count in missed.items()) or "nothing",
                    "PIT below 0.05": f"{pit} of {seeds}",
                    "seconds": f"{seconds:.1f}",
                }
            )
    return lines


def markdown(lines: list[dict[str, Any]]) -> str:
    """Return lines with the same keys as a table."""
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True) + "\n"


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--trained", "with_training", is_flag=True, help="Trained estimators in the place of exact models.")
def main(out: Path, seeds: int, with_training: bool) -> None:
    """Write a table of how often a posterior predictive check rings to OUT."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    table = markdown(rates(trained if with_training else exact, seeds))
    (out / f"heavy-tails{'-trained' if with_training else ''}.md").write_text(table)
    click.echo(table)


if __name__ == "__main__":
    main()
