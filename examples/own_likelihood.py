"""A likelihood of your own in ten lines: a Student-t with a scale for each column, on a table with gross errors.

It trains, recycles, cleans and scores like the package's own; `check` finds what is wrong with it, `compare` puts it
beside others, and it is saved and loaded. Pictures show the comparison, and the scales that it learned.

    python examples/own_likelihood.py --out demo-output
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyro.distributions as dist
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import pyro_ricvae as rv
from pyro_ricvae.data import corruption, load_breast_cancer


class ColumnStudentT(rv.likelihoods.Likelihood):
    """A Student-t with a scale for each column, trained with the networks."""

    def __init__(self, n_columns: int, start: float = 0.3) -> None:
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.full((n_columns,), start).log())

    def forward(self, decoder_output: torch.Tensor, x: torch.Tensor | None = None) -> dist.TorchDistribution:  # noqa: D102
        scale = 0.02 + self.log_scale.exp()  # away from 0, where a density has no bound
        return dist.StudentT(4.0, decoder_output, scale)


class OfRows(ColumnStudentT):
    """The same with a mistake: rows in the place of cells."""

    def forward(self, decoder_output: torch.Tensor, x: torch.Tensor | None = None) -> dist.TorchDistribution:
        """Return a distribution whose log-density is one of rows, where one of cells is asked for."""
        return super().forward(decoder_output, x).to_event(1)


def draw_scales(own: torch.Tensor, shared: float, names: list[str], path: Path) -> None:
    """Draw the scales of the columns, and the one that all share under "student_t"."""
    order = own.argsort().tolist()
    figure = Figure(figsize=(6, 6), layout="constrained")
    ax = figure.subplots()
    ax.barh([names[i] for i in order], own[order].numpy(), color="#2166ac")
    ax.axvline(shared, color="#b2182b", label=f'the one scale of "student_t": {shared:.2f}')
    ax.set_xlabel("scale, in robust standard deviations of the column")
    ax.tick_params(labelsize=7)
    figure.legend(loc="outside upper center", frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100, format="png")


def main() -> None:
    """Check, train, recycle, clean, save, load and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the pictures")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the dirt, and the first of three of training")
    options = parser.parse_args()

    table = load_breast_cancer()
    truth, n_columns = table.to_numpy(), table.shape[1]
    dirty, where = corruption.gross_errors(truth, share=0.1, random_state=options.seed)

    decoder = rv.networks.MLPDecoder(8, n_columns, hidden=(64, 128))
    guide = rv.guides.AmortizedNormal(rv.networks.MLPEncoder(n_columns, 8, hidden=(128, 64)))
    for likelihood in (OfRows(n_columns), ColumnStudentT(n_columns)):
        model = rv.models.VAE(decoder, likelihood, rv.priors.StandardNormal(8))
        print(f"{type(likelihood).__name__}:\n{rv.check(model, guide, torch.randn(20, n_columns))}\n")

    settings = {"epochs": options.epochs, "random_state": options.seed}
    est = rv.RiCVAE(likelihood=ColumnStudentT(n_columns), train_passes=2, **settings).fit(dirty)
    with TemporaryDirectory() as folder:
        est.save(folder)
        again = rv.load(folder, likelihood=ColumnStudentT(n_columns))
    print("saved and loaded, it cleans alike:", np.array_equal(again.clean(dirty), est.clean(dirty)))

    entrants = {
        "own": rv.RiCVAE(likelihood=ColumnStudentT(n_columns), train_passes=1, **settings),
        "student_t": rv.RiCVAE(likelihood="student_t", train_passes=1, **settings),
        "index_conditioned": rv.RiCVAE(likelihood="index_conditioned", train_passes=1, **settings),
    }
    seeds = range(options.seed, options.seed + 3)
    comparison = rv.compare(entrants, dirty, truth, dirty=where, seeds=seeds, verbose=False)
    print(f"\n{comparison.to_markdown(baseline='student_t')}")

    options.out.mkdir(parents=True, exist_ok=True)
    rv.plots.save(rv.plots.criteria(comparison), options.out / "own-likelihood-compared.png")
    shared = rv.RiCVAE(likelihood="student_t", train_passes=2, **settings).fit(dirty).model_.likelihood
    own = 0.02 + est.model_.likelihood.log_scale.detach().exp().cpu()
    draw_scales(own, shared.current_scale().item(), list(table.columns), options.out / "own-likelihood-scales.png")
    print(f"\npictures: {options.out}/own-likelihood-*.png")


if __name__ == "__main__":
    main()
