"""Generated inputs are of the kind that a model takes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeconv.core.artifacts import TensorSpec
from edgeconv.core.roles import Kind, Role, role_of
from edgeconv.samples.byte_grid import UNIT
from edgeconv.samples.load import generate_samples


def spec(name: str, *shape: int | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec.plain(name, shape, dtype)


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (spec("x", 1, 3, 32, 32), Kind.IMAGE),
        (spec("x", None, 32, 32, 3), Kind.IMAGE),
        (spec("x", 1, 1, 28, 28), Kind.IMAGE),
        (spec("x", 1, 4, 64, 64), Kind.IMAGE),
        (spec("x", 1, 3, 8, 32, 32), Kind.IMAGE),
        (spec("x", 3, 32, 32), Kind.IMAGE),
        (spec("x", 1, 32, 32, 3, dtype="uint8"), Kind.IMAGE),
        (spec("latents", 1, 4, 64, 64), Kind.NUMBERS),
        (spec("past_key", 1, 4, 64, 64), Kind.NUMBERS),
        (spec("x", 1, 64, 8, 8), Kind.NUMBERS),
        (spec("x", 1, 40, 81), Kind.NUMBERS),
        (spec("x", 1, 10), Kind.NUMBERS),
        (spec("attention_mask", 1, 10, dtype="int64"), Kind.MASK),
        (spec("mask", 1, 1, 32, 32), Kind.MASK),
        (spec("ids", 1, 10, dtype="int64"), Kind.BITS),
    ],
)
def test_names_and_shapes_tell_what_inputs_are(one: TensorSpec, kind: Kind) -> None:
    assert role_of(one).kind is kind


@pytest.mark.parametrize("shape", [(1, 3, 24, 40), (24, 40, 3), (1, 1, 17, 9), (1, 3, 4, 24, 24)])
def test_pictures_are_smooth_have_edges_and_vary_in_brightness(shape: tuple[int, ...]) -> None:
    images = generate_samples([spec("x", *shape)], 24, 5).arrays["x"]
    assert images.shape == (24, *shape)
    assert UNIT.holds(images)
    assert (images.min(), images.max()) == (0.0, 1.0)
    means = images.reshape(24, -1).mean(axis=1)
    assert means.std() > 0.08
    widest = images.shape.index(max(shape), 1)
    steps = np.abs(np.diff(images, axis=widest))
    assert np.median(steps) < 0.05 < 0.2 < steps.max()
    noise = np.random.default_rng(0).random(images.shape)
    assert np.median(np.abs(np.diff(noise, axis=widest))) > 5 * np.median(steps)


def test_pictures_in_other_scales() -> None:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    role = Role(Kind.IMAGE, tuple(-mean / std), tuple((1 - mean) / std))
    one = spec("x", 1, 3, 16, 16)
    images = generate_samples([one], 8, 0, {"x": role}).arrays["x"]
    plain = generate_samples([one], 8, 0).arrays["x"]
    shaped = [values.reshape(3, 1, 1) for values in (mean, std)]
    np.testing.assert_allclose(images, (plain - shaped[0]) / shaped[1], atol=1e-6)
    raw = generate_samples([spec("x", 1, 16, 16, 3, dtype="uint8")], 8, 0).arrays["x"]
    assert raw.dtype == np.uint8
    assert raw.max() == 255


def test_sounds_are_no_noise() -> None:
    sounds = generate_samples([spec("x", 1, 4000)], 6, 0, {"x": Role(Kind.SOUND)}).arrays["x"]
    assert np.abs(sounds).max() <= 1
    power = np.abs(np.fft.rfft(sounds[:, 0])) ** 2
    share = power[:, : power.shape[1] // 4].sum(axis=1) / power.sum(axis=1)
    assert np.median(share) > 0.7


def test_indices_positions_and_masks() -> None:
    inputs = [spec(name, 1, 12, dtype="int64") for name in ("ids", "place", "attention_mask")]
    inputs += [spec("key_padding_mask", 1, 12, dtype="bool"), spec("step", 1, dtype="int64")]
    roles = {
        "ids": Role(Kind.INDEX, size=30522),
        "place": Role(Kind.POSITION, size=512),
        "step": Role(Kind.POSITION, size=100),
    }
    found = generate_samples(inputs, 40, 0, roles).arrays
    assert (found["ids"].min(), found["ids"].max()) == (0, 30521)
    assert len(np.unique(found["ids"])) > 400
    assert (found["place"] == np.arange(12)).all()
    assert (found["step"].min(), found["step"].max()) == (0, 99)
    mask, hidden = found["attention_mask"][:, 0], found["key_padding_mask"][:, 0]
    assert (mask.mean(axis=1) >= 0.5).all()
    assert (np.diff(mask, axis=1) <= 0).all()
    assert 0 < (mask.min(axis=1) == 0).sum() < 40
    assert (hidden.mean(axis=1) <= 0.5).all()
