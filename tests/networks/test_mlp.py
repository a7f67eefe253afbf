from typing import Any

import pytest
import torch
from torch import nn

from pyro_ricvae.networks import LOG_SCALE_BOUNDS, MLPDecoder, MLPEncoder


def linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    y = torch.einsum("oi,...i->...o", layer.weight, x)
    return y if layer.bias is None else y + layer.bias


def test_encoder_is_deep_plus_affine_of_the_centred_rows() -> None:
    center = torch.tensor([1.0, 2.0, 3.0])
    encoder = MLPEncoder(3, 2, (4, 5), center=center)
    x = torch.randn(6, 3)
    features = linear(encoder.deep[2], linear(encoder.deep[0], x - center).relu()).relu()
    loc, scale = encoder(x)
    torch.testing.assert_close(loc, linear(encoder.loc, features) + linear(encoder.affine, x - center))
    # The bound, at a log-scale near 0, is nearly the identity.
    torch.testing.assert_close(scale.log(), linear(encoder.log_scale, features), rtol=0.2, atol=0.05)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_decoder_is_deep_plus_affine_around_the_centre(sigmoid: bool) -> None:
    center = torch.tensor([0.2, 0.5, 0.9])
    decoder = MLPDecoder(2, 3, (4,), center=center, sigmoid=sigmoid)
    z = torch.randn(6, 2)
    raw = linear(decoder.loc, linear(decoder.deep[0], z).relu()) + linear(decoder.affine, z)
    expected = 1 / (1 + (1 / center - 1) * torch.exp(-raw)) if sigmoid else center + raw
    torch.testing.assert_close(decoder(z), expected)


