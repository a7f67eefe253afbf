"""The training loop: two phases, single passes and then recycled ones, watched."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from pyro_ricvae._param_store import own_parameters
from pyro_ricvae._validation import check_finite, check_rows, positive_finite, positive_int
from pyro_ricvae.inference.recipe import Recipe
from pyro_ricvae.inference.recycling_elbo import RecyclingELBO
from pyro_ricvae.inference.watch import advice, measure, recycling_diverged

# Rows the watch looks at, and the most steps between two looks.
_WATCHED_ROWS = 512
_LOG_STEPS = 200
_MAX_ROLLBACKS = 4


class TrainingWarning(UserWarning):
    """What the watch on a run has to say: what happened, what was done, and what to do."""


class TrainingError(RuntimeError):
    """Training cannot go on: what happened, and what to do."""


@dataclass(frozen=True)
class _Phase:
    name: str
    passes: int
    epochs: int
    learning_rate: float


class Trainer:
    """Trains a pair by a plain loop over an ELBOModule, with Adam, in one phase of single passes and one of recycled.

    Neither Pyro's parameter store nor any global setting is changed. Random numbers come from torch's global generator.

    Parameters
    ----------
    model, guide : torch.nn.Module
        A pair as in `models` and `guides`, on the device to train on.
    epochs : int
        The total: `recipe.single_pass_share` of them with one pass, the rest with `passes`.
    passes : int, default=2
        The number N of passes. With 1 all epochs are of single passes.
    floor : tuple of float, optional
        The floor of the likelihood at the start and at the end, in the model's units. None leaves it as it is.
    recipe : Recipe, optional
        The rest of the recipe.
    on_log : callable, optional
        Called with each entry of the history as it is made.

    Attributes
    ----------
    history : list of dict
        One entry per look, every epoch or 200 steps, whichever is less, whose state was kept: "phase", "passes",
        "epoch", "epochs" (of the phase), "loss" (nats a row and pass), "gradient_norm" (before clipping), "rows" and
        "rows_per_second" since the last look; "learning_rate", "kl_weight" and "floor" of its last step; and what
        `measure` says of up to 512 rows.
    messages : list of str
        What the watch said, each also given as a `TrainingWarning`.

    Raises
    ------
    ValueError
        If `epochs` or `passes` is not a whole number >= 1, or `floor` is not two positive and finite numbers, for a
        likelihood that has a floor.
    """

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        *,
        epochs: int,
        passes: int = 2,
        floor: tuple[float, float] | None = None,
        recipe: Recipe | None = None,
        on_log: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.model: Any = model
        self.guide: Any = guide
        self.recipe = recipe or Recipe()
        _check_floor(floor, model)
        self.floor = floor
        self.epochs = positive_int("epochs", epochs)
        self.passes = positive_int("passes", passes)
        self.on_log = on_log
        self.elbo = RecyclingELBO()
        self.loss = self.elbo(model, guide)
        self.history: list[dict[str, Any]] = []
        self.messages: list[str] = []

    @property
    def phases(self) -> list[_Phase]:
        """The phases, in order; none of them without epochs."""
        rate = self.recipe.learning_rate
        single = self.epochs if self.passes == 1 else round(self.recipe.single_pass_share * self.epochs)
        both = [
            _Phase("single passes", 1, single, rate),
            _Phase("recycling", self.passes, self.epochs - single, rate * self.recipe.recycling_rate),
        ]
        return [phase for phase in both if phase.epochs]

    def fit(self, x: Tensor) -> "Trainer":
        """Train on the rows `x`, of shape (n, d), on the model's device.

        Raises
        ------
        ValueError
            If `x` is not of shape (n, d), two rows or more, floating-point and finite, or the pair does not fit it.
        TrainingError
            If the loss or its gradient is not finite again and again.

        Warns
        -----
        TrainingWarning
            See `messages`.
        """
        check_rows(x)
        if x.dim() != 2 or len(x) < 2:
            raise ValueError(f"Expected x of shape (n, d) with two rows or more, actual {tuple(x.shape)}.")
        check_finite(x)
        watched = x[torch.linspace(0, len(x) - 1, min(len(x), _WATCHED_ROWS), device=x.device).long()]
        self.loss(x[: self.recipe.batch_size])  # validated as the user has it set: a wrong pair gets Pyro's own error
        with pyro.validation_enabled(False), own_parameters():
            for phase in self.phases:
                self._run(phase, x, watched)
            # Not the last entry of the history: training may have gone back since.
            for message in advice(measure(self.model, self.guide, watched), self.model.prior().event_shape[-1]):
                self._say(message)
        return self

    def _run(self, phase: _Phase, x: Tensor, watched: Tensor) -> None:
        """Train one phase; where its state is lost, go back to the last good one."""
        steps_per_epoch = -(-len(x) // self.recipe.batch_size)
        n_steps = phase.epochs * steps_per_epoch
        self.elbo.passes = phase.passes
        optimizer = Adam(self.loss.parameters(), lr=phase.learning_rate)
        start = good = _State(self.loss, optimizer, measure(self.model, self.guide, watched))
        # Only a model that single passes have trained can be undone by recycling.
        can_diverge = phase.passes > 1 and self.phases[0].passes == 1
        batches = _batches(x, self.recipe.batch_size)
        slowed, tally = 1.0, _Tally()
        for step in range(n_steps):
            self._set_schedules(phase, step, n_steps, slowed, optimizer)
            tally.add(self._step(next(batches), optimizer))
            if (step + 1) % min(steps_per_epoch, _LOG_STEPS) and step + 1 < n_steps:
                continue
            measured = measure(self.model, self.guide, watched)
            where = f"{phase.name.capitalize()}, step {step + 1} of {n_steps}"
            if not (tally.finite and all(map(math.isfinite, measured.values()))):
                slowed /= 2
                self._go_back_to_finite(good, where, slowed)
            elif can_diverge and recycling_diverged(start.measured, measured, x.shape[1]):
                slowed /= 4
                again = slowed > 2**-_MAX_ROLLBACKS and step + 1 < n_steps
                self._go_back_to_single_passes(start, where, again)
                if not again:
                    return
                good = start
            else:
                good = _State(self.loss, optimizer, measured)
                self._log(phase, (step + 1) / steps_per_epoch, tally, optimizer.param_groups[0]["lr"], measured)
            tally = _Tally()

    def _step(self, batch: Tensor, optimizer: Optimizer) -> tuple[Tensor, Tensor, int]:
        """Take one step; return the loss and the gradient's norm, still on the device, and the number of rows."""
        optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        clip_norm = math.inf if self.recipe.clip_norm is None else self.recipe.clip_norm
        norm = nn.utils.clip_grad_norm_(self.loss.parameters(), clip_norm)
        optimizer.step()
        return loss.detach(), norm, len(batch)

    def _set_schedules(self, phase: _Phase, step: int, n_steps: int, slowed: float, optimizer: Optimizer) -> None:
        """Set learning rate, KL weight and floor for a step. KL weight and floor move in the first phase alone."""
        for group in optimizer.param_groups:
            group["lr"] = slowed * phase.learning_rate * self.recipe.rate_factor(step, n_steps)
        progress = step / n_steps if phase == self.phases[0] else 1.0
        self.elbo.kl_weight.fill_(self.recipe.kl_weight(progress))
        if self.floor is not None:
            self.model.likelihood.floor.fill_(self.recipe.floor(self.floor, progress))

    def _go_back_to_finite(self, good: "_State", where: str, slowed: float) -> None:
        good.restore()
        if slowed < 2**-_MAX_ROLLBACKS:
            raise TrainingError(
                f"{where}: loss or gradient is not finite again, at 1/{0.5 / slowed:.0f} of the learning rate. Give a "
                "larger floor or a smaller learning rate, and standardise the data if that was switched off."
            )
        self._say(
            f"{where}: loss or gradient was not finite. Went back to the last state where they were, and halved the "
            "learning rate. If this happens again, give a larger floor or a smaller learning rate."
        )

    def _go_back_to_single_passes(self, start: "_State", where: str, again: bool) -> None:
        start.restore()
        then = "go on at a quarter of the learning rate" if again else "left it at that"
        self._say(
            f"{where}: recycling made single passes worse by more than 0.3 nats a cell. Went back to the model before "
            f"recycling, and {then}. Train longer before recycling (more epochs), or with fewer passes, or a larger "
            "floor."
        )

    def _log(
        self, phase: _Phase, epoch: float, tally: "_Tally", learning_rate: float, measured: dict[str, float]
    ) -> None:
        entry: dict[str, Any] = {
            "phase": phase.name,
            "passes": phase.passes,
            "epoch": round(epoch, 2),
            "epochs": phase.epochs,
            "loss": tally.mean_loss / phase.passes,
            "gradient_norm": tally.mean_norm,
            "learning_rate": learning_rate,
            "kl_weight": float(self.elbo.kl_weight),
            "rows": tally.rows,
            "rows_per_second": tally.rows / (time.perf_counter() - tally.began),
            **measured,
        }
        floor = getattr(self.model.likelihood, "floor", None)
        if floor is not None:
            entry["floor"] = float(floor)
        self.history.append(entry)
        if self.on_log is not None:
            self.on_log(entry)

    def _say(self, message: str) -> None:
        self.messages.append(message)
        warnings.warn(message, TrainingWarning, stacklevel=4)


