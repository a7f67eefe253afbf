"""The first two seams: the pair, with its one step from pass to pass, and the likelihood of cells."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from reference import KINDS, make_pair
from rigged import low_rank_rows
from torch import Tensor, nn

import pyro_ricvae as rv
from pyro_ricvae.inference import RecyclingELBO, Trainer, reconstruct
from pyro_ricvae.pair import next_input, recycle_at_test_time, recycle_in_training

quiet = pytest.mark.filterwarnings("ignore::pyro_ricvae.inference.TrainingWarning")


class Halved(rv.likelihoods.FixedNormal):
    """A likelihood that says itself how it is recycled: half of the mean, half of the row."""

    def next_input(self, cells: Any, x: Tensor, observed: Tensor | None = None) -> Tensor:
        assert isinstance(cells, dist.Normal)  # of the cells, neither an event nor masked
        halved: Tensor = 0.5 * cells.mean + 0.5 * x
        return halved if observed is None else torch.where(observed, halved, cells.mean)


def halved_pair() -> tuple[Any, Any]:
    model, guide = make_pair("fixed")
    model.likelihood = Halved(0.7)
    return model, guide


# The step from pass to pass


def test_a_draw_the_mean_or_what_the_likelihood_says() -> None:
    model, _ = halved_pair()
    x, z = torch.randn(4, 5), torch.randn(4, 2)
    rows = model.decode(z, x)
    assert torch.equal(next_input(rows, x, "mean", model=model), rows.mean)
    assert torch.equal(next_input(rows, x, "likelihood", model=model), 0.5 * rows.mean + 0.5 * x)
    for differentiable in (True, False):
        torch.manual_seed(1)
        drawn = next_input(rows, x, "sample", model=model, differentiable=differentiable)
        torch.manual_seed(1)
        torch.testing.assert_close(drawn, rows.mean + 0.7 * torch.randn(4, 5))
        assert drawn.requires_grad == differentiable


def test_who_asks_for_what() -> None:
    for kind, model in (("sample", make_pair()[0]), ("likelihood", halved_pair()[0])):
        assert recycle_in_training(model) == kind
        assert recycle_at_test_time(model) == ("mean" if kind == "sample" else kind)
    model = make_pair()[0]
    model.likelihood = rv.likelihoods.InverseGammaNormal(0.1)
    assert recycle_in_training(model) == recycle_at_test_time(model) == "mean"
    assert recycle_in_training(nn.Identity()) == "sample"  # a model of others


def test_training_and_test_time_take_the_likelihoods_own_step() -> None:
    model, guide = halved_pair()
    x = torch.randn(6, 5)
    torch.manual_seed(2)
    loss = RecyclingELBO(passes=2, recycle="likelihood")(model, guide)(x)
    torch.manual_seed(2)
    posterior = guide.encode(x)
    z = posterior.rsample()
    first = RecyclingELBO()
    following = 0.5 * model.decode(z, x).mean + 0.5 * x
    torch.manual_seed(2)
    total = first(model, guide)(x) + first(model, guide)(following)
    torch.testing.assert_close(loss, total)
    at_mean = x
    for _ in range(3):
        at_mean = 0.5 * model.decoder(guide.encoder(at_mean)[0]) + 0.5 * at_mean
    torch.testing.assert_close(reconstruct(model, guide, x, passes=3), at_mean.detach())


@quiet
def test_a_trainer_and_an_estimator_take_it_too() -> None:
    model, guide = halved_pair()
    trainer = Trainer(model, guide, epochs=2, engine="captured").fit(low_rank_rows())
    assert trainer.modules[2].elbo.recycle == "likelihood"
    est = rv.RiCVAE(likelihood=Halved(0.5), epochs=3, hidden=(4,), n_latent=2, random_state=0).fit(
        low_rank_rows().numpy()
    )
    x = est.standardise(low_rank_rows().numpy())
    once = 0.5 * est.model_.decoder(est.guide_.encoder(x)[0]) + 0.5 * x
    torch.testing.assert_close(reconstruct(est.model_, est.guide_, x), once.detach())


def test_a_likelihood_that_does_not_say_is_named() -> None:
    model, guide = make_pair()
    with pytest.raises(ValueError, match=r"Site 'x' cannot be recycled: expected a model with a likelihood that"):
        RecyclingELBO(passes=2, recycle="likelihood").loss(model, guide, torch.randn(4, 5))
    RecyclingELBO(passes=1, recycle="likelihood").loss(model, guide, torch.randn(4, 5))


# Cells that are not observed


@pytest.mark.parametrize("kind", [*KINDS, "shared"])
def test_cells_that_are_not_observed_have_no_part_in_the_loss(kind: str) -> None:
    model, guide = make_pair("fixed" if kind == "shared" else kind)
    if kind == "shared":
        model.likelihood = rv.likelihoods.SharedNormal()
    x = torch.randn(6, 5)
    observed = torch.rand(6, 5) < 0.6
    elbo = RecyclingELBO()(model, guide)
    found = []
    for filler in (0.0, 1e6, 1e30, torch.nan):
        torch.manual_seed(0)
        loss = elbo(torch.where(observed, x, filler), observed)
        elbo.zero_grad()
        loss.backward()
        found.append([loss.detach(), *(each.grad for each in elbo.parameters() if each.grad is not None)])
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))
    z = torch.randn(6, 2)
    model.eval()
    cells = model.likelihood(model._decoder_output(z), x).log_prob(x)
    torch.testing.assert_close(model.decode(z, x, observed).log_prob(x), (cells * observed).sum(-1))
    center = guide.encoder.center.expand_as(x)
    assert torch.equal(guide.encode(x, observed).mean, guide.encode(torch.where(observed, x, center)).mean)


def test_an_encoder_without_a_centre_sees_zeros() -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x[..., :2], torch.ones_like(x[..., :2])

    x, observed = torch.randn(4, 5), torch.zeros(4, 5, dtype=torch.bool)
    assert torch.equal(rv.guides.AmortizedNormal(Plain()).encode(x, observed).mean, torch.zeros(4, 2))


def test_the_shared_variance_is_that_of_observed_cells() -> None:
    likelihood = rv.likelihoods.SharedNormal()
    x, observed = torch.tensor([[3.0, 100.0], [4.0, 100.0]]), torch.tensor([[True, False], [True, False]])
    assert likelihood(torch.zeros(2, 2), x, observed).variance[0, 0] == 12.5
    assert likelihood.variance == 12.5


@pytest.mark.parametrize("particles", [{}, {"num_particles": 3, "vectorize_particles": True}])
def test_what_is_observed_is_passed_on_through_all_passes(particles: dict[str, Any]) -> None:
    model, guide = make_pair(size=20)
    x, observed = torch.randn(6, 5), torch.rand(6, 5) < 0.6
    elbo = RecyclingELBO(passes=3, **particles)
    torch.manual_seed(0)
    loss = elbo(model, guide)(x, observed)
    torch.manual_seed(0)
    assert torch.equal(loss, elbo(model, guide)(x, observed=observed))
    assert loss.isfinite()
    with pyro.get_param_store().scope():
        pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), elbo).step(x, observed)


def test_a_mean_that_does_not_exist_is_passed_on_where_cells_are_not_observed_too() -> None:
    model, guide = make_pair("fixed")
    model.likelihood = rv.likelihoods.InverseGammaNormal(0.5)
    x, observed = torch.randn(6, 5), torch.rand(6, 5) < 0.6
    assert RecyclingELBO(passes=2, recycle="mean")(model, guide)(x, observed).isfinite()


def test_hidden_cells_leave_no_trace_in_what_is_drawn_or_said() -> None:
    model, guide = make_pair()
    x, observed = torch.randn(4, 5), torch.rand(4, 5) < 0.5
    rows = [model.decode(torch.zeros(4, 2), torch.where(observed, x, filler), observed) for filler in (0.0, 1e9)]
    assert torch.equal(rows[0].stddev, rows[1].stddev)
    assert (rows[0].stddev[~observed] == model.likelihood.floor).all()
    model.likelihood = rv.likelihoods.Bernoulli()
    model.decoder = nn.Sequential(nn.Linear(2, 5), nn.Sigmoid())
    assert RecyclingELBO()(model, guide)(torch.where(observed, 1.0, -7.0), observed).isfinite()
    with pytest.raises(ValueError, match="Site 'x': expected values in the support of Bernoulli"):
        RecyclingELBO()(model, guide)(torch.where(observed, -7.0, 1.0), observed)


def test_a_batch_in_which_nothing_is_observed_counts_for_nothing() -> None:
    model, guide = make_pair("fixed")
    model.likelihood = rv.likelihoods.SharedNormal()
    x, nothing = torch.randn(4, 5), torch.zeros(4, 5, dtype=torch.bool)
    RecyclingELBO()(model, guide)(x, nothing).backward()
    assert (model.likelihood.variance, model.likelihood.n_batches) == (1, 0)
    RecyclingELBO()(model, guide)(x, ~nothing)
    assert model.likelihood.n_batches == 1
    assert all(each.grad is None or each.grad.isfinite().all() for each in model.parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(4, 5),
        torch.ones(5, dtype=torch.bool),
        torch.ones(4, 1, dtype=torch.bool),
        torch.ones(2, 4, 5, dtype=torch.bool),
        torch.ones(3, 5, dtype=torch.bool),
        [[True] * 5] * 4,
    ],
    ids=["float", "row", "column", "particles", "length", "list"],
)
def test_a_wrong_mask_is_named(wrong: Any) -> None:
    model, guide = make_pair()
    x = torch.randn(4, 5)
    for call in (lambda: model.decode(torch.zeros(4, 2), x, wrong), lambda: guide.encode(x, wrong)):
        with pytest.raises(ValueError, match=r"Expected observed to be a tensor of bool, .* of x, \(4, 5\)"):
            call()


@pytest.mark.parametrize("particles", [{}, {"num_particles": 2, "vectorize_particles": True}])
@quiet
def test_a_capture_with_cells_that_are_not_observed_is_one_graph_for_all_lengths(particles: dict[str, Any]) -> None:
    model, guide = make_pair()
    elbo = RecyclingELBO(passes=2, **particles)(model, guide)
    captured = rv.inference.CompiledELBO(elbo, compiled=False)
    for n in (6, 9):
        x, observed = torch.randn(n, 5), torch.rand(n, 5) < 0.6
        assert captured.captures(x, observed)
        torch.manual_seed(0)
        expected = elbo(x, observed)
        torch.manual_seed(0)
        assert torch.equal(captured(x, observed), expected)
    assert len(captured.engines) == 1


@pytest.mark.parametrize("particles", [{}, {"num_particles": 3}, {"num_particles": 3, "vectorize_particles": True}])
def test_the_likelihoods_own_step_is_taken_whatever_wraps_the_model(particles: dict[str, Any]) -> None:
    seen = []

    class Noted(Halved):
        def next_input(self, cells: Any, x: Tensor, observed: Tensor | None = None) -> Tensor:
            seen.append(observed)
            return super().next_input(cells, x, observed)

    model, guide = make_pair("fixed")
    model.likelihood = Noted(0.7)
    x, observed = torch.randn(6, 5), torch.rand(6, 5) < 0.6
    elbo = RecyclingELBO(passes=2, recycle="likelihood", **particles)
    assert math.isfinite(elbo.loss(model, guide, x, observed))
    assert math.isfinite(elbo.loss(pyro.poutine.scale(model, 0.5), guide, x, observed=observed))
    assert seen
    assert all(each is observed for each in seen)


def test_rows_may_have_more_leading_dimensions_than_latents() -> None:
    model, _ = make_pair()
    assert model.decode(torch.zeros(4, 2), torch.randn(3, 4, 5)).batch_shape == (3, 4)


# Heads of other widths, and replicates


class ThreeLevels(rv.likelihoods.Likelihood):
    """Levels 0, 1 and 2 with logits of their own, and a scale for each row that is not used."""

    n_outputs = 2
    support = dist.constraints.integer_interval(0, 2)
    recycle = "mean"

    def parameter_shapes(self, n_features: int) -> Any:
        return (n_features, 3), (1,)

    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        logits, _ = decoder_output

        class Levels(dist.Categorical):  # type: ignore[misc]
            @property
            def mean(self) -> Tensor:
                return self.probs @ torch.arange(3.0)

            mode = mean

            def log_prob(self, value: Tensor) -> Any:
                return super().log_prob(value.round().long().clamp(0, 2))

        return Levels(logits=logits, validate_args=False)


@quiet
def test_a_likelihood_has_heads_of_other_widths() -> None:
    likelihood = ThreeLevels()
    decoder = rv.networks.MLPDecoder(2, 5, (4,), shapes=likelihood.parameter_shapes(5))
    assert [each.shape for each in decoder(torch.zeros(7, 4, 2))] == [(7, 4, 5, 3), (7, 4, 1)]
    model = rv.models.VAE(decoder, likelihood, rv.priors.StandardNormal(2))
    x = torch.randint(0, 3, (40, 5)).float()
    assert model.decode(torch.zeros(4, 2), x[:4]).log_prob(x[:4]).shape == (4,)
    assert model.decode(torch.zeros(4, 2)).sample().shape == (4, 5)
    wrong = rv.models.VAE(rv.networks.MLPDecoder(2, 5, (4,), n_outputs=2), likelihood, rv.priors.StandardNormal(2))
    with pytest.raises(ValueError, match=r"2 output\(s\) of shape \(4, 5, 3\) and \(4, 1\) from the decoder"):
        wrong.decode(torch.zeros(4, 2), x[:4])
    est = rv.RiCVAE(likelihood=likelihood, n_latent=2, hidden=(4,), epochs=3, random_state=0).fit(x.numpy())
    assert est.settings_["scaling"] == "none"
    assert est.clean(x.numpy()).shape == est.cell_scores(x.numpy()).shape == (40, 5)
    assert 0 <= est.clean(x.numpy()).min() <= est.clean(x.numpy()).max() <= 2


def test_a_decoder_of_other_shapes_has_bounded_scales_and_free_numbers() -> None:
    decoder = rv.networks.MLPDecoder(2, 5, (), shapes=((5,), (5,), (5, 2), (1,)))
    loc, scale, pairs, one = decoder(100 * torch.randn(4, 2))
    assert [each.shape for each in (loc, scale, pairs, one)] == [(4, 5), (4, 5), (4, 5, 2), (4, 1)]
    assert (scale > 0).all()
    assert (scale < 7.5).all()
    assert (pairs < 0).any()
    with pytest.raises(ValueError, match=r"Expected no center for a first output of shape \(3,\)"):
        rv.networks.MLPDecoder(2, 5, (), shapes=((3,),), center=torch.zeros(5))


def test_a_likelihood_that_needs_rows_says_so_where_a_replicate_is_asked_for() -> None:
    model, _ = make_pair("fixed")
    model.likelihood = rv.likelihoods.FromFunction(lambda loc, x: dist.Normal(loc, x.abs() + 1), normalised=True)
    model.decode(torch.zeros(4, 2), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="FromFunction fails without x, which is None where replicates are asked for"):
        model.decode(torch.zeros(4, 2))


# A schedule of its own


class Narrowing(rv.likelihoods.FixedNormal):
    schedule = {"scale": (2.0, 0.5)}  # noqa: RUF012


class Paired(rv.likelihoods.Likelihood):
    """Two cells of four numbers: outputs of a width that does not follow that of the rows."""

    def parameter_shapes(self, n_features: int) -> Any:
        return ((4,),)

    def forward(self, decoder_output: Any, x: Tensor | None = None) -> Any:
        return dist.Normal(decoder_output[..., :2], decoder_output[..., 2:].exp())


def test_a_replicate_of_outputs_of_another_width() -> None:
    model = rv.models.VAE(nn.Linear(3, 4), Paired(), rv.priors.StandardNormal(3))
    assert model.decode(torch.zeros(6, 3)).sample().shape == (6, 2)
    assert model.decode(torch.zeros(6, 3), torch.zeros(6, 2)).batch_shape == (6,)


def test_what_a_class_says_of_its_schedule_is_not_changed_by_an_object() -> None:
    with pytest.raises(TypeError):
        rv.likelihoods.Bernoulli().schedule["floor"] = (1.0, 0.1)  # type: ignore[index]
    wrong = Halved(0.5)
    wrong.schedule = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match="with schedule=None"):
        rv.likelihoods.as_likelihood(wrong)


@quiet
def test_a_likelihood_declares_what_moves() -> None:
    model, guide = make_pair("fixed")
    model.likelihood = Narrowing(7.0)
    recipe = rv.inference.Recipe(batch_size=10, floor_until=0.5, single_pass_share=0.8)
    trainer = Trainer(model, guide, epochs=10, recipe=recipe).fit(low_rank_rows())
    scales = [entry["scale"] for entry in trainer.history]
    assert scales == sorted(scales, reverse=True)
    assert scales[-1] == model.likelihood.scale == 0.5
    assert "floor" not in trainer.history[0]
    assert scales[0] == pytest.approx(2.0 * 0.25 ** (1 / 20 / 0.5))  # the second of twenty steps


@quiet
def test_a_floor_that_was_changed_in_place_stays() -> None:
    model, guide = make_pair()
    model.likelihood.floor.fill_(0.25)
    trainer = Trainer(model, guide, epochs=3, engine="eager").fit(low_rank_rows())
    assert model.likelihood.floor == 0.25
    assert {entry["floor"] for entry in trainer.history} == {0.25}


@pytest.mark.parametrize("cls", [rv.likelihoods.IndexConditionedNormal, rv.likelihoods.InverseGammaNormal])
def test_a_floor_has_two_ends(cls: Any) -> None:
    likelihood = cls(floor=(0.3, 0.1))
    assert likelihood.floor == torch.tensor(0.3)
    assert likelihood.schedule == {"floor": (0.3, 0.1)}
    assert cls(0.2).schedule == {"floor": (0.2, 0.2)}
    for wrong in ((0.3,), (0.3, 0.0), "auto", (1.0, 2.0, 3.0)):
        with pytest.raises(ValueError, match="Expected floor to be a"):
            cls(wrong)
