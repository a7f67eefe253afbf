import dataclasses
import itertools
import math
from typing import Any

import pytest

from pyro_ricvae.inference import Recipe

SHARES = [i / 50 for i in range(51)]


def rising(values: list[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))


def falling(values: list[float]) -> bool:
    return rising([-value for value in values])


# Schedules


def test_rate_rises_over_the_warm_up_and_then_stays() -> None:
    recipe = Recipe(warmup_steps=20, cosine=False)
    factors = [recipe.rate_factor(step, 100) for step in range(100)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[19:] == [1.0] * 81


def test_rate_falls_along_half_a_cosine() -> None:
    recipe = Recipe(warmup_steps=0)
    factors = [recipe.rate_factor(step, 100) for step in range(101)]
    assert falling(factors)
    assert (factors[0], factors[100]) == (1.0, 0.0)
    assert factors[50] == pytest.approx(0.5)
    assert factors[25] == pytest.approx((1 + 0.5**0.5) / 2)


def test_warm_up_and_cosine_multiply() -> None:
    both, up, down = Recipe(warmup_steps=20), Recipe(warmup_steps=20, cosine=False), Recipe(warmup_steps=0)
    factors = [both.rate_factor(step, 100) for step in range(100)]
    assert factors == [up.rate_factor(step, 100) * down.rate_factor(step, 100) for step in range(100)]
    assert rising(factors[:19])
    assert falling(factors[20:])
    assert factors[0] == 1 / 20  # no step is lost


def test_a_phase_of_one_step_moves() -> None:
    assert Recipe().rate_factor(0, 1) == 1 / 200
    assert Recipe(warmup_steps=0).rate_factor(0, 1) == 1.0


@pytest.mark.parametrize("start", [0.0, 0.25])
def test_kl_weight_rises_to_one(start: float) -> None:
    recipe = Recipe(kl_start=start, kl_until=0.5)
    weights = [recipe.kl_weight(share) for share in SHARES]
    assert weights[0] == start
    assert rising(weights[:26])
    assert recipe.kl_weight(0.25) == pytest.approx((1 + start) / 2)
    assert weights[25:] == [1.0] * 26


def test_kl_weight_ends_where_it_is_told_to() -> None:
    assert {Recipe(kl_start=0.0, kl_end=0.0).kl_weight(share) for share in SHARES} == {0.0}
    falls = Recipe(kl_start=1.0, kl_end=0.5, kl_until=1.0)
    assert [falls.kl_weight(share) for share in (0.0, 0.5, 1.0)] == [1.0, 0.75, 0.5]
    with pytest.raises(ValueError, match="kl_end"):
        Recipe(kl_end=1.5)


def test_kl_weight_is_one_by_default() -> None:
    assert {Recipe().kl_weight(share) for share in SHARES} == {1.0}


@pytest.mark.parametrize("ends", [(0.5, 0.02), (0.02, 0.5)])
def test_floor_moves_log_linearly(ends: tuple[float, float]) -> None:
    recipe = Recipe(floor_until=0.5)
    floors = [recipe.scheduled(ends, share) for share in SHARES]
    assert floors[0] == ends[0]
    assert (falling if ends[0] > ends[1] else rising)(floors[:26])
    assert recipe.scheduled(ends, 0.25) == pytest.approx(math.sqrt(0.5 * 0.02))
    assert floors[25:] == pytest.approx([ends[1]] * 26)
    steps = [math.log(b / a) for a, b in itertools.pairwise(floors[:26])]
    assert steps == pytest.approx([math.log(ends[1] / ends[0]) / 25] * 25)


def test_a_floor_with_equal_ends_stays_to_the_last_bit() -> None:
    assert {Recipe().scheduled((0.1, 0.1), share) for share in SHARES} == {0.1}


# The plain procedure


def test_plain_switches_every_part_off() -> None:
    """A part that is added later must be added here."""
    plain = Recipe.plain()
    off = {
        "center": False,
        "affine_path": False,
        "clip": None,
        "warmup_steps": 0,
        "cosine": False,
        "clip_norm": None,
        "kl_start": 1.0,
        "single_pass_share": 0.0,
        "recycled_share": 1.0,
    }
    no_parts = {"batch_size", "learning_rate", "kl_until", "kl_end", "floor_until"}
    assert {field.name for field in dataclasses.fields(Recipe)} == set(off) | no_parts
    assert {name: getattr(plain, name) for name in off} == off
    assert {name: getattr(plain, name) for name in no_parts} == {name: getattr(Recipe(), name) for name in no_parts}
    assert {plain.rate_factor(step, 100) for step in range(100)} == {1.0}
    assert {plain.kl_weight(share) for share in SHARES} == {1.0}


# Validation

POSITIVE = ("learning_rate", "kl_until", "floor_until", "clip", "clip_norm")


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "1", True, None])
def test_positive_numbers(name: str, value: Any) -> None:
    if value is None and name in ("clip", "clip_norm"):
        assert getattr(Recipe(**{name: None}), name) is None
        return
    with pytest.raises(ValueError, match=f"Expected {name} to be a positive and finite number .*, actual {value!r}"):
        Recipe(**{name: value})


@pytest.mark.parametrize("name", ["kl_start", "single_pass_share", "recycled_share"])
def test_shares(name: str) -> None:
    for value in (0, 1, 0.5):
        assert getattr(Recipe(**{name: value}), name) == value
    for value in (-0.01, 1.01, math.nan, "0.5", None):
        with pytest.raises(ValueError, match=f"Expected {name} to lie between 0 and 1, actual {value!r}"):
            Recipe(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, 2.5, "9", None, True])
def test_whole_numbers(value: Any) -> None:
    with pytest.raises(
        ValueError, match=f"Expected warmup_steps, where it is not 0, to be a whole number >= 1, actual {value!r}"
    ):
        Recipe(warmup_steps=value)
    with pytest.raises(ValueError, match=f"Expected batch_size to be a whole number >= 1, actual {value!r}"):
        Recipe(batch_size=value)
    with pytest.raises(ValueError, match="Expected batch_size to be a whole number >= 1, actual 0"):
        Recipe(batch_size=0)


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().cosine = False  # type: ignore[misc]
