"""What a training holds between two steps: all that is needed to go back, and to go on in another process."""

import math
import time
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pyro_ricvae._core.isolation import random_state, set_random_state
from pyro_ricvae.data.batches import Batches
from pyro_ricvae.inference.training.step import Step


class Snapshot:
    """A copy of the networks' parameters and buffers and of the optimizer's moments, and what `measure` said of it."""

    def __init__(self, module: nn.Module, step: Step, measured: dict[str, float]) -> None:
        self._module, self._step, self.measured = module, step, measured
        self._networks, self._moments = deepcopy(module.state_dict()), step.moments()

    def restore(self) -> None:
        """Go back to it, in place: a recorded step holds these tensors."""
        self._module.load_state_dict(self._networks)
        self._step.set_moments(self._moments)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it."""
        return {"networks": self._networks, "moments": self._moments, "measured": self.measured}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become that of which `state_dict` was taken."""
        self._networks, self._moments = deepcopy(state["networks"]), deepcopy(state["moments"])
        self.measured = dict(state["measured"])


class Tally:
    """Sums over the steps since the last look, kept on the device, so that no step waits for it."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.loss: Tensor | float = 0.0
        self.norm: Tensor | float = 0.0
        self.rows = self.passed = self.steps = 0

    def add(self, loss: Tensor, norm: Tensor, rows: int, passes: int) -> None:
        """Add a step's loss, gradient norm, number of rows and of passes."""
        self.loss, self.norm = self.loss + loss, self.norm + norm
        self.rows, self.passed, self.steps = self.rows + rows, self.passed + rows * passes, self.steps + 1

    @property
    def finite(self) -> bool:
        """Whether all losses and gradients were finite."""
        return math.isfinite(float(self.loss)) and math.isfinite(float(self.norm))

    @property
    def mean_loss(self) -> float:
        """The mean loss of a row in a pass."""
        return float(self.loss) / self.passed

    @property
    def mean_norm(self) -> float:
        """The mean norm of the gradient."""
        return float(self.norm) / self.steps

    @property
    def rows_per_second(self) -> float:
        """Rows since the last look, a second."""
        return self.rows / (time.perf_counter() - self.began)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, without the time."""
        sums = {name: torch.as_tensor(getattr(self, name)).clone() for name in ("loss", "norm")}
        return {**sums, "rows": self.rows, "passed": self.passed, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take sums over; the time begins now."""
        self.rows, self.passed, self.steps = state["rows"], state["passed"], state["steps"]
        if self.steps:
            self.loss, self.norm = state["loss"].clone(), state["norm"].clone()


def check_plan(state: Any, plan: dict[str, Any]) -> None:
    """Raise a ValueError unless a training's state is one, and of a training by this plan."""
    if not isinstance(state, dict) or not {"plan", "phase", "networks"} <= state.keys():
        raise ValueError(f"Expected as resume what trainer.state.state_dict() returned, actual {type(state).__name__}.")
    for name, value in plan.items():
        if state["plan"].get(name) != value:
            raise ValueError(
                f"Expected the state of a training with {name} {value}, actual {state['plan'].get(name)}: give the "
                "same rows, epochs, passes and recipe as then."
            )


class TrainingState:
    """Everything that a training holds, and the loop keeps nothing else.

    Parameters
    ----------
    module : ELBOModule
        The objective with the pair, on the device to train on.
    plan : dict
        What the training is by: "rows", "batch_size", "phases".
    history, messages : list, optional
        To be added to.

    Attributes
    ----------
    phase : int
        The number of the phase, from 0.
    number : int
        How many of its steps are taken.
    slowed : float
        What its learning rate is multiplied by: less than 1 after going back.
    recycles : bool
        Whether steps of several passes are taken: not after going back because of them.
    step, batches : Step, Batches
        Of the training, and of this phase.
    start, good : Snapshot
        At the start of the phase, and at the last look at which all was well.
    tally : Tally
        Since the last look.
    history, messages : list
        As in `Trainer`.
    """

    step: Step
    batches: Batches
    start: Snapshot
    good: Snapshot

    def __init__(
        self,
        module: Any,
        plan: dict[str, Any] | None = None,
        history: list[dict[str, Any]] | None = None,
        messages: list[str] | None = None,
    ) -> None:
        self.module, self.plan = module, plan
        self.phase = self.number = 0
        self.slowed = 1.0
        self.recycles = True
        self.tally = Tally()
        self.history: list[dict[str, Any]] = [] if history is None else history
        self.messages: list[str] = [] if messages is None else messages

    def begin(self, step: Step, batches: Batches, measured: dict[str, float]) -> None:
        """Begin a phase, with an order of the rows of its own."""
        self.number, self.slowed, self.tally = 0, 1.0, Tally()
        self.step, self.batches = step, batches
        self.start = self.good = Snapshot(self.module, step, measured)

    def keep(self, measured: dict[str, float]) -> None:
        """Keep what there is now as the last good state."""
        self.good = Snapshot(self.module, self.step, measured)

    def state_dict(self) -> dict[str, Any]:
        """Return networks, moments, schedules, position in the data, random state and what there is to go back to.

        Returns
        -------
        dict
            Of plain values, lists and tensors, none of which the training goes on to change: `torch.save` writes it,
            ``torch.load(path, weights_only=True)`` reads it. What moves by a schedule is a buffer of the networks, or
            "kl_weight". The random state is that of torch's generators as they are now.

        Raises
        ------
        RuntimeError
            If the training has not begun.
        """
        if not hasattr(self, "step"):
            raise RuntimeError("Expected a training that has begun, actual one without a step: there is no state yet.")
        return deepcopy(
            {
                "plan": self.plan,
                "phase": self.phase,
                "number": self.number,
                "slowed": self.slowed,
                "recycles": self.recycles,
                "networks": self.module.state_dict(),
                "moments": self.step.moments(),
                "kl_weight": float(self.module.elbo.kl_weight),
                "batches": self.batches.state_dict(),
                "start": self.start.state_dict(),
                "good": None if self.good is self.start else self.good.state_dict(),
                "tally": self.tally.state_dict(),
                "history": self.history,
                "messages": self.messages,
                "random": random_state(self.step.device),
            }
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken, once `begin` has been called for its phase.

        Raises
        ------
        ValueError
            If it is of other rows.
        RuntimeError
            If it is of other networks.
        """
        self.phase, self.number, self.slowed = state["phase"], state["number"], state["slowed"]
        self.recycles = state["recycles"]
        self.module.load_state_dict(state["networks"])
        self.step.set_moments(state["moments"])
        self.module.elbo.kl_weight = state["kl_weight"]
        self.batches.load_state_dict(state["batches"])
        self.start.load_state_dict(state["start"])
        self.good = self.start
        if state["good"] is not None:
            self.keep({})
            self.good.load_state_dict(state["good"])
        self.tally.load_state_dict(state["tally"])
        self.history[:], self.messages[:] = deepcopy(state["history"]), list(state["messages"])
        set_random_state(state["random"], self.step.device)
