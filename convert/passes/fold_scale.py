"""Multiply by a number once, where it costs least.

Attention scales queries and keys by the root of the root of their size (Vaswani et al. 2017,
section 3.2.1), networks without normalisation scale each branch (Brock et al. 2021, High-
Performance Large-Scale Image Recognition Without Normalization, section 3.2). Factors in a row
become one, a key's factor joins the query's, a factor goes to the smaller of two operands, or into
the weights of the layer before.

A factor does not go into a part of a layer's output: queries, keys and values share a tensor, and
an integer model one scale for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.channel_order import rename
from edgeconv.convert.passes.graph import constant_of, new_constant, only_user, replace_constant
from edgeconv.convert.passes.pattern import produced_by

_VIEWS = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, slots=True)
class _Scale:
    """A node that multiplies a value by a number, and nothing else reads the value."""

    node: ir.Node
    source: ir.Value
    factor: float


def fold_scale(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of multiplications left out or made small."""
    changed = 0
    for node in list(graph):
        if node.op_type == "MatMul" and not node.domain:
            changed += _join_operands(graph, node)
    for node in list(graph):
        scale = _scale_of(node)
        if scale is not None:
            changed += (
                _merge(graph, scale) or _into_weights(graph, scale) or _onto_smaller(graph, scale)
            )
    return changed


def _scale_of(node: ir.Node | None) -> _Scale | None:
    if node is None or node.op_type not in ("Mul", "Div") or node.domain:
        return None
    for source, other in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        number = constant_of(other)
        if source is None or number is None or number.size != 1 or number.dtype != np.float32:
            continue
        if number.ndim > len(source.shape or ()) or constant_of(source) is not None:
            return None
        factor = float(number.item())
        if node.op_type == "Div":
            if source is not node.inputs[0] or not factor:
                return None
            factor = 1 / factor
        usable = math.isfinite(factor) and only_user(source) is node
        return _Scale(node, source, factor) if usable else None
    return None


def _leave_out(graph: ir.Graph, scale: _Scale) -> None:
    """Let what reads a scaled value read the value itself, which takes its name."""
    old = scale.node.outputs[0]
    name = old.name
    ir.convenience.replace_all_uses_with(old, scale.source, replace_graph_outputs=True)
    graph.remove(scale.node, safe=True)
    scale.source.name = name


def _multiply(graph: ir.Graph, scale: _Scale, factor: float) -> None:
    """Give a scaling node another factor."""
    scale.node.op_type = "Mul"
    constant = _number(graph, f"{scale.node.outputs[0].name}.factor", factor)
    for index, operand in enumerate((scale.source, constant)):
        scale.node.replace_input_with(index, operand)


def _number(graph: ir.Graph, name: str, number: float) -> ir.Value:
    while name in graph.initializers:
        name = f"{name}.joined"
    return new_constant(graph, name, np.array(number, np.float32))


def _merge(graph: ir.Graph, scale: _Scale) -> bool:
    """Join a factor with the one before it."""
    first = _scale_of(scale.source.producer())
    if first is None:
        return False
    _multiply(graph, first, first.factor * scale.factor)
    _leave_out(graph, scale)
    return True


def _join_operands(graph: ir.Graph, product: ir.Node) -> bool:
    """Move the factor of a product's right operand to its left one."""
    left, right = (_scale_behind(value) for value in product.inputs)
    if left is None or right is None or left.node is right.node:
        return False
    for value in _from(right.node, product):
        rename(value)
    _multiply(graph, left, left.factor * right.factor)
    for value in _from(left.node, product):
        rename(value)
    name = right.source.name
    _leave_out(graph, right)
    right.source.name = name
    return True


def _scale_behind(value: ir.Value | None) -> _Scale | None:
    """Return the scaling that a value is made by, but for reshapes and transposes."""
    while value is not None and only_user(value) is not None:
        node = value.producer()
        if node is None or node.op_type not in _VIEWS:
            return _scale_of(node)
        value = node.inputs[0]
    return None


def _from(first: ir.Node, last: ir.Node) -> list[ir.Value]:
    """Return the values on the one way from a node to another."""
    values = []
    node: ir.Node | None = first
    while node is not None and node is not last:
        values.append(node.outputs[0])
        node = only_user(node.outputs[0])
    return values


def _into_weights(graph: ir.Graph, scale: _Scale) -> bool:
    """Put a factor into the weights and the bias of the layer before."""
    nodes = [node] if (node := scale.source.producer()) is not None else []
    while nodes and nodes[-1].op_type in _VIEWS:
        source = nodes[-1].inputs[0]
        before = None if source is None or only_user(source) is None else source.producer()
        if before is None:
            return False
        nodes.append(before)
    places = _weights(nodes[-1]) if nodes else None
    if places is None:
        return False
    for node, index in places:
        array = constant_of(node.inputs[index])
        assert array is not None, "only constant weights are found"
        scaled = (array * np.float32(scale.factor)).astype(array.dtype)
        replace_constant(graph, node, index, scaled, f"scaled{index}")
    for value in {node.outputs[0] for node, _ in places} | {node.outputs[0] for node in nodes}:
        rename(value)
    _leave_out(graph, scale)
    return True


def _weights(node: ir.Node) -> list[tuple[ir.Node, int]] | None:
    """Return the constant inputs whose scaling scales a layer's output, or None."""
    if node.domain:
        return None
    places: list[tuple[ir.Node, int]] = []
    if node.op_type == "Add":
        for index, value in enumerate(node.inputs):
            product = produced_by(node.inputs[1 - index], "MatMul")
            if _own(value) and product is not None and only_user(product.outputs[0]) is node:
                places = [(node, index), (product, 1)]
    elif node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        places = [(node, index) for index in range(1, len(node.inputs))]
    constant = all(_own(owner.inputs[index]) for owner, index in places)
    return places if places and constant else None


def _own(value: ir.Value | None) -> bool:
    """Tell whether a value is a constant that one node reads."""
    return value is not None and constant_of(value) is not None and only_user(value) is not None


def _onto_smaller(graph: ir.Graph, scale: _Scale) -> bool:
    """Scale the smaller factor of a product instead of the product."""
    product = produced_by(scale.source, "Mul")
    if product is None or constant_of(product.inputs[0]) is not None:
        return False
    counts = [_count(value) for value in product.inputs]
    known = [count for count in counts if count]
    if len(known) < 2 or known[0] == known[1] or constant_of(product.inputs[1]) is not None:
        return False
    index = known.index(min(known))
    small = product.inputs[index]
    assert small is not None, "its size is known"
    factor = _number(graph, f"{small.name}.factor", scale.factor)
    node = ir.node("Mul", [small, factor], name=f"{scale.node.name}.small")
    node.outputs[0].type, node.outputs[0].shape = small.type, small.shape
    node.outputs[0].name = f"{scale.node.outputs[0].name}.small"
    graph.insert_before(product, node)
    product.replace_input_with(index, node.outputs[0])
    _leave_out(graph, scale)
    smaller = _scale_of(node)
    if smaller is not None:
        _merge(graph, smaller)
    return True


def _count(value: ir.Value | None) -> int:
    if value is None or value.shape is None or not value.shape.is_static():
        return 0
    return math.prod(value.shape.numpy())
