"""float16 and dynamic-range models: size, accuracy, and what stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeconv.core.artifacts import Array
from edgeconv.quantize.rewrite.weights import WEIGHT_RULES
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph


def _weights(*shape: int) -> Array:
    return np.random.default_rng(4).normal(size=shape).astype(np.float32)


def _conv(m: Any) -> Any:
    weight, bias = m.constant(_weights(32, 3, 3, 16)), m.constant(_weights(32))
    return m.op("CONV_2D", m.input(1, 6, 6, 16), weight, bias, strideH=1, strideW=1)


def _depthwise(m: Any) -> Any:
    weight, bias = m.constant(_weights(1, 9, 9, 128)), m.constant(_weights(128))
    options = {"strideH": 1, "strideW": 1, "depthMultiplier": 1}
    return m.op("DEPTHWISE_CONV_2D", m.input(1, 6, 6, 128), weight, bias, **options)


def _dense(m: Any) -> Any:
    return m.op("FULLY_CONNECTED", m.input(3, 64), m.constant(_weights(32, 64)), -1)


def _matmul(m: Any) -> Any:
    return m.op("BATCH_MATMUL", m.input(2, 3, 64), m.constant(_weights(2, 64, 32)))


def _transpose_conv(m: Any) -> Any:
    shape, weight = m.constant([1, 13, 13, 16], "int32"), m.constant(_weights(16, 3, 3, 16))
    return m.op(
        "TRANSPOSE_CONV", shape, weight, m.input(1, 6, 6, 16), strideH=2, strideW=2, padding=1
    )


def _gather(m: Any) -> Any:
    index = m.op("ARG_MAX", m.input(4, 60), m.constant(1, "int32"), dtypes=("int32",), outputType=2)
    return m.op("GATHER", m.constant(_weights(60, 32)), index)


def _conv_3d(m: Any) -> Any:
    options = {"strideD": 1, "strideH": 1, "strideW": 1}
    return m.op("CONV_3D", m.input(1, 4, 4, 4, 8), m.constant(_weights(3, 3, 3, 8, 16)), **options)


_CASES: dict[str, Callable[[Any], Any]] = {
    "BATCH_MATMUL": _matmul,
    "CONV_2D": _conv,
    "CONV_3D": _conv_3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "GATHER": _gather,
    "TRANSPOSE_CONV": _transpose_conv,
}


def _build(lab: Any, build: Callable[[Any], Any]) -> tuple[Any, list[list[Array]]]:
    model = lab.model()
    artifact = lab.save(model, build(model))
    rng = np.random.default_rng(0)
    shapes = [tuple(size or 1 for size in spec.shape) for spec in artifact.inputs]
    rows = [[rng.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(4)]
    return artifact, rows


@pytest.mark.parametrize(
    ("mode", "ratio", "floor"),
    [("fp16", 0.65, 55.0), ("dynamic", 0.45, 30.0), ("weight-only", 0.45, 35.0)],
)
@pytest.mark.parametrize("name", _CASES)
def test_weights_shrink_and_results_stay(
    name: str, mode: str, ratio: float, floor: float, lab: Any
) -> None:
    artifact, rows = _build(lab, _CASES[name])
    quantized = lab.quantize(artifact, mode=mode)
    assert quantized.path.stat().st_size < ratio * artifact.path.stat().st_size
    (reference,) = lab.run(artifact.path, rows)
    for delegate in (False, True):
        (found,) = lab.run(quantized.path, rows, delegate=delegate)
        assert found.dtype == np.float32
        assert lab.sqnr(reference, found) >= floor
    assert quantized.inputs == artifact.inputs
    assert quantized.outputs == artifact.outputs


def test_every_weight_rule_has_a_case() -> None:
    assert set(_CASES) == set(WEIGHT_RULES)


def test_weight_only_computes_in_float(lab: Any) -> None:
    artifact, _ = _build(lab, _dense)
    graph = Graph(tflite.load(lab.quantize(artifact, mode="weight-only").path))
    assert [graph.op(operator) for operator in graph.operators] == ["DEQUANTIZE", "FULLY_CONNECTED"]
    stored = graph.tensors[graph.operators[0].inputs[0]]
    assert graph.dtype(graph.operators[0].inputs[0]) == "int8"
    assert len(stored.quantization.scale) == 32
    assert not np.any(stored.quantization.zeroPoint)


def test_dynamic_keeps_small_constants_float(lab: Any) -> None:
    model = lab.model()
    dense = model.op("FULLY_CONNECTED", model.input(1, 8), model.constant(_weights(4, 8)), -1)
    artifact = lab.save(model, dense)
    graph = Graph(tflite.load(lab.quantize(artifact, mode="dynamic").path))
    assert {graph.dtype(index) for index in range(len(graph.tensors))} == {"float32"}


def test_a_weight_of_two_layers_is_stored_once(lab: Any) -> None:
    for mode in ("fp16", "dynamic", "weight-only"):
        model = lab.model()
        weight = model.constant(_weights(64, 64))
        x = model.op("FULLY_CONNECTED", model.input(1, 64), weight, -1)
        artifact = lab.save(model, model.op("FULLY_CONNECTED", x, weight, -1))
        quantized = lab.quantize(artifact, mode=mode)
        assert quantized.path.stat().st_size < 0.6 * artifact.path.stat().st_size


def test_weights_beyond_float16_stay_float32(lab: Any) -> None:
    model = lab.model()
    weight = _weights(64, 64)
    weight[0, 0] = 1e6
    artifact = lab.save(
        model, model.op("FULLY_CONNECTED", model.input(1, 64), model.constant(weight), -1)
    )
    quantized = lab.quantize(artifact, mode="fp16")
    rows = [[_weights(1, 64)]]
    assert lab.sqnr(lab.run(artifact.path, rows)[0], lab.run(quantized.path, rows)[0]) > 90
