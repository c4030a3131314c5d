from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from edgeconv.convert.onnx.infer_shapes import infer_shapes
from edgeconv.core.errors import InvalidModel


def model_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9)


def dense() -> ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Mul", ["m", "big"], ["t"])],
        "branch",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("If", ["c"], ["i"], then_branch=branch, else_branch=branch),
        helper.make_node("Reshape", ["i", "shape"], ["y"]),
    ]
    return model_of(
        nodes,
        w=np.ones((64, 48), np.float32),
        big=np.ones((2, 48), np.float32),
        c=np.ones((), np.bool_),
        shape=np.array([3, 32]),
    )


def test_shapes_are_those_that_onnx_finds_and_weights_stay() -> None:
    model = dense()
    expected = shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    infer_shapes(model, "m.onnx")
    assert model.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [3, 32]


def test_what_operators_of_other_domains_leave_is_known() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Odd", ["m"], ["y"], domain="own"),
    ]
    model = model_of(nodes, w=np.ones((64, 48), np.float32))
    infer_shapes(model, "m.onnx")
    assert [value.name for value in model.graph.value_info] == ["m"]


def test_shapes_that_contradict_each_other_are_an_error() -> None:
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], w=np.ones((63, 48), "f4"))
    with pytest.raises(InvalidModel, match="contradict"):
        infer_shapes(model, "m.onnx")
