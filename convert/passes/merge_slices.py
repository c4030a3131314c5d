"""Cut a value once where exporters slice it piece by piece.

Exporters write ``unbind`` and ``chunk``, by which attention takes queries, keys and values apart,
as one Slice or Gather for each part. One Split makes all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of, new_constant
from edgeconv.convert.passes.pattern import number_of

_FIRST_OPSET_WITH_SIZES_AS_INPUT = 13


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a node takes: elements ``start`` to ``stop`` of an axis, which may go."""

    node: ir.Node
    axis: int
    start: int
    stop: int


def merge_slices(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of values cut by one Split now."""
    if graph.opset_imports.get("", 1) < _FIRST_OPSET_WITH_SIZES_AS_INPUT:
        return 0
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return sum(_merge(graph, value) for value in values)


def _merge(graph: ir.Graph, value: ir.Value) -> bool:
    uses = list(value.uses())
    if len(uses) < 2 or value.shape is None or not value.shape.is_static():
        return False
    pieces = [_piece(use.node) for use in uses if use.idx == 0]
    found = sorted((p for p in pieces if p is not None), key=lambda piece: piece.start)
    if len(found) < len(uses) or len({piece.axis for piece in found}) > 1:
        return False
    ends = [0, *(piece.stop for piece in found)]
    starts = [*(piece.start for piece in found), value.shape[found[0].axis]]
    if ends != starts:
        return False
    _split(graph, value, found)
    return True


def _piece(node: ir.Node) -> _Piece | None:
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    if shape is None or node.domain:
        return None
    if node.op_type == "Gather":
        index = constant_of(node.inputs[1])
        axis = int(number_of(node, "axis")) % len(shape)
        size = shape[axis]
        if index is None or index.ndim or not isinstance(size, int):
            return None
        start = int(index) % size
        return _Piece(node, axis, start, start + 1)
    bounds = [constant_of(value) for value in node.inputs[1:]] if node.op_type == "Slice" else []
    known = [int(array.item()) for array in bounds if array is not None and array.size == 1]
    if len(known) < 3 or len(known) < len(bounds) or known[3:] not in ([], [1]):
        return None
    axis = known[2] % len(shape)
    size = shape[axis]
    if not isinstance(size, int):
        return None
    span = range(size)[known[0] : known[1]]
    return _Piece(node, axis, span.start, span.stop) if span else None


def _split(graph: ir.Graph, value: ir.Value, pieces: list[_Piece]) -> None:
    sizes = np.array([piece.stop - piece.start for piece in pieces], np.int64)
    inputs = [value, new_constant(graph, f"{value.name}.sizes", sizes)]
    split = ir.node("Split", inputs, {"axis": pieces[0].axis}, num_outputs=len(pieces))
    split.name = f"{value.name}.split"
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], split)
    else:
        graph.insert_after(producer, split)
    for piece, part in zip(pieces, split.outputs, strict=True):
        old = piece.node.outputs[0]
        new, part.type = part, old.type
        shape = list(value.shape or ())
        shape[piece.axis] = piece.stop - piece.start
        part.shape = ir.Shape(shape)
        part.name = f"{old.name}.part"
        if piece.node.op_type == "Gather":
            axes = new_constant(graph, f"{old.name}.axes", np.array([piece.axis], np.int64))
            squeeze = ir.node("Squeeze", [part, axes], name=piece.node.name)
            graph.insert_before(piece.node, squeeze)
            squeeze.outputs[0].type, squeeze.outputs[0].shape = old.type, old.shape
            new = squeeze.outputs[0]
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        name = old.name
        graph.remove(piece.node, safe=True)
        new.name = name
