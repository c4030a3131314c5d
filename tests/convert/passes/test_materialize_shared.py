"""Queries, keys and values are reordered once, not once each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeconv.convert import passes
from edgeconv.convert.passes.materialize_shared import materialize_shared


def attention() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights: dict[str, np.ndarray[Any, Any]] = {
        "w": random.standard_normal((8, 24)).astype(np.float32),
        "split": np.array([1, 5, 3, 2, 4], np.int64),
        "i0": np.array(0, np.int64),
        "i1": np.array(1, np.int64),
        "i2": np.array(2, np.int64),
        "join": np.array([1, 5, 8], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Reshape", ["p", "split"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[2, 0, 3, 1, 4]),
        *(helper.make_node("Gather", ["t", f"i{n}"], [name], axis=0) for n, name in
          enumerate("qkv")),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Softmax", ["s"], ["a"], axis=-1),
        helper.make_node("MatMul", ["a", "v"], ["o"]),
        helper.make_node("Transpose", ["o"], ["ot"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["ot", "join"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", 1, [1, 5, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 5, 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_attention_moves_its_data_twice(assert_parity: Any) -> None:
    assert assert_parity(attention()).count("TRANSPOSE") == 2


def test_without_the_pass_each_part_moves(assert_parity: Any, monkeypatch: Any) -> None:
    name = materialize_shared.__name__
    kept = tuple(rewrite for rewrite in passes.PASSES if getattr(rewrite, "__name__", "") != name)
    monkeypatch.setattr(passes, "PASSES", kept)
    assert assert_parity(attention()).count("TRANSPOSE") > 2
