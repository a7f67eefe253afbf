"""The command line: ``ricvae clean``, ``score``, ``sample``, ``compare`` and ``demo``.

Results go to standard output and to files, which appear whole or not at all; progress, warnings and errors go to
standard error. The exit code is 0, 1 where something failed on the way, 2 for input that cannot be used, or 130 after
Ctrl-C.
"""

import errno
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

# torch, Pyro and the rest are imported inside the commands: `ricvae --help` need not wait for them.


class _BadInput(click.ClickException):
    exit_code = 2


class _Command(click.Command):
    """A command that turns the errors users can act on into messages, and lets those of the program through."""

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                click.echo("Interrupted: no output was written.", err=True)
                ctx.exit(130)
            except (ValueError, FileNotFoundError) as error:
                raise _BadInput(_one_paragraph(error)) from error
            except OSError as error:
                if error.errno == errno.EPIPE:  # the reader of standard output has gone, as `head` does
                    raise
                raise click.ClickException(_one_paragraph(error)) from error
            except RuntimeError as error:
                from pyro_ricvae.inference import TrainingError

                if not isinstance(error, TrainingError):
                    raise
                raise click.ClickException(_one_paragraph(error)) from error


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


def _one_paragraph(error: BaseException) -> str:
    return " ".join(str(error).split())


