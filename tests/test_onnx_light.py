"""What reads a graph only leaves the large weights in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeconv.convert.onnx.light import load_light, load_light_graph
from edgeconv.core.artifacts import Arrays


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write two large weights, one of them between small ones, and a large one that is not raw."""
    rng = np.random.default_rng(0)
    arrays: Arrays = {
        "first": rng.standard_normal((600, 600)).astype(np.float32),
        "small": rng.standard_normal(3).astype(np.float32),
        "last": rng.integers(-5, 5, (300, 700)).astype(np.int64),
    }
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    plain = onnx.helper.make_tensor("plain", onnx.TensorProto.FLOAT, [400_000], [1.5] * 400_000)
    weights.insert(2, plain)
    graph = onnx.parser.parse_graph(
        "g (float[2,600] x) => (float[2,600] y) { y = MatMul(x, first) }"
    )
    graph.initializer.extend(weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_large_weights_stay_in_the_file(file: Path) -> None:
    light = load_light(file)
    external = [item.name for item in light.graph.initializer if item.external_data]
    assert external == ["first", "last"]
    assert light.ByteSize() < file.stat().st_size - (600 * 600 * 4 + 300 * 700 * 8) + 1000


def test_nothing_else_differs(file: Path) -> None:
    light = load_light(file)
    onnx.load_external_data_for_model(light, str(file.parent))
    for item in light.graph.initializer:
        item.ClearField("data_location")
    assert light == onnx.load(file)


def test_weights_are_read_when_they_are_asked_for(file: Path) -> None:
    graph = load_light_graph(file).graph
    whole = {item.name: numpy_helper.to_array(item) for item in onnx.load(file).graph.initializer}
    assert list(graph.initializers) == list(whole)
    for name, value in graph.initializers.items():
        assert value.const_value is not None
        np.testing.assert_array_equal(value.const_value.numpy(), whole[name])


def test_small_files_are_read_as_they_are(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
    )
    path = tmp_path / "small.onnx"
    path.write_bytes(model.SerializeToString())
    assert load_light(path) == model
