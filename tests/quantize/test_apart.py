"""Outputs that join values of different ranges keep what each of them says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array, Artifact
from edgeconv.quantize.engine import quantize
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_STEP = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def samples(count: int = 12, seed: int = 0, size: int = 6) -> list[list[Array]]:
    rng = np.random.default_rng(seed)
    return [[rng.uniform(0, 1, (1, size, size, 3)).astype(np.float32)] for _ in range(count)]


def conv(model: Any, source: int, into: int, gain: float, seed: int, outof: int = 3) -> int:
    rng = np.random.default_rng(seed)
    weight = model.constant(gain * rng.standard_normal((into, 1, 1, outof)))
    return int(model.op("CONV_2D", source, weight, model.constant(np.zeros(into)), **_STEP))


def head(model: Any, source: int, seed: int = 0) -> tuple[int, int]:
    """Return boxes of hundreds and scores below one."""
    boxes = conv(model, source, 4, 200.0, seed)
    return boxes, model.op("LOGISTIC", conv(model, source, 10, 1.5, seed + 1))


def flat(model: Any, source: int, rows: int, count: int = 36) -> int:
    """Return what is stored channels last as ``[1, rows, count]``."""
    x = model.op("RESHAPE", source, model.constant([1, count, rows], "int32"))
    return int(model.op("TRANSPOSE", x, model.constant([0, 2, 1], "int32")))


def simple(model: Any) -> tuple[int, list[slice]]:
    boxes, scores = head(model, model.input(1, 6, 6, 3))
    x = model.op("CONCATENATION", boxes, scores, axis=3)
    return flat(model, x, 14), [slice(0, 4), slice(4, 14)]


def levels(model: Any) -> tuple[int, list[slice]]:
    """Join boxes and scores of each level, then the levels."""
    source = model.input(1, 6, 6, 3)
    parts = []
    for seed in (0, 10, 20):
        x = model.op("CONCATENATION", *head(model, source, seed), axis=3)
        parts.append(flat(model, x, 14))
    return model.op("CONCATENATION", *parts, axis=2), [slice(0, 4), slice(4, 14)]


def scaled(model: Any) -> tuple[int, list[slice]]:
    """Join values of like range, and tell them apart by a constant vector behind."""
    x = conv(model, model.input(1, 6, 6, 3), 14, 1.5, 0)
    parts = model.op(
        "SPLIT_V", x, model.constant([4, 10], "int32"), model.constant(3, "int32"),
        dtypes=["float32"] * 2, numSplits=2,
    )  # fmt: skip
    x = model.op("CONCATENATION", parts[0], model.op("LOGISTIC", parts[1]), axis=3)
    gains = model.constant(np.r_[np.full(4, 320.0), np.ones(10)])
    return flat(model, model.op("MUL", x, gains), 14), [slice(0, 4), slice(4, 14)]


def keypoints(model: Any) -> tuple[int, list[slice]]:
    """Join places and how sure each is, interleaved: x, y, sure, x, y, sure, ..."""
    source = model.input(1, 6, 6, 3)
    x = flat(model, conv(model, source, 10, 200.0, 0), 10)
    places = model.op("RESHAPE", x, model.constant([1, 5, 2, 36], "int32"))
    x = flat(model, model.op("LOGISTIC", conv(model, source, 5, 1.5, 1)), 5)
    sure = model.op("RESHAPE", x, model.constant([1, 5, 1, 36], "int32"))
    x = model.op("CONCATENATION", places, sure, axis=2)
    x = model.op("RESHAPE", x, model.constant([1, 15, 36], "int32"))
    boxes, scores = head(model, source, 30)
    parts = flat(model, boxes, 4), flat(model, scores, 10), x
    rows = [slice(0, 4), slice(4, 14), slice(16, 29, 3)]
    return model.op("CONCATENATION", *parts, axis=1), rows


def packed(model: Any) -> tuple[int, list[slice]]:
    source = model.input(1, 6, 6, 3)
    first = flat(model, conv(model, source, 1, 300.0, 0), 1)
    second = flat(model, model.op("LOGISTIC", conv(model, source, 1, 1.5, 1)), 1)
    x = model.op("PACK", first, second, valuesCount=2, axis=1)
    return model.op("RESHAPE", x, model.constant([1, 2, 36], "int32")), [slice(0, 1), slice(1, 2)]


def vector(model: Any) -> tuple[int, list[slice]]:
    """Make boxes and scores of like values by a constant vector alone."""
    x = model.op("LOGISTIC", conv(model, model.input(1, 6, 6, 3), 14, 1.5, 0))
    gains = model.constant(np.r_[np.full(4, 320.0), np.ones(10)])
    return flat(model, model.op("MUL", x, gains), 14), [slice(0, 4), slice(4, 14)]


def masked(model: Any) -> tuple[int, list[slice]]:
    """Take boxes and scores by a constant mask."""
    x = conv(model, model.input(1, 6, 6, 3), 14, 1.5, 0)
    boxes, scores = model.op("MUL", x, model.constant(200.0)), model.op("LOGISTIC", x)
    which = model.constant(np.arange(14) < 4, "bool")
    x = model.op("SELECT_V2", which, boxes, scores)
    return flat(model, x, 14), [slice(0, 4), slice(4, 14)]


def one_layer(model: Any) -> tuple[int, list[slice]]:
    """Compute sizes and offsets as channels of one layer."""
    weights = np.random.default_rng(0).standard_normal((14, 1, 1, 3))
    weights[:4] *= 200.0
    source, bias = model.input(1, 6, 6, 3), model.constant(np.r_[np.full(4, 90.0), np.zeros(10)])
    x = model.op("CONV_2D", source, model.constant(weights), bias, **_STEP)
    return flat(model, x, 14), [slice(0, 4), slice(4, 14)]


HEADS = (simple, levels, scaled, keypoints, packed, vector, masked, one_layer)


def parted(lab: Any, reference: Array, found: Array, rows: list[slice]) -> list[float]:
    return [lab.sqnr(reference[:, :, part], found[:, :, part]) for part in rows]


@pytest.mark.parametrize("build", HEADS)
@pytest.mark.parametrize("disabled", [[], ["all"]])
@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_float_outputs_are_joined_behind_dequantize(
    lab: Any, build: Any, disabled: list[str], mode: str
) -> None:
    model = lab.model()
    output, rows = build(model)
    artifact = lab.save(model, output)
    unseen = samples(8, 99)
    quantized = lab.quantize(artifact, samples(), mode, disable_recovery=disabled)
    (reference,), (found,) = lab.run(artifact.path, unseen), lab.run(quantized.path, unseen)
    assert min(parted(lab, reference, found, rows)) > (30 if mode == "int8" else 40)


def test_the_report_says_what_is_joined_in_float(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, simple(model)[0])
    answer = quantize(
        artifact.to_dict(),
        str(lab.folder / "int8.tflite"),
        "int8",
        samples=lab.samples(artifact, samples()),
    )
    assert any("output y0 joins values of different ranges" in note for note in answer["notes"])


def test_parts_of_like_range_stay_in_one_scale(lab: Any) -> None:
    model = lab.model()
    source = model.input(1, 6, 6, 3)
    parts = conv(model, source, 4, 1.0, 0), conv(model, source, 10, 2.0, 1)
    artifact = lab.save(model, model.op("CONCATENATION", *parts, axis=3))
    quantized = lab.quantize(artifact, samples(), disable_recovery=["all"])
    graph = Graph(tflite.load(quantized.path))
    assert graph.op(graph.operators[-1]) == "DEQUANTIZE"
    assert [graph.op(operator) for operator in graph.operators].count("DEQUANTIZE") == 1


def test_a_layer_that_others_read_stays_whole(lab: Any) -> None:
    model = lab.model()
    weights = np.r_[np.full(4, 200.0), np.ones(10)][:, None, None, None] * np.ones((14, 1, 1, 3))
    source, bias = model.input(1, 6, 6, 3), model.constant(np.zeros(14))
    x = model.op("CONV_2D", source, model.constant(weights), bias, **_STEP)
    artifact = lab.save(model, conv(model, x, 5, 0.1, 1, outof=14), x)
    quantized = lab.quantize(artifact, samples(), disable_recovery=["all"])
    graph = Graph(tflite.load(quantized.path))
    assert [graph.op(operator) for operator in graph.operators].count("CONV_2D") == 2


def test_a_layer_of_groups_stays_whole(lab: Any) -> None:
    """Each group of its channels reads other inputs, so that no run of them is a layer."""
    rng = np.random.default_rng(0)
    model = lab.model()
    weights = rng.standard_normal((14, 1, 1, 3))
    weights[:4] *= 200.0
    source = conv(model, model.input(1, 6, 6, 3), 6, 1.0, 1)
    filters, bias = model.constant(weights), model.constant(np.zeros(14))
    artifact = lab.save(model, model.op("CONV_2D", source, filters, bias, **_STEP))
    quantized = lab.quantize(artifact, samples(), disable_recovery=["all"])
    graph = Graph(tflite.load(quantized.path))
    assert [graph.op(operator) for operator in graph.operators].count("CONV_2D") == 2
    unseen = samples(8, 99)
    (reference,), (found,) = lab.run(artifact.path, unseen), lab.run(quantized.path, unseen)
    assert lab.sqnr(reference, found) > 25


def test_the_name_of_what_recovery_did_is_still_taken(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, simple(model)[0])
    lab.quantize(artifact, samples(4), disable_recovery=["split-concat"])


def test_integers_that_are_joined_with_real_numbers_stay_exact(lab: Any) -> None:
    """Join scores with the numbers of their classes, as end-to-end detectors do."""
    model = lab.model()
    x = conv(model, model.input(1, 6, 6, 3), 90, 1.5, 0)
    x = model.op("RESHAPE", model.op("LOGISTIC", x), model.constant([36, 90], "int32"))
    best = model.op("ARG_MAX", x, model.constant(1, "int32"), dtypes=["int32"], outputType=2)
    classes = model.op("CAST", best, inDataType=2, outDataType=0)
    classes = model.op("RESHAPE", classes, model.constant([36, 1], "int32"))
    artifact = lab.save(model, model.op("CONCATENATION", x, classes, axis=1))
    quantized = lab.quantize(artifact, samples())
    unseen = samples(8, 99)
    (reference,), (found,) = lab.run(artifact.path, unseen), lab.run(quantized.path, unseen)
    np.testing.assert_array_equal(found[:, :, 90], found[:, :, :90].argmax(2))
    assert lab.sqnr(reference[:, :, :90], found[:, :, :90]) > 30


def joined(artifact: Artifact, outputs: list[Array]) -> Array:
    """Return the one output of the source model, from stored ones."""
    restored = {
        spec.name: np.stack([spec.restore(sample) for sample in array])
        for spec, array in zip(artifact.outputs, outputs, strict=True)
    }
    (array,) = artifact.join(restored).values()
    return array


@pytest.mark.parametrize("build", HEADS)
@pytest.mark.parametrize(
    ("mode", "io_dtype"), [("int8", "int8"), ("int8", "uint8"), ("int16x8", "int16")]
)
def test_integer_outputs_become_one_for_each_part(
    lab: Any, build: Any, mode: str, io_dtype: str
) -> None:
    model = lab.model()
    output, rows = build(model)
    artifact = lab.save(model, output)
    unseen = samples(8, 99)
    split = "always" if build is one_layer else "auto"
    quantized = lab.quantize(artifact, samples(), mode, io_dtype=io_dtype, split_outputs=split)
    assert len(quantized.outputs) == len(rows) + (build is keypoints)
    assert [spec.name for spec in quantized.outputs][:2] == ["y0_0", "y0_1"]
    assert [spec.name for spec in quantized.results] == ["y0"]
    assert {spec.dtype for spec in quantized.outputs} == {io_dtype}
    spec = quantized.inputs[0]
    feeds = [[spec.store(feed[0])] for feed in unseen]
    (reference,) = lab.run(artifact.path, unseen)
    found = joined(quantized, lab.run(quantized.path, feeds))
    assert found.shape == reference.shape
    assert min(parted(lab, reference, found, rows)) > (25 if mode == "int8" else 35)


def test_a_split_can_be_refused(lab: Any) -> None:
    model = lab.model()
    artifact = lab.save(model, simple(model)[0])
    answer = quantize(
        artifact.to_dict(),
        str(lab.folder / "int8.tflite"),
        "int8",
        "int8",
        samples=lab.samples(artifact, samples()),
        split_outputs="never",
    )
    quantized = Artifact.from_dict(answer)
    assert [spec.name for spec in quantized.outputs] == ["y0"]
    assert not quantized.joins
    assert any("--split-outputs auto" in note for note in answer["notes"])


def test_every_joined_output_can_be_split(lab: Any) -> None:
    model = lab.model()
    source = model.input(1, 6, 6, 3)
    parts = conv(model, source, 4, 1.0, 0), conv(model, source, 10, 2.0, 1)
    artifact = lab.save(model, model.op("CONCATENATION", *parts, axis=3))
    assert not lab.quantize(artifact, samples(), io_dtype="int8").joins
    quantized = lab.quantize(artifact, samples(), io_dtype="int8", split_outputs="always")
    assert [spec.shape for spec in quantized.outputs] == [(1, 6, 6, 4), (1, 6, 6, 10)]


def test_what_is_taken_apart_again_is_not_joined(lab: Any) -> None:
    """Boxes and scores are joined, transposed, and cut apart for two outputs."""
    model = lab.model()
    x = flat(model, model.op("CONCATENATION", *head(model, model.input(1, 6, 6, 3)), axis=3), 14)
    x = model.op("TRANSPOSE", x, model.constant([0, 2, 1], "int32"))
    sizes = model.constant([4, 10], "int32"), model.constant(2, "int32")
    parts = model.op("SPLIT_V", x, *sizes, dtypes=["float32"] * 2, numSplits=2)
    best = model.op("REDUCE_MAX", parts[1], model.constant([2], "int32"), keepDims=True)
    artifact = lab.save(model, model.op("RELU", parts[0]), best)
    unseen = samples(8, 99)
    for io_dtype in ("float32", "int8"):
        quantized = lab.quantize(artifact, samples(), io_dtype=io_dtype, disable_recovery=["all"])
        feeds = [[quantized.inputs[0].store(feed[0])] for feed in unseen]
        found = lab.run(quantized.path, feeds)
        expected = lab.run(artifact.path, unseen)
        for spec, one, other in zip(quantized.outputs, expected, found, strict=True):
            assert lab.sqnr(one, np.stack([spec.restore(sample) for sample in other])) > 30
        graph = Graph(tflite.load(quantized.path))
        assert "CONCATENATION" not in [graph.op(operator) for operator in graph.operators]


def test_an_accelerator_keeps_all_but_the_join(lab: Any) -> None:
    """Where float inside is no use, operators behind the join work on the parts, as integers."""
    model = lab.model()
    output, rows = simple(model)
    artifact = lab.save(model, output)
    quantized = lab.quantize(artifact, samples(), mixed=False)
    graph = Graph(tflite.load(quantized.path))
    real = {
        graph.op(operator)
        for operator in graph.operators
        if any(graph.is_float(index) for index in (*operator.inputs, *operator.outputs))
    }
    assert real == {"QUANTIZE", "DEQUANTIZE", "CONCATENATION"}
    unseen = samples(8, 99)
    (reference,), (found,) = lab.run(artifact.path, unseen), lab.run(quantized.path, unseen)
    assert min(parted(lab, reference, found, rows)) > 30
