from typing import Any

import pytest
import torch
from reference import HALF_LOG_TWO_PI

from pyro_ricvae.priors import StandardNormal


def test_density_is_that_of_a_standard_normal() -> None:
    prior = StandardNormal(3)
    z = torch.randn(7, 3)
    assert prior().batch_shape == ()
    assert prior().event_shape == (3,)
    torch.testing.assert_close(prior().log_prob(z), -(0.5 * z**2 + HALF_LOG_TWO_PI).sum(-1))


def test_follows_dtype_and_saves_nothing() -> None:
    prior = StandardNormal(3)
    assert not prior.state_dict()
    assert prior.double()().sample().dtype == torch.float64


@pytest.mark.parametrize("n_latent", [0, -1, 1.5, True, "ten", None])
def test_n_latent_must_be_at_least_one(n_latent: Any) -> None:
    with pytest.raises(ValueError, match=f"Expected n_latent to be a whole number >= 1, actual {n_latent!r}"):
        StandardNormal(n_latent)
