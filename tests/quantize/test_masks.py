"""Masks before SOFTMAX: hidden values saturate, and the visible ones have all of the scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array, Artifact
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

LOWEST = [-1e4, -1e9, float(np.finfo(np.float32).min)]
HEADS, LENGTH = 4, 8


def _samples() -> list[list[Array]]:
    """Scores, and what is hidden of them: keys at the end, and what is after a query."""
    rng = np.random.default_rng(0)
    rows = []
    for count in range(16):
        hidden = np.triu(np.ones((1, 1, LENGTH, LENGTH), np.bool_), 1)
        hidden[..., 5 + count % 3 :] = True
        scores = rng.normal(size=(1, HEADS, LENGTH, LENGTH)).astype(np.float32) * 2
        rows.append([scores, hidden])
    return rows


def _masked(m: Any, kind: str, low: float) -> int:
    """Return scores with a mask on them."""
    scores = m.input(1, HEADS, LENGTH, LENGTH)
    hidden = m.input(1, 1, LENGTH, LENGTH, dtype="bool")
    lowest, zero = m.constant(low), m.constant(0.0)
    if kind == "filled":
        masked = m.op("SELECT_V2", hidden, lowest, scores)
    elif kind == "scaled after":
        masked = m.op("SELECT_V2", hidden, lowest, m.op("MUL", scores, m.constant(3.0)))
        masked = m.op("MUL", masked, m.constant(1 / 3))
    elif kind == "scaled back":
        masked = m.op("SELECT_V2", hidden, m.constant(-low), m.op("MUL", scores, m.constant(-3.0)))
        masked = m.op("MUL", masked, m.constant(-1 / 3))
    elif kind == "switched":
        seen = m.op("CAST", m.op("LOGICAL_NOT", hidden, dtypes=("bool",)))
        switch = m.op("SUB", m.constant(1.0), seen)
        masked = m.op("ADD", scores, m.op("MUL", switch, lowest))
    elif kind == "kept from infinity":
        masked = m.op("ADD", scores, m.op("SELECT_V2", hidden, lowest, zero))
        masked = m.op("MAXIMUM", masked, lowest)
    else:
        masked = m.op("ADD", scores, m.op("SELECT_V2", hidden, lowest, zero))
    return int(masked)


def _softmax(m: Any, masked: int, way: str) -> int:
    """Return the shares, of which the rows lie along the last axis."""
    if way == "direct":
        return int(m.op("SOFTMAX", masked, beta=1.0))
    if way == "reshaped":
        flat = m.op("RESHAPE", masked, m.constant([HEADS, LENGTH, LENGTH], "int32"))
        return int(m.op("SOFTMAX", flat, beta=1.0))
    if way == "transposed":
        turned = m.op("TRANSPOSE", masked, m.constant([0, 2, 1, 3], "int32"))
        return int(m.op("SOFTMAX", turned, beta=1.0))
    heads = m.op("SPLIT", m.constant(1, "int32"), masked, dtypes=("float32",) * HEADS, numSplits=4)
    shares = [m.op("SOFTMAX", head, beta=1.0) for head in heads]
    return int(m.op("CONCATENATION", *shares, axis=1))


def _quality(lab: Any, artifact: Artifact, mode: str, **more: Any) -> float:
    rows = _samples()
    quantized = lab.quantize(artifact, rows, mode, disable_recovery=("all",), **more)
    (expected,) = lab.run(artifact.path, rows, delegate=False)
    (found,) = lab.run(quantized.path, rows)
    hidden = np.broadcast_to(np.stack([row[1] for row in rows]), (16, 1, HEADS, LENGTH, LENGTH))
    if found.shape == hidden.shape:
        assert found[hidden].max() <= 1 / 256
    return float(lab.sqnr(expected, found))


@pytest.mark.parametrize("low", LOWEST)
@pytest.mark.parametrize("way", ["direct", "reshaped", "transposed", "head by head"])
@pytest.mark.parametrize("kind", ["filled", "added", "switched", "scaled after", "scaled back"])
def test_a_mask_leaves_the_scale_to_what_is_seen(lab: Any, kind: str, way: str, low: float) -> None:
    m = lab.model()
    artifact = lab.save(m, _softmax(m, _masked(m, kind, low), way))
    assert _quality(lab, artifact, "int8") > 27


@pytest.mark.parametrize("way", ["direct", "reshaped"])
def test_a_mask_that_is_kept_from_infinity(lab: Any, way: str) -> None:
    m = lab.model()
    artifact = lab.save(m, _softmax(m, _masked(m, "kept from infinity", LOWEST[-1]), way))
    assert _quality(lab, artifact, "int8") > 27


@pytest.mark.parametrize("kind", ["filled", "added", "scaled after"])
def test_masks_in_16_bits(lab: Any, kind: str) -> None:
    m = lab.model()
    artifact = lab.save(m, _softmax(m, _masked(m, kind, -1e4), "reshaped"))
    assert _quality(lab, artifact, "int16x8") > 60


def test_masks_where_precisions_are_mixed(lab: Any) -> None:
    m = lab.model()
    artifact = lab.save(m, _softmax(m, _masked(m, "filled", -1e4), "reshaped"))
    assert _quality(lab, artifact, "int8", max_drop="90dB") > 27


def _chosen(m: Any, masked: int, way: str) -> int:
    """Return what a maximum makes of the masked scores."""
    last = m.constant([3], "int32")
    if way == "largest":
        return int(m.op("REDUCE_MAX", masked, last, keepDims=False))
    if way == "largest, then more":
        largest = m.op("REDUCE_MAX", masked, last, keepDims=False)
        return int(m.op("MUL", largest, m.constant(0.5)))
    if way == "first":
        return int(m.op("ARG_MAX", masked, m.constant(3, "int32"), dtypes=("int32",), outputType=2))
    largest = m.op("REDUCE_MAX", masked, last, keepDims=True)
    total = m.op("SUM", m.op("EXP", m.op("SUB", masked, largest)), last, keepDims=True)
    return int(m.op("ADD", m.op("LOG", total), largest))


@pytest.mark.parametrize("low", LOWEST)
@pytest.mark.parametrize("way", ["largest", "largest, then more", "logarithm of the sum"])
@pytest.mark.parametrize("kind", ["filled", "added"])
def test_a_mask_before_a_maximum(lab: Any, kind: str, way: str, low: float) -> None:
    m = lab.model()
    artifact = lab.save(m, _chosen(m, _masked(m, kind, low), way))
    rows = _samples()
    quantized = lab.quantize(artifact, rows, disable_recovery=("all",))
    (expected,) = lab.run(artifact.path, rows, delegate=False)
    for delegate in (True, False):
        (found,) = lab.run(quantized.path, rows, delegate=delegate)
        assert lab.sqnr(expected, found) > 25


@pytest.mark.parametrize("low", LOWEST)
@pytest.mark.parametrize("kind", ["filled", "added"])
def test_a_mask_never_wins(lab: Any, kind: str, low: float) -> None:
    m = lab.model()
    artifact = lab.save(m, _chosen(m, _masked(m, kind, low), "first"))
    rows = _samples()
    quantized = lab.quantize(artifact, rows, disable_recovery=("all",))
    (expected,) = lab.run(artifact.path, rows, delegate=False)
    (found,) = lab.run(quantized.path, rows)
    assert np.mean(expected == found) > 0.9
    hidden = np.broadcast_to(np.stack([row[1] for row in rows]), (16, 1, HEADS, LENGTH, LENGTH))
    assert not np.take_along_axis(hidden, found[..., None], -1).any()


def test_a_mask_before_a_maximum_leaves_all_of_it_integer(lab: Any) -> None:
    m = lab.model()
    artifact = lab.save(m, _chosen(m, _masked(m, "filled", -1e9), "largest"))
    rows = _samples()
    quantized = lab.quantize(artifact, rows, io_dtype="int8", mixed=False)
    graph = Graph(tflite.load(quantized.path))
    assert not any(graph.is_float(index) for index in range(len(graph.tensors)))


def test_numbers_that_hide_are_an_output_as_they_are(lab: Any) -> None:
    m = lab.model()
    artifact = lab.save(m, m.op("MUL", _masked(m, "filled", -1e9), m.constant(1.0)))
    rows = _samples()
    quantized = lab.quantize(artifact, rows, disable_recovery=("all",))
    (expected,) = lab.run(artifact.path, rows, delegate=False)
    (found,) = lab.run(quantized.path, rows)
    seen = expected > -1e8
    assert np.array_equal(found[~seen], expected[~seen])
    assert lab.sqnr(expected[seen], found[seen]) > 30
