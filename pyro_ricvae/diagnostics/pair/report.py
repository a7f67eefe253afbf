"""What the check of a pair found, as an object and in print."""

from dataclasses import dataclass
from textwrap import fill
from typing import Literal

import torch


@dataclass(frozen=True)
class SiteRecord:
    """What a run says of one site.

    Parameters
    ----------
    name : str
        The site's.
    role : {"latent", "observed", "auxiliary", "param"}
        An auxiliary site is one of the guide alone.
    distribution : str
        The class of its distribution, a latent's the prior's; "" of a parameter, and of a latent where the model fails.
    guide : str
        The class of its distribution in the guide; "" where the guide does not sample it.
    batch_shape, event_shape : tuple of int
        The distribution's shapes, a latent's in the model. Of a parameter, its shape is the event's.
    plates : dict of str to int
        The plates around it, and how many rows of each are in the batch.
    reparameterised : bool
        Whether draws have a gradient (``rsample``), a latent's in the guide; False of a parameter.
    support : str
        The values that it may take, where the distribution says so.
    kl : {"closed form", "Monte Carlo", ""}
        How the loss gets a latent's KL divergence: from the distributions, or as log q - log p of a draw.
    """

    name: str
    role: Literal["latent", "observed", "auxiliary", "param"]
    distribution: str
    guide: str
    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    plates: dict[str, int]
    reparameterised: bool
    support: str
    kl: Literal["closed form", "Monte Carlo", ""]


@dataclass(frozen=True)
class PairReport:
    """What `check` found; printed, a table and the words.

    Parameters
    ----------
    sites : tuple of SiteRecord
        One a site: those of the model, then those of the guide alone, then the parameters.
    problems : tuple of str
        What is wrong, with the site's name and shape, and how to mend it.
    notes : tuple of str
        What is not wrong, but worth knowing.
    """

    sites: tuple[SiteRecord, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def __str__(self) -> str:
        """Return an aligned table of the sites, and the problems and notes."""
        header = ("site", "role", "distribution", "batch", "event", "plates", "rsample", "support", "KL")
        rows = [header, *(_row(site) for site in self.sites if site.role != "param")]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        params = [torch.Size(site.event_shape).numel() for site in self.sites if site.role == "param"]
        lines.append(f"{len(params)} parameters of {sum(params)} values in all")
        for title, messages in (("Problems", self.problems), ("Notes", self.notes)):
            lines += ["", f"{title}:" if messages else f"{title}: none", *map(_wrapped, messages)]
        return "\n".join(lines)


def _wrapped(message: str) -> str:
    return fill(message, 110, initial_indent="  - ", subsequent_indent="    ", break_long_words=False)


def _row(site: SiteRecord) -> tuple[str, ...]:
    """Return the cells of a site's row in the table."""
    guide = f"guide {site.guide or 'none'}" if site.role == "latent" else ""
    distribution = ", ".join(filter(None, (site.distribution, guide)))
    plates = ", ".join(f"{name}: {size}" for name, size in site.plates.items())
    support = site.support if len(site.support) <= 32 else site.support[:29] + "..."
    yes = "yes" if site.reparameterised else "no"
    return (
        site.name,
        site.role,
        distribution,
        str(site.batch_shape),
        str(site.event_shape),
        plates or "-",
        yes,
        support or "-",
        site.kl or "-",
    )
