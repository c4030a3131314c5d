"""Rows are reordered where a minimum cut says so, and nothing else changes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgeconv.convert.passes.place_transposes import place_transposes
from edgeconv.convert.passes.row_frames import axes_of


class Graph:
    """Nodes with the shapes of what they make."""

    def __init__(self, *shape: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = shape
        self.random = np.random.default_rng(0)

    def constant(self, array: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def linear(self, x: str, before: int, after: int) -> str:
        weight = self.random.standard_normal((before, after)) / before**0.5
        bias = self.constant(self.random.standard_normal(after).astype(np.float32))
        return self.add(
            "Add", self.add("MatMul", x, self.constant(weight.astype(np.float32))), bias
        )

    def reshape(self, x: str, *shape: int) -> str:
        return self.add("Reshape", x, self.constant(np.array(shape, np.int64)))

    def transpose(self, x: str, *perm: int) -> str:
        return self.add("Transpose", x, perm=perm)

    def model(self, *outputs: tuple[str, tuple[int, ...]]) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, 1, shape) for name, shape in outputs]
        source = helper.make_tensor_value_info("x", 1, self.shape)
        graph = helper.make_graph(self.nodes, "g", [source], infos, self.weights)
        opsets = [helper.make_opsetid("", 21)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return onnx.shape_inference.infer_shapes(model)


def attend(g: Graph, x: str, windows: int, rows: int, heads: int, size: int) -> str:
    """Attention within windows: x and the result are [windows, rows, heads * size]."""
    width = heads * size
    qkv = g.reshape(g.linear(x, width, 3 * width), windows, rows, 3, heads, size)
    parts = g.transpose(qkv, 2, 0, 3, 1, 4)
    q, k, v = (g.add("Gather", parts, g.constant(np.int64(n)), axis=0) for n in range(3))
    scores = g.add("Softmax", g.add("MatMul", q, g.transpose(k, 0, 1, 3, 2)), axis=-1)
    merged = g.transpose(g.add("MatMul", scores, v), 0, 2, 1, 3)
    return g.linear(g.reshape(merged, windows, rows, width), width, width)


def split_attention(g: Graph, x: str, windows: int, rows: int, width: int, by: str) -> str:
    """Attention with two heads, its scores by one operator or the other."""
    qkv = g.linear(x, width, 3 * width)
    parts = [f"{qkv}.{n}" for n in range(3)]
    g.nodes.append(helper.make_node("Split", [qkv], parts, axis=3, num_outputs=3))
    q, k, v = (
        g.transpose(g.reshape(part, 1, windows, rows, 2, width // 2), 0, 1, 3, 2, 4)
        for part in parts
    )
    k = g.add("Mul", k, g.constant(np.float32(0.25)))
    if by == "Einsum":
        scores = g.add("Einsum", q, k, equation="B G H I D, B G H J D -> B G H I J")
    else:
        scores = g.add("MatMul", q, g.transpose(k, 0, 1, 2, 4, 3))
    heads = g.add("MatMul", g.add("Softmax", scores, axis=-1), v)
    merged = g.reshape(g.transpose(heads, 0, 1, 3, 2, 4), 1, windows, rows, width)
    return g.linear(merged, width, width)


def block(g: Graph, x: str) -> str:
    """A block of the Swin Transformer: x and the result are [1, 8, 8, 6], windows are 4 by 4."""
    cut = g.transpose(g.reshape(x, 1, 2, 4, 2, 4, 6), 0, 1, 3, 2, 4, 5)
    y = attend(g, g.reshape(cut, 4, 16, 6), windows=4, rows=16, heads=2, size=3)
    joined = g.transpose(g.reshape(y, 1, 2, 2, 4, 4, 6), 0, 1, 3, 2, 4, 5)
    return g.add("Add", x, g.reshape(joined, 1, 8, 8, 6))


def test_windows_are_joined_with_the_heads(assert_parity: Any) -> None:
    """Cut the windows, move the heads, and move heads and windows back: three transposes."""
    g = Graph(1, 8, 8, 6)
    y = block(g, g.add("Relu", "x"))
    parity = assert_parity(g.model((y, (1, 8, 8, 6))), rtol=1e-4, atol=1e-5)
    assert parity.count("TRANSPOSE") == 3


def test_an_unfolded_image(assert_parity: Any) -> None:
    """MobileViT: pixels at the same place of each patch attend to each other."""
    g = Graph(1, 6, 8, 8)
    first = g.constant(g.random.standard_normal((6, 6, 1, 1)).astype(np.float32))
    image = g.add("Conv", "x", first)
    cut = g.transpose(g.reshape(image, 24, 2, 4, 2), 0, 2, 1, 3)
    rows = g.transpose(g.reshape(cut, 1, 6, 16, 4), 0, 3, 2, 1)
    y = g.add("Relu", attend(g, g.reshape(rows, 4, 16, 6), windows=4, rows=16, heads=2, size=3))
    back = g.transpose(g.reshape(y, 1, 4, 16, 6), 0, 3, 2, 1)
    image = g.reshape(g.transpose(g.reshape(back, 24, 4, 2, 2), 0, 2, 1, 3), 1, 6, 8, 8)
    weight = g.constant(g.random.standard_normal((2, 6, 1, 1)).astype(np.float32))
    model = g.model((g.add("Conv", image, weight), (1, 2, 8, 8)))
    assert assert_parity(model, rtol=1e-4, atol=1e-5).count("TRANSPOSE") == 3


@pytest.mark.parametrize("by", ["Einsum", "MatMul"])
def test_parts_of_a_split(assert_parity: Any, by: str) -> None:
    """MaxViT: windows of an image; queries, keys and values are split before heads are moved.

    Each of the three is moved once, which cuts the windows too, and the result once, back.
    """
    g = Graph(1, 8, 8, 8)
    width, windows, rows = 32, 4, 16
    first = g.constant(g.random.standard_normal((width, 8, 1, 1)).astype(np.float32))
    cut = g.reshape(g.add("Conv", "x", first), 1, width, 2, 4, 2, 4)
    x = g.reshape(g.transpose(cut, 0, 2, 4, 3, 5, 1), 1, windows, rows, width)
    y = g.add("Add", x, split_attention(g, x, windows, rows, width, by))
    y = g.add("Add", y, g.add("Relu", g.linear(y, width, width)))
    joined = g.transpose(g.reshape(y, 1, 2, 2, 4, 4, width), 0, 5, 1, 3, 2, 4)
    last = g.constant(g.random.standard_normal((8, width, 1, 1)).astype(np.float32))
    image = g.add("Conv", g.reshape(joined, 1, width, 8, 8), last)
    parity = assert_parity(g.model((image, (1, 8, 8, 8))), rtol=1e-3, atol=1e-4)
    assert parity.count("TRANSPOSE") == 4


def test_values_that_others_read_too(assert_parity: Any) -> None:
    g = Graph(1, 8, 8, 6)
    y = block(g, g.add("Relu", "x"))
    z = block(g, y)
    model = g.model((y, (1, 8, 8, 6)), (z, (1, 8, 8, 6)), ("v2", (1, 2, 2, 4, 4, 6)))
    assert_parity(model, rtol=1e-4, atol=1e-5)


def test_rows_that_no_axes_describe_stay(assert_parity: Any) -> None:
    """Queries of a halo network (Vaswani et al. 2021): the two linear layers want other rows."""
    g = Graph(1, 12, 4, 4)
    first = g.constant(g.random.standard_normal((12, 12, 1, 1)).astype(np.float32))
    heads = g.reshape(g.add("Conv", "x", first), 2, 6, 1, 4, 1, 4)
    blocks = g.transpose(heads, 0, 1, 3, 5, 2, 4)
    queries = g.transpose(g.reshape(blocks, 2, 6, 16, 1), 0, 3, 2, 1)
    rows = g.reshape(queries, 2, 4, 4, 6)
    weight = g.random.standard_normal((6, 7)).astype(np.float32)
    one = g.reshape(g.add("MatMul", rows, g.constant(weight)), 8, 4, 7)
    other = g.add("MatMul", g.transpose(rows, 0, 2, 1, 3), g.constant(weight + 1))
    pads = g.constant(np.array([0, 0, 0, 0, 0, 1], np.int64))
    found = (g.add("Pad", one, pads), g.add("Pad", g.reshape(other, 8, 4, 7), pads))
    scores = g.add("MatMul", queries, g.transpose(queries, 0, 1, 3, 2))
    shapes = ((8, 4, 8), (8, 4, 8), (2, 1, 16, 16))
    model = g.model(*zip((*found, scores), shapes, strict=True))
    assert_parity(model, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["Relu", "Softmax"])
def test_where_nothing_is_won_nothing_changes(kind: str) -> None:
    g = Graph(1, 8, 8, 6)
    y = g.linear(g.add(kind, g.linear("x", 6, 6)), 6, 4)
    assert place_transposes(ir.from_proto(g.model((y, (1, 8, 8, 4)))).graph) == 0


def test_time_grows_linearly() -> None:
    def seconds(blocks: int) -> float:
        g = Graph(1, 8, 8, 6)
        x = "x"
        for _ in range(blocks):
            x = block(g, x)
        graph = ir.from_proto(g.model((x, (1, 8, 8, 6)))).graph
        started = time.process_time()
        assert place_transposes(graph) > 0
        return time.process_time() - started

    assert seconds(80) < 16 * seconds(10) + 0.5  # eight times the blocks


@pytest.mark.parametrize(
    ("shape", "permutation"), [((8, 7, 8, 7), (0, 2, 1, 3)), ((3, 4), (1, 0)), ((5,), (0,))]
)
def test_the_axes_of_an_order(shape: tuple[int, ...], permutation: tuple[int, ...]) -> None:
    order = np.arange(np.prod(shape)).reshape(shape).transpose(permutation).ravel()
    assert axes_of(order) == (shape, permutation)
    assert axes_of(np.array([0, 1, 3, 2])) is None
