"""Recognise HardSwish, x clip(x + 3, 0, 6) / 6 or x times a HardSigmoid, as one node.

Source: Howard et al. 2019, Searching for MobileNetV3, section 5.2.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeconv.convert.passes.pattern import (
    factors,
    is_product_of,
    is_scalar,
    number_of,
    plus,
    produced_by,
    replace,
    times,
)


def fuse_hard_swish(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of HardSwishes found."""
    found = 0
    for node in list(graph):
        source = _match(node) if node.op_type in ("Mul", "Div") else None
        if source is not None:
            replace(graph, node.outputs[0], "HardSwish", [source])
            found += 1
    return found


def _match(node: ir.Node) -> ir.Value | None:
    """Return HardSwish's operand."""
    value = node.outputs[0]
    for gate in factors(times(value, 1 / 6) if node.op_type == "Div" else value):
        source = _clipped(gate)
        if source is not None and is_product_of(value, [source, gate], 1 / 6, source):
            return source
        if node.op_type == "Mul":
            source = _hard_sigmoid(gate)
            if source is not None and {id(v) for v in node.inputs} == {id(source), id(gate)}:
                return source
    return None


def _clipped(value: ir.Value | None) -> ir.Value | None:
    """Return x where the value is clip(x + 3, 0, 6)."""
    node = produced_by(value, "Clip")
    if node is None:
        return None
    if len(node.inputs) == 3:
        limits = is_scalar(node.inputs[1], 0.0) and is_scalar(node.inputs[2], 6.0)
    else:
        limits = (number_of(node, "min"), number_of(node, "max")) == (0, 6)
    return plus(node.inputs[0], 3.0) if limits else None


def _hard_sigmoid(value: ir.Value | None) -> ir.Value | None:
    """Return x where the value is HardSigmoid(x) of slope 1/6, or clip(x + 3, 0, 6) / 6."""
    node = produced_by(value, "HardSigmoid")
    if node is not None:
        slope, offset = number_of(node, "alpha", 0.2), number_of(node, "beta", 0.5)
        return node.inputs[0] if abs(slope - 1 / 6) < 1e-6 and abs(offset - 0.5) < 1e-6 else None
    return _clipped(times(value, 1 / 6))
