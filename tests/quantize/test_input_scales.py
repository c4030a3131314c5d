"""Inputs keep the scale that their source has, whatever calibration saw and recovery tries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.core.artifacts import Array, Quantization, TensorSpec
from edgeconv.core.errors import UsageError
from edgeconv.quantize.params.input_scales import InputScale, input_scales, stated_ranges
from edgeconv.quantize.params.qparams import QuantParams
from edgeconv.samples.images import Normalisation
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_IMAGE = (1, 3, 8, 8)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(seed: int = 0, low: int = 0, high: int = 255, shape: tuple[int, ...] = _IMAGE) -> Array:
    """Bytes of 24 samples; their ends occur."""
    found = np.random.default_rng(seed).integers(low, high + 1, (24, *shape))
    found.reshape(-1)[:2] = low, high
    return found


def scale_of(
    array: Array, normalisation: Normalisation | None = None, **stated: Any
) -> InputScale | None:
    spec = TensorSpec.plain("x", array.shape[1:], "float32")
    arrays = {"x": array.astype(np.float32)}
    return input_scales([spec], arrays, stated, normalisation).get("x")


def held(array: Array) -> tuple[float, float] | None:
    """Return the range that an input is held to."""
    scale = scale_of(array)
    return (scale.low, scale.high) if scale is not None and scale.held else None


@pytest.mark.parametrize(
    ("array", "ends"),
    [
        (pixels() / 255, (0, 1)),
        (np.float32(pixels()) * np.float32(1 / 255), (0, 1)),
        (pixels(low=3, high=180) / 255, (0, 1)),
        (pixels(), (0, 255)),
        (pixels(low=20, high=200), (0, 255)),
        (pixels() / 127.5 - 1, (-1, 1)),
        ((pixels() / 255 - 0.5) / 0.5, (-1, 1)),
        ((pixels(low=7, high=201) / 255 - 0.5) / 0.5, (-1, 1)),
        ((pixels() - 127.5) / 128, (-127.5 / 128, 127.5 / 128)),
        ((pixels(shape=(1, 1, 8, 8)) / 255 - 0.1307) / 0.3081, (-0.424213, 2.821487)),
        ((pixels(shape=(8, 8, 3)) / 255 - 0.31) / 0.17, (-0.31 / 0.17, 0.69 / 0.17)),
        (pixels(shape=(1, 12, 16)) / 255, (0, 1)),
        (pixels(shape=(400,)) / 255, (0, 1)),
        (np.random.default_rng(0).uniform(0, 1, (24, *_IMAGE)), (0, 1)),
        (np.random.default_rng(0).uniform(-1, 1, (24, 1, 8, 8, 3)), (-1, 1)),
        (np.random.default_rng(0).uniform(0, 255, (24, *_IMAGE)), (0, 255)),
        (np.random.default_rng(0).integers(0, 2, (24, 1, 1, 8, 8)), (0, 1)),
    ],
)
def test_bytes_are_found(array: Array, ends: tuple[float, float]) -> None:
    assert held(array) == pytest.approx(ends, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).standard_normal((24, *_IMAGE)),
        np.random.default_rng(0).uniform(0, 1, (24, 16)),
        np.random.default_rng(0).uniform(0.2, 0.6, (24, *_IMAGE)),
        np.random.default_rng(0).integers(0, 17, (24, 1, 1, 8, 8)),  # sixteen levels of grey
        np.random.default_rng(0).integers(0, 50, (24, 12)),  # counts, token numbers
        np.random.default_rng(0).integers(0, 2, (24, 12)),  # a mask
        np.random.default_rng(0).integers(0, 6, (24, 400)) / 5,  # ratings
        np.random.default_rng(0).integers(-5, 6, (24, 400)) * 0.1,
        np.zeros((24, *_IMAGE)),
        np.full((24, *_IMAGE), 0.37),
    ],
)
def test_what_is_not_made_of_bytes_is_left_to_calibration(array: Array) -> None:
    assert scale_of(array) is None


def test_channels_normalised_in_their_own_way_have_the_range_of_all_bytes() -> None:
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (_MEAN, _STD))
    for low, high in ((0, 255), (9, 250)):
        scale = scale_of((pixels(low=low, high=high) / 255 - mean) / std)
        assert scale is not None
        assert (scale.low, scale.high) == pytest.approx((-2.117904, 2.64), abs=1e-4)
        assert "--preprocess fold" in scale.why


def test_what_the_user_says_of_images_counts() -> None:
    images = (np.random.default_rng(0).uniform(0.1, 0.8, (24, *_IMAGE)) - 0.4) / 0.2
    assert scale_of(images) is None
    scale = scale_of(images, Normalisation((0.4,), (0.2,)))
    assert scale is not None
    assert (scale.low, scale.high) == pytest.approx((-2.0, 3.0))
    assert scale_of(images * 9, Normalisation((0.4,), (0.2,))) is None
    stated = scale_of(images, x=(-3.0, 5.0))
    assert stated is not None
    assert (stated.low, stated.high) == (-3.0, 5.0)


def test_sixteen_bit_audio_is_limited_only() -> None:
    audio = np.random.default_rng(0).integers(-9000, 9000, (24, 400)) / 32768
    scale = scale_of(audio)
    assert scale is not None
    assert not scale.held
    assert (scale.low, scale.high) == (-1.0, 1.0)


@given(
    mean=st.floats(0.02, 0.98), std=st.floats(0.01, 1.0), seed=st.integers(0, 99),
    shape=st.sampled_from([(1, 3, 6, 6), (6, 6, 4), (1, 1, 9, 9), (1, 3, 2, 6, 6), (300,)]),
)  # fmt: skip
def test_any_mean_and_deviation_are_found(
    mean: float, std: float, seed: int, shape: tuple[int, ...]
) -> None:
    bytes_ = pixels(seed, shape=shape)
    found = held(np.asarray((bytes_ / 255 - mean) / std, np.float32))
    assert found == pytest.approx((-mean / std, (1 - mean) / std), rel=1e-4, abs=1e-4)


def test_the_scale_in_8_and_in_16_bits() -> None:
    unit = InputScale(0.0, 1.0, "")
    assert unit.affine(8) == QuantParams(float(np.float32(1 / 255)), -128)
    wide = unit.affine(16)
    every = np.arange(256) / 255
    assert np.abs(wide.dequantize(wide.quantize(every)) - every).max() < 1e-7
    assert InputScale(-1.0, 1.0, "").affine(16) == QuantParams(float(np.float32(1 / 32767)), 0, 16)


def test_stated_ranges_find_their_input() -> None:
    image = TensorSpec.plain("image", (1, 3, 8, 8), "float32")
    ids = TensorSpec.plain("ids", (1, 8), "int64")
    extra = TensorSpec.plain("extra", (1, 8), "float32")
    assert stated_ranges(["-1,1"], [image, ids]) == {"image": (-1.0, 1.0)}
    assert stated_ranges(["0,1", "extra=0,9"], [image, extra]) == {
        "image": (0.0, 1.0),
        "extra": (0.0, 9.0),
    }
    for texts in (["ids=0,1"], ["other=0,1"]):
        with pytest.raises(UsageError, match="fits no input"):
            stated_ranges(texts, [image, ids])
    with pytest.raises(UsageError, match="NAME=LO,HI"):
        stated_ranges(["0,1"], [extra, TensorSpec.plain("more", (1, 8), "float32")])


def bright_net(lab: Any) -> Any:
    """A network whose samples leave headroom much to guess, and clipping much to cut."""
    rng = np.random.default_rng(1)
    model = lab.model()
    source = model.input(1, 8, 8, 3)
    step = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    first = model.constant(rng.standard_normal((8, 3, 3, 3)) / 5)
    x = model.op("CONV_2D", source, first, model.constant(np.zeros(8)), **step, padding=1)
    x = model.op("LOGISTIC", x)
    last = model.constant(rng.standard_normal((4, 6 * 6 * 8)) / 17)
    flat = model.op("RESHAPE", x, model.constant([1, 288], "int32"))
    return lab.save(model, model.op("FULLY_CONNECTED", flat, last, model.constant(np.zeros(4))))


def dark(seed: int, count: int = 24) -> list[list[Array]]:
    """Images of which one in a few has a bright spot."""
    rng = np.random.default_rng(seed)
    images = np.minimum(rng.integers(0, 90, (count, 1, 8, 8, 3)), 200)
    images[::4, 0, 2, 2] = rng.integers(120, 240, (len(images[::4]), 3))
    return [[np.asarray(image / 255, np.float32)] for image in images]


@pytest.mark.parametrize("io_dtype", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("calibrator", ["minmax", "mse", "percentile"])
def test_a_camera_gets_its_scale(lab: Any, io_dtype: str, calibrator: str) -> None:
    artifact = bright_net(lab)
    quantized = lab.quantize(artifact, dark(0), io_dtype=io_dtype, calibrator=calibrator)
    if io_dtype == "float32":
        graph = Graph(tflite.load(quantized.path))
        entry = next(one for one in graph.operators if graph.op(one) == "QUANTIZE")
        stored = graph.tensors[entry.outputs[0]].quantization
        scale, zero = float(stored.scale[0]), int(stored.zeroPoint[0])
    else:
        scale = quantized.inputs[0].quantization.scale
        zero = quantized.inputs[0].quantization.zero_point
    assert scale == float(np.float32(1 / 255))
    assert zero == (0 if io_dtype == "uint8" else -128)


def test_bytes_fed_as_they_are_give_the_right_answer(lab: Any) -> None:
    artifact = bright_net(lab)
    quantized = lab.quantize(artifact, dark(0), io_dtype="uint8")
    unseen = dark(9)
    (expected,) = lab.run(artifact.path, unseen)
    fed = [[np.rint(image * 255).astype(np.uint8)] for (image,) in unseen]
    (found,) = lab.run(quantized.path, fed)
    out = quantized.outputs[0].quantization
    assert lab.sqnr(expected, (found.astype(np.float32) - out.zero_point) * out.scale) > 30


def test_int16_has_the_bytes_too(lab: Any) -> None:
    quantized = lab.quantize(bright_net(lab), dark(0), "int16x8", io_dtype="int16")
    scale = quantized.inputs[0].quantization.scale
    assert scale == float(np.float32(1 / 255 / 128))


def test_a_stated_range_wins_in_the_engine(lab: Any) -> None:
    stated = {"x0": InputScale(-1.0, 1.0, "as --input-range says").to_dict()}
    quantized = lab.quantize(bright_net(lab), dark(0), io_dtype="int8", input_scales=stated)
    assert quantized.inputs[0].quantization.scale == float(np.float32(2 / 255))


def test_an_image_padded_beyond_its_range_is_padded_in_a_scale_of_its_own(lab: Any) -> None:
    model = lab.model()
    source = model.input(1, 8, 8, 3)
    edges = model.constant([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
    padded = model.op("PADV2", source, edges, model.constant(-1.0))
    artifact = lab.save(model, model.op("ADD", padded, model.constant(np.zeros(3))))
    quantized = lab.quantize(artifact, dark(0), io_dtype="uint8")
    assert quantized.inputs[0].quantization.scale == float(np.float32(1 / 255))
    (expected,), fed = lab.run(artifact.path, dark(0)), dark(0)
    (found,) = lab.run(
        quantized.path, [[np.rint(image * 255).astype(np.uint8)] for (image,) in fed]
    )
    out = quantized.outputs[0].quantization
    real = (found.astype(np.float32) - out.zero_point) * out.scale
    assert np.abs(real - expected).max() < 2 * out.scale


def test_audio_is_not_widened(lab: Any) -> None:
    model = lab.model()
    source = model.input(1, 400)
    weight = model.constant(np.random.default_rng(0).standard_normal((4, 400)) / 20)
    bias = model.constant(np.zeros(4))
    artifact = lab.save(model, model.op("FULLY_CONNECTED", source, weight, bias))
    rng = np.random.default_rng(0)
    loud = np.clip(rng.standard_normal((24, 1, 400)) * 9000, -32768, 32767) / 32768
    loud[3, 0, 5], loud[4, 0, 5] = -1, 32767 / 32768
    quantized = lab.quantize(artifact, [[np.float32(np.rint(x * 32768) / 32768)] for x in loud])
    graph = Graph(tflite.load(quantized.path))
    entry = next(one for one in graph.operators if graph.op(one) == "QUANTIZE")
    assert graph.tensors[entry.outputs[0]].quantization.scale[0] <= np.float32(2 / 255) * 1.0001


def test_zeros_between_two_integers_are_rounded_one_way() -> None:
    signed = InputScale(-1.0, 1.0, "", bytes=True)
    assert signed.affine(8) == QuantParams(float(np.float32(2 / 255)), -1)
    quantization = Quantization(signed.affine(8).scale, 127)
    spec = replace(TensorSpec.plain("x", (256,), "uint8"), quantization=quantization)
    every = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    assert spec.store(every).tolist() == list(range(256))
    assert signed.shift(real=False) == pytest.approx(1 / 255)
    assert signed.shift(real=True) == 0.0
    assert signed.affine(8, real=True).scale == pytest.approx(2 / 254)


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
@pytest.mark.parametrize("mean", [0.5, 0.31])
@pytest.mark.parametrize("io_dtype", ["uint8", "float32"])
def test_bytes_normalised_by_any_mean_are_exact(
    lab: Any, kind: str, mean: float, io_dtype: str
) -> None:
    """Where nothing is padded, bytes lose nothing on their way in."""
    rng = np.random.default_rng(4)
    model = lab.model()
    source = model.input(1, 8, 8, 3)
    step = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 1}
    shape, more = {
        "CONV_2D": ((5, 3, 3, 3), step),
        "DEPTHWISE_CONV_2D": ((1, 3, 3, 3), {**step, "depthMultiplier": 1}),
        "FULLY_CONNECTED": ((6, 192), {}),
    }[kind]
    # Weights that 8 bits hold exactly, and large sums of them, which a shift shows in.
    steps = rng.integers(20, 128, shape)
    steps.reshape(-1)[:: int(np.prod(shape[1:]))] = 127
    if kind.startswith("DEPTH"):
        steps[0, 0, 0] = 127
    weight, count = model.constant(steps / 127), shape[3 if kind.startswith("DEPTH") else 0]
    bias = model.constant(rng.standard_normal(count))
    if kind == "FULLY_CONNECTED":
        source_ = model.op("RESHAPE", source, model.constant([1, 192], "int32"))
        made = model.op(kind, source_, weight, bias)
    else:
        made = model.op(kind, source, weight, bias, **more)
    artifact = lab.save(model, made)
    fed = rng.integers(0, 256, (24, 1, 8, 8, 3))
    rows = [[np.asarray((one / 255 - mean) / 0.5, np.float32)] for one in fed]
    quantized = lab.quantize(
        artifact, rows, io_dtype=io_dtype, calibrator="minmax", disable_recovery=["all"]
    )
    stored = rows if io_dtype == "float32" else [[one.astype(np.uint8)] for one in fed]
    (expected,), (found,) = lab.run(artifact.path, rows), lab.run(quantized.path, stored)
    step_out = (max(expected.max(), 0) - min(expected.min(), 0)) / 255
    if io_dtype == "uint8":
        out = quantized.outputs[0].quantization
        step_out, found = out.scale, (found.astype(np.float32) - out.zero_point) * out.scale
    exact = mean != 0.5 or io_dtype == "uint8"
    assert np.abs(found - expected).max() < (0.6 if exact else 3.0) * step_out
    assert abs((found - expected).mean()) < 0.1 * step_out
