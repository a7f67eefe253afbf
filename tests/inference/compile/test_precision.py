"""The precision of the matrix products: when it is chosen, and what it leaves in float32."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from reference import KINDS, cells_by_hand, make_pair
from torch import Tensor, nn

from pyro_ricvae.inference import CompiledELBO, CompiledSVI, RecyclingELBO, compile_elbo
from pyro_ricvae.inference.compile import precision

CPU = torch.device("cpu")
WIDE = 3000  # features of a pair whose products are worth converting for a batch of 1024: 8 x 3000 x 5 weights or so
SLOW = "precision='bf16' on cpu: this hardware has no instructions for it"


@pytest.fixture
def hardware(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hardware be fast or slow at bfloat16."""
    monkeypatch.setattr(precision, "fast_in_bf16", lambda device: request.param)


fast = pytest.mark.parametrize("hardware", [True], indirect=True)
slow = pytest.mark.parametrize("hardware", [False], indirect=True)


def chosen(module: Any, x: Tensor, **options: Any) -> str:
    """Return the precision that is chosen, without a capture."""
    loss = CompiledELBO(module, **options)
    loss._graphs.begin([x])
    return loss.precision


# What is chosen


def test_unknown_precisions() -> None:
    model, guide = make_pair()
    for wrong in ("fp16", "float32", "", None, torch.bfloat16):
        message = f"Expected precision to be one of auto, fp32, bf16, actual {wrong!r}"
        with pytest.raises(ValueError, match=message):
            precision.check_precision(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=message):
            compile_elbo(RecyclingELBO()(model, guide), torch.randn(6, 5), precision=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("instructions", ["none", "_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def test_a_processor_is_fast_where_it_has_instructions(instructions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == instructions, raising=False)
    assert precision.fast_in_bf16(CPU) == (instructions != "none")
    assert not precision.fast_in_bf16(torch.device("meta"))


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_is_fast_from_a_generation_on(
    capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.fast_in_bf16(torch.device("cuda", 0)) == expected


@fast
@pytest.mark.usefixtures("hardware")
def test_it_is_worth_it_for_large_products_of_float32() -> None:
    network = nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 10, bias=False))
    assert precision.worth_bf16(network, 1000, CPU)
    assert not precision.worth_bf16(network, 10, CPU)
    assert not precision.worth_bf16(network.double(), 1000, CPU)
    assert not precision.worth_bf16(nn.LayerNorm((1000,)), 10**6, CPU)  # no matrix


@slow
@pytest.mark.usefixtures("hardware")
def test_it_is_not_worth_it_on_slow_hardware() -> None:
    assert not precision.worth_bf16(nn.Linear(1000, 1000), 10**6, CPU)


class OwnModel(pyro.nn.PyroModule):
    """A user's model, of which nobody knows how it bears bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(2, WIDE)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)


@fast
@pytest.mark.usefixtures("hardware")
def test_auto_is_bf16_where_it_pays_and_is_safe() -> None:
    model, guide = make_pair(n_features=WIDE)
    large, small = torch.zeros(4096, WIDE), torch.zeros(8, WIDE)
    ours, own = RecyclingELBO()(model, guide), OwnModel()
    assert chosen(ours, large) == "bf16"
    assert chosen(Trace_ELBO()(model, guide), large) == "bf16"
    assert chosen(ours, small) == "fp32"
    assert chosen(ours, large, fallback_random=True) == "fp32"
    assert chosen(ours, large, precision="fp32") == "fp32"
    assert chosen(ours, large, precision="bf16", fallback_random=True) == "bf16"
    assert chosen(Trace_ELBO()(own, guide), large) == "fp32"
    own.autocast_safe = True
    assert chosen(Trace_ELBO()(own, guide), large) == "bf16"
    assert chosen(Trace_ELBO()(own, lambda x: None), large) == "fp32"


@slow
@pytest.mark.usefixtures("hardware")
def test_auto_is_fp32_on_slow_hardware() -> None:
    ours = RecyclingELBO()(*make_pair(n_features=WIDE))
    assert chosen(ours, torch.zeros(4096, WIDE)) == "fp32"


@slow
@pytest.mark.usefixtures("hardware")
def test_bf16_warns_once_on_slow_hardware_and_runs() -> None:
    loss = CompiledELBO(RecyclingELBO()(*make_pair()), precision="bf16", compiled=False)
    with pytest.warns(UserWarning, match=SLOW) as found:
        first = loss(torch.randn(6, 5))
    assert len(found) == 1
    assert loss.precision == "bf16"
    assert first.isfinite()
    assert all(loss(torch.randn(9, 5)).isfinite() for _ in range(4))
    assert loss.engines == ["captured"]


# What it changes


def terms(kind: str, model: Any, guide: Any, x: Tensor) -> float:
    """Return the sum of the absolute values of the loss's terms, KL and reconstruction."""
    with torch.no_grad():
        loc, scale = guide.encoder(x)
        kl = 0.5 * (scale**2 + loc**2 - 1) - torch.log(scale)
        cells = cells_by_hand(kind, model.likelihood, model.decoder(loc), x)[0]
        return (kl.abs().sum() + cells.abs().sum()).item()


@fast
@pytest.mark.usefixtures("hardware")
@pytest.mark.parametrize(("kind", "passes"), [(kind, 1) for kind in KINDS] + [("index_conditioned", 2)])
def test_the_loss_is_near_that_of_float32_and_in_float32(kind: str, passes: int) -> None:
    model, guide = make_pair(kind)
    module = RecyclingELBO(passes=passes)(model, guide)
    x = torch.randn(64, 5)
    loss = CompiledELBO(module, precision="bf16", compiled=False).prepare(x)
    results = []
    for each in (module, loss):
        torch.manual_seed(1)
        value = each(x)
        value.backward()
        results.append((value.detach(), [parameter.grad for parameter in module.parameters()]))
        for parameter in module.parameters():
            parameter.grad = None
    (expected, gradients), (actual, own) = results
    assert 0 < (actual - expected).abs() <= 1e-2 * passes * terms(kind, model, guide, x)
    assert actual.dtype == torch.float32
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in own)
    difference = torch.cat([(one - two).flatten() for one, two in zip(own, gradients, strict=True)])  # type: ignore[operator]
    size = torch.cat([gradient.flatten() for gradient in gradients])  # type: ignore[union-attr]
    assert difference.norm() <= 0.2 * size.norm()
    assert loss.engines == ["captured"]


@fast
@pytest.mark.usefixtures("hardware")
def test_only_the_matrix_products_are_in_low_precision() -> None:
    model, guide = make_pair()
    loss = CompiledELBO(RecyclingELBO()(model, guide), precision="bf16", compiled=False)
    loss.prepare(torch.randn(6, 5))
    (program,) = loss._graphs.programs
    dtypes: dict[str, set[torch.dtype]] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node: Any) -> Any:
            result = super().run_node(node)
            if isinstance(node.target, torch._ops.OpOverload) and isinstance(result, Tensor):
                dtypes.setdefault(node.target._schema.name.removeprefix("aten::"), set()).add(result.dtype)
            return result

    with torch.autocast("cpu", torch.bfloat16):
        Recorder(program.run).run(torch.randn(6, 5))  # type: ignore[arg-type]
    assert dtypes["linear"] == {torch.bfloat16}
    # Residuals and their logarithms, the KL, and every sum.
    for name in ("abs", "maximum", "log", "pow", "sum"):
        assert dtypes[name] == {torch.float32}, name


