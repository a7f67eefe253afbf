"""A training step, and one that is recorded and replayed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import make_pair
from rigged import equal, low_rank_rows, parameters, scheduled
from torch import Tensor, nn

from pyro_ricvae.inference import CompiledELBO, RecyclingELBO, Trainer
from pyro_ricvae.inference.training.state import Snapshot
from pyro_ricvae.inference.training.step import RecordedStep, Step, cuda_graph

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def loss_of(module: nn.Linear) -> Callable[[Tensor], Tensor]:
    return lambda batch: (module(batch) - batch).square().sum()


def test_a_step_is_adam_on_the_clipped_gradient() -> None:
    torch.manual_seed(0)
    module, by_hand = nn.Linear(3, 3), nn.Linear(3, 3)
    by_hand.load_state_dict(module.state_dict())
    step = Step(loss_of(module), list(module.parameters()), 0.1, 2.0)
    optimizer = torch.optim.Adam(by_hand.parameters())
    for rate in (0.1, 0.03):
        batch = torch.randn(5, 3)
        step.set_learning_rate(rate)
        loss, norm = step(batch)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        expected = loss_of(by_hand)(batch)
        expected.backward()
        assert norm == nn.utils.clip_grad_norm_(by_hand.parameters(), 2.0) > 2
        optimizer.step()
        assert loss == expected.detach()
        assert not loss.requires_grad
    for one, other in zip(parameters(module), parameters(by_hand), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_recorded_step_takes_the_same_steps() -> None:
    """On the CPU, where what stands in for a recording does nothing by itself either, and the same when replayed."""
    torch.manual_seed(0)
    module, plain = nn.Linear(3, 3), nn.Linear(3, 3)
    plain.load_state_dict(module.state_dict())
    recorded: list[Any] = []

    def record(function: Callable[[], None]) -> Callable[[], None]:
        recorded.append(function)
        return function

    steps = Step(loss_of(plain), list(plain.parameters()), 0.1, None)
    replayed = RecordedStep(Step(loss_of(module), list(module.parameters()), 0.1, None), record=record)
    results: list[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]] = []
    for number in range(12):
        batch = torch.randn(4 if number % 3 else 5, 3)  # two lengths: three steps each as they come, then recorded
        for each in (steps, replayed.step):
            each.set_learning_rate(0.1 / (number + 1))
        results.append((steps(batch), replayed(batch)))
        assert len(recorded) == (number >= 5) + (number >= 9)
    for one, other in results:
        assert equal(list(one), list(other))
    assert equal(parameters(plain), parameters(module))


def test_a_snapshot_is_restored_in_place() -> None:
    """A recorded step holds the tensors; one saved before the first step has no moments yet."""
    module = nn.Linear(3, 3)
    step = Step(loss_of(module), list(module.parameters()), 0.1, None)
    batch = torch.randn(5, 3)
    kept, states, after = [], [], []
    for _ in range(3):
        states.append(Snapshot(module, step, {}))
        kept.append(parameters(module))
        step(batch)
        after.append(parameters(module))
    moments = [value for each in step._optimizer.state.values() for value in each.values()]
    for number in (0, 1, 2, 0):
        states[number].restore()
        assert equal(parameters(module), kept[number])
        step(batch)
        assert equal(parameters(module), after[number])
    assert all(
        one is other
        for one, other in zip(
            moments, (value for each in step._optimizer.state.values() for value in each.values()), strict=True
        )
    )


def test_memory_that_does_not_suffice_names_the_batch() -> None:
    def loss(batch: Tensor) -> Tensor:
        return torch.zeros(len(batch) * 10**15).sum()

    step = Step(loss, [nn.Parameter(torch.zeros(1))], 0.1, None)
    with pytest.raises(torch.OutOfMemoryError, match=r"Out of memory for a batch of 6 rows\. Try a batch of 3 rows"):
        step(torch.zeros(6, 1))


@needs_cuda
def test_on_cuda_a_recorded_step_is_the_plain_one() -> None:
    results = {}
    for record in (False, True):
        torch.manual_seed(0)
        model, guide = (part.cuda() for part in make_pair())
        elbo = RecyclingELBO(passes=2)
        loss = elbo(model, guide)
        elbo.kl_weight.data = elbo.kl_weight.cuda()
        x, losses = low_rank_rows(40).cuda(), []
        # Pyro reads values, which a recording forbids; the captured graph reads none.
        run = CompiledELBO(loss, precision="fp32", compiled=False).prepare(x) if record else loss
        step: Any = Step(run, list(loss.parameters()), 1e-2, 10.0)
        take = RecordedStep(step, record=cuda_graph) if record else step
        for number in range(10):
            # What changes in place takes effect between replays.
            model.likelihood.floor.fill_(1.0 / (number + 1))
            elbo.kl_weight = number / 10
            step.set_learning_rate(1e-2 / (number + 1))
            torch.cuda.manual_seed(number)
            losses.append(take(x[: 30 if number % 2 else 40])[0])
        results[record] = torch.stack(losses).cpu()
    torch.testing.assert_close(results[True], results[False], rtol=1e-4, atol=1e-3)


@needs_cuda
@pytest.mark.parametrize("engine", ["captured", "compiled"])
def test_on_cuda_a_trainer_records_its_steps(engine: Any) -> None:
    model, guide = (part.cuda() for part in make_pair())
    x = low_rank_rows(100).cuda()
    trainer = Trainer(*scheduled((model, guide), (0.5, 0.1)), epochs=30, passes=2, engine=engine).fit(x)
    assert trainer.history[-1]["loss"] < trainer.history[0]["loss"]
