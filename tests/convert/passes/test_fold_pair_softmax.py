"""A softmax over pairs of channels that a linear layer makes is a sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgeconv.convert.passes.fold_pair_softmax import fold_pair_softmax

SELECTIVE_KERNEL = [
    helper.make_node("Conv", ["x", "w", "b"], ["c"]),
    helper.make_node("Reshape", ["c", "split"], ["v"]),
    helper.make_node("Softmax", ["v"], ["y"], axis=1),
]
RESNEST = [
    helper.make_node("Conv", ["x", "w", "b"], ["c"]),
    helper.make_node("Reshape", ["c", "split"], ["v"]),
    helper.make_node("Transpose", ["v"], ["t"], perm=[0, 2, 1, 3]),
    helper.make_node("Softmax", ["t"], ["y"], axis=1),
]
LINEAR = [
    helper.make_node("Gemm", ["x", "w", "b"], ["c"], transB=1),
    helper.make_node("Reshape", ["c", "split"], ["v"]),
    helper.make_node("Softmax", ["v"], ["y"], axis=1),
]


def model(
    nodes: list[onnx.NodeProto], shapes: dict[str, list[int]], split: list[int], opset: int = 21
) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.standard_normal(shapes[name]).astype(np.float32), name)
        for name in ("w", "b")
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, shapes["x"])],
        [helper.make_tensor_value_info("y", 1, shapes["y"])],
        [*weights, numpy_helper.from_array(np.array(split, np.int64), "split")],
    )
    opsets = [helper.make_opsetid("", opset)]
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10)
    )


CASES = [
    (SELECTIVE_KERNEL, [2, 3, 1, 1], [8, 3, 1, 1], [2, 2, 4, 1, 1], [2, 2, 4, 1, 1]),
    (RESNEST, [1, 3, 1, 1], [8, 3, 1, 1], [1, 1, 2, -1], [1, 2, 1, 4]),
    (RESNEST, [1, 3, 2, 3], [12, 3, 1, 1], [1, 3, 2, 12], [1, 2, 3, 12]),
    (LINEAR, [2, 3], [8, 3], [2, 2, 4], [2, 2, 4]),
]


@pytest.mark.parametrize(("nodes", "x", "w", "split", "y"), CASES)
def test_attention_over_two_branches(
    assert_parity: Any,
    nodes: list[onnx.NodeProto],
    x: list[int],
    w: list[int],
    split: list[int],
    y: list[int],
) -> None:
    proto = model(nodes, {"x": x, "w": w, "b": w[:1], "y": y}, split)
    parity = assert_parity(proto, atol=1e-5)
    assert parity.count("SOFTMAX") == 0
    assert parity.count("LOGISTIC") == 1
    assert parity.count("TRANSPOSE") == 0 or x[2:] == [2, 3]  # the output's own order


@pytest.mark.parametrize(
    ("nodes", "x", "w", "split", "y", "opset"),
    [
        (SELECTIVE_KERNEL, [1, 3, 1, 1], [9, 3, 1, 1], [1, 3, 3, 1, 1], [1, 3, 3, 1, 1], 21),
        (LINEAR, [1, 3], [8, 3], [2, 2, 2], [2, 2, 2], 11),  # over all from the axis on
        (RESNEST, [1, 3, 2, 2], [4, 3, 1, 1], [1, 4, 2, 2], [1, 2, 4, 2], 21),  # over rows
        (LINEAR, [2, 3], [2, 3], [1, 2, 2], [1, 2, 2], 21),  # over the batch
    ],
)
def test_other_softmaxes_are_left_alone(
    assert_parity: Any,
    nodes: list[onnx.NodeProto],
    x: list[int],
    w: list[int],
    split: list[int],
    y: list[int],
    opset: int,
) -> None:
    proto = model(nodes, {"x": x, "w": w, "b": w[:1], "y": y}, split, opset)
    assert fold_pair_softmax(ir.from_proto(proto).graph) == 0
    assert assert_parity(proto).count("SOFTMAX") == 1


def test_logits_that_have_another_reader_are_left_alone() -> None:
    nodes = [*SELECTIVE_KERNEL, helper.make_node("Relu", ["v"], ["z"])]
    shapes = {"x": [1, 3, 1, 1], "w": [4, 3, 1, 1], "b": [4], "y": [1, 2, 2, 1, 1]}
    proto = model(nodes, shapes, [1, 2, 2, 1, 1])
    assert fold_pair_softmax(ir.from_proto(proto).graph) == 0