@pytest.mark.slow
@fast
@pytest.mark.usefixtures("hardware")
def test_compiled() -> None:
    module, x = RecyclingELBO()(*make_pair()), torch.randn(64, 5)
    loss = compile_elbo(module, x, precision="bf16", fallback_random=True)
    assert (loss.engines, loss.precision) == (["compiled"], "bf16")
    captured = CompiledELBO(module, precision="bf16", fallback_random=True, compiled=False)
    captured.prepare(x)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    values = []
    for each in (loss, captured, module):
        torch.manual_seed(1)
        values.append(each(x))
    actual, expected, exact = values
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
    assert actual.dtype == torch.float32
    assert (actual - expected).abs() <= 2e-3 * expected.abs()
    assert 0 < (actual - exact).abs() <= 1e-2 * exact.abs()
    actual.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in module.parameters())


@fast
@pytest.mark.usefixtures("hardware")
def test_what_runs_eagerly_runs_in_this_precision_too() -> None:
    def double(z: Tensor) -> Tensor:
        return 2 * z if z.mean() > 0 else z

    model, guide = make_pair()
    decoder = model.decoder
    model.decoder = nn.Module()
    model.decoder.forward = lambda z: decoder(double(z))
    x = torch.randn(6, 5)
    module = TraceMeanField_ELBO()(model, guide)
    with pytest.warns(UserWarning, match="runs eagerly"):
        loss = CompiledELBO(module, precision="bf16", compiled=False).prepare(x)
    torch.manual_seed(1)
    actual = loss(x)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert actual == module(x)


@fast
@pytest.mark.usefixtures("hardware")
def test_svi_in_bf16() -> None:
    model, guide = make_pair()
    svi = CompiledSVI(model, guide, pyro.optim.Adam({"lr": 0.02}), RecyclingELBO(), precision="bf16", compiled=False)
    x = torch.randn(64, 5)
    losses = [svi.step(x) for _ in range(60)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert svi.precision == "bf16"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bf16_on_cuda() -> None:
    model, guide = make_pair()
    module = RecyclingELBO(passes=2)(model.cuda(), guide.cuda())
    x = torch.randn(64, 5).cuda()
    loss = CompiledELBO(module, precision="bf16", compiled=False).prepare(x)
    torch.manual_seed(1)
    actual = loss(x)
    torch.manual_seed(1)
    expected = module(x)
    actual.backward()
    assert actual.dtype == torch.float32
    assert (actual - expected).abs() <= 2e-2 * terms("index_conditioned", model, guide, x)
