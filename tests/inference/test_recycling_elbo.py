"""The recycling ELBO against a loop written by hand, against Pyro's own, and with wrong input."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from reference import KINDS, gradients, loss_by_hand, make_pair, noise
from torch import nn

from pyro_ricvae.inference import RecyclingELBO

VARIANTS: dict[str, dict[str, Any]] = {
    "sample": {},
    "mean": {"recycle": "mean"},
    "detach": {"detach": True},
    "detached mean": {"recycle": "mean", "detach": True},
    "kl_weight": {"kl_weight": 0.1},
    "no kl": {"kl_weight": 0.0},
    "size": {"size": 50},
    "all": {"recycle": "mean", "kl_weight": 2.0, "size": 50},
}
PARTICLES: dict[str, dict[str, Any]] = {
    "one": {},
    "several": {"num_particles": 3},
    "vectorised": {"num_particles": 3, "vectorize_particles": True},
}


def make_elbo(passes: int, *, kl_weight: float = 1.0, size: int | None = None, **options: Any) -> RecyclingELBO:
    elbo = RecyclingELBO(passes=passes, **options)
    elbo.kl_weight.fill_(kl_weight)
    return elbo


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("passes", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_every_gradient_match_a_loop_by_hand(kind: str, passes: int, variant: str, dtype: torch.dtype) -> None:
    options = VARIANTS[variant]
    model, guide = make_pair(kind, size=options.get("size"), dtype=dtype)
    x = 2 * torch.randn(6, 5, dtype=dtype)
    torch.manual_seed(1)
    rows, absolute = loss_by_hand(kind, model, guide, x, passes=passes, **options)
    expected: dict[str, torch.Tensor] = {}
    magnitude: dict[str, float] = {}
    for row in rows:
        row.backward(retain_graph=True)
        for name, gradient in gradients(model, guide).items():
            expected[name] = expected.get(name, 0) + gradient
            magnitude[name] = magnitude.get(name, 0) + torch.linalg.norm(gradient).item()

    torch.manual_seed(1)
    actual = make_elbo(passes, **options)(model, guide)(x)
    actual.backward()
    # float64 to 1e-10 of what is compared; float32, where terms may cancel, to 2e-6 of the sum of the loss's absolute
    # terms, and 1e-5 of the sum of the norms of the rows' gradients.
    exact = dtype == torch.float64
    loss_scale = rows.sum().abs().item() if exact else absolute
    assert actual.dtype == dtype
    assert (actual - rows.sum()).abs().item() <= (1e-10 if exact else 2e-6) * loss_scale
    for name, gradient in gradients(model, guide).items():
        scale = torch.linalg.norm(expected[name]).item() if exact else magnitude[name]
        assert torch.linalg.norm(gradient - expected[name]).item() <= (1e-10 if exact else 1e-5) * scale, name


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("particles", PARTICLES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_three_losses_agree(kind: str, particles: str, passes: int) -> None:
    model, guide = make_pair(kind)
    elbo = RecyclingELBO(passes=passes, **PARTICLES[particles])
    x = torch.randn(6, 5)
    torch.manual_seed(1)
    differentiable = elbo.differentiable_loss(model, guide, x)
    differentiable.backward()
    expected = gradients(model, guide)
    torch.manual_seed(1)
    loss = elbo.loss(model, guide, x)
    torch.manual_seed(1)
    assert elbo.loss_and_grads(model, guide, x) == loss
    for name, gradient in gradients(model, guide).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5)
    assert isinstance(loss, float)
    assert differentiable.item() == pytest.approx(loss, rel=1e-6)


class Gamma(nn.Module):
    """A user's pair of three latents, one without a KL in closed form and one masked out, and an auxiliary site."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(0.3))

    def model(self, x: torch.Tensor, offset: float) -> None:
        pyro.module("gamma", self)
        with pyro.plate("rows", len(x)):
            scale = pyro.sample("scale", dist.Gamma(2.0, 2.0))
            shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
            pyro.sample("ignored", dist.Normal(0.0, 1.0).mask(False))
            pyro.sample("x", dist.Normal(shift + offset, scale), obs=x)

    def guide(self, x: torch.Tensor, offset: float) -> None:
        pyro.module("gamma", self)
        with pyro.plate("rows", len(x)):
            extra = pyro.sample("extra", dist.Normal(self.loc, 0.5), infer={"is_auxiliary": True})
            pyro.sample("scale", dist.LogNormal(self.loc, 0.1))
            pyro.sample("shift", dist.Normal(0.1 * extra, self.loc.exp()))
            pyro.sample("ignored", dist.Normal(self.loc, 1.0).mask(False))