def _auto_or(expected: str, convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the type of an option: the word "auto", or what a function makes of the text."""

    def parse(text: str) -> Any:
        try:
            return text if text == "auto" else convert(text)
        except ValueError:
            raise click.BadParameter(f"expected {expected} or auto, actual {text!r}.") from None

    return parse


def _floor(text: str) -> float | tuple[float, float]:
    numbers = [float(part) for part in text.split(",")]
    if len(numbers) == 1:
        return numbers[0]
    start, end = numbers
    return start, end


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


_FLOOR = _auto_or("a number, START,END", _floor)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return _sizes(text)
    except ValueError:
        raise click.BadParameter(f"expected whole numbers such as 0,1,2, actual {text!r}.") from None


_WHOLE = _auto_or("a whole number", int)
_KEY = click.option("--key", help="The array to take from an .npz archive that holds several.")
_DEVICE = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."
)
_SEED = click.option("--seed", default=0, show_default=True, help="The same seed gives the same results.")
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an earlier output, once the new one is whole.")
_QUIET = click.option("--quiet", is_flag=True, help="No progress and no summary; warnings and errors remain.")
_PATH = click.Path(path_type=Path)
_N_LATENT = click.option(
    "--n-latent", type=_WHOLE, metavar="N", default="auto", show_default=True, help="Latent units."
)
_HIDDEN = click.option(
    "--hidden", type=_auto_or("sizes such as 256,128,64", _sizes), metavar="N,N,...", default="auto", show_default=True,
    help="Sizes of the encoder's hidden layers, with commas; the decoder mirrors them.",
)  # fmt: skip
_EPOCHS = click.option("--epochs", type=_WHOLE, metavar="N", default="auto", show_default=True, help="Epochs in all.")
_TRAIN_PASSES = click.option(
    "--train-passes", type=int, metavar="N", default=2, show_default=True, help="Passes in training."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pyro-ricvae")
def main() -> None:
    """Learn a clean generative model from dirty data, and clean the data with it."""


@main.command(cls=_Command, short_help="Fit a model on data, clean them, and report.")
@click.argument("input_path", metavar="INPUT", type=_PATH)
@click.option("--out", required=True, type=_PATH, metavar="DIR", help="The folder to make.")
@_KEY
@_N_LATENT
@_HIDDEN
@_EPOCHS
@click.option(
    "--floor", type=_FLOOR, metavar="F|START,END", default="auto", show_default=True,
    help="The resolution of the data, or START,END to move to it in training; in robust standard deviations of the "
    "columns for tables, in fractions of the range for images.",
)  # fmt: skip
@_TRAIN_PASSES
@click.option("--passes", type=_WHOLE, metavar="M", default="auto", show_default=True, help="Passes when cleaning.")
@click.option(
    "--scaling", type=click.Choice(["auto", "range", "robust", "none"]), default="auto", show_default=True,
    help="How the data are standardised inside: images by their range, tables by columns, robustly.",
)  # fmt: skip
@click.option(
    "--threshold", type=click.FloatRange(0, 1), metavar="P", default=0.5, show_default=True,
    help="Replace cells that are dirty with a higher probability.",
)  # fmt: skip
@click.option("--denoise", is_flag=True, help="Replace every cell by what the model makes of it.")
@_SEED
@_DEVICE
@_OVERWRITE
@_QUIET
def clean(
    input_path: Path,
    out: Path,
    key: str | None,
    threshold: float,
    denoise: bool,
    overwrite: bool,
    quiet: bool,
    seed: int,
    passes: Any,
    **settings: Any,
) -> None:
    """Fit a model on INPUT, and write the data with their dirty cells replaced into a new folder.

    INPUT is an .npy, .npz or .csv file (with column names), or a folder of PNG or JPEG images. The folder gets the
    cleaned data in the same format, all other cells as they were; a list of the changes; for every cell the probability
    that it is dirty, and a score (higher: more outlying), for every row a score (lower: more outlying); a picture of
    what fits least, a summary and the model.
    """
    from pyro_ricvae.cli import cleaning
    from pyro_ricvae.cli.files import read
    from pyro_ricvae.cli.outputs import output_folder
    from pyro_ricvae.estimators import RiCVAE

    start = time.perf_counter()
    with output_folder(out, overwrite, keep=input_path) as folder:
        data = read(input_path, key)
        for note in data.notes:
            _show_warning(note)
        estimator = RiCVAE(**settings, test_passes=passes, random_state=seed, verbose=False if quiet else "auto")
        estimator.fit(cleaning.model_input(data))
        fitted = time.perf_counter()
        summary = cleaning.write_cleaning(estimator, data, folder, threshold=threshold, denoise=denoise)
        summary["seconds"] = {"fit": round(fitted - start, 2), "total": round(time.perf_counter() - start, 2)}
        cleaning.write_summary(summary, folder)
    if not quiet:
        click.echo(cleaning.describe(summary, out))


@main.command(cls=_Command, short_help="Score the rows of data by a model.")
@click.argument("model", type=_PATH)
@click.argument("input_path", metavar="INPUT", type=_PATH)
@click.option("--out", type=_PATH, metavar="FILE.csv", help="Where to write; without it, standard output.")
@_KEY
@_DEVICE
@_OVERWRITE
@_QUIET
def score(
    model: Path, input_path: Path, out: Path | None, key: str | None, device: str, overwrite: bool, quiet: bool
) -> None:
    """Score the rows of INPUT by a MODEL that `ricvae clean` has made (DIR/model), as CSV.

    Columns: row (its name or its number from 0), score (in nats; lower: more outlying, below 0: outlying), worst_cell
    (the column's name or the index of the cell that fits least; of a pixel, "line column") and worst_cell_score (in
    nats; higher: more outlying).
    """
    from contextlib import nullcontext

    import numpy as np

    from pyro_ricvae.cli import cleaning
    from pyro_ricvae.cli.files import read
    from pyro_ricvae.cli.outputs import output_file
    from pyro_ricvae.cli.samples import check_generative
    from pyro_ricvae.estimators import load

    with output_file(out, overwrite, keep=input_path) if out else nullcontext() as file:
        data = read(input_path, key, min_rows=1)
        for note in data.notes:
            _show_warning(note)
        estimator = load(model, device=device)
        check_generative(estimator, model)
        values = cleaning.model_input(data)
        scores, cells = np.asarray(estimator.decision_function(values)), np.asarray(estimator.cell_scores(values))
        table = cleaning.row_scores(data, scores, cells).to_csv(file, index=False)
    if table is not None:
        click.echo(table, nl=False)
    elif not quiet:
        click.echo(f"Written to {out}: the scores of {len(scores)} rows.")


@main.command(cls=_Command, short_help="Draw new rows from a model.")
@click.argument("model", type=_PATH)
@click.option("-n", "n", type=click.IntRange(min=1), required=True, help="How many rows.")
@click.option(
    "--out", required=True, type=_PATH, metavar="FILE", help="An .npy or .csv file, or for images a picture, .png."
)
@click.option("--passes", type=int, metavar="M", help="Passes of the generator; by default those of the model.")
@_SEED
@_OVERWRITE
@_QUIET
def sample(model: Path, n: int, out: Path, passes: int | None, seed: int, overwrite: bool, quiet: bool) -> None:
    """Draw new rows from a MODEL that `ricvae clean` has made (DIR/model)."""
    from pyro_ricvae.cli.outputs import output_file
    from pyro_ricvae.cli.samples import check_generative, check_samples_path, write_samples
    from pyro_ricvae.estimators import load

    with output_file(out, overwrite) as file:
        estimator = load(model)
        check_generative(estimator, model)
        check_samples_path(estimator, out)
        write_samples(estimator, estimator.set_params(random_state=seed).sample(n, passes), file)
    if not quiet:
        click.echo(f"Written to {out}: {n} rows.")


@main.command(cls=_Command, short_help="Compare likelihoods on data.")
@click.argument("input_path", metavar="INPUT", type=_PATH)
@click.option("--out", required=True, type=_PATH, metavar="DIR", help="The folder to make.")
@_KEY
@click.option(
    "--likelihoods", metavar="NAME,NAME,...", default="shared_normal,index_conditioned,student_t", show_default=True,
    help="Likelihoods of the estimator, with commas; differences are to the first.",
)  # fmt: skip
@click.option("--truth", type=_PATH, metavar="FILE", help="The clean data, where known: of the shape of INPUT.")
@click.option("--test", type=_PATH, metavar="FILE", help="Rows that are not fitted, best clean ones, to evaluate on.")
@click.option(
    "--seeds",
    type=_seeds,
    metavar="N,N,...",
    default="0,1,2",
    show_default=True,
    help="A fit with each of these seeds.",
)
@click.option(
    "--single-passes/--no-single-passes", default=True, show_default=True,
    help="Fit all a second time without recycling, with as many passes over the data.",
)  # fmt: skip
@_N_LATENT
@_HIDDEN
@_EPOCHS
@_TRAIN_PASSES
@_DEVICE
@_OVERWRITE
@_QUIET
def compare(
    input_path: Path, out: Path, key: str | None, likelihoods: str, truth: Path | None, test: Path | None,
    seeds: tuple[int, ...], single_passes: bool, overwrite: bool, quiet: bool, **settings: Any,
) -> None:  # fmt: skip
    """Fit models of several likelihoods on INPUT, each with several seeds, and compare them.

    INPUT is as for `ricvae clean`, and so are the files of --truth and --test. The folder gets every value
    (comparison.csv), means with paired intervals (summary.csv, and summary.md with what they mean) and a picture.
    """
    from pyro_ricvae import plots
    from pyro_ricvae.cli.cleaning import model_input
    from pyro_ricvae.cli.files import read
    from pyro_ricvae.cli.outputs import output_folder
    from pyro_ricvae.comparison import compare as compare_estimators
    from pyro_ricvae.estimators import RiCVAE

    with output_folder(out, overwrite, keep=input_path) as folder:
        given = []
        for path, min_rows in ((input_path, 2), (truth, 1), (test, 1)):
            data = path and read(path, key if path == input_path or path.suffix == ".npz" else None, min_rows=min_rows)
            for note in data.notes if data else ():
                _show_warning(note)
            given.append(data and model_input(data))
        names = likelihoods.split(",")
        if len(set(names)) < len(names):
            raise ValueError(f"Expected different likelihoods, actual {likelihoods!r}: name each once.")
        result = compare_estimators(
            {name: RiCVAE(likelihood=name, **settings) for name in names},
            *given,
            seeds=seeds,
            single_passes=single_passes,
            verbose=False if quiet else "auto",
        )
        result.to_csv(folder / "comparison.csv")
        result.summary(names[0]).to_csv(folder / "summary.csv")
        (folder / "summary.md").write_text(result.to_markdown(names[0]) + "\n", encoding="utf-8")
        plots.save(plots.criteria(result), folder / "picture.png")
    if not quiet:
        click.echo(result)
        click.echo(f"\nWritten to {out}: summary.md, summary.csv, comparison.csv and picture.png.")


@main.command(cls=_Command, short_help="Clean two data sets that come along.")
@click.option("--out", required=True, type=_PATH, metavar="DIR", help="The folder to make.")
@_SEED
@_OVERWRITE
@_QUIET
def demo(out: Path, seed: int, overwrite: bool, quiet: bool) -> None:
    """Clean two data sets that come along, digits and a table, with dirt that is known, and say how much is gone."""
    from pyro_ricvae.cli.outputs import output_folder
    from pyro_ricvae.demo import format_table, run

    with output_folder(out, overwrite) as folder:
        results = run(folder, seed, quiet)
    if not quiet:
        click.echo(format_table(results))
        click.echo(f"Written to {out}: results.json, pictures (cleaned.png, samples.png, worst_cells.png) and models.")