def test_decoder_starts_from_its_centre() -> None:
    center = [0.0, 0.3, 1.0]
    for sigmoid, expected in ((False, center), (True, [0.01, 0.3, 0.99])):
        decoder = MLPDecoder(2, 3, (), center=center, sigmoid=sigmoid)
        nn.init.zeros_(decoder.loc.bias)
        assert decoder(torch.zeros(1, 2))[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert MLPDecoder(2, 3, (), sigmoid=True).center.tolist() == [0.5] * 3


@pytest.mark.parametrize("hidden", [(), (4,)])
def test_without_hidden_layers_both_are_affine(hidden: tuple[int, ...]) -> None:
    encoder, decoder = MLPEncoder(3, 2, hidden, center=torch.ones(3)), MLPDecoder(2, 3, hidden)
    for location, rows in ((lambda x: encoder(x)[0], torch.randn(2, 7, 3)), (decoder, torch.randn(2, 7, 2))):
        middle, ends = location(rows.mean(0)), location(rows).mean(0)
        assert torch.allclose(middle, ends, atol=1e-5) == (not hidden)


def test_affine_path_can_be_left_out() -> None:
    names = {name.split(".")[0] for name, _ in MLPEncoder(3, 2, (4,), affine_path=False).named_parameters()}
    assert names == {"deep", "loc", "log_scale"}
    assert MLPDecoder(2, 3, (4,), affine_path=False).affine is None


@pytest.mark.parametrize("lead", [(), (4,), (2, 3, 4)])
def test_any_leading_dimensions(lead: tuple[int, ...]) -> None:
    encoder, decoder = MLPEncoder(3, 2, (4,)), MLPDecoder(2, 3, (4,), n_outputs=2)
    x, z = torch.randn(*lead, 3), torch.randn(*lead, 2)
    for network, rows, width in ((encoder, x, 2), (decoder, z, 3)):
        outputs = network(rows)
        assert [each.shape for each in outputs] == [(*lead, width)] * 2
        one_by_one = [network(row) for row in rows.reshape(-1, rows.shape[-1])]
        for each, ones in zip(outputs, zip(*one_by_one, strict=True), strict=True):
            torch.testing.assert_close(each.reshape(-1, width), torch.stack(ones))


def test_scales_stay_within_their_bounds() -> None:
    rows = torch.randn(100, 3) * torch.logspace(-3, 12, 100)[:, None]
    for network in (MLPEncoder(3, 4, (8,)), MLPDecoder(3, 4, (8,), n_outputs=2)):
        _, scale = network(rows)
        for actual, bound in zip((scale.log().min(), scale.log().max()), LOG_SCALE_BOUNDS, strict=True):
            assert actual.item() == pytest.approx(bound, abs=1e-4)  # reached, and not passed


def test_centre_moves_and_is_saved() -> None:
    encoder = MLPEncoder(3, 2, (4,), center=[1.0, 2.0, 3.0]).double()
    assert encoder.center.dtype == torch.float64
    other = MLPEncoder(3, 2, (4,)).double()
    other.load_state_dict(encoder.state_dict())
    assert other.center.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2, (4,)), "Expected n_features to be a whole number >= 1, actual 0"),
        ((3, 0, (4,)), "Expected n_latent to be a whole number >= 1, actual 0"),
        ((3, 2, (4, 0)), "Expected each of hidden to be a whole number >= 1, actual 0"),
        ((3, 2, (4, 2.5)), r"Expected each of hidden to be a whole number >= 1, actual 2\.5"),
        ((3, 2, 4), "Expected hidden to be a sequence of whole numbers >= 1, actual 4"),
    ],
)
def test_wrong_sizes(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPEncoder(*arguments)
    with pytest.raises(ValueError, match=message):
        MLPDecoder(arguments[1], arguments[0], arguments[2])


@pytest.mark.parametrize("center", [[1.0, 2.0], [1.0, 2.0, float("nan")], 1.0, "mean", torch.randn(7, 3).median(0)])
def test_wrong_centre(center: Any) -> None:
    for make in (lambda: MLPEncoder(3, 2, (), center=center), lambda: MLPDecoder(2, 3, (), center=center)):
        with pytest.raises(ValueError, match=r"Expected center to hold 3 (finite values|numbers)"):
            make()


def test_wrong_decoder_outputs() -> None:
    with pytest.raises(ValueError, match=r"Expected n_outputs to be 1 .* or 2 .*, actual 3"):
        MLPDecoder(2, 3, (), n_outputs=3)
    with pytest.raises(
        ValueError, match=r"Expected the center of a sigmoid output to lie between 0 and 1, actual 0 to 2"
    ):
        MLPDecoder(2, 3, (), center=[0.0, 1.0, 2.0], sigmoid=True)


@pytest.mark.parametrize("width", [1, 4])
def test_wrong_width(width: int) -> None:
    with pytest.raises(ValueError, match=rf"Expected rows of 3 features, actual shape \(7, {width}\)"):
        MLPEncoder(3, 2, (4,))(torch.zeros(7, width))
    with pytest.raises(ValueError, match=rf"Expected rows of 2 latent units, actual shape \(7, {width}\)"):
        MLPDecoder(2, 3, (4,))(torch.zeros(7, width))


@pytest.mark.parametrize("network", [MLPEncoder, MLPDecoder])
def test_wrong_type(network: Any) -> None:
    with pytest.raises(
        ValueError, match=r"type torch.float32, actual torch.float64: .*x.to\(torch.float32\).*model.to"
    ):
        network(3, 3, (4,))(torch.zeros(7, 3, dtype=torch.float64))


@pytest.mark.parametrize("hidden", [(), (4,)])
def test_inputs_beyond_the_bound_are_taken_to_lie_at_it(hidden: tuple[int, ...]) -> None:
    center = torch.tensor([10.0, -5.0, 0.0])
    encoder, free = (MLPEncoder(3, 2, hidden, center=center, bound=bound) for bound in (2.0, None))
    free.load_state_dict(encoder.state_dict())
    assert (encoder.bound, free.bound) == (2.0, None)
    inside = torch.tensor([[10.0, -5.0, 0.0], [11.9, -6.9, 0.1], [8.0, -3.0, -2.0]])
    beyond = torch.tensor([[1e6, -5.0, 2.1], [-1e30, -1e3, 1e3]])
    at = torch.tensor([[12.0, -5.0, 2.0], [8.0, -7.0, 2.0]])
    for loc_or_scale in (0, 1):
        assert torch.equal(encoder(inside)[loc_or_scale], free(inside)[loc_or_scale])
        assert torch.equal(encoder(beyond)[loc_or_scale], free(at)[loc_or_scale])
        assert not torch.allclose(free(beyond)[loc_or_scale], free(at)[loc_or_scale])


def test_an_encoder_without_a_bound_is_not_bounded() -> None:
    encoder = MLPEncoder(3, 2, ())
    assert encoder.bound is None
    nn.init.ones_(encoder.loc.weight)
    assert encoder(torch.full((1, 3), 1e6))[0].tolist() == [pytest.approx([3e6, 3e6], rel=1e-5)]


@pytest.mark.parametrize("bound", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_wrong_bound(bound: Any) -> None:
    with pytest.raises(ValueError, match=rf"Expected bound to be a positive and finite number .* actual {bound!r}"):
        MLPEncoder(3, 2, (), bound=bound)
