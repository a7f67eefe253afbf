"""The training loop: two phases, single passes and then recycled ones, watched."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_ricvae._evaluation import evaluation
from pyro_ricvae._param_store import own_parameters
from pyro_ricvae._validation import check_finite, check_rows, positive_finite, positive_int
from pyro_ricvae.inference._state import State, Tally, shuffled_batches
from pyro_ricvae.inference._step import RecordedStep, Step
from pyro_ricvae.inference.compiled_elbo import CompiledELBO
from pyro_ricvae.inference.engine import Choice, Engine, choose_engine
from pyro_ricvae.inference.precision import Precision
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
    """Trains a pair with Adam, in one phase of single passes and one of recycled.

    A step is one graph where that pays, see `engine`; on CUDA it is recorded with its backward and its optimizer, and
    replayed. Losses stay on the device until they are looked at.

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
    engine : {"auto", "compiled", "captured", "eager"}, default="auto"
        Whether model, guide and objective are captured as one graph (see `compile_elbo`), and whether that is compiled.
        "auto" estimates what each takes and saves, `choose_engine`. A captured graph gives the eager result to the last
        bit, a compiled one draws other random numbers.
    precision : {"auto", "fp32", "bf16"}, default="auto"
        Of the matrix products in training; "auto" is "bf16" where that is faster.
    on_log : callable, optional
        Called with each entry of the history as it is made.

    Attributes
    ----------
    history : list of dict
        One entry per look, every epoch or 200 steps, whichever is less, whose state was kept: "phase", "passes",
        "epoch", "epochs" (of the phase), "loss" (nats a row and pass), "gradient_norm" (before clipping), "rows" and
        "rows_per_second" since the last look; "learning_rate", "kl_weight" and "floor" of its last step; and what
        `measure` says of up to 512 rows.
    choice : Choice
        The engine and the precision, and why; once training has begun.
    messages : list of str
        What the watch said, each also given as a `TrainingWarning`.

    Raises
    ------
    ValueError
        If `epochs` or `passes` is not a whole number >= 1, `floor` is not two positive and finite numbers, for a
        likelihood that has a floor, or `engine` or `precision` is unknown.
    """

    choice: Choice

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        *,
        epochs: int,
        passes: int = 2,
        floor: tuple[float, float] | None = None,
        recipe: Recipe | None = None,
        engine: Engine = "auto",
        precision: Precision = "auto",
        on_log: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.model: Any = model
        self.guide: Any = guide
        self.recipe = recipe or Recipe()
        _check_floor(floor, model)
        self.floor = floor
        self.epochs = positive_int("epochs", epochs)
        self.passes = positive_int("passes", passes)
        self.engine: Engine = engine
        self.precision: Precision = precision
        self.on_log = on_log
        self.elbo = RecyclingELBO(recycle=getattr(model.likelihood, "recycle", "sample"))
        self.module = self.elbo(model, guide)
        choose_engine(self.module, 1, [], engine, precision)  # raises where they are unknown
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
        self.module(x[: self.recipe.batch_size])  # validated as the user has it set: a wrong pair gets Pyro's own error
        self._check_recyclable(x[:2])
        self.choice = self._choose(x)
        loss: nn.Module = self.module
        if self.choice.engine != "eager":
            compiled = self.choice.engine == "compiled"
            loss = CompiledELBO(self.module, precision=self.choice.precision, compiled=compiled)
        with pyro.validation_enabled(False), own_parameters():
            for phase in self.phases:
                self._run(phase, loss, x, watched)
            # Not the last entry of the history: training may have gone back since.
            for message in advice(measure(self.model, self.guide, watched), self.model.prior().event_shape[-1]):
                self._say(message)
        return self

    def _check_recyclable(self, x: Tensor) -> None:
        """Raise a ValueError, before training, if the likelihood has no draws to recycle."""
        if self.passes == 1 or self.elbo.recycle == "mean":
            return
        with evaluation(self.model, self.guide):
            distribution = self.model.decode(self.guide.encode(x).mean, x)
        if not distribution.has_rsample:
            raise ValueError(
                f"Site 'x' cannot be recycled: {type(self.model.likelihood).__name__} has no reparameterised sampler "
                "(rsample). Say recycle = 'mean' in its class, so that its mean is passed on, or train with one pass."
            )

    def _steps(self, phase: _Phase, x: Tensor) -> tuple[int, int]:
        """Return the number of steps in an epoch, and in a phase."""
        steps_per_epoch = -(-len(x) // self.recipe.batch_size)
        return steps_per_epoch, phase.epochs * steps_per_epoch

    def _choose(self, x: Tensor) -> Choice:
        plan = [(self._steps(phase, x)[1], phase.passes) for phase in self.phases]
        return choose_engine(self.module, min(len(x), self.recipe.batch_size), plan, self.engine, self.precision)

    def _run(self, phase: _Phase, loss: nn.Module, x: Tensor, watched: Tensor) -> None:
        """Train one phase; where its state is lost, go back to the last good one."""
        steps_per_epoch, n_steps = self._steps(phase, x)
        self.elbo.passes = phase.passes
        step = Step(loss, list(self.module.parameters()), phase.learning_rate, self.recipe.clip_norm)
        take: Callable[[Tensor], tuple[Tensor, Tensor]] = step
        if x.is_cuda and isinstance(loss, CompiledELBO) and loss.captures(x[: self.recipe.batch_size]):
            take = RecordedStep(step)
        start = good = State(self.module, step.optimizer, measure(self.model, self.guide, watched))
        # Only a model that single passes have trained can be undone by recycling.
        can_diverge = phase.passes > 1 and self.phases[0].passes == 1
        batches = shuffled_batches(x, self.recipe.batch_size)
        slowed, tally = 1.0, Tally()
        for number in range(n_steps):
            rate = slowed * phase.learning_rate * self.recipe.rate_factor(number, n_steps)
            step.set_learning_rate(rate)
            self._set_schedules(number / n_steps if phase == self.phases[0] else 1.0)
            batch = next(batches)
            tally.add(*take(batch), len(batch))
            if (number + 1) % min(steps_per_epoch, _LOG_STEPS) and number + 1 < n_steps:
                continue
            measured = measure(self.model, self.guide, watched)
            where = f"{phase.name.capitalize()}, step {number + 1} of {n_steps}"
            if not (tally.finite and all(map(math.isfinite, measured.values()))):
                slowed /= 2
                self._go_back_to_finite(good, where, slowed)
            elif can_diverge and recycling_diverged(start.measured, measured, x.shape[1]):
                slowed /= 4
                again = slowed > 2**-_MAX_ROLLBACKS and number + 1 < n_steps
                self._go_back_to_single_passes(start, where, again)
                if not again:
                    return
                good = start
            else:
                good = State(self.module, step.optimizer, measured)
                self._log(phase, (number + 1) / steps_per_epoch, tally, rate, measured)
            tally = Tally()

    def _set_schedules(self, progress: float) -> None:
        """Set KL weight and floor, at a share of the first phase; in the second one they stay at their ends."""
        self.elbo.kl_weight.fill_(self.recipe.kl_weight(progress))
        if self.floor is not None:
            self.model.likelihood.floor.fill_(self.recipe.floor(self.floor, progress))

    def _go_back_to_finite(self, good: State, where: str, slowed: float) -> None:
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

    def _go_back_to_single_passes(self, start: State, where: str, again: bool) -> None:
        start.restore()
        then = "go on at a quarter of the learning rate" if again else "left it at that"
        self._say(
            f"{where}: recycling made single passes worse by more than 0.3 nats a cell. Went back to the model before "
            f"recycling, and {then}. Train longer before recycling (more epochs), or with fewer passes, or a larger "
            "floor."
        )

    def _log(self, phase: _Phase, epoch: float, tally: Tally, learning_rate: float, measured: dict[str, float]) -> None:
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


def _check_floor(floor: Any, model: Any) -> None:
    if floor is None:
        return
    if not (isinstance(floor, tuple | list) and len(floor) == 2 and hasattr(model.likelihood, "floor")):
        raise ValueError(f"Expected floor to be None, or (start, end) for a likelihood with a floor, actual {floor!r}.")
    for end in floor:
        positive_finite("each end of floor", end)