@pytest.mark.parametrize("method", ["loss", "differentiable_loss", "loss_and_grads"])
@pytest.mark.parametrize("particles", PARTICLES)
@pytest.mark.parametrize("pair", [*KINDS, "subsampled", "no closed form"])
def test_one_pass_is_pyros_mean_field_elbo_to_the_last_bit(pair: str, particles: str, method: str) -> None:
    parameters: tuple[nn.Module, ...]
    if pair == "no closed form":
        gamma = Gamma()
        model, guide, parameters, arguments = gamma.model, gamma.guide, (gamma,), (torch.randn(6), 0.5)
    else:
        kind, size = ("index_conditioned", 50) if pair == "subsampled" else (pair, None)
        model, guide = make_pair(kind, size=size)
        parameters, arguments = (model, guide), (torch.randn(6, 5),)
    results = []
    for cls in (TraceMeanField_ELBO, RecyclingELBO):
        torch.manual_seed(1)
        loss = getattr(cls(max_plate_nesting=1, **PARTICLES[particles]), method)(model, guide, *arguments)
        if method == "differentiable_loss":
            loss.backward()
            loss = loss.item()
        results.append((loss, gradients(*parameters) if method != "loss" else {}))
    (expected, expected_gradients), (actual, actual_gradients) = results
    assert actual == expected
    assert all(torch.equal(actual_gradients[name], gradient) for name, gradient in expected_gradients.items())


@pytest.mark.parametrize("size", [None, 50])
def test_vectorised_and_looped_particles_agree_in_mean(size: int | None) -> None:
    model, guide = make_pair("index_conditioned", size=size)
    x = 2 * torch.randn(6, 5)
    looped = torch.tensor([RecyclingELBO(passes=3).loss(model, guide, x) for _ in range(400)])
    vectorised = RecyclingELBO(passes=3, num_particles=4000, vectorize_particles=True).loss(model, guide, x)
    standard_error = looped.std() * math.sqrt(1 / 400 + 1 / 4000)
    assert standard_error < 0.02 * abs(vectorised)  # small enough to tell a wrong scale
    assert abs(looped.mean() - vectorised) < 3 * standard_error


def test_more_rows_than_particles_and_the_other_way_round() -> None:
    """The batch is the second dimension from the right, whatever stands before it."""
    for rows, particles in ((2, 7), (7, 2)):
        model, guide = make_pair("fixed", size=70)
        model.likelihood.scale.fill_(1e3)  # the loss is then nearly its constants: 70 rows of 5 cells, 3 times
        elbo = RecyclingELBO(passes=3, recycle="mean", num_particles=particles, vectorize_particles=True)
        elbo.kl_weight.fill_(0.0)
        expected = 3 * 70 * 5 * (math.log(1e3) + 0.5 * math.log(2 * math.pi))
        assert elbo.loss(model, guide, torch.zeros(rows, 5)) == pytest.approx(expected, rel=1e-5)


