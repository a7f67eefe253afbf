"""Calibration of predictive intervals: how many entries they hold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ricvae._core.checks import check_rows, positive_int
from pyro_ricvae._core.extras import extra
from pyro_ricvae.diagnostics.replicates.replicate import draw_rows, rows_at_once, scale_for
from pyro_ricvae.inference.predictive import in_chunks
from pyro_ricvae.pair import Guide, Model

# A coverage is said to be wrong if it is off by more than so many standard errors.
_CLEARLY = 3.0
_SMALL_P = 0.003


@dataclass(frozen=True)
class IntervalCalibration:
    """How often predictive intervals hold what they should.

    Parameters
    ----------
    levels : ndarray, shape (k,)
        The nominal coverage of the central intervals.
    coverage : ndarray, shape (k,)
        The share of the entries within them, ends included.
    standard_error : ndarray, shape (k,)
        Of the coverage, with rows, not entries, taken as independent: the entries of a row share its latents. At least
        the binomial one at the nominal coverage.
    n_entries : int
        The number of entries that counted.
    seen : bool
        Whether the guide saw the values of these entries, which lifts their coverage.
    """

    levels: NDArray[np.float64]
    coverage: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    n_entries: int
    seen: bool

    def verdicts(self) -> list[str]:
        """Return "too narrow", "too wide" or "as said" for each level.

        Beyond three standard errors, and, since few entries are not normal, at a p-value below 0.003 of the exact
        binomial test.
        """
        with extra("estimators"):
            from scipy.stats import binomtest

        off = self.coverage - self.levels
        held = np.round(self.coverage * self.n_entries).astype(int)
        p_values = [binomtest(int(k), self.n_entries, p).pvalue for k, p in zip(held, self.levels, strict=True)]
        clear = (np.abs(off) > _CLEARLY * self.standard_error) & (np.array(p_values) < _SMALL_P)
        return [
            ("too narrow" if sign < 0 else "too wide") if is_clear else "as said"
            for sign, is_clear in zip(off, clear, strict=True)
        ]

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Return the coverage at each level, in words."""
        lines = [f"Of {self.n_entries} entries,"]
        lines += [
            f"{level:.0%} intervals hold {covered:.1%} (standard error {error:.1%}): {verdict}"
            for level, covered, error, verdict in zip(
                self.levels, self.coverage, self.standard_error, self.verdicts(), strict=True
            )
        ]
        if self.seen:
            lines.append("The guide saw these values, which lifts their coverage: only what is too narrow counts.")
        return "\n  ".join(lines)


