"""Move data once where every part of a transposed value needs it moved.

Attention computes queries, keys and values with one product, reorders the result, and cuts it in
three along the first axis. Taken lazily, the reordering would be done once for each part; a
`Materialize` node after the Transpose does it once.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of

DOMAIN = "edgeconv"
_CUTS = frozenset({"Gather", "Slice", "Split"})


def materialize_shared(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of transposes marked."""
    marked = 0
    for node in list(graph):
        if node.op_type == "Transpose" and _is_cut_along_first_axis(node.outputs[0]):
            _mark(graph, node)
            marked += 1
    return marked


def _is_cut_along_first_axis(value: ir.Value) -> bool:
    users = [use.node for use in value.uses()]
    parts = sum(len(user.outputs) for user in users)
    return parts > 1 and all(
        user.op_type in _CUTS and _cut_axes(user) == [0] and user.inputs[0] is value
        for user in users
    )


def _cut_axes(node: ir.Node) -> list[int] | None:
    """Return the axes that a node cuts along, or None if that is not constant."""
    if node.op_type != "Slice":
        axis = node.attributes.get("axis")
        return [0 if axis is None else axis.as_int()]
    axes = constant_of(node.inputs[3]) if len(node.inputs) > 3 else None
    return None if axes is None else [int(axis) for axis in axes]


def _mark(graph: ir.Graph, transpose: ir.Node) -> None:
    before = transpose.outputs[0]
    node = ir.node("Materialize", [before], domain=DOMAIN, name=f"{before.name}.materialize")
    after = node.outputs[0]
    after.name = f"{before.name}.materialized"
    after.shape, after.type = before.shape, before.type
    for use in list(before.uses()):
        if use.node is not node:
            use.node.replace_input_with(use.idx, after)
    graph.insert_after(transpose, node)
