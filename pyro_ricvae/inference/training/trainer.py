"""The training loop: single passes, and then recycled ones among them, watched."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor

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

#: What takes a step on a batch with so many passes, and returns its loss and the norm of its gradient.
Take = Callable[[Tensor, int], tuple[Tensor, Tensor]]


class TrainingWarning(UserWarning):
    """What the watch on a run has to say: what happened, what was done, and what to do."""


class TrainingError(RuntimeError):
    """Training cannot go on: what happened, and what to do."""


class Trainer:
    """Trains a pair with Adam: first in single passes, then in steps of one and of several passes in turn.

    A step is one graph where that pays, see `engine`; on CUDA it is recorded with its backward and its optimizer, and
    replayed. Losses stay on the device until they are looked at.

    Neither Pyro's parameter store nor any global setting is changed. Random numbers come from torch's global generator.

    Parameters
    ----------
    model, guide : pair.Model, pair.Guide
        The pair, on the device to train on. What the model's likelihood has in its ``schedule`` moves meanwhile, and
        its ``next_input`` or ``recycle`` says how it is recycled; see `likelihoods.Likelihood`.
    epochs : int
        The total: `recipe.single_pass_share` of them with one pass; of the steps of the rest, `recipe.recycled_share`
        with `passes`.
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
        One entry per look, every epoch or 200 steps, whichever is less, whose state was kept: "phase", "passes" (the
        most that its steps have), "epoch", "epochs" (of the phase), "loss" (nats a row and pass), "gradient_norm"
        (before clipping), "rows", "row_passes" (a row as often as it was passed) and "rows_per_second" since the last
        look; "learning_rate", "kl_weight" and what is in the likelihood's schedule, such as "floor", of its last step;
        and what `measure` says of up to 512 rows.
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
        how = recycle_in_training(model)
        pair: Any = model, guide
        # Repaired rows are data of the later passes: their loss is not made smaller by changing them.
        self.modules: dict[int, Any] = {
            number: RecyclingELBO(number, recycle=how, detach=how == "repair")(*pair) for number in (1, self.passes)
        }
        self.module = self.modules[1]
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
        losses: dict[int, Any] = self.modules
        if self.choice.engine != "eager":
            options: Any = {"precision": self.choice.precision, "compiled": self.choice.engine == "compiled"}
            losses = {number: CompiledELBO(module, **options) for number, module in losses.items()}
        plan = self._plan(source)
        if resume is not None:
            check_plan(resume, plan)
        self.state = TrainingState(self.module, plan, self.history, self.messages)
        with pyro.validation_enabled(False), own_parameters():
            step, take = self._step(losses, source, first)
            for number in range(0 if resume is None else resume["phase"], len(self.phases)):
                self.state.phase = number
                measured = measure(self.model, self.guide, watched)
                self.state.begin(step, source.batches(self.recipe.batch_size), measured)
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
        if self.passes == 1 or self.modules[self.passes].elbo.recycle != "sample":
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
        phases = [[phase.passes, phase.epochs, phase.share] for phase in self.phases]
        return {
            "rows": source.n_rows,
            "batch_size": self.recipe.batch_size,
            "learning_rate": self.recipe.learning_rate,
            "phases": phases,
        }

    def _choose(self, source: RowSource) -> Choice:
        taken = [phase.passes_of(step) for phase in self.phases for step in range(self._steps(phase, source)[1])]
        plan = [(taken.count(passes), passes) for passes in sorted(set(taken))]
        return choose_engine(self.module, min(source.n_rows, self.recipe.batch_size), plan, self.engine, self.precision)

    def _step(self, losses: dict[int, Any], source: RowSource, first: Tensor) -> tuple[Step, Take]:
        """Return the optimizer's step, and what takes it: on CUDA it is recorded."""

        def loss(batch: Tensor, passes: int) -> Tensor:
            value: Tensor = losses[passes](batch)
            return value

        def is_current(batch: Tensor, passes: int) -> bool:
            current: bool = losses[passes].has_graph(batch)
            return current

        step = Step(loss, list(self.module.parameters()), self.recipe.learning_rate, self.recipe.clip_norm)
        on_cuda = source.device.type == "cuda" and self.choice.engine != "eager"
        if on_cuda and all(each.captures(first) for each in losses.values()):
            return step, RecordedStep(step, is_current=is_current)
        return step, step

    def _run(self, take: Take, source: RowSource, watched: Tensor) -> None:
        """Take the steps of the state's phase, from where it is."""
        state, phase = self.state, self.phases[self.state.phase]
        steps_per_epoch, n_steps = self._steps(phase, source)
        before, in_all = (
            sum(self._steps(each, source)[1] for each in phases) for phases in (self.phases[: state.phase], self.phases)
        )
        while state.number < n_steps:
            number = before + state.number
            rate = state.slowed * self.recipe.learning_rate * self.recipe.rate_factor(number, in_all)
            state.step.set_learning_rate(rate)
            self._set_schedules(number / in_all)
            batch, passes = next(state.batches), phase.passes_of(state.number) if state.recycles else 1
            state.tally.add(*take(batch, passes), len(batch), passes)
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
        can_diverge = phase.passes > 1 and self.phases[0].passes == 1 and state.recycles
        if not (tally.finite and all(map(math.isfinite, measured.values()))):
            state.slowed /= 2
            self._go_back_to_finite(where)
        elif can_diverge and recycling_diverged(state.start.measured, measured, source.n_features):
            self._go_back_to_single_passes(where)
        else:
            state.keep(measured)
            self._log(phase, state.number / steps_per_epoch, tally, rate, measured)
        state.tally = Tally()  # once more: its clock leaves this look out

    def _set_schedules(self, progress: float) -> None:
        """Set KL weight and what the likelihood has in its schedule, at a share of the training."""
        for module in self.modules.values():
            module.elbo.kl_weight.fill_(self.recipe.kl_weight(progress))
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

    def _go_back_to_single_passes(self, where: str) -> None:
        self.state.start.restore()
        self.state.good, self.state.recycles = self.state.start, False
        self._say(
            f"{where}: recycling made single passes worse by more than 0.3 nats a cell. Went back to the model before "
            "recycling, and take the other steps in single passes. Train longer before recycling, or with one pass."
        )

    def _log(self, phase: Phase, epoch: float, tally: Tally, learning_rate: float, measured: dict[str, float]) -> None:
        entry: dict[str, Any] = {
            "phase": phase.name,
            "passes": phase.passes,
            "epoch": round(epoch, 2),
            "epochs": phase.epochs,
            "loss": tally.mean_loss,
            "gradient_norm": tally.mean_norm,
            "learning_rate": learning_rate,
            "kl_weight": float(self.module.elbo.kl_weight),
            "rows": tally.rows,
            "row_passes": tally.passed,
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
