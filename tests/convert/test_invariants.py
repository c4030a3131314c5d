"""The checks on layouts that tests of the translator run under notice what is wrong."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import pytest
import tensorflow as tf

import edgeconv.convert.passes as passes
from edgeconv.convert.saved_model.translator import Translator
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import Registry, op
from edgeconv.convert.translate.value import Value
from edgeconv.convert.translate.view import View
from tests.convert.invariants import check_graph, watched

IMAGE = (0, 2, 3, 1)
GRAPH = """<ir_version: 10, opset_import: ["": 21]>
g (float[1,2,3,5] x) => (float[1,2,3,5] y) { y = Relu(x) }"""


def _model() -> ir.Model:
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(GRAPH)))


@op("Relu")
def right(g: Context, x: Value) -> Value:
    return x.map(tf.nn.relu)


@op("Relu")
def forgets_the_layout(g: Context, x: Value) -> Value:
    return Value.of(tf.nn.relu(x.tensor))


@op("Relu")
def moves_without_saying(g: Context, x: Value) -> Value:
    return x.map(lambda t: tf.transpose(t, (0, 3, 1, 2)))


@op("Relu")
def drops_an_axis(g: Context, x: Value) -> Value:
    return x.map(lambda t: t[0])


@op("Relu")
def holds_an_axis_twice(g: Context, x: Value) -> Value:
    return Value(x.tensor, View(x.view.stored, (*x.view.axes[:3], x.view.axes[1])))


def _translate(function: Any) -> None:
    x = Value.of(tf.zeros((1, 3, 5, 2)), IMAGE)
    Translator(_model(), Registry([function])).run({"x": x})


def test_a_right_translation_passes() -> None:
    _translate(right)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (forgets_the_layout, r"y: has shape \(1, 3, 5, 2\), ONNX says \[1, 2, 3, 5\]"),
        (moves_without_saying, r"y: stored as \(1, 2, 3, 5\)"),
        (drops_an_axis, "y: stored with rank 3"),
        (holds_an_axis_twice, "y: its axes hold not each factor once"),
    ],
)
def test_a_wrong_translation_is_caught(function: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        _translate(function)


def test_a_rewrite_that_declares_another_shape_is_caught() -> None:
    text = GRAPH.replace("y = Relu(x)", "a = Relu(x) y = Neg(a)")
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    model = ir.from_proto(proto)
    check_graph(model.graph, "none")
    model.graph[0].outputs[0].shape = ir.Shape([1, 3, 5, 2])
    with pytest.raises(AssertionError, match="none: a"):
        check_graph(model.graph, "none")


def test_every_rewrite_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(graph: ir.Graph) -> int:
        graph[0].outputs[0].name = "x"
        return 1

    monkeypatch.setattr(passes, "PASSES", (breaks,))
    with watched(), pytest.raises(AssertionError, match=r"breaks: .* is made twice"):
        passes.run_passes(_model().graph)
