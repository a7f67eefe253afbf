"""The bridge to ArviZ, against a linear-Gaussian model whose posterior and evidence are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Normal

import pyro_ricvae as rv
from experiments.linear_gaussian import LinearGaussian
from pyro_ricvae import likelihoods
from pyro_ricvae._core.arviz import import_arviz
from pyro_ricvae.data.scaling import Scaling
from pyro_ricvae.diagnostics.replicates.replicate import replicate, replicate_scale
from pyro_ricvae.diagnostics.to_arviz import to_arviz

SCALE = 0.5


@pytest.fixture
def exact() -> LinearGaussian:
    return LinearGaussian(n_features=6, n_latent=2, scale=SCALE, seed=0)


def tensor(array: Any) -> torch.Tensor:
    """Return a variable without its chain."""
    return torch.as_tensor(np.asarray(array)[0])


def with_profile(exact: LinearGaussian, floor: float = 0.1) -> LinearGaussian:
    exact.model.likelihood = likelihoods.IndexConditionedNormal(floor)
    return exact


@pytest.mark.parametrize("batch_size", [3, 1024])
def test_draws_replicates_and_log_densities_are_those_of_the_pair(exact: LinearGaussian, batch_size: int) -> None:
    x = exact.sample(10, seed=1)
    data = to_arviz(exact.model, exact.guide(), x, n_draws=200, batch_size=batch_size)
    assert data.posterior["z"].dims == ("chain", "draw", "row", "latent")
    assert data.posterior_predictive["x"].dims == ("chain", "draw", "row", "feature")
    assert data.prior_predictive["x"].shape == data.posterior_predictive["x"].shape == (1, 200, 10, 6)
    assert data.log_likelihood["x"].dims == ("chain", "draw", "row")
    np.testing.assert_array_equal(data.observed_data["x"], x)

    z, log_likelihood = tensor(data.posterior["z"]), tensor(data.log_likelihood["x"])
    with torch.no_grad():
        posterior = exact.guide().encode(x)
    torch.testing.assert_close(log_likelihood, Normal(exact.decode(z), SCALE).log_prob(x).sum(-1))
    stats = data.sample_stats
    torch.testing.assert_close(tensor(stats["log_prior"]), Normal(0.0, 1.0).log_prob(z).sum(-1))
    torch.testing.assert_close(tensor(stats["log_q"]), posterior.log_prob(z))
    torch.testing.assert_close(tensor(stats["lp"]), log_likelihood + tensor(stats["log_prior"]))
    np.testing.assert_allclose(tensor(stats["log_weight"]), exact.log_evidence(x).expand(200, 10), rtol=1e-4)

    noise = tensor(data.posterior_predictive["x"]) - exact.decode(z)  # each replicate is of its own z
    assert noise.std() == pytest.approx(SCALE, rel=0.05)
    assert ((z - posterior.mean) / posterior.stddev).std() == pytest.approx(1.0, rel=0.05)


def test_the_prior_predictive_is_the_marginal_of_the_model(exact: LinearGaussian) -> None:
    data = to_arviz(exact.model, exact.guide(), exact.sample(20, seed=1), n_draws=500)
    rows = tensor(data.prior_predictive["x"]).reshape(-1, 6)
    expected = exact.weights @ exact.weights.T + SCALE**2 * torch.eye(6)
    torch.testing.assert_close(rows.T.cov(), expected, atol=0.1, rtol=0)
    torch.testing.assert_close(rows.mean(0), exact.bias, atol=0.06, rtol=0)


def test_a_profile_likelihood_has_no_log_likelihood(exact: LinearGaussian) -> None:
    guide, x = exact.guide(), exact.sample(10, seed=1)
    model = with_profile(exact).model
    data = to_arviz(model, guide, x, n_draws=5)
    assert set(data.sample_stats.data_vars) == {"log_prior", "log_q"}
    assert "IndexConditionedNormal" in data.attrs["no_log_likelihood"]
    with pytest.raises(ValueError, match=r"actual IndexConditionedNormal.*log_likelihood='profile' keeps its value"):
        to_arviz(model, guide, x, n_draws=5, log_likelihood=True)

    data = to_arviz(model, guide, x, n_draws=5, log_likelihood="profile")
    assert not hasattr(data, "log_likelihood")
    value = model.decode(tensor(data.posterior["z"]), x).log_prob(x)
    torch.testing.assert_close(tensor(data.sample_stats["profile_log_density"]), value)
    assert set(data.sample_stats.data_vars) == {"log_prior", "log_q", "profile_log_density"}
    with pytest.raises((TypeError, ValueError), match=r"log.likelihood"):  # 0.x and 1.x differ in the type and words
        import_arviz().loo(data)


def test_a_normalised_likelihood_is_no_profile(exact: LinearGaussian) -> None:
    with pytest.raises(ValueError, match="actual FixedNormal, which is normalised: give log_likelihood=True"):
        to_arviz(exact.model, exact.guide(), exact.sample(3, seed=1), log_likelihood="profile")
    data = to_arviz(exact.model, exact.guide(), exact.sample(3, seed=1), log_likelihood=False)
    assert set(data.sample_stats.data_vars) == {"log_prior", "log_q"}


def test_values_outside_the_support_have_no_log_likelihood(exact: LinearGaussian) -> None:
    model, guide = exact.model, exact.guide()
    model.likelihood = likelihoods.Bernoulli()
    model.decoder = torch.nn.Sequential(model.decoder, torch.nn.Sigmoid())
    binary = (exact.sample(10, seed=1) > 0).float()
    scaling = Scaling("range", np.zeros(6), np.full(6, 255.0))
    data = to_arviz(model, guide, binary, n_draws=5, observed=binary.numpy() * 255, scaling=scaling)
    value = model.decode(tensor(data.posterior["z"]), binary).log_prob(binary)
    torch.testing.assert_close(tensor(data.log_likelihood["x"]), value)  # a probability has no unit
    assert set(np.unique(data.posterior_predictive["x"])) == {0.0, 255.0}
    data = to_arviz(model, guide, 0.25 + binary / 2, n_draws=5)
    assert "10 of 10 rows" in data.attrs["no_log_likelihood"]
    with pytest.raises(ValueError, match="10 of 10 rows"):
        to_arviz(model, guide, 0.25 + binary / 2, n_draws=5, log_likelihood=True)


def test_a_profile_likelihood_is_replicated_with_scales_aggregated_over_rows(exact: LinearGaussian) -> None:
    guide, x = exact.guide(), exact.sample(2000, seed=1)
    model = with_profile(exact).model
    scale = replicate_scale(model, guide, x)
    torch.testing.assert_close(scale, torch.full((6,), SCALE), rtol=0.1, atol=0)  # the noise's, at draws from z

    dirty = x.clone()
    dirty[:100, 0] += 30.0
    few = torch.cat([dirty[:5], dirty[-5:]])
    data = to_arviz(model, guide, few, n_draws=400, reference=x)
    noise = tensor(data.posterior_predictive["x"]) - exact.decode(tensor(data.posterior["z"]))
    torch.testing.assert_close(noise[:, :5].std(dim=(0, 1)), scale, rtol=0.15, atol=0)  # of dirty rows as of clean ones
    np.testing.assert_allclose(data.constant_data["replication_scale"], SCALE, rtol=0.1)
    assert tensor(data.prior_predictive["x"])[..., 0].std() < 10

    replicates = replicate(model, guide, few, 400, reference=x, batch_size=3)
    assert replicates.shape == (400, 10, 6)
    with torch.no_grad():
        expected = exact.decode(guide.encode(few).mean)
    torch.testing.assert_close(replicates.mean(0), expected, atol=0.25, rtol=0)
    floored = with_profile(exact, floor=2.0).model
    torch.testing.assert_close(replicate_scale(floored, guide, x), torch.full((6,), 2.0))


def test_leave_one_out_is_far_above_the_evidence_even_under_the_exact_posterior() -> None:
    exact = LinearGaussian(n_features=12, n_latent=5, scale=SCALE, seed=0)
    x = exact.sample(60, seed=1)
    data = to_arviz(exact.model, exact.guide(), x)
    with pytest.warns(UserWarning, match="Pareto"):
        loo = import_arviz().loo(data, reff=1.0)
    elpd = float(loo.elpd_loo if hasattr(loo, "elpd_loo") else loo.elpd)
    assert elpd > exact.log_evidence(x).sum().item() + 100  # as the docstring warns


def test_names_coordinates_constant_data_and_history(exact: LinearGaussian) -> None:
    x = exact.sample(4, seed=1)
    data = to_arviz(
        exact.model,
        exact.guide(),
        x,
        n_draws=3,
        observed=x.reshape(4, 2, 3),
        dims=("sensor", "time"),
        coords={"sensor": ["left", "right"], "latent": ["size", "tilt"]},
        constant_data={
            "label": ["a", "b", "c", "d"],
            "mask": np.ones((4, 2, 3), dtype=bool),
            "weight": torch.ones(2, 3),
            "year": 2024,
            "hour": ("time", [0, 1, 2]),
        },
        history=[{"loss": 2.0, "phase": "first"}, {"loss": 1.0, "phase": "second", "kl": 0.5}],
        attrs={"note": "mine"},
    )
    assert data.posterior_predictive["x"].dims == ("chain", "draw", "row", "sensor", "time")
    assert data.observed_data["sensor"].values.tolist() == ["left", "right"]
    assert data.posterior["latent"].values.tolist() == ["size", "tilt"]
    dims = {name: data.constant_data[name].dims for name in ("label", "mask", "weight", "year", "hour")}
    row, event = ("row",), ("sensor", "time")
    assert dims == {"label": row, "mask": (*row, *event), "weight": event, "year": (), "hour": ("time",)}
    assert data.training_history["phase"].values.tolist() == ["first", "second"]
    np.testing.assert_array_equal(data.training_history["kl"], [np.nan, 0.5])
    assert data.attrs["note"] == "mine"
    assert data.attrs["likelihood"] == "FixedNormal"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_draws": 0}, "Expected n_draws to be a whole number >= 1, actual 0"),
        ({"batch_size": 0}, "Expected batch_size to be a whole number >= 1, actual 0"),
        ({"log_likelihood": "yes"}, "Expected log_likelihood to be 'auto', 'profile', True or False, actual 'yes'"),
        (
            {"observed": np.zeros((4, 2, 2))},
            r"rows x of shape \(4, 6\).* actual shape \(4, 2, 2\)",
        ),
        ({"observed": np.full((4, 2, 3), 9.0)}, "actual 24 of 24 cells that differ: give the scaling"),
        ({"coords": {"row": [1, 2, 3]}}, "Expected 4 coordinates for the dimension 'row'"),
        ({"coords": {"columns": list("abcdef")}}, "actual ones of 'columns': rename them"),
        ({"dims": ("a", "b")}, r"Expected dims to be 1 different names, for a row of shape \(6,\)"),
        ({"dims": ("draw",)}, r"none of them among .*actual \('draw',\)"),
        ({"constant_data": {"label": [1, 2, 3]}}, r"constant_data\['label'\] to be of one of .*actual \(3,\)"),
        ({"constant_data": {"scale": 1.0}}, "Expected other names in constant_data than 'scale'"),
    ],
)
def test_wrong_arguments_are_refused(exact: LinearGaussian, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_arviz(exact.model, exact.guide(), exact.sample(4, seed=1), **arguments)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 4, 6), torch.full((4, 6), torch.nan)])
def test_rows_that_are_not_rows_are_refused(exact: LinearGaussian, wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"Expected (x of shape|finite values)"):
        to_arviz(exact.model, exact.guide(), wrong)


def test_the_estimator_gives_data_units_and_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.normal(size=(60, 3)) * [1.0, 100.0, 0.01] + [5.0, 0.0, 1.0],
        columns=["a", "b", "c"],
        index=[f"p{i}" for i in range(60)],
    )
    est = rv.RiCVAE(2, hidden=(), likelihood="fixed_normal", epochs=2, random_state=0).fit(frame)
    data = est.to_arviz(frame, n_draws=50, constant_data={"group": ["u", "v"] * 30})
    np.testing.assert_array_equal(data.observed_data["x"], frame)
    assert data.posterior["row"].values.tolist() == frame.index.tolist()
    assert data.posterior_predictive["feature"].values.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(data.constant_data["scale"], est.scaling_.scale)
    assert json.loads(data.attrs["settings"]) == json.loads(json.dumps(est.settings_))
    assert data.training_history["loss"].values.tolist() == [entry["loss"] for entry in est.history_]

    z = np.asarray(data.posterior["z"])[0].reshape(-1, 2)
    loc = torch.as_tensor(est.inverse_transform(z)).reshape(50, 60, 3)
    noise = torch.as_tensor(float(est.model_.likelihood.scale) * est.scaling_.scale)
    expected = Normal(loc, noise).log_prob(torch.tensor(frame.to_numpy())).sum(-1)
    torch.testing.assert_close(tensor(data.log_likelihood["x"]).double(), expected, rtol=1e-4, atol=1e-4)
    spread = (tensor(data.posterior_predictive["x"]) - loc).std(dim=(0, 1))
    torch.testing.assert_close(spread, noise, rtol=0.06, atol=0)  # 3000 replicates of each column

    again = est.to_arviz(frame, n_draws=50)
    np.testing.assert_array_equal(again.posterior["z"], data.posterior["z"])
    data.to_netcdf(str(tmp_path / "data.nc"))
    read = import_arviz().from_netcdf(str(tmp_path / "data.nc"))
    np.testing.assert_array_equal(read.posterior_predictive["x"], data.posterior_predictive["x"])
    assert read.constant_data["group"].values.tolist() == ["u", "v"] * 30
    assert read.training_history["phase"].values.tolist() == [entry["phase"] for entry in est.history_]
    read.close()


def test_the_estimator_gives_images_their_shape() -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(400, 4, 3), dtype=np.uint8)
    est = rv.RiCVAE(2, hidden=(), epochs=2, likelihood="index_conditioned", random_state=0).fit(images)
    data = est.to_arviz(images[:6], n_draws=5, reference=images)
    np.testing.assert_array_equal(data.observed_data["x"], images[:6])
    assert data.posterior_predictive["x"].dims == ("chain", "draw", "row", "height", "width")
    assert data.posterior_predictive["x"].dtype == np.float32
    assert data.constant_data["replication_scale"].shape == (4, 3)
    expected = 255 * replicate_scale(est.model_, est.guide_, est.standardise(images)).reshape(4, 3)  # in grey levels
    np.testing.assert_allclose(data.constant_data["replication_scale"], expected, rtol=0.3)
    with pytest.raises(ValueError, match=r"Expected rows of shape \(4, 3\)"):
        est.to_arviz(images[:6], reference=images.reshape(400, 12))