def interval_calibration(
    model: Model,
    guide: Guide,
    x_seen: Tensor,
    x_clean: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    n_draws: int = 399,
    batch_size: int = 1024,
) -> IntervalCalibration:
    r"""Return how many entries lie within the central intervals of their row's replicates.

    Replicates are :math:`z_s \sim q(z \mid x_i)`, :math:`x_{is} \sim p(x \mid z_s)`; under a profile likelihood with
    one scale a feature, aggregated over all rows of `x_seen` (see `diagnostics.replicate_scale`).

    Parameters
    ----------
    model : pair.Model
        The generative model.
    guide : pair.Guide
        Its guide.
    x_seen : Tensor, shape (n, d)
        What the guide sees: rows that it was not trained on, in the model's units, two or more.
    x_clean : Tensor, shape (n, d), optional
        What should lie within the intervals: the truth under the dirt, or a second measurement. By default `x_seen`.
    mask : Tensor of bool, shape (n, d), optional
        True for the entries that count: those whose value in `x_clean` is clean. By default all do.
    levels : sequence of float, default=(0.5, 0.8, 0.9, 0.95)
        The nominal coverages, between 0 and 1.
    n_draws : int, default=399
        The number S of replicates. Quantiles are at ranks :math:`p (S + 1)`: exact where these are whole, as they are
        for the default levels.
    batch_size : int, default=1024
        The number of rows in a chunk at most; fewer where there are many draws.

    Returns
    -------
    IntervalCalibration
        The coverage at each level.

    Raises
    ------
    ValueError
        If `n_draws` is too few for the levels, no entry counts, or an argument is not as said.

    Notes
    -----
    Entries that the guide has seen help to predict themselves: even if all is right, their intervals hold a little
    more than they should, the more the fewer features there are to a latent unit. Entries that were hidden under dirt
    in `x_seen` do not, nor does a second measurement. Values of a discrete likelihood lie on the ends of intervals,
    which then hold more as well.
    """
    n_draws = positive_int("n_draws", n_draws)
    nominal = _check_levels(levels, n_draws)
    seen = x_clean is None
    x_clean, mask = _check_entries(x_seen, x_clean, mask)
    scale = scale_for(model, guide, x_seen)
    probabilities = np.concatenate([(1 - nominal) / 2, (1 + nominal) / 2])

    def bounds(chunk: Tensor) -> Tensor:
        drawn = draw_rows(model, guide.encode(chunk).sample((n_draws,)), scale).cpu().numpy()
        return torch.from_numpy(np.quantile(drawn, probabilities, axis=0, method="weibull"))

    ends = in_chunks((model, guide), x_seen, rows_at_once(batch_size, n_draws, x_seen), bounds)
    lower, upper = ends.cpu().numpy().reshape(2, len(nominal), *x_seen.shape)
    values, counted = x_clean.cpu().numpy(), mask.cpu().numpy()
    held = (lower <= values) & (values <= upper)
    coverage = held[:, counted].mean(axis=1)
    by_row = ((held - coverage[:, None, None]) * counted).sum(axis=2)
    clustered = np.sqrt(np.square(by_row).sum(axis=1)) / counted.sum()
    # Around a coverage of nearly 1, as few entries have by chance, the former is nearly 0.
    standard_error = np.maximum(clustered, np.sqrt(nominal * (1 - nominal) / counted.sum()))
    return IntervalCalibration(nominal, coverage, standard_error, int(counted.sum()), seen)


def _check_levels(levels: Sequence[float], n_draws: int) -> NDArray[np.float64]:
    nominal = np.asarray(levels, dtype=np.float64)
    if nominal.ndim != 1 or not nominal.size or not ((nominal > 0) & (nominal < 1)).all():
        raise ValueError(f"Expected levels between 0 and 1, such as (0.5, 0.9), actual {levels!r}.")
    needed = int(np.ceil(2 / (1 - nominal.max()) - 1 - 1e-9))
    if n_draws < needed:
        raise ValueError(f"Expected n_draws >= {needed} for a level of {nominal.max():g}, actual {n_draws}.")
    return nominal


def _check_entries(x_seen: Tensor, x_clean: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    check_rows(x_seen)
    if x_seen.dim() != 2 or len(x_seen) < 2:
        raise ValueError(f"Expected x_seen of shape (n, d) with n >= 2, actual {tuple(x_seen.shape)}.")
    x_clean = x_seen if x_clean is None else torch.as_tensor(x_clean, device=x_seen.device)
    mask = torch.ones_like(x_seen, dtype=torch.bool) if mask is None else torch.as_tensor(mask, device=x_seen.device)
    if not x_clean.is_floating_point():
        raise ValueError(f"Expected x_clean to be rows of numbers, actual {x_clean.dtype}: give a mask as mask=.")
    for name, value in (("x_clean", x_clean), ("mask", mask)):
        if value.shape != x_seen.shape:
            raise ValueError(f"Expected {name} of x_seen's shape {tuple(x_seen.shape)}, actual {tuple(value.shape)}.")
    if mask.dtype != torch.bool or not mask.any():
        raise ValueError(
            f"Expected a mask of bool, True for the entries that count, at least one, actual {mask.dtype} with "
            f"{int(mask.bool().sum())} of them."
        )
    if not x_clean[mask].isfinite().all():
        raise ValueError("Expected finite values in x_clean where mask is True, actual others: leave them out of it.")
    return x_clean, mask
