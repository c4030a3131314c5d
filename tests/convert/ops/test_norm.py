"""Normalisations equal ONNX's, on every axis and stored channels last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper


def between_convolutions(
    node: str, channels: int, parameters: dict[str, Any], opset: int, **attributes: Any
) -> Any:
    """Return a model with a 1x1 convolution before and after a node on [2, channels, 4, 3]."""
    random = np.random.default_rng(0)
    weights = {
        "w0": random.standard_normal((channels, 3, 1, 1)).astype(np.float32),
        "w1": random.standard_normal((2, channels, 1, 1)).astype(np.float32),
        **{name: np.asarray(array, np.float32) for name, array in parameters.items()},
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w0"], ["a"]),
            helper.make_node(node, ["a", *parameters], ["b"], **attributes),
            helper.make_node("Conv", ["b", "w1"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2, 4, 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def vectors(size: int, count: int) -> dict[str, Any]:
    return {f"p{n}": np.linspace(0.5, 1.5 + n, size) for n in range(count)}


@pytest.mark.parametrize(
    ("node", "parameters", "opset", "attributes"),
    [
        ("BatchNormalization", 4, 15, {}),
        ("InstanceNormalization", 2, 18, {}),
        ("GroupNormalization", 2, 21, {"num_groups": 2}),
        ("LpNormalization", 0, 18, {"axis": 1}),
        ("LpNormalization", 0, 18, {"axis": 2}),
        ("LpNormalization", 0, 18, {"axis": 1, "p": 1}),
        ("MeanVarianceNormalization", 0, 18, {}),
        ("LRN", 0, 18, {"size": 3, "alpha": 0.1}),
        ("LRN", 0, 18, {"size": 5}),
    ],
)
def test_between_convolutions(
    assert_parity: Any, node: str, parameters: int, opset: int, attributes: dict[str, Any]
) -> None:
    model = between_convolutions(node, 4, vectors(4, parameters), opset, **attributes)
    parity = assert_parity(model, rtol=1e-4, atol=1e-5)
    assert parity.count("TRANSPOSE") == 0


def test_group_normalization_with_parameters_by_group(assert_parity: Any) -> None:
    model = between_convolutions("GroupNormalization", 4, vectors(2, 2), 18, num_groups=2)
    assert_parity(model, reference="onnx", rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_layer_normalization_and_its_statistics(assert_parity: Any, axis: int) -> None:
    sizes = [2, 3, 4, 5]
    tail = ",".join(map(str, sizes[axis:]))
    kept = ",".join(map(str, [*sizes[:axis], *[1] * (4 - axis)]))
    text = f"""g (float[2,3,4,5] x, float[{tail}] s, float[{tail}] b) =>
        (float[2,3,4,5] y, float[{kept}] mean, float[{kept}] inverse, float[2,3,4,5] z) {{
            y, mean, inverse = LayerNormalization <axis = {axis}> (x, s, b)
            z = LayerNormalization <axis = {axis}> (x, s) }}"""
    assert_parity(text, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [1, -1])
def test_rms_normalization(assert_parity: Any, axis: int) -> None:
    tail = "3,4" if axis == 1 else "4"
    text = f"""g (float[2,3,4] x, float[{tail}] s) => (float[2,3,4] y) {{
        y = RMSNormalization <axis = {axis}> (x, s) }}"""
    assert_parity(text, opset=23, reference="onnx")


def test_l2_normalization_of_zeros(assert_parity: Any) -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { y = LpNormalization <axis = 1> (x) }"
    parity = assert_parity(text, {"x": [[0, 0, 0], [3, 0, 4]]}, opset=22, reference="onnx")
    assert parity.outputs["y"][0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("channels", "transposes"), [(64, 0), (8, 2)])
def test_group_norm_between_convolutions(
    assert_parity: Any, channels: int, transposes: int
) -> None:
    """Groups of many channels are normalised as images are stored, small ones row by row."""
    text = f"""g (float[1,{channels},6,5] x) => (float[1,{channels},6,5] y)
        <int64[3] grouped = {{0, 2, -1}}, int64[4] whole = {{1, {channels}, 6, 5}},
         float[2] one = {{1., 1.}}, float[2] zero = {{0., 0.}}> {{
        a = AveragePool<kernel_shape = [1, 1]>(x) r = Reshape(a, grouped)
        n = InstanceNormalization(r, one, zero) b = Reshape(n, whole)
        y = MaxPool<kernel_shape = [1, 1]>(b) }}"""
    parity = assert_parity(text, rtol=1e-4, atol=1e-5)
    assert parity.count("TRANSPOSE") == transposes
