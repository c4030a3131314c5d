"""Casts equal ONNX's."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from onnx import TensorProto, helper

TYPES = ["FLOAT", "UINT8", "INT8", "INT32", "INT64", "BOOL"]


def test_between_all_types(assert_parity: Any) -> None:
    inputs, outputs, nodes, feeds = [], [], [], {}
    for source in TYPES:
        number = getattr(TensorProto, source)
        inputs.append(helper.make_tensor_value_info(source, number, [6]))
        feeds[source] = np.array([0, 1, 2.7 if source == "FLOAT" else 2, 100, 7, 0])
    for source, target in product(TYPES, TYPES):
        if source != target:
            name = f"{source}_{target}"
            number = getattr(TensorProto, target)
            outputs.append(helper.make_tensor_value_info(name, number, [6]))
            nodes.append(helper.make_node("Cast", [source], [name], to=number))
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    assert_parity(model, feeds)


def test_negative_floats_to_integers(assert_parity: Any) -> None:
    text = """g (float[4] x) => (int8[4] a, int32[4] b, int64[4] c) {
        a = Cast <to = 3> (x) b = Cast <to = 6> (x) c = Cast <to = 7> (x) }"""
    assert_parity(text, {"x": [-2.7, -0.5, -100.0, 1.9]})


def test_cast_like(assert_parity: Any) -> None:
    text = "g (float[3] x, int32[1] like) => (int32[3] y) { y = CastLike(x, like) }"
    assert_parity(text, {"x": [1.5, -2.5, 3.0]}, reference="onnx")


def test_bit_cast(assert_parity: Any) -> None:
    text = """g (float[3] x, int8[3] s, int64[2] l) => (int32[3] a, uint8[3] b, int64[2] c) {
        a = BitCast <to = 6> (x)  b = BitCast <to = 2> (s)  c = BitCast <to = 7> (l) }"""
    assert_parity(text, {"x": [1.5, -2.5, 3.0], "s": [-1, 0, 5]}, opset=26, reference="onnx")
