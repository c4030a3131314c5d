"""Ask the mask, not its sum with numbers, what minus infinity hides.

TFLite has no infinite constants: its converter makes the lowest finite number of minus infinity,
and integers have neither that nor NaN. So IsNaN of a softmax, which is true in rows that a mask
hides whole, and the question whether a value is minus infinity are answered from the conditions
that choose minus infinity, which are booleans in every format.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of, new_constant
from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.passes.pattern import other_operand, produced_by, scalar
from edgeconv.core.artifacts import Array

_DEEPEST = 16
"""As many operators stand between a mask and the question, at the most."""


def mask_infinity(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of questions that masks answer."""
    return sum(_answered(graph, node) for node in list(graph))


def _answered(graph: ir.Graph, node: ir.Node) -> bool:
    source, whole_rows = _asked(node)
    hidden = None if source is None else _Masks(graph, node).of(source)
    if hidden is None:
        return False
    answer = _all_of_row(graph, node, hidden) if whole_rows else hidden
    ir.convenience.replace_all_uses_with(node.outputs[0], answer)
    graph.remove(node, safe=True)
    return True


def _all_of_row(graph: ir.Graph, before: ir.Node, hidden: ir.Value) -> ir.Value:
    node = ir.Node(DOMAIN, "AllOfRow", [hidden], name=before.name)
    made = node.outputs[0]
    made.name = f"{before.outputs[0].name}.row"
    made.type, made.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape((*_sizes(hidden)[:-1], 1))
    graph.insert_before(before, node)
    return made


def _asked(node: ir.Node) -> tuple[ir.Value | None, bool]:
    """Return what is asked to be minus infinity, and whether that is asked of whole rows."""
    value = node.outputs[0] if node.outputs else None
    if value is None or value.is_graph_output():
        return None, False
    if produced_by(value, "IsNaN"):
        softmax = produced_by(node.inputs[0], "Softmax")
        chooses = all(
            use.node.op_type == "Where" and use.idx == 0 for use in node.outputs[0].uses()
        )
        if softmax is not None and chooses:
            return (softmax.inputs[0] if _over_rows(softmax) else None), True
    if produced_by(value, "Equal"):
        return other_operand(node, _is_lowest), False
    positive = node.attributes.get("detect_positive")
    if produced_by(value, "IsInf") and (positive is None or positive.as_int() == 0):
        return node.inputs[0], False
    return None, False


def _is_lowest(value: ir.Value | None) -> bool:
    return scalar(value) == -np.inf


def _over_rows(softmax: ir.Node) -> bool:
    shape, axis = (
        softmax.inputs[0].shape if softmax.inputs[0] else None,
        softmax.attributes.get("axis"),
    )
    last = -1 if axis is None else axis.as_int()
    return shape is not None and last in (-1, len(shape) - 1)


class _Masks:
    """Finds where values are minus infinity, and adds the nodes that say so."""

    def __init__(self, graph: ir.Graph, before: ir.Node) -> None:
        self._graph = graph
        self._before = before

    def of(self, value: ir.Value) -> ir.Value | None:
        """Return a boolean of a value's shape; ``None`` where no mask is known."""
        shape = _sizes(value)
        found = self._of(value, _DEEPEST) if shape else None
        if found is None or isinstance(found, np.ndarray) or _sizes(found) == shape:
            return found if isinstance(found, ir.Value) else None
        return self._node("Or", [found, self._constant(np.zeros(shape, np.bool_))], shape)

    def _of(self, value: ir.Value | None, depth: int) -> ir.Value | Array | None:
        """Return where a value is minus infinity: a constant where that is known, or a value."""
        fixed = constant_of(value)
        if fixed is not None:
            lowest = np.asarray(np.isneginf(fixed)) if fixed.dtype.kind == "f" else np.zeros(1)
            return lowest if lowest.any() else None
        node = None if value is None else value.producer()
        if node is None or node.domain or depth == 0:
            return None
        if node.op_type == "Where":
            return self._chosen(node, depth)
        if node.op_type == "Add":
            return self._either(*(self._of(operand, depth - 1) for operand in node.inputs))
        if node.op_type in ("Identity", "Dropout"):
            return self._of(node.inputs[0], depth - 1)
        if node.op_type in ("Mul", "Div"):
            factor = scalar(node.inputs[1])
            return (
                self._of(node.inputs[0], depth - 1) if factor is not None and factor > 0 else None
            )
        if node.op_type in ("Unsqueeze", "Expand", "Reshape", "Transpose"):
            return self._moved(node, depth)
        return None

    def _chosen(self, node: ir.Node, depth: int) -> ir.Value | Array | None:
        condition, first, second = node.inputs
        left, right = self._of(first, depth - 1), self._of(second, depth - 1)
        if left is None and right is None:
            return None
        if right is None and isinstance(left, np.ndarray) and left.all():
            return condition
        no = self._constant(np.zeros((), np.bool_))
        sides = [no if side is None else self._value(side) for side in (left, right)]
        shape = np.broadcast_shapes(_sizes(condition), *map(_sizes, sides))
        return self._node("Where", [condition, *sides], shape)

    def _either(
        self, left: ir.Value | Array | None, right: ir.Value | Array | None
    ) -> ir.Value | Array | None:
        if left is None or right is None:
            return right if left is None else left
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            return np.asarray(left | right)
        sides = [self._value(left), self._value(right)]
        shape = np.broadcast_shapes(*(_sizes(side) for side in sides))
        return self._node("Or", sides, shape)

    def _moved(self, node: ir.Node, depth: int) -> ir.Value | None:
        """Move the mask as the values are moved, if it has their shape."""
        source = node.inputs[0]
        found = self._of(source, depth - 1)
        if not isinstance(found, ir.Value) or source is None or _sizes(found) != _sizes(source):
            return None
        attributes = list(node.attributes.values())
        return self._node(
            node.op_type, [found, *node.inputs[1:]], _sizes(node.outputs[0]), attributes
        )

    def _value(self, mask: ir.Value | Array) -> ir.Value:
        return mask if isinstance(mask, ir.Value) else self._constant(mask)

    def _constant(self, array: Array) -> ir.Value:
        return new_constant(self._graph, self._name("mask"), array)

    def _node(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        shape: tuple[int, ...],
        attributes: list[ir.Attr] | None = None,
    ) -> ir.Value:
        node = ir.Node("", kind, inputs, attributes or [], name=self._name(kind))
        made = node.outputs[0]
        made.name = f"{node.name}.hidden"
        made.type, made.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape(shape)
        self._graph.insert_before(self._before, node)
        return made

    def _name(self, purpose: str) -> str:
        taken = len(self._graph) + len(self._graph.initializers)
        return f"{self._before.outputs[0].name}.{purpose}_{taken}"


def _sizes(value: ir.Value | None) -> tuple[int, ...]:
    """Return a shape, ``()`` where it is not known."""
    shape = None if value is None else value.shape
    if shape is None or any(not isinstance(size, int) for size in shape):
        return ()
    return tuple(int(size) for size in shape if isinstance(size, int))
