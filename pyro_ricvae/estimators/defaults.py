"""Settings by size and kind of data: what "auto" stands for."""

import math
from typing import Any

from torch import Tensor

from pyro_ricvae._core.checks import is_auto, positive_int, positive_ints

# Chosen on faces, digits, MNIST and a table with dirt of known truth; see docs/results/floor.md.
_FLOOR_SHARE = 0.8  # of the typical distance of a value from its feature's centre
_ROUNDING = 1e-5  # distances below this share of images' range, or of the median distance, are rounding
_MAX_VALUES = 1_000_000
# What follows is by kind, images or tables: docs/recipe.md. Steps, and the most epochs.
_STEPS = {True: (5000, 1000), False: (3000, 300)}
_MANY_ROWS = 10_000
# Of a `likelihoods.SpikeAndSlab`.
_SPIKE: dict[bool, dict[str, Any]] = {
    True: {"clean_df": None, "widest": 2.0, "narrowest": 0.5, "broadening": 1.5, "draws": True},
    False: {"clean_df": 8.0, "widest": 3.7, "narrowest": 0.02, "broadening": 1.0, "draws": False},
}
_TAKEOVER = 0.1  # whatever the kind
# How wide dirt is: a share of images' range, and ends of the floor of a table.
_WIDTH, _RATIO = 0.3, 10.0
# How wide clean cells of images are in training: a share of their range, or of an end of the floor if that is more.
_BROADEST = 0.05, 0.75


def automatic_n_latent(n_rows: int, n_features: int) -> int:
    """Return the number of latent units: 10 at 2,000 rows, then as their cube root; at most half of the features.

    Between 1 and 64, and below the number of features: 10 for 2,000 small images, 31 for 60,000, 7 for a table of 600
    rows and 30 columns, 6 for one of 1,600 rows and 12 columns.
    """
    wanted: int = min(round(10 * (n_rows / 2000) ** (1 / 3)), -(-n_features // 2), 64)
    return max(1, min(wanted, n_features - 1))


def automatic_hidden(n_rows: int, n_features: int, *, images: bool) -> tuple[int, ...]:
    """Return the sizes of the encoder's hidden layers, mirrored in the decoder: the paper's for images of its size.

    Tables of fewer than 10,000 rows have small networks however many columns they have: larger ones learn rows by
    heart.
    """
    if n_features <= 48 or (not images and n_rows < _MANY_ROWS):
        return (128, 64)
    return (256, 128, 64) if n_features <= 256 else (1000, 500, 250)


def automatic_epochs(n_rows: int, batch_size: int, *, images: bool) -> int:
    """Return the total of epochs: as many as make 5,000 steps of images, from 9 to 1,000; of tables 3,000, to 300."""
    steps, most = _STEPS[images]
    return min(most, max(9, round(steps / math.ceil(n_rows / batch_size))))


def automatic_sizes(
    n_latent: Any, hidden: Any, epochs: Any, *, shape: tuple[int, ...], batch_size: int, images: bool
) -> tuple[int, tuple[int, ...], int]:
    """Return the number of latent units, the sizes of the hidden layers and the number of epochs.

    Parameters
    ----------
    n_latent, hidden, epochs
        What the user said, or "auto".
    shape : tuple of int
        That of the rows, (n, d).
    batch_size : int
        Rows of a step.
    images : bool
        Whether they are images, or a table.

    Raises
    ------
    ValueError
        If one of them is neither "auto" nor such numbers.
    """
    n_rows, n_features = shape
    if is_auto(n_latent):
        n_latent = automatic_n_latent(n_rows, n_features)
    if isinstance(hidden, str):
        if hidden != "auto":
            raise ValueError(f"Expected hidden to be 'auto' or a sequence such as (256, 128), actual {hidden!r}.")
        hidden = automatic_hidden(n_rows, n_features, images=images)
    if is_auto(epochs):
        epochs = automatic_epochs(n_rows, batch_size, images=images)
    return positive_int("n_latent", n_latent), positive_ints("hidden", hidden), positive_int("epochs", epochs)


def automatic_floor(x: Tensor, center: Tensor, step: float, *, images: bool) -> tuple[float, float]:
    """Return where the floor starts and ends for the rows `x`.

    It starts at 0.8 of the typical distance of a value from its feature's centre, the median over all cells that are
    not *at* the centre: in strokes on black most cells are, and the rest must set the floor. The median stays among the
    distances of clean cells while fewer than half of them are of dirty ones (with 10% far away it is 13% larger, with
    40% twice as large, for normal values), and this start lies well below structured dirt, which a larger one would let
    the latents learn.

    It ends at half of that, so that dirt is not learned late either, but not below twice the quantisation step, where
    that lies between the two: a residual of a step or two is no error.

    Parameters
    ----------
    x : Tensor, shape (n, d)
        Rows, in standardised units. Of more than a million cells, evenly spaced rows are looked at.
    center : Tensor, shape (d,)
        The per-feature median.
    step : float
        The quantisation step, in standardised units; 0 for continuous values.
    images : bool
        Whether the rows are images, standardised by their range.

    Returns
    -------
    start, end : float
        In standardised units, positive.
    """
    rows = x[:: -(-x.numel() // _MAX_VALUES)]
    distances = (rows - center).abs()
    away = distances[distances > 0]
    if len(away):
        # In images whose black is off by rounding, the median distance would be one of rounding.
        away = away[away > max(step / 2, _ROUNDING * (1.0 if images else float(away.median())))]
    typical = float(away.median()) if len(away) else 1.0  # all of them at the centre: as good as any
    start = _FLOOR_SHARE * typical
    return start, min(start, max(start / 2, 2 * step))


def automatic_spike(floor: float, *, images: bool) -> dict[str, Any]:
    """Return the arguments of a `likelihoods.SpikeAndSlab` that go by kind, for the end of its floor.

    The mixture takes over at 0.1 of a training. In that of images clean cells are 1.5 times as wide as they are found
    to be, up to 0.05 of the range or 0.75 ends of the floor, whichever is more: a precise model gives up what it does
    not fit yet, as a mouth that moves, for dirt.

    Clean values of tables have longer tails than a normal, which takes them for dirt. The scale of clean cells goes up
    to 2 ends of the floor for images, somewhat less than the typical distance of a value from its feature's centre; for
    tables, whose columns may have little to do with each other, up to 3.7, about the robust standard deviation of a
    column. It does not fall below half an end for images, most of which may be black: all else would then be dirt. Dirt
    of images lies within their range, of which its scale is 0.3; errors of tables have no bound, and a scale of 10
    ends. Images are recycled in training by draws, tables by repaired rows. docs/recipe.md has the reasons.
    """
    of_range, of_floor = _BROADEST
    return {
        "takeover": _TAKEOVER,
        **_SPIKE[images],
        "ratio": _WIDTH / floor if images else _RATIO,
        "broadest": max(of_range / floor, of_floor) if images else 1.0,
    }


def automatic_test_passes(train_passes: int, *, repairs: bool) -> int:
    """Return the number of passes at test time: 2 where passes repair rows, and were trained to; else 1.

    The first pass finds what is dirty, the second reads the row without it: docs/results/default.md.
    """
    return 2 if repairs and train_passes > 1 else 1
