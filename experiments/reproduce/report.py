"""What an experiment shows: claims with their figures, tables and pictures, written as a page, CSV and PNG files."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from tabulate import tabulate

from pyro_ricvae.plots import save


@dataclass(frozen=True)
class Claim:
    """A claim, and what came out.

    Parameters
    ----------
    words : str
        The claim: the paper's words in short, or ours.
    source : str
        Where it stands, as "section 5.2" or "ours".
    figures : str
        What was measured.
    held : bool or None
        Whether the figures bear it out; None where there are too few runs to tell.
    """

    words: str
    source: str
    figures: str
    held: bool | None

    @property
    def verdict(self) -> str:
        """Say in a word or two whether it held."""
        return {True: "held", False: "**did not hold**", None: "not measured"}[self.held]


@dataclass(frozen=True)
class Report:
    """The page of an experiment.

    Parameters
    ----------
    title : str
        What it is about.
    text : str
        What was done: data, models, settings and figures, in Markdown.
    claims : sequence of Claim
        What it tests.
    tables : dict of str to DataFrame, optional
        By caption; a line a row, as shown.
    pictures : dict of str to (str, Figure), optional
        By name of the file without its ending: what there is to see, for who cannot, and the picture.
    """

    title: str
    text: str
    claims: Sequence[Claim]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: dict[str, tuple[str, Figure]] = field(default_factory=dict)


def write(report: Report, runs: pd.DataFrame, folder: Path, name: str, made_by: str) -> Path:
    """Write the page ``NAME.md``, its pictures ``NAME-....png`` and its runs ``NAME.csv``; return the page.

    `made_by` are the command, the time and the hardware, in Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    parts = [f"# {report.title}", report.text, claims_table(report.claims)]
    for stem, (seen, figure) in report.pictures.items():
        save(figure, folder / f"{name}-{stem}.png")
        parts.append(f"![{seen}]({name}-{stem}.png)")
    for caption, table in report.tables.items():
        parts += [f"## {caption}", markdown(table)]
    parts += ["## Made by", made_by]
    page = folder / f"{name}.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def write_summary(folder: Path, names: Sequence[str]) -> Path:
    """Write ``FOLDER.md``, beside the folder of pages: of each that there is, its title, a link, and its claims.

    What stands above the first of them is kept, where the file is there.
    """
    summary = folder.with_suffix(".md")
    above = summary.read_text(encoding="utf-8").split("\n\n## [")[0] if summary.exists() else _SUMMARY
    parts = [above.rstrip()]
    for name in names:
        page = folder / f"{name}.md"
        if page.exists():
            lines = page.read_text(encoding="utf-8").splitlines()
            first = next((number for number, line in enumerate(lines) if line.startswith("|")), len(lines))
            claims = itertools.takewhile(lambda line: line.startswith("|"), lines[first:])
            title = lines[0].removeprefix("# ")
            parts += [f"## [{title}]({folder.name}/{name}.md)", "\n".join(claims)]
    summary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return summary


_SUMMARY = """# The paper's claims, and what came out

"Green Generative Modeling: Recycling Dirty Data using Recurrent Variational Autoencoders", a line a claim. *ours* are
claims of this package. Each page has what was done, all figures, and the command that made it."""


def claims_table(claims: Sequence[Claim]) -> str:
    """Return claims as a table in Markdown."""
    lines = [[each.words, each.source, each.figures, each.verdict] for each in claims]
    return tabulate(lines, ["claim", "where", "measured", "verdict"], tablefmt="github", disable_numparse=True)


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown, numbers to three digits."""
    cells = [[_shown(value) for value in row] for row in table.itertuples(index=False)]
    return tabulate(cells, list(map(str, table.columns)), tablefmt="github", disable_numparse=True)


def _shown(value: object) -> str:
    return ("" if value != value else f"{value:.3g}") if isinstance(value, float) else str(value)
