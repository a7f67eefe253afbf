"""The training recipe: every part of it, its reason, and how to switch it off."""

import math
from dataclasses import dataclass
from typing import Any

from pyro_ricvae._core.checks import between_0_and_1, positive_finite, positive_int
from pyro_ricvae.pair import Switch


@dataclass(frozen=True)
class Phase:
    """A phase of a training: its name, its epochs, and how many passes which share of its steps has.

    The other steps are of one pass.
    """

    name: str
    passes: int
    epochs: int
    share: float = 1.0

    def passes_of(self, step: int) -> int:
        """Return the number of passes of step `step`, from 0: those of several are spread evenly."""
        is_recycled = math.floor((step + 1) * self.share) > math.floor(step * self.share)
        return self.passes if is_recycled else 1

    def passes_in_all(self, steps_per_epoch: int) -> int:
        """Return the number of passes of all steps together."""
        return sum(map(self.passes_of, range(self.epochs * steps_per_epoch)))


@dataclass(frozen=True)
class Recipe:
    """How a pair is trained, beside the numbers that the data decide (floor, networks, epochs).

    Each part has its reason, and each can be switched off: `Recipe.plain` is the paper's plain procedure.

    Parameters
    ----------
    center : bool, default=True
        Subtract the per-feature median from the encoder's input and add it to the decoder's output. Without it the
        first thing the latents learn is the mean image, and most of them collapse.
    affine_path : bool, default=True
        Give encoder and decoder an affine path beside the deep one, so that training starts near a robust PCA, which
        the affine iC-VAE is (Proposition 1), and the deep part corrects it.
    clip : float or None, default=4.0
        Bound the encoder's input at this many standardised units from the centre, for tables; images are bounded at
        their own range. A cell with a unit slip then moves the latents no more than one that is merely far out. The
        likelihood sees the values as they are. None does not bound them.
    batch_size : int, default=100
        Rows in a step; no more than there are.
    learning_rate : float, default=3e-3
        Of Adam.
    warmup_steps : int, default=200
        Steps over which the learning rate rises from 0 at the start: Adam's first estimates of the gradient's variance
        are poor. 0 starts at the full rate.
    cosine : bool, default=True
        Let the learning rate fall to 0 along half a cosine: under the log penalty the gradient of a residual does not
        shrink with it, so a constant rate never settles. False keeps the rate.
    clip_norm : float or None, default=1000.0
        Scale down gradients of a larger norm (of the loss summed over the batch, in nats). None leaves them.
    kl_start : float, default=1.0
        The KL weight at the start of training, from where it goes to `kl_end` over the first `kl_until` of it.
        Below 1 it keeps more latents active in networks without an affine path, but lets the latents
        learn structured dirt before the robust penalty bites; so 1 here: no warm-up.
    kl_until : float, default=0.3
        See `kl_start`.
    kl_end : float, default=1.0
        The KL weight from there on. 0 with a `kl_start` of 0 is an autoencoder: nothing holds the latents to a prior,
        so that their noise is soon small beside their spread, and samples from the prior mean nothing.
    floor_until : float, default=0.6
        The share of the training over which the floor, or what else is in the likelihood's schedule, moves from its
        start to its end, log-linearly.
    single_pass_share : float, default=0.3
        The curriculum: the share of the epochs trained with one pass before recycling starts. Recycling from scratch
        collapses toward the mean row: early recycled rows tell nothing. 0 recycles from the start.
    recycled_share : float, default=0.5
        The share of the steps from there on that recycle; the others are of one pass, which is what cleaning is best
        at and what recycled steps alone forget. 1 recycles in all of them.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> from pyro_ricvae.inference import Recipe
    >>> Recipe(batch_size=256).batch_size, Recipe.plain().affine_path
    (256, False)
    """

    center: bool = True
    affine_path: bool = True
    clip: float | None = 4.0
    batch_size: int = 100
    learning_rate: float = 3e-3
    warmup_steps: int = 200
    cosine: bool = True
    clip_norm: float | None = 1000.0
    kl_start: float = 1.0
    kl_until: float = 0.3
    kl_end: float = 1.0
    floor_until: float = 0.6
    single_pass_share: float = 0.3
    recycled_share: float = 0.5

    def __post_init__(self) -> None:
        positive_int("batch_size", self.batch_size)
        for name in ("clip", "learning_rate", "clip_norm", "kl_until", "floor_until"):
            value = getattr(self, name)
            if value is not None or name not in ("clip", "clip_norm"):
                positive_finite(name, value)
        if self.warmup_steps != 0:
            positive_int("warmup_steps, where it is not 0,", self.warmup_steps)
        for name in ("kl_start", "kl_end", "single_pass_share", "recycled_share"):
            between_0_and_1(name, getattr(self, name))

    @classmethod
    def plain(cls) -> "Recipe":
        """Return the paper's plain procedure: every part of the recipe switched off."""
        return cls(
            center=False,
            affine_path=False,
            clip=None,
            warmup_steps=0,
            cosine=False,
            clip_norm=None,
            single_pass_share=0.0,
            recycled_share=1.0,
        )

    def phases(self, epochs: int, passes: int) -> list[Phase]:
        """Return the phases of `epochs` in all, single passes and then recycling; none of them without epochs."""
        single = epochs if passes == 1 else round(self.single_pass_share * epochs)
        both = [
            Phase("single passes", 1, single),
            Phase("recycling", passes, epochs - single, self.recycled_share),
        ]
        return [phase for phase in both if phase.epochs]

    def rate_factor(self, step: int, n_steps: int) -> float:
        """Return the share of the learning rate that step `step` (from 0) of `n_steps` is taken at."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return warmup * (0.5 * (1 + math.cos(math.pi * step / n_steps)) if self.cosine else 1.0)

    def kl_weight(self, progress: float) -> float:
        """Return the KL weight at the share `progress` of the training."""
        return self.kl_start + (self.kl_end - self.kl_start) * min(1.0, progress / self.kl_until)

    def scheduled(self, ends: tuple[float, float], progress: float) -> float:
        """Return what moves between `ends`, such as a floor, at the share `progress` of the training."""
        start, end = ends
        return float(start * (end / start) ** min(1.0, progress / self.floor_until))


def checked_schedule(likelihood: Any) -> dict[str, tuple[float, float] | Switch]:
    """Return what a likelihood says that moves in training, or raise a ValueError."""
    schedule = dict(getattr(likelihood, "schedule", {}))
    for name, ends in schedule.items():
        buffer = dict(likelihood.named_buffers(recurse=False)).get(name)
        moves = buffer is not None and buffer.dim() == 0 and buffer.is_floating_point()
        has_ends = isinstance(ends, tuple | list) and len(ends) == 2
        if not (moves and (has_ends or isinstance(ends, Switch))):
            raise ValueError(
                f"Expected in the schedule of {type(likelihood).__name__} names of its buffers of shape (), each with "
                f"(start, end) or a Switch, actual {name!r}: {ends!r}."
            )
        for end in ends if has_ends else ():
            positive_finite(f"each end of {name}", end)
    return schedule
