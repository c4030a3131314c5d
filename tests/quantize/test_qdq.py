"""Models that bring their own scales: simulated quantization in ONNX and in the float model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgeconv import convert
from edgeconv.core.artifacts import Array
from edgeconv.core.errors import UsageError
from edgeconv.quantize.engine import quantize
from edgeconv.quantize.params.qparams import QuantParams
from edgeconv.quantize.rewrite.qdq import Scales, read_scales
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph

_ROWS = [
    [np.random.default_rng(seed).normal(size=(1, 4, 4, 2)).astype(np.float32)] for seed in (1, 2)
]


def _simulate(m: Any, source: int, scale: float, zero_point: int) -> int:
    """Add QUANTIZE to uint8 and DEQUANTIZE."""
    graph, affine = m.graph, QuantParams(float(np.float32(scale)), zero_point)
    stored = affine.stored()
    middle = graph.add_activation(f"q{len(graph.tensors)}", (), "uint8", stored)
    graph.operators.append(graph.operator("QUANTIZE", 1, (source,), (middle,)))
    result: int = m.op("DEQUANTIZE", middle)
    return result


def _affines(path: Path) -> list[tuple[str, str, float, int]]:
    """Return operator, dtype, scale and zero point of the result of each operator."""
    graph = Graph(tflite.load(path))
    found = []
    for operator in graph.operators:
        quantization = graph.tensors[operator.outputs[0]].quantization
        if quantization is not None and quantization.scale is not None:
            scale, zero_point = float(quantization.scale[0]), int(quantization.zeroPoint[0])
            kind = graph.dtype(operator.outputs[0])
            found.append((graph.op(operator), kind, round(scale, 6), zero_point))
    return found


def test_scales_become_those_of_the_tensors(lab: Any) -> None:
    m = lab.model()
    x = _simulate(m, m.input(1, 4, 4, 2), 0.02, 100)
    y = _simulate(m, m.op("RELU", x), 0.01, 0)
    artifact = lab.save(m, _simulate(m, m.op("MUL", y, y), 0.005, 3))
    quantized = lab.quantize(artifact, _ROWS)
    assert _affines(quantized.path) == [
        ("QUANTIZE", "int8", 0.02, -28),
        ("RELU", "int8", 0.01, -128),
        ("MUL", "int8", 0.005, -125),
    ]
    expected, found = lab.run(artifact.path, _ROWS)[0], lab.run(quantized.path, _ROWS)[0]
    assert np.abs(expected - found).max() <= 0.005 * 1.01


def test_a_tied_or_prescribed_scale_is_changed_after_the_operator(lab: Any) -> None:
    m = lab.model()
    x = _simulate(m, m.input(1, 4, 4, 2), 0.02, 128)
    options = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    pooled = _simulate(m, m.op("MAX_POOL_2D", x, **options), 0.01, 128)
    artifact = lab.save(m, _simulate(m, m.op("LOGISTIC", pooled), 0.003, 0))
    quantized = lab.quantize(artifact, _ROWS, io_dtype="int8")
    assert _affines(quantized.path) == [
        ("MAX_POOL_2D", "int8", 0.02, 0),
        ("QUANTIZE", "int8", 0.01, 0),
        ("LOGISTIC", "int8", round(1 / 256, 6), -128),
        ("QUANTIZE", "int8", 0.003, -128),
    ]
    assert quantized.outputs[0].quantization.scale == pytest.approx(0.003)


def test_readers_may_have_scales_of_their_own(lab: Any) -> None:
    m = lab.model()
    x = m.op("ABS", m.input(1, 4, 4, 2))
    left, right = _simulate(m, x, 0.02, 0), _simulate(m, x, 0.01, 0)
    same = _simulate(m, x, 0.02, 0)
    total = m.op("ADD", m.op("ADD", left, right), same)
    artifact = lab.save(m, total, x)
    quantized = lab.quantize(artifact, _ROWS)
    kinds = [(kind, scale) for kind, _, scale, _ in _affines(quantized.path)]
    assert ("ABS", 0.02) in kinds
    assert ("QUANTIZE", 0.01) in kinds
    expected, found = lab.run(artifact.path, _ROWS), lab.run(quantized.path, _ROWS)
    assert lab.sqnr(expected[0], found[0]) > 30


def test_what_has_no_scale_is_calibrated_and_named(lab: Any) -> None:
    m = lab.model()
    middle = m.op("ABS", _simulate(m, m.input(1, 4, 4, 2), 0.02, 128))
    m.graph.tensors[middle].name = "without"
    artifact = lab.save(m, _simulate(m, m.op("MUL", middle, middle), 0.04, 0))
    samples = lab.samples(artifact, _ROWS)
    answer = quantize(artifact.to_dict(), str(lab.folder / "out.tflite"), "int8", samples=samples)
    (note,) = answer["notes"]
    assert "2 activations have the scales of the model's own" in note
    assert note.endswith("1 have none and are calibrated: without")


@pytest.mark.parametrize("mode", ["fp16", "dynamic", "weight-only", "int16x8"])
def test_other_modes_say_that_they_do_not_use_the_scales(lab: Any, mode: str) -> None:
    m = lab.model()
    artifact = lab.save(m, m.op("ABS", _simulate(m, m.input(1, 4, 4, 2), 0.02, 128)))
    samples = lab.samples(artifact, _ROWS)
    path = lab.folder / "out.tflite"
    answer = quantize(artifact.to_dict(), str(path), mode, samples=samples)
    assert f"not used for {mode}" in answer["notes"][0]
    assert lab.sqnr(lab.run(artifact.path, _ROWS)[0], lab.run(path, _ROWS)[0]) > 30


def test_there_is_nothing_to_search_for(lab: Any) -> None:
    m = lab.model()
    artifact = lab.save(m, m.op("ABS", _simulate(m, m.input(1, 4, 4, 2), 0.02, 128)))
    with pytest.raises(UsageError, match="brings its own scales"):
        lab.quantize(artifact, _ROWS, max_drop="3dB")


def test_scales_of_weights_are_found_by_their_multiples() -> None:
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.01, 0.1, 6).astype(np.float32)
    stored = rng.integers(-100, 100, (6, 3, 3, 4))
    weight = (stored * scales.reshape(-1, 1, 1, 1)).astype(np.float32)
    known = Scales(weights=(np.array([0.3], np.float32), scales[::-1].copy(), scales))
    found = known.of_weight(weight, 0)
    assert found is not None
    assert np.array_equal(found, scales)
    assert known.of_weight(np.ascontiguousarray(np.moveaxis(weight, 0, 3)), 3) is not None
    assert known.of_weight(weight + 0.003, 0) is None
    single = known.of_weight((stored * np.float32(0.3)).astype(np.float32), 0)
    assert single is not None
    assert np.array_equal(single, np.full(6, 0.3, np.float32))


class _Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = torch.nn.Conv2d(16, 12, 1)
        self.dense = torch.nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.cat([x, x + torch.nn.functional.relu6(self.depthwise(x))], 1)
        x = torch.sigmoid(self.last(torch.nn.functional.max_pool2d(x, 2)))
        y: torch.Tensor = self.dense(x.mean((2, 3)))
        return torch.softmax(y, 1)


class _Reader:
    def __init__(self) -> None:
        self._left: Iterator[dict[str, Array]] = iter([{"x": row} for row in _images(8)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._left, None)


def _images(count: int) -> Array:
    return np.random.default_rng(5).random((count, 1, 3, 16, 16)).astype(np.float32)


def _quantized_by_onnxruntime(folder: Path, **options: Any) -> Path:
    from onnxruntime.quantization import QuantFormat, quantize_static

    torch.manual_seed(3)
    plain, path = folder / "plain.onnx", folder / "qdq.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Network().eval(),
            (torch.rand(1, 3, 16, 16),),
            plain,
            input_names=["x"],
            output_names=["y"],
            dynamo=False,
            opset_version=17,
        )
        quantize_static(plain, path, _Reader(), quant_format=QuantFormat.QDQ, **options)
    return path


def _stated(path: Path) -> tuple[set[tuple[float, int]], list[Array]]:
    """Return scale and zero point of the activations as int8, and the integers of the weights."""
    graph = onnx.load(str(path)).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    activations, weights = set(), []
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero_point = arrays[node.input[1]], arrays[node.input[2]]
            shift = 128 if zero_point.dtype == np.uint8 else 0
            activations.add((float(scale.item()), int(zero_point.item()) - shift))
        if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
            weights.append(arrays[node.input[0]])
    return activations, weights


@pytest.mark.slow
@pytest.mark.parametrize(("per_channel", "unsigned"), [(True, False), (False, True)])
def test_a_model_of_onnxruntimes_quantizer_keeps_its_scales(
    per_channel: bool, unsigned: bool, tmp_path: Path
) -> None:
    from onnxruntime.quantization import QuantType

    kind = QuantType.QUInt8 if unsigned else QuantType.QInt8
    path = _quantized_by_onnxruntime(
        tmp_path, per_channel=per_channel, activation_type=kind, weight_type=QuantType.QInt8
    )
    data = {"x": _images(24)}
    result = convert(
        path,
        quantize="int8",
        calibration_data=data,
        output=tmp_path / "out.edgeconv",
        gates={"tflite_int8": {"sqnr_db": 30.0}},
    )
    # The float stages simulate the quantization exactly as onnxruntime does.
    assert result.passed
    graph = Graph(tflite.load(result.model.path))
    tensors = [tensor for tensor in graph.tensors if tensor.quantization is not None]
    found = {
        (float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))
        for tensor in tensors
        if tensor.quantization.scale is not None and not tflite.is_constant(graph.model, tensor)
    }
    activations, weights = _stated(path)
    assert activations <= found
    stored = [
        sorted(graph.value(index).ravel().tolist())
        for index in range(len(graph.tensors))
        if graph.is_constant(index) and graph.dtype(index) in ("int8", "int32")
    ]
    for weight in weights:
        if np.abs(weight.astype(np.int64)).max() > 0:
            assert sorted(weight.ravel().tolist()) in stored


class _Trained(torch.nn.Module):
    """What quantization-aware training leaves: FakeQuantize on activations and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.dense = torch.nn.Linear(8, 5)
        scales = {"image": 1 / 255, "hidden": 0.006, "pooled": 0.003, "scores": 0.005}
        self.scales = scales

    def _activation(self, x: torch.Tensor, name: str, zero_point: int = -128) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(x, self.scales[name], zero_point, -128, 127)

    def _weight(self, w: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(w, 0.004, 0, -128, 127)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._activation(x, "image")
        weight = self._weight(self.conv.weight)
        x = torch.nn.functional.conv2d(x, weight, self.conv.bias, padding=1)
        x = self._activation(torch.relu(x), "hidden")
        x = self._activation(x.mean((2, 3)), "pooled")
        y = torch.nn.functional.linear(x, self._weight(self.dense.weight), self.dense.bias)
        return self._activation(y, "scores", 10)


@pytest.mark.slow
def test_a_network_of_quantization_aware_training_keeps_its_scales(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = _Trained().eval()
    result = convert(
        network,
        torch.rand(1, 3, 16, 16),
        quantize="int8",
        calibration_data={"x": _images(24)},
        output=tmp_path / "out.edgeconv",
        gates={"tflite_int8": {"sqnr_db": 25.0}},
    )
    assert result.passed
    graph = Graph(tflite.load(result.model.path))
    found = {
        float(tensor.quantization.scale[0])
        for tensor in graph.tensors
        if tensor.quantization is not None and tensor.quantization.scale is not None
    }
    assert {float(np.float32(scale)) for scale in (*network.scales.values(), 0.004)} <= found
    known = read_scales(tmp_path / "out.edgeconv" / "_trained.onnx")
    assert len(known.activations) == 4