class TimeSeries(nn.Module):
    """An unrelated user's pair: another site name, two plates, a second argument, no classes of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.width = nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))

    def model(self, y: torch.Tensor, noise_scale: float) -> None:
        pyro.module("series", self)
        with pyro.plate("series", y.shape[-2], dim=-2), pyro.plate("time", y.shape[-1], dim=-1):
            level = pyro.sample("level", dist.Normal(y.new_tensor(0.2), 2.0))
            pyro.sample("y", dist.Laplace(self.slope * level, noise_scale), obs=y)

    def guide(self, y: torch.Tensor, noise_scale: float) -> None:
        pyro.module("series", self)
        with pyro.plate("series", y.shape[-2], dim=-2), pyro.plate("time", y.shape[-1], dim=-1):
            pyro.sample("level", dist.Normal(self.slope * y, self.width.exp()))


def test_an_unrelated_pair_is_recycled_too() -> None:
    series, y = TimeSeries(), torch.randn(3, 4, dtype=torch.float64)
    elbo = RecyclingELBO(passes=2, recycle="mean", site="y", max_plate_nesting=2)
    torch.manual_seed(1)
    elbo.loss_and_grads(series.model, series.guide, y, 0.7)
    actual = gradients(series)
    torch.manual_seed(1)
    actual_loss = elbo.loss(series.model, series.guide, y, 0.7)

    torch.manual_seed(1)
    expected, x = torch.zeros((), dtype=torch.float64), y
    for _ in range(2):
        loc, scale = series.slope * x, series.width.exp()
        level = loc + scale * noise(x.shape, torch.float64)
        kl = math.log(2.0) - series.width + (scale**2 + (loc - 0.2) ** 2) / (2 * 2.0**2) - 0.5
        nll = (x - series.slope * level).abs() / 0.7 + math.log(2 * 0.7)
        expected = expected + (kl + nll).sum()
        x = series.slope * level
    expected.backward()
    assert actual_loss == pytest.approx(expected.item(), rel=1e-10)
    for name, gradient in gradients(series).items():
        assert actual[name].item() == pytest.approx(gradient.item(), rel=1e-10)


def test_vectorised_particles_of_a_pair_with_other_plates() -> None:
    series, y = TimeSeries(), torch.randn(3, 4, dtype=torch.float64)
    options: dict[str, Any] = {"passes": 3, "site": "y", "max_plate_nesting": 2, "num_particles": 2000}
    vectorised = RecyclingELBO(vectorize_particles=True, **options).loss(series.model, series.guide, y, 0.7)
    single = RecyclingELBO(**{**options, "num_particles": 1})
    looped = torch.tensor([single.loss(series.model, series.guide, y, 0.7) for _ in range(300)])
    assert abs(looped.mean() - vectorised) < 3 * looped.std() * math.sqrt(1 / 300 + 1 / 2000)


def test_kl_weight_is_one_tensor_changed_in_place() -> None:
    model, guide = make_pair()
    elbo = RecyclingELBO()
    weight, module = elbo.kl_weight, elbo(model, guide)
    assert weight.shape == ()
    assert weight.item() == 1.0
    assert module.elbo is elbo
    x = torch.randn(6, 5)

    def loss() -> float:
        torch.manual_seed(1)
        return module(x).item()

    full = loss()
    weight.fill_(0.0)
    without = loss()
    elbo.kl_weight = 0.5
    assert elbo.kl_weight is weight
    assert loss() == pytest.approx((full + without) / 2, rel=1e-5)
    assert full > without


def test_precision_of_the_loss_does_not_depend_on_the_default() -> None:
    model, guide = make_pair(dtype=torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        assert RecyclingELBO(passes=2)(model, guide)(torch.randn(6, 5, dtype=torch.float32)).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_autocast_keeps_residuals_and_sums_in_full_precision() -> None:
    model, guide = make_pair("fixed")
    x = torch.randn(6, 5)
    torch.manual_seed(1)
    rows, absolute = loss_by_hand("fixed", model, guide, x, passes=2)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = RecyclingELBO(passes=2)(model, guide)(x)
    assert actual.dtype == torch.float32
    assert (actual - rows.sum()).abs().item() <= 0.02 * absolute


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": 0}, "Expected passes to be a whole number >= 1, actual 0"),
        ({"passes": 1.5}, r"Expected passes to be a whole number >= 1, actual 1\.5"),
        ({"num_particles": 0}, "Expected num_particles to be a whole number >= 1, actual 0"),
        ({"recycle": "median"}, "Expected recycle to be one of sample, mean, repair, likelihood, actual 'median'"),
    ],
)
def test_wrong_options(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecyclingELBO(**options)


class Plain(nn.Module):
    """A model with the given distribution at its observed site "x"."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor, **_: Any) -> None:
        with pyro.plate("data", 4):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", self.make(z), obs=x)


def plain_guide(x: torch.Tensor, **_: Any) -> None:
    with pyro.plate("data", 4):
        pyro.sample("z", dist.Normal(0.0, 0.5))


