"""Random graphs of layout-sensitive operators: every value must equal onnxruntime's.

The graphs run eagerly, so each intermediate value's stored tensor and view are checked too, not
only the outputs: a view that lies is found at the node that made it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeconv.convert.ops import default_registry
from edgeconv.convert.passes import run_passes
from edgeconv.convert.passes.layout import image_values
from edgeconv.convert.saved_model.translator import Translator
from edgeconv.convert.translate.value import Value, arranged

Shape = tuple[int, ...]


@dataclass
class Builder:
    """A graph under construction: nodes, weights and the shape of every value so far."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def weight(self, *shape: int) -> str:
        array = self.random.standard_normal(shape).astype(np.float32)
        return self.constant(array)

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, inputs: list[str], shape: Shape, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.shapes[name] = shape
        return name

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "random",
            [_info("x", self.shapes["x"])],
            [_info(name, self.shapes[name]) for name in outputs],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _info(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _images(b: Builder) -> list[str]:
    return [name for name, shape in b.shapes.items() if len(shape) == 4]


def add_step(b: Builder, draw: st.DrawFn) -> None:
    """Append one operator on values that exist."""
    kinds = [
        "conv", "depthwise", "pool", "average", "transpose", "reshape", "split", "concat",
        "add", "scale", "mean", "softmax", "pad", "slice", "gather", "relu", "norm", "matmul",
        "shuffle", "unsqueeze",
    ]  # fmt: skip
    kind = draw(st.sampled_from(kinds))
    source = draw(st.sampled_from(sorted(b.shapes)))
    step = _STEPS[kind]
    step(b, draw, source)


def _conv(b: Builder, draw: st.DrawFn, x: str) -> None:
    if x not in _images(b) or min(b.shapes[x][2:]) < 2:
        return
    n, c, h, w = b.shapes[x]
    out = draw(st.sampled_from([1, 3, 4]))
    k = draw(st.sampled_from([1, 2, 3]))
    pads = [draw(st.integers(0, 1)) for _ in range(4)]
    stride = draw(st.sampled_from([1, 2]))
    size = [(h + pads[0] + pads[2] - k) // stride + 1, (w + pads[1] + pads[3] - k) // stride + 1]
    if min(size) < 1:
        return
    inputs = [x, b.weight(out, c, k, k), b.weight(out)]
    b.add("Conv", inputs, (n, out, *size), pads=pads, strides=[stride] * 2, kernel_shape=[k, k])


def _depthwise(b: Builder, draw: st.DrawFn, x: str) -> None:
    if x not in _images(b):
        return
    shape = b.shapes[x]
    inputs = [x, b.weight(shape[1], 1, 3, 3), b.weight(shape[1])]
    b.add("Conv", inputs, shape, pads=[1] * 4, group=shape[1], kernel_shape=[3, 3])


def _pool(b: Builder, draw: st.DrawFn, x: str) -> None:
    if x not in _images(b):
        return
    n, c, h, w = b.shapes[x]
    stride = draw(st.sampled_from([1, 2]))
    size = ((h + 2 - 3) // stride + 1, (w + 2 - 3) // stride + 1)
    b.add("MaxPool", [x], (n, c, *size), kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2)


def _average(b: Builder, draw: st.DrawFn, x: str) -> None:
    if x not in _images(b):
        return
    include = draw(st.integers(0, 1))
    b.add("AveragePool", [x], b.shapes[x], kernel_shape=[3, 3], pads=[1] * 4,
          count_include_pad=include)  # fmt: skip


def _transpose(b: Builder, draw: st.DrawFn, x: str) -> None:
    if not b.shapes[x]:
        return
    order = draw(st.permutations(range(len(b.shapes[x]))))
    b.add("Transpose", [x], tuple(b.shapes[x][axis] for axis in order), perm=order)


def _reshape(b: Builder, draw: st.DrawFn, x: str) -> None:
    left = int(np.prod(b.shapes[x]))
    shape: list[int] = []
    while left > 1 and len(shape) < 3:
        size = draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
        shape.append(size)
        left //= size
    shape.append(left)
    b.add("Reshape", [x, b.constant(np.array(shape, np.int64))], tuple(shape))


def _split(b: Builder, draw: st.DrawFn, x: str) -> None:
    axes = [axis for axis, size in enumerate(b.shapes[x]) if size % 2 == 0]
    if not axes:
        return
    axis = draw(st.sampled_from(axes))
    shape = list(b.shapes[x])
    shape[axis] //= 2
    name = f"v{len(b.nodes)}"
    b.nodes.append(helper.make_node("Split", [x], [name, name + "b"], axis=axis, num_outputs=2))
    b.shapes[name] = b.shapes[name + "b"] = tuple(shape)


def _concat(b: Builder, draw: st.DrawFn, x: str) -> None:
    shape = b.shapes[x]
    if not shape:
        return
    axis = draw(st.integers(0, len(shape) - 1))
    fits = [
        other
        for other, candidate in b.shapes.items()
        if len(candidate) == len(shape)
        and all(a == c for n, (a, c) in enumerate(zip(shape, candidate, strict=True)) if n != axis)
    ]
    other = draw(st.sampled_from(sorted(fits)))
    total = shape[axis] + b.shapes[other][axis]
    if total <= 16:
        b.add("Concat", [x, other], (*shape[:axis], total, *shape[axis + 1 :]), axis=axis)


def _add(b: Builder, draw: st.DrawFn, x: str) -> None:
    def broadcasts(other: str) -> bool:
        try:
            return int(np.prod(np.broadcast_shapes(b.shapes[x], b.shapes[other]))) <= 4096
        except ValueError:
            return False

    other = draw(st.sampled_from(sorted(filter(broadcasts, b.shapes))))
    shape = np.broadcast_shapes(b.shapes[x], b.shapes[other])
    b.add(draw(st.sampled_from(["Add", "Mul", "Sub"])), [x, other], shape)


def _scale(b: Builder, draw: st.DrawFn, x: str) -> None:
    keep = [draw(st.booleans()) for _ in b.shapes[x]]
    shape = tuple(size if kept else 1 for size, kept in zip(b.shapes[x], keep, strict=True))
    drop = draw(st.integers(0, len(shape)))
    while drop and shape and all(size == 1 for size in shape[:drop]) is False:
        drop -= 1
    b.add("Mul", [x, b.weight(*shape[drop:])], b.shapes[x])


def _mean(b: Builder, draw: st.DrawFn, x: str) -> None:
    shape = b.shapes[x]
    if not shape:
        return
    axes = sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    keep = draw(st.integers(0, 1))
    out = [1 if axis in axes else size for axis, size in enumerate(shape)]
    if not keep:
        out = [size for axis, size in enumerate(shape) if axis not in axes]
    names = b.constant(np.array(axes, np.int64))
    b.add("ReduceMean", [x, names], tuple(out), keepdims=keep)


def _softmax(b: Builder, draw: st.DrawFn, x: str) -> None:
    if b.shapes[x]:
        axis = draw(st.integers(-len(b.shapes[x]), len(b.shapes[x]) - 1))
        b.add("Softmax", [x], b.shapes[x], axis=axis)


def _pad(b: Builder, draw: st.DrawFn, x: str) -> None:
    shape = b.shapes[x]
    amounts = [draw(st.integers(0, 2)) for _ in range(2 * len(shape))]
    out = tuple(s + amounts[i] + amounts[i + len(shape)] for i, s in enumerate(shape))
    if shape and int(np.prod(out)) <= 4096:
        b.add("Pad", [x, b.constant(np.array(amounts, np.int64))], out)


def _slice(b: Builder, draw: st.DrawFn, x: str) -> None:
    shape = b.shapes[x]
    if not shape:
        return
    axis = draw(st.integers(0, len(shape) - 1))
    start = draw(st.integers(-shape[axis], shape[axis] - 1))
    step = draw(st.sampled_from([1, 2, -1]))
    end = draw(st.sampled_from([-(2**40), -1, 1, 2**40]))
    span = len(range(shape[axis])[start:end:step])
    if span:
        arrays = [np.array([value], np.int64) for value in (start, end, axis, step)]
        inputs = [x, *(b.constant(array) for array in arrays)]
        b.add("Slice", inputs, (*shape[:axis], span, *shape[axis + 1 :]))


def _gather(b: Builder, draw: st.DrawFn, x: str) -> None:
    shape = b.shapes[x]
    if not shape:
        return
    axis = draw(st.integers(0, len(shape) - 1))
    picks = draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=3))
    scalar = draw(st.booleans())
    index = np.array(picks[0] if scalar else picks, np.int64)
    b.add("Gather", [x, b.constant(index)], (*shape[:axis], *index.shape, *shape[axis + 1 :]),
          axis=axis)  # fmt: skip


def _relu(b: Builder, draw: st.DrawFn, x: str) -> None:
    b.add("Relu", [x], b.shapes[x])


def _norm(b: Builder, draw: st.DrawFn, x: str) -> None:
    if x in _images(b):
        c = b.shapes[x][1]
        variance = b.constant(np.linspace(0.5, 2, c).astype(np.float32))
        inputs = [x, b.weight(c), b.weight(c), b.weight(c), variance]
        b.add("BatchNormalization", inputs, b.shapes[x])


def _matmul(b: Builder, draw: st.DrawFn, x: str) -> None:
    shape = b.shapes[x]
    if len(shape) >= 2:
        columns = draw(st.sampled_from([1, 3, 4]))
        b.add("MatMul", [x, b.weight(shape[-1], columns)], (*shape[:-1], columns))


def _shuffle(b: Builder, draw: st.DrawFn, x: str) -> None:
    if x not in _images(b) or b.shapes[x][1] % 2:
        return
    n, c, h, w = shape = b.shapes[x]
    five = (n, 2, c // 2, h, w)
    y = b.add("Reshape", [x, b.constant(np.array(five, np.int64))], five)
    y = b.add("Transpose", [y], (n, c // 2, 2, h, w), perm=[0, 2, 1, 3, 4])
    b.add("Reshape", [y, b.constant(np.array(shape, np.int64))], shape)


def _unsqueeze(b: Builder, draw: st.DrawFn, x: str) -> None:
    shape = b.shapes[x]
    if len(shape) < 5:
        axis = draw(st.integers(0, len(shape)))
        axes = b.constant(np.array([axis], np.int64))
        b.add("Unsqueeze", [x, axes], (*shape[:axis], 1, *shape[axis:]))


_STEPS = {
    "conv": _conv, "depthwise": _depthwise, "pool": _pool, "average": _average,
    "transpose": _transpose, "reshape": _reshape, "split": _split, "concat": _concat,
    "add": _add, "scale": _scale, "mean": _mean, "softmax": _softmax, "pad": _pad,
    "slice": _slice, "gather": _gather, "relu": _relu, "norm": _norm, "matmul": _matmul,
    "shuffle": _shuffle, "unsqueeze": _unsqueeze,
}  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> Builder:
    b = Builder(random=np.random.default_rng(draw(st.integers(0, 2**16))))
    b.shapes["x"] = (1, *(draw(st.sampled_from([1, 2, 4, 5, 6])) for _ in range(3)))
    for _ in range(draw(st.integers(1, 9))):
        add_step(b, draw)
    return b


def run_eagerly(model: onnx.ModelProto, feeds: dict[str, Any]) -> tuple[Translator, dict[str, Any]]:
    """Translate with eager tensors: returns the translator and the outputs in ONNX's layout."""
    graph = ir.from_proto(model)
    run_passes(graph.graph)
    images = image_values(graph.graph)
    inputs = {}
    for name, array in feeds.items():
        order = (0, 2, 3, 1) if name in images else tuple(range(array.ndim))
        inputs[name] = Value.of(tf.constant(np.transpose(array, order)), order)
    translator = Translator(graph, default_registry())
    outputs = translator.run(inputs)
    return translator, {n: np.asarray(arranged(v, range(v.rank))) for n, v in outputs.items()}


def expected_values(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """Return every value of the graph as onnxruntime computes it."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(whole.SerializeToString(), options)
    return dict(zip(names, session.run(names, feeds), strict=True))


def check(b: Builder) -> None:
    if not b.nodes:
        return
    outputs = [name for name in b.shapes if name != "x"]
    model = b.model(outputs[-3:])
    feeds = {"x": b.random.standard_normal(b.shapes["x"]).astype(np.float32)}
    expected = expected_values(model, feeds)
    translator, _ = run_eagerly(model, feeds)
    for name, value in translator.values.items():
        if name not in expected:
            continue
        assert value.shape == expected[name].shape, name
        assert np.shape(value.tensor) == value.view.stored_shape, name
        found = np.asarray(arranged(value, range(value.rank)))
        scale = max(1.0, float(np.abs(expected[name]).max(initial=0)))
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4 * scale)
        if value.nonnegative:
            assert found.min(initial=0) >= 0, name


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_every_value_equals_onnxruntimes(b: Builder) -> None:
    check(b)


@pytest.mark.slow
@settings(deadline=None, max_examples=600, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_every_value_equals_onnxruntimes_at_length(b: Builder) -> None:
    check(b)


def test_a_failing_check_is_noticed(tmp_path: Path) -> None:
    """The oracle itself: a translation that drops a transpose must not pass."""
    b = Builder()
    b.shapes["x"] = (1, 2, 3, 3)
    b.add("Transpose", ["x"], (1, 2, 3, 3), perm=[0, 1, 3, 2])
    feeds = {"x": np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)}
    expected = expected_values(b.model(["v0"]), feeds)["v0"]
    assert not np.array_equal(expected, feeds["x"])
