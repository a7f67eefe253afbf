"""What is said of new digits; needs torchmetrics, of the extra for experiments."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

samples: Any = pytest.importorskip("experiments.samples", reason="needs torchmetrics", exc_type=ImportError)

RNG = np.random.default_rng(0)


def digits(n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return images of a bright bar, wider by class, on black."""
    labels = RNG.integers(10, size=n).astype(np.uint8)
    images = np.zeros((n, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[8:20, 8 : 10 + label] = RNG.integers(200, 256)
    return images, labels


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sets = {"train": digits(1000), "test": digits(500)}
    monkeypatch.setattr(
        samples,
        "load_mnist",
        lambda split="train", return_labels=False: sets[split] if return_labels else sets[split][0],
    )
    yield
    samples.classifier.cache_clear()
    samples.to_the_data.cache_clear()
    samples.of_the_data.cache_clear()


@pytest.mark.slow
def test_new_digits_are_near_and_noise_is_far() -> None:
    images, _ = digits(500)
    noise = RNG.integers(256, size=images.shape).astype(np.uint8)
    near, far = samples.looks(images), samples.looks(noise)
    assert samples.looks(images)["distance"] == near["distance"]  # nothing is left of other images
    assert near["distance"] < far["distance"] / 20
    assert near["ink"] == pytest.approx(1, abs=0.1)
    assert (near["faded"], near["blobs"], near["background"]) == (0, 0, 0)
    assert far["background"] == pytest.approx(0.5, abs=0.02)
    assert far["blobs"] == 1


@pytest.mark.slow
def test_faded_digits_are_counted() -> None:
    images, _ = digits(100)
    images[:25] //= 3
    assert samples.looks(images)["faded"] == pytest.approx(0.25)
