"""Posterior predictive checks: whether the model would have produced data like these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ricvae._core.checks import check_finite, check_mask, check_rows, positive_int
from pyro_ricvae._core.extras import extra
from pyro_ricvae.diagnostics.replicates.pit import PIT, Draw, count_replicate, uniformity
from pyro_ricvae.diagnostics.replicates.replicate import draw_rows, rows_at_once, scale_for
from pyro_ricvae.diagnostics.replicates.statistics import Statistic, choose
from pyro_ricvae.inference.predictive import in_chunks

if TYPE_CHECKING:
    import pandas as pd

#: An alarm rings where a tail probability, times the number of statistics (Bonferroni), is below this.
ALARM_LEVEL = 0.05

# Replicated cells held at once, in float64: 32 MiB, or one replicate of the data.
_CELLS_AT_ONCE = 2**22


@dataclass(frozen=True)
class PosteriorPredictiveCheck:
    """What a posterior predictive check found; see `ppc`.

    Parameters
    ----------
    observed : dict of str to float
        Each statistic of the data. Of a statistic with k numbers there are k entries, "name[0]" to "name[k - 1]".
    replicated : dict of str to ndarray, shape (S,)
        The same of the replicates.
    pit : PIT
        Where the cells lie in their own predictive distributions.
    scale : ndarray, shape (d,), or None
        The scales that a profile likelihood was replicated with, in the model's units; None for a proper one.
    n_cells : int
        How many cells counted.
    """

    observed: dict[str, float]
    replicated: dict[str, NDArray[np.float64]]
    pit: PIT
    scale: NDArray[np.float32] | None
    n_cells: int

    @property
    def n_draws(self) -> int:
        """The number S of replicates."""
        return len(next(iter(self.replicated.values())))

    @property
    def tail_probabilities(self) -> dict[str, float]:
        r"""Two-sided, with the observed data counted as one more replicate, so never 0 but at least 2 / (S + 1).

        .. math:: \min\{1,\; 2 \min_{\pm}\, (1 + \#\{s: \pm T(x_s) \ge \pm T(x)\}) / (S + 1)\}
        """
        return {name: _two_sided(value, self.replicated[name]) for name, value in self.observed.items()}

    @property
    def missed(self) -> dict[str, str]:
        """The statistics at which the alarm rings, each with where the data lie: "above" or "below" the replicates."""
        return {
            name: "above" if self.observed[name] > np.median(self.replicated[name]) else "below"
            for name, probability in self.tail_probabilities.items()
            if probability * len(self.observed) < ALARM_LEVEL
        }

    @property
    def alarm(self) -> bool:
        """Whether the model misses a statistic: a tail probability times their number is below 0.05 (Bonferroni).

        The histogram of PIT values has a tail probability of its own, ``pit.tail_probability``, and is not part of it.
        """
        return bool(self.missed)

    def to_table(self) -> "pd.DataFrame":
        """Return a line for each statistic: the observed value, the replicates' quantiles, the tail probability."""
        with extra("estimators"):
            import pandas as pd

        rows = {
            name: [self.observed[name], *np.quantile(values, [0.025, 0.5, 0.975]), self.tail_probabilities[name]]
            for name, values in self.replicated.items()
        }
        columns = ["observed", "2.5 %", "median", "97.5 %", "tail probability"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        table["missed"] = [self.missed.get(name, "") for name in rows]
        return table

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Return in words what the model misses, and in which direction."""
        lines = [f"{self.n_draws} replicates, {self.n_cells} cells."]
        if self.scale is not None:
            lines.append(
                "The likelihood is no density over new rows: replicated with one scale a feature, 1.4826 times the "
                f"median absolute residual over rows ({self.scale.min():.3g} to {self.scale.max():.3g})."
            )
        missed = self.missed
        for name, where in missed.items():
            low, high = np.quantile(self.replicated[name], [0.025, 0.975])
            lines.append(
                f"Missed: {name} of the data, {self.observed[name]:.4g}, lies {where} what the model produces "
                f"({low:.4g} to {high:.4g} in 95% of the replicates; tail probability "
                f"{self.tail_probabilities[name]:.2g}, times {len(self.observed)} statistics)."
            )
        if not missed:
            lines.append(f"No statistic is missed: {', '.join(self.observed)}.")
        lines.append(self.pit.words())
        return "\n".join(lines)


def ppc(
    model: Any,
    guide: Any,
    x: Tensor,
    *,
    statistics: Sequence[str] | Mapping[str, Statistic | str] | None = None,
    n_draws: int = 500,
    mask: Tensor | None = None,
    reference: Tensor | None = None,
    event_shape: tuple[int, ...] | None = None,
    scale: str = "feature",
    batch_size: int = 1024,
) -> PosteriorPredictiveCheck:
    r"""Compare the data with replicates: rows as the model would have them again (Rubin, 1984; Gelman et al., 1996).

    .. math:: z_{is} \sim q(z \mid x_i), \qquad x_{is} \sim p(x \mid z_{is}), \qquad T(x_s) \text{ against } T(x)

    Parameters
    ----------
    model, guide
        The pair.
    x : Tensor, shape (n, d)
        The rows, in the model's units. Best are clean rows that were not trained on.
    statistics : sequence of str, or mapping of str to callable or str, optional
        Names out of `statistics.NAMES`: "mean", "variance", "sparsity", "maximum", "outlying", "kurtosis",
        "autocorrelation". Or functions of your own, ``(x, mask) -> number``: they get rows (S, n, d) and the mask
        (n, d) and return (S,), or (S, k) for k numbers. None is all that have a name, autocorrelation for images only.
    n_draws : int, default=500
        The number S of replicates: at least 40 times the number of statistics, or no alarm could ring.
    mask : Tensor of bool, shape (n, d), optional
        True where a cell counts, in the data and in the replicates. False for the dirty cells of dirty data.
    reference : Tensor, shape (m, d), optional
        For a profile likelihood, the rows over which its scales are aggregated: see `diagnostics.replicate_scale`. The
        default is `x`, the cells that count; training rows are better, since then the spread is not fitted to what is
        checked. Other likelihoods do not use it.
    event_shape : tuple of int, optional
        The shape of a row, for "autocorrelation": (h, w) or (h, w, channels).
    scale : "feature"
        How a profile likelihood is replicated: with one scale a feature. "row", its own residuals of the rows, is
        refused.
    batch_size : int, default=1024
        The number of rows in a chunk at most.

    Returns
    -------
    PosteriorPredictiveCheck

    Raises
    ------
    ValueError
        If an argument is not as said, there are too few draws for the number of statistics, or a statistic is not a
        number.

    Notes
    -----
    z is drawn from what the encoder made of the same rows, and the network was trained on these or others like them:
    the data are used twice. So tail probabilities are conservative. A right model rings *less* often than it says, and
    a statistic that the model fits anyway (the mean; the variance, where the scale was learned) will hardly ever ring.
    The check finds a wrong *shape of the noise*: tails, zeros, bounds, correlation that the latents do not carry. It
    does not find a wrong prior, latents that should not be there (with enough of them any row is reproduced), or a
    guide that is wrong in a way that leaves the rows as they are: for those see k-hat and calibration. That nothing
    rings does not make a model right.

    Replicates are drawn and reduced to their statistics in chunks: memory does not grow with S * n * d. Random numbers
    come from torch's global generator.

    References
    ----------
    Rubin (1984), "Bayesianly justifiable and relevant frequency calculations for the applied statistician".
    Gelman, Meng and Stern (1996), "Posterior predictive assessment of model fitness via realized discrepancies".

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae import guides, likelihoods, models, networks, priors
    >>> from pyro_ricvae.diagnostics.replicates.ppc import ppc
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch._C.Generator object at ...>
    >>> model = models.VAE(networks.MLPDecoder(2, 5, ()), likelihoods.FixedNormal(1.0), priors.StandardNormal(2))
    >>> guide = guides.AmortizedNormal(networks.MLPEncoder(5, 2, ()))
    >>> check = ppc(model, guide, 3 * torch.randn(50, 5), statistics=["variance", "kurtosis"])
    >>> check.missed
    {'variance': 'above'}
    """
    mask = _checked(x, mask, event_shape, scale)
    n_draws = positive_int("n_draws", n_draws)
    functions = choose(statistics, x, mask, event_shape)
    observed = _evaluate(functions, x.unsqueeze(0), mask)
    needed = ceil(2 * len(observed) / ALARM_LEVEL)
    if n_draws < needed:
        raise ValueError(
            f"Expected n_draws >= {needed} for {len(observed)} statistics, actual {n_draws}: with fewer no tail "
            "probability can be small enough for an alarm. Draw more, or ask for fewer statistics."
        )
    scales = scale_for(model, guide, x, mask) if reference is None else scale_for(model, guide, reference)

    def draw(rows: Tensor, k: int) -> Tensor:
        def replicate_chunk(chunk: Tensor) -> Tensor:
            return draw_rows(model, guide.encode(chunk).sample((k,)), scales)

        return in_chunks((model, guide), rows, rows_at_once(batch_size, k, rows), replicate_chunk)

    replicated, values = _replicate(draw, functions, x, mask, n_draws)
    return PosteriorPredictiveCheck(
        {name: float(value) for name, value in observed.items()},
        {name: each.cpu().numpy() for name, each in replicated.items()},
        uniformity(draw, x, mask, values),
        None if scales is None else scales.cpu().numpy(),
        int(mask.sum()),
    )


def _two_sided(value: float, values: NDArray[np.float64]) -> float:
    beyond = min(int((values >= value).sum()), int((values <= value).sum()))
    return min(1.0, 2 * (1 + beyond) / (len(values) + 1))


def _checked(x: Tensor, mask: Tensor | None, event_shape: tuple[int, ...] | None, scale: str) -> Tensor:
    """Return the mask, all True where none is given, or raise a ValueError."""
    if scale == "row":
        raise ValueError(
            "Expected scale to be 'feature', actual 'row': a row's own scales are its own residuals, so that every "
            "cell beyond the floor lies one scale out, a good one and a gross error alike: the check would say the "
            "same of right and wrong rows. With one scale a feature, aggregated over rows, it can tell."
        )
    if scale != "feature":
        raise ValueError(f"Expected scale to be 'feature', actual {scale!r}.")
    check_rows(x)
    check_finite(x)
    if x.dim() != 2:
        raise ValueError(f"Expected x of shape (n, d), actual {tuple(x.shape)}: give images as x.flatten(1).")
    if event_shape is not None and prod(event_shape) != x.shape[1]:
        raise ValueError(
            f"Expected event_shape to have {x.shape[1]} cells, as many as a row of x, actual {event_shape}."
        )
    mask = check_mask(mask, x)
    if mask.sum() < 2:
        raise ValueError(f"Expected a mask in which at least two cells count, actual {int(mask.sum())}.")
    return mask


def _evaluate(functions: Mapping[str, Statistic], x: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return the statistics of data sets (S, n, d), each of shape (S,), or raise a ValueError if one is no number."""
    values: dict[str, Tensor] = {}
    for name, function in functions.items():
        try:
            value = torch.as_tensor(function(x, mask), device=x.device).double()
        except TypeError as error:
            raise ValueError(
                f"Expected the statistic {name!r} to be a function (x, mask) of tensors, actual an error of its call: "
                f"{error}."
            ) from error
        if value.dim() not in (1, 2) or len(value) != len(x) or value.isnan().any():
            raise ValueError(
                f"Expected the statistic {name!r} to return numbers of shape ({len(x)},) or ({len(x)}, k) for rows of "
                f"shape {tuple(x.shape)}, actual shape {tuple(value.shape)} with {int(value.isnan().sum())} NaN: "
                "reduce the last two dimensions, as in lambda x, mask: x.amax((-2, -1))."
            )
        if value.dim() == 1:
            values[name] = value
        else:
            values |= {f"{name}[{j}]": column for j, column in enumerate(value.unbind(-1))}
    return values


def _replicate(
    draw: Draw, functions: Mapping[str, Statistic], x: Tensor, mask: Tensor, n_draws: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the statistics of the replicates, of shape (S,) each, and the PIT values of the cells."""
    at_once = max(1, _CELLS_AT_ONCE // x.numel())
    pieces: list[dict[str, Tensor]] = []
    less, equal = torch.zeros_like(x), torch.zeros_like(x)
    for start in range(0, n_draws, at_once):
        replicates = draw(x, min(at_once, n_draws - start))
        pieces.append(_evaluate(functions, replicates, mask))
        count_replicate(replicates, x, less, equal)
    values = (less + torch.rand_like(x) * (equal + 1)) / (n_draws + 1)
    replicated = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    return replicated, values.masked_fill(~mask, torch.nan)
