"""Batch normalisations and pads disappear into the convolution beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgeconv.convert.passes.fold_batch_norm import fold_batch_norm
from edgeconv.convert.passes.fold_pad import fold_pad


def model(
    nodes: list[onnx.NodeProto], out: tuple[int, ...], **weights: np.ndarray[Any, Any]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 4, 7, 6])],
        [helper.make_tensor_value_info("y", 1, out)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def statistics() -> dict[str, np.ndarray[Any, Any]]:
    return {"s": normal(6), "b": normal(6) + 1, "m": normal(6) * 2, "v": normal(6) ** 2 + 0.5}


@pytest.mark.parametrize(
    ("kind", "weight", "group", "bias"),
    [
        ("Conv", (6, 4, 3, 3), 1, True),
        ("Conv", (6, 4, 3, 3), 1, False),
        ("Conv", (6, 2, 3, 3), 2, True),
        ("ConvTranspose", (4, 6, 3, 3), 1, True),
        ("ConvTranspose", (4, 3, 3, 3), 2, False),
    ],
)
def test_batch_norm_folds(
    kind: str, weight: tuple[int, ...], group: int, bias: bool, assert_parity: Any
) -> None:
    weights = {"w": normal(*weight), **statistics()}
    inputs = ["x", "w"]
    if bias:
        weights["c"] = normal(6)
        inputs.append("c")
    nodes = [
        helper.make_node(kind, inputs, ["h"], group=group, pads=[1] * 4),
        helper.make_node("BatchNormalization", ["h", "s", "b", "m", "v"], ["y"], epsilon=1e-3),
    ]
    proto = model(nodes, (1, 6, 7, 6), **weights)
    assert fold_batch_norm(ir.from_proto(proto).graph) == 1
    assert_parity(proto, rtol=1e-4, atol=1e-4)


def test_batch_norm_stays_where_its_input_is_needed(assert_parity: Any) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["h", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Add", ["h", "n"], ["y"]),
    ]
    proto = model(nodes, (1, 6, 7, 6), w=normal(6, 4, 3, 3), **statistics())
    assert fold_batch_norm(ir.from_proto(proto).graph) == 0
    assert_parity(proto, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("pads", "mode", "fill", "folds"),
    [
        ([0, 0, 1, 2, 0, 0, 0, 1], "constant", 0.0, True),
        ([0, 0, 1, 1, 0, 0, 1, 1], "constant", 1.0, False),
        ([0, 0, 1, 1, 0, 0, 1, 1], "reflect", 0.0, False),
        ([0, 2, 0, 0, 0, 0, 0, 0], "constant", 0.0, False),
        ([0, 0, -1, 0, 0, 0, 0, 0], "constant", 0.0, False),
    ],
)
def test_pad_folds(
    pads: list[int], mode: str, fill: float, folds: bool, assert_parity: Any
) -> None:
    channels = 4 + pads[1]
    size = (7 + pads[2] + pads[6], 6 + pads[3] + pads[7])
    nodes = [
        helper.make_node("Pad", ["x", "p", "f"], ["h"], mode=mode),
        helper.make_node("Conv", ["h", "w"], ["y"], pads=[1, 0, 1, 0]),
    ]
    proto = model(
        nodes,
        (1, 6, size[0], size[1] - 2),
        p=np.array(pads, np.int64),
        f=np.array(fill, np.float32),
        w=normal(6, channels, 3, 3),
    )
    assert fold_pad(ir.from_proto(proto).graph) == int(folds)
    assert_parity(proto, rtol=1e-4, atol=1e-4)
