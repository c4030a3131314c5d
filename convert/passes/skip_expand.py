"""Let operators that broadcast read what an Expand repeats, and leave the Expand out.

Exporters write torch's ``expand_as`` as Expand. An operator whose result has the same shape
without it repeats the elements by itself, and what is small stays small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

_BROADCASTING = frozenset(
    {
        "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
        "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow",
        "Sub", "Sum", "Where", "Xor",
    }
)  # fmt: skip
"""Operators all of whose inputs broadcast against each other."""


def skip_expand(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of inputs that skip an Expand now."""
    skipped = 0
    for node in list(graph):
        if node.op_type != "Expand" or node.domain:
            continue
        skipped += sum(_skip(use.node, use.idx) for use in list(node.outputs[0].uses()))
        if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
            graph.remove(node, safe=True)
    return skipped


def _skip(node: ir.Node, index: int) -> bool:
    if node.op_type not in _BROADCASTING or node.domain:
        return False
    expanded = node.inputs[index]
    expand = None if expanded is None else expanded.producer()
    source = None if expand is None else expand.inputs[0]
    operands = [source if at == index else value for at, value in enumerate(node.inputs)]
    shapes = [_shape(value) for value in operands]
    result = _shape(node.outputs[0])
    known = [shape for shape in shapes if shape is not None]
    if result is None or len(known) < len(shapes) or np.broadcast_shapes(*known) != result:
        return False
    node.replace_input_with(index, source)
    return True


def _shape(value: ir.Value | None) -> Sequence[int] | None:
    """Return a shape that is all numbers, or None."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return value.shape.numpy()