@pytest.mark.parametrize(
    ("options", "make", "message"),
    [
        ({"site": "y"}, lambda z: dist.Normal(z, 1.0), r"Site 'y' cannot .* no such site.*\['x'\].*site=\.\.\."),
        ({"site": "z"}, lambda z: dist.Normal(z, 1.0), r"Site 'z' cannot .* a site that is not observed.*\['x'\]"),
        ({}, lambda z: dist.Poisson(z.exp()), r"Site 'x' cannot .* Poisson.* no reparameterised.*recycle='mean'"),
        (
            {"recycle": "mean"},
            lambda z: dist.TransformedDistribution(dist.Normal(z, 1.0), dist.transforms.SigmoidTransform()),
            r"Site 'x' cannot .* expected a distribution with a mean, actual Transformed.*samples",
        ),
    ],
)
def test_a_site_that_cannot_be_recycled(options: Any, make: Any, message: str) -> None:
    model, x = Plain(make), torch.full((4,), 0.5).round()
    with pytest.raises(ValueError, match=message):
        RecyclingELBO(passes=2, **options).loss(model, plain_guide, x)
    if "recycle" not in options:  # one pass recycles nothing, and asks nothing of the site
        RecyclingELBO(passes=1, **options).loss(model, plain_guide, x)


def test_the_mean_of_a_discrete_site_is_recycled_as_the_error_advises() -> None:
    model = Plain(lambda z: dist.Poisson(z.exp(), validate_args=False))
    assert math.isfinite(RecyclingELBO(passes=3, recycle="mean").loss(model, plain_guide, torch.ones(4)))


def test_passes_changed_later_are_checked_too() -> None:
    elbo = RecyclingELBO()
    elbo.passes = 0
    with pytest.raises(ValueError, match="Expected passes to be a whole number >= 1, actual 0"):
        elbo.loss(*make_pair(), torch.zeros(4, 5))


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("sizes", [(50, None), (None, 50), (50, 60)])
def test_sizes_that_differ(sizes: tuple[int | None, int | None], passes: int) -> None:
    """Pyro would scale the KL by the guide's plate, and everything else by the model's."""
    model, guide = make_pair(size=sizes[0])[0], make_pair(size=sizes[1])[1]
    with pytest.raises(
        ValueError, match=r"Site 'z': expected one size of the plate 'data'.*model and guide the same size"
    ):
        RecyclingELBO(passes=passes).loss(model, guide, torch.zeros(4, 5))


def test_rows_counted_from_the_left() -> None:
    """With vectorised particles, len(x) counts the rows at first, and the particles from pass 2 on."""

    def model(x: torch.Tensor) -> None:
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([5]).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    guide, x = pyro.infer.autoguide.AutoNormal(model), torch.zeros(4, 5)
    RecyclingELBO(passes=2, num_particles=3).loss(model, guide, x)
    with pytest.raises(
        ValueError, match=r"Site '[zx]': expected one size of the plate 'rows'.*from the right, x.shape"
    ):
        RecyclingELBO(passes=2, num_particles=3, vectorize_particles=True).loss(model, guide, x)


def test_a_first_argument_that_cannot_be_replaced() -> None:
    elbo = RecyclingELBO(passes=2)
    with pytest.raises(ValueError, match=r"Site 'x' cannot .* first positional argument, a tensor, actual none"):
        elbo.loss(Plain(lambda z: dist.Normal(z, 1.0)), plain_guide, x=torch.zeros(4))

    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", 4):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z[:, None], 1.0).to_event(1), obs=x)

    with pytest.raises(ValueError, match=r"Site 'x' .* first argument's shape \(4, 3\), actual Indep.*expand it"):
        elbo.loss(model, plain_guide, torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ((4,), lambda model, x: pyro.poutine.condition(model, {"x": x.clone()})),
        ((4,), lambda model, x: lambda y: model(y.log())),
        ((4, 3), lambda model, x: lambda y: model(y.mean(1))),
    ],
    ids=["conditioned", "transformed", "reduced"],
)
def test_a_site_that_does_not_observe_the_first_argument(shape: tuple[int, ...], change: Any) -> None:
    x = torch.rand(shape)
    with pytest.raises(ValueError, match=r"Site 'x' cannot .* to observe the first argument, .*obs=x"):
        RecyclingELBO(passes=2).loss(change(Plain(lambda z: dist.Normal(z, 1.0)), x), plain_guide, x)


def test_a_site_of_the_guide_alone() -> None:
    def guide(x: torch.Tensor) -> None:
        plain_guide(x)
        pyro.sample("w", dist.Normal(0.0, 1.0))

    model = Plain(lambda z: dist.Normal(z, 1.0))
    with (
        pyro.validation_enabled(False),
        pytest.raises(ValueError, match=r"Site 'w': expected .* model too.*is_auxiliary"),
    ):
        RecyclingELBO().loss(model, guide, torch.zeros(4))
