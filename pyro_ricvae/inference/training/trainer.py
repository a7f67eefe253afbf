"""The training loop: two phases, single passes and then recycled ones, watched."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_ricvae._core.checks import check_finite, check_rows, positive_int
from pyro_ricvae._core.errors import users_level
from pyro_ricvae._core.isolation import evaluation, own_parameters
from pyro_ricvae.data.batches import ArrayRows, RowSource
from pyro_ricvae.inference.compile.elbo import CompiledELBO
from pyro_ricvae.inference.compile.precision import Precision
from pyro_ricvae.inference.recycling_elbo import RecyclingELBO
from pyro_ricvae.inference.training.engine import Choice, Engine, choose_engine
from pyro_ricvae.inference.training.monitor import advice, measure, recycling_diverged
from pyro_ricvae.inference.training.recipe import Phase, Recipe, checked_schedule
from pyro_ricvae.inference.training.state import Tally, TrainingState, check_plan
from pyro_ricvae.inference.training.step import RecordedStep, Step
from pyro_ricvae.pair import Guide, Model, Switch, likelihood_name, likelihood_of, recycle_in_training

# Rows the watch looks at, and the most steps between two looks.
_WATCHED_ROWS = 512
_LOG_STEPS = 200
_MAX_ROLLBACKS = 4

#: What takes a step on a batch, and returns its loss and the norm of its gradient.
Take = Callable[[Tensor], tuple[Tensor, Tensor]]


class TrainingWarning(UserWarning):
    """What the watch on a run has to say: what happened, what was done, and what to do."""


class TrainingError(RuntimeError):
    """Training cannot go on: what happened, and what to do."""


class Trainer:
    """Trains a pair with Adam, in one phase of single passes and one of recycled.

    A step is one graph where that pays, see `engine`; on CUDA it is recorded with its backward and its optimizer, and
    replayed. Losses stay on the device until they are looked at.

    Neither Pyro's parameter store nor any global setting is changed. Random numbers come from torch's global generator.

    Parameters
    ----------
    model, guide : pair.Model, pair.Guide
        The pair, on the device to train on. What the model's likelihood has in its ``schedule`` moves meanwhile, and
        its ``next_input`` or ``recycle`` says how it is recycled; see `likelihoods.Likelihood`.
    epochs : int
        The total: `recipe.single_pass_share` of them with one pass, the rest with `passes`.
    passes : int, default=2
        The number N of passes. With 1 all epochs are of single passes.
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
        "rows_per_second" since the last look; "learning_rate", "kl_weight" and what is in the likelihood's schedule,
        such as "floor", of its last step; and what `measure` says of up to 512 rows.
    choice : Choice
        The engine and the precision, and why; once training has begun.
    messages : list of str
        What the watch said, each also given as a `TrainingWarning`.
    state : TrainingState
        All that the training holds, while it runs and afterwards; ``state.state_dict()`` is what `fit` resumes.

    Raises
    ------
    ValueError
        If `epochs` or `passes` is not a whole number >= 1, the likelihood's schedule is not as it should be, or
        `engine` or `precision` is unknown.
    """

    choice: Choice
    state: TrainingState

    def __init__(
        self,
        model: Model,
        guide: Guide,
        *,
        epochs: int,
        passes: int = 2,
        recipe: Recipe | None = None,
        engine: Engine = "auto",
        precision: Precision = "auto",
        on_log: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.model: Any = model
        self.guide: Any = guide
        self.recipe = recipe or Recipe()
        self._schedule = checked_schedule(likelihood_of(model))
        self.epochs = positive_int("epochs", epochs)
        self.passes = positive_int("passes", passes)
        self.engine: Engine = engine
        self.precision: Precision = precision
        self.on_log = on_log
        self.elbo = RecyclingELBO(recycle=recycle_in_training(model))
        pair: Any = model, guide
        self.module = self.elbo(*pair)
        choose_engine(self.module, 1, [], engine, precision)  # raises where they are unknown
        self.state = TrainingState(self.module)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The looks at the training so far."""
        return self.state.history

    @property
    def messages(self) -> list[str]:
        """What the watch has said so far."""
        return self.state.messages

    @property
    def phases(self) -> list[Phase]:
        """The phases, in order; none of them without epochs."""
        return self.recipe.phases(self.epochs, self.passes)

    def fit(self, x: Tensor | RowSource, *, resume: dict[str, Any] | None = None) -> "Trainer":
        """Train on rows.

        Parameters
        ----------
        x : Tensor, shape (n, d), or RowSource
            The rows, on the model's device.
        resume : dict, optional
            A ``state.state_dict()`` of a training of the same pair on the same rows by the same recipe, to go on from;
            on the eager and the captured engine the rest is then as it would have been, to the last bit.

        Raises
        ------
        ValueError
            If `x` is not of shape (n, d), two rows or more, floating-point and finite, the pair does not fit it, or
            `resume` is no such state, or of another training; before anything is changed.
        TrainingError
            If the loss or its gradient is not finite again and again.

        Warns
        -----
        TrainingWarning
            See `messages`.
        """
        source = x if isinstance(x, RowSource) else ArrayRows(x)
        watched = source.sample(_WATCHED_ROWS)
        first = source.take(torch.arange(min(source.n_rows, self.recipe.batch_size), device=source.device))
        check_rows(first)
        check_finite(first)  # of a source of the user's, which need not look at all rows beforehand
        self.module(first)  # validated as the user has it set: a wrong pair gets Pyro's own error
        self._check_recyclable(first[:2])
        self.choice = self._choose(source)
        loss: nn.Module = self.module
        if self.choice.engine != "eager":
            compiled = self.choice.engine == "compiled"
            loss = CompiledELBO(self.module, precision=self.choice.precision, compiled=compiled)
        plan = self._plan(source)
        if resume is not None:
            check_plan(resume, plan)
        self.state = TrainingState(self.module, plan, self.history, self.messages)
        with pyro.validation_enabled(False), own_parameters():
            for number in range(0 if resume is None else resume["phase"], len(self.phases)):
                self.state.phase = number
                take = self._begin(loss, source, watched, first)
                if resume is not None:
                    self.state.load_state_dict(resume)
                    resume = None
                self._run(take, source, watched)
            # Not the last entry of the history: training may have gone back since.
            for message in advice(measure(self.model, self.guide, watched), self.model.prior().event_shape[-1]):
                if message not in self.messages:  # a training that had ended may be resumed
                    self._say(message)
        return self

    def _check_recyclable(self, x: Tensor) -> None:
        """Raise a ValueError, before training, if the likelihood has no draws to recycle."""
        if self.passes == 1 or self.elbo.recycle != "sample":
            return
        with evaluation(self.model, self.guide):
            distribution = self.model.decode(self.guide.encode(x).mean, x)
        if not distribution.has_rsample:
            raise ValueError(
                f"Site 'x' cannot be recycled: {likelihood_name(self.model)} has no reparameterised "
                "sampler (rsample). Say recycle = 'mean' in its class, so that its mean is passed on, or train with "
                "one pass."
            )

    def _steps(self, phase: Phase, source: RowSource) -> tuple[int, int]:
        """Return the number of steps in an epoch, and in a phase."""
        steps_per_epoch = -(-source.n_rows // self.recipe.batch_size)
        return steps_per_epoch, phase.epochs * steps_per_epoch

    def _plan(self, source: RowSource) -> dict[str, Any]:
        """Return what a state that is resumed has to have been made by."""
        phases = [[phase.passes, phase.epochs, phase.learning_rate] for phase in self.phases]
        return {"rows": source.n_rows, "batch_size": self.recipe.batch_size, "phases": phases}

    def _choose(self, source: RowSource) -> Choice:
        plan = [(self._steps(phase, source)[1], phase.passes) for phase in self.phases]
        return choose_engine(self.module, min(source.n_rows, self.recipe.batch_size), plan, self.engine, self.precision)

    def _begin(self, loss: nn.Module, source: RowSource, watched: Tensor, first: Tensor) -> Take:
        """Begin the state's phase; return what takes a step of it."""
        phase = self.phases[self.state.phase]
        self.elbo.passes = phase.passes
        step = Step(loss, list(self.module.parameters()), phase.learning_rate, self.recipe.clip_norm)
        measured = measure(self.model, self.guide, watched)
        self.state.begin(step, source.batches(self.recipe.batch_size), measured)
        if source.device.type == "cuda" and isinstance(loss, CompiledELBO) and loss.captures(first):
            return RecordedStep(step, is_current=loss.has_graph)
        return step

    def _run(self, take: Take, source: RowSource, watched: Tensor) -> None:
        """Take the steps of the state's phase, from where it is."""
        state, phase = self.state, self.phases[self.state.phase]
        steps_per_epoch, n_steps = self._steps(phase, source)
        while state.number < n_steps:
            rate = state.slowed * phase.learning_rate * self.recipe.rate_factor(state.number, n_steps)
            state.step.set_learning_rate(rate)
            self._set_schedules(state.number / n_steps if state.phase == 0 else 1.0)
            batch = next(state.batches)
            state.tally.add(*take(batch), len(batch))
            state.number += 1
            if state.number % min(steps_per_epoch, _LOG_STEPS) == 0 or state.number == n_steps:
                self._look(source, watched, rate)

    def _look(self, source: RowSource, watched: Tensor, rate: float) -> None:
        """Measure; where the state is lost, go back to the last good one, else keep it."""
        state, phase = self.state, self.phases[self.state.phase]
        steps_per_epoch, n_steps = self._steps(phase, source)
        measured = measure(self.model, self.guide, watched)
        tally, state.tally = state.tally, Tally()
        where = f"{phase.name.capitalize()}, step {state.number} of {n_steps}"
        # Only a model that single passes have trained can be undone by recycling.
        can_diverge = phase.passes > 1 and self.phases[0].passes == 1
        if not (tally.finite and all(map(math.isfinite, measured.values()))):
            state.slowed /= 2
            self._go_back_to_finite(where)
        elif can_diverge and recycling_diverged(state.start.measured, measured, source.n_features):
            state.slowed /= 4
            again = state.slowed > 2**-_MAX_ROLLBACKS and state.number < n_steps
            self._go_back_to_single_passes(where, again)
            state.good = state.start
            state.number = state.number if again else n_steps
        else:
            state.keep(measured)
            self._log(phase, state.number / steps_per_epoch, tally, rate, measured)
        state.tally = Tally()  # once more: its clock leaves this look out

    def _set_schedules(self, progress: float) -> None:
        """Set KL weight and what the likelihood has in its schedule, at a share of the first phase.

        In the second one they stay at their ends.
        """
        self.elbo.kl_weight.fill_(self.recipe.kl_weight(progress))
        for name, ends in self._schedule.items():
            buffer = getattr(likelihood_of(self.model), name)
            if isinstance(ends, Switch):
                buffer.fill_(float(progress >= ends.at))
            elif ends[0] != ends[1]:  # else it stays as it is, also where somebody has changed it in place
                buffer.fill_(self.recipe.scheduled(ends, progress))

    def _go_back_to_finite(self, where: str) -> None:
        self.state.good.restore()
        slowed = self.state.slowed
        if slowed < 2**-_MAX_ROLLBACKS:
            raise TrainingError(
                f"{where}: loss or gradient is not finite again, at 1/{0.5 / slowed:.0f} of the learning rate. "
                "Give a larger floor or a smaller learning rate, and standardise the data if that was switched off."
            )
        self._say(
            f"{where}: loss or gradient was not finite. Went back to the last state where they were, and halved the "
            "learning rate. If this happens again, give a larger floor or a smaller learning rate."
        )

    def _go_back_to_single_passes(self, where: str, again: bool) -> None:
        self.state.start.restore()
        then = "go on at a quarter of the learning rate" if again else "left it at that"
        self._say(
            f"{where}: recycling made single passes worse by more than 0.3 nats a cell. Went back to the model before "
            f"recycling, and {then}. Train longer before recycling (more epochs), or with fewer passes, or a larger "
            "floor."
        )

    def _log(self, phase: Phase, epoch: float, tally: Tally, learning_rate: float, measured: dict[str, float]) -> None:
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
            "rows_per_second": tally.rows_per_second,
            **measured,
        }
        for name in (*self._schedule, *getattr(likelihood_of(self.model), "estimates", ())):
            entry.setdefault(name, float(getattr(likelihood_of(self.model), name)))
        self.history.append(entry)
        if self.on_log is not None:
            self.on_log(entry)

    def _say(self, message: str) -> None:
        self.messages.append(message)
        warnings.warn(message, TrainingWarning, stacklevel=users_level())
