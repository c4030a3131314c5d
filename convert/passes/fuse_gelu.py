"""Recognise GELU, written out in primitives, as one Gelu.

Source: Hendrycks and Gimpel 2016, section 2: x Phi(x) = x / 2 (1 + erf(x / sqrt 2)), and the
approximation x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
"""

from __future__ import annotations

import math

import onnx_ir as ir

from edgeconv.convert.passes.pattern import (
    factors,
    is_product_of,
    is_scalar,
    plus,
    produced_by,
    replace,
    times,
)


def fuse_gelu(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of GELUs found."""
    found = 0
    for node in list(graph):
        match = _match(node) if node.op_type in ("Mul", "Div") else None
        if match is not None:
            source, form = match
            replace(graph, node.outputs[0], "Gelu", [source], [ir.AttrString("approximate", form)])
            found += 1
    return found


def _match(node: ir.Node) -> tuple[ir.Value, str] | None:
    """Return GELU's operand and form where a node is the product of x, a half and the gate."""
    value = node.outputs[0]
    for gate in factors(times(value, 0.5) if node.op_type == "Div" else value):
        inner = plus(gate, 1.0)
        for form, operand in (("none", _erf_operand(inner)), ("tanh", _tanh_operand(inner))):
            if operand is not None and is_product_of(value, [operand, gate], 0.5, operand):
                return operand, form
    return None


def _erf_operand(value: ir.Value | None) -> ir.Value | None:
    node = produced_by(value, "Erf")
    return None if node is None else times(node.inputs[0], math.sqrt(0.5))


def _tanh_operand(value: ir.Value | None) -> ir.Value | None:
    """Return x where the value is tanh(sqrt(2 / pi) (x + 0.044715 x^3))."""
    node = produced_by(value, "Tanh")
    total = None if node is None else produced_by(times(node.inputs[0], _SLOPE), "Add")
    if total is None:
        return None
    for source, cubic in (total.inputs, total.inputs[::-1]):
        if source is not None and _is_cubic(cubic, source):
            return source
    return None


_SLOPE = math.sqrt(2 / math.pi)


def _is_cubic(value: ir.Value | None, source: ir.Value) -> bool:
    power = produced_by(times(value, 0.044715), "Pow")
    if power is not None:
        return power.inputs[0] is source and is_scalar(power.inputs[1], 3.0)
    return is_product_of(value, [source] * 3, 0.044715, source)