class _State:
    """A copy of parameters, buffers and the optimizer's moments, and what `measure` said of it."""

    def __init__(self, module: nn.Module, optimizer: Optimizer, measured: dict[str, float]) -> None:
        self.owners: tuple[Any, ...] = module, optimizer
        self.saved = [deepcopy(owner.state_dict()) for owner in self.owners]
        self.measured = measured

    def restore(self) -> None:
        for owner, saved in zip(self.owners, self.saved, strict=True):
            owner.load_state_dict(deepcopy(saved))


class _Tally:
    """Sums over the steps since the last look, kept on the device, so that no step waits for it."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.loss: Tensor | float = 0.0
        self.norm: Tensor | float = 0.0
        self.rows = self.steps = 0

    def add(self, step: tuple[Tensor, Tensor, int]) -> None:
        loss, norm, rows = step
        self.loss, self.norm = self.loss + loss, self.norm + norm
        self.rows, self.steps = self.rows + rows, self.steps + 1

    @property
    def finite(self) -> bool:
        return math.isfinite(float(self.loss)) and math.isfinite(float(self.norm))

    @property
    def mean_loss(self) -> float:
        return float(self.loss) / self.rows

    @property
    def mean_norm(self) -> float:
        return float(self.norm) / self.steps


def _check_floor(floor: Any, model: Any) -> None:
    if floor is None:
        return
    if not (isinstance(floor, tuple | list) and len(floor) == 2 and hasattr(model.likelihood, "floor")):
        raise ValueError(f"Expected floor to be None, or (start, end) for a likelihood with a floor, actual {floor!r}.")
    for end in floor:
        positive_finite("each end of floor", end)


def _batches(x: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Yield batches of rows without end, each epoch in an order of its own; its last batch may be smaller."""
    while True:
        for rows in torch.randperm(len(x), device=x.device).split(batch_size):
            yield x[rows]
