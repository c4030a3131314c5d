"""Match small expressions of operators, in whatever order commutative operands come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of
from edgeconv.convert.passes.materialize_shared import DOMAIN

_TOLERANCE = 1e-4  # relative; exporters round the constants of approximations


def produced_by(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """Return the node that makes a value if it is of one of the kinds."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in kinds and not node.domain else None


def scalar(value: ir.Value | None) -> float | None:
    """Return the number that a constant of one element holds."""
    array = constant_of(value)
    return float(array.item()) if array is not None and array.size == 1 else None


def is_scalar(value: ir.Value | None, expected: float) -> bool:
    """Tell whether a value is the constant ``expected``, but for rounding."""
    found = scalar(value)
    return found is not None and bool(np.isclose(found, expected, rtol=_TOLERANCE, atol=1e-8))


def times(value: ir.Value | None, factor: float) -> ir.Value | None:
    """Return x where the value is x times, or over the inverse of, a constant factor."""
    node = produced_by(value, "Mul", "Div")
    if node is None:
        return None
    left, right = node.inputs
    if node.op_type == "Div":
        return left if is_scalar(right, 1 / factor) else None
    return other_operand(node, lambda operand: is_scalar(operand, factor))


def plus(value: ir.Value | None, addend: float) -> ir.Value | None:
    """Return x where the value is x plus a constant."""
    node = produced_by(value, "Add")
    return None if node is None else other_operand(node, lambda item: is_scalar(item, addend))


def other_operand(node: ir.Node, is_one: Callable[[ir.Value | None], bool]) -> ir.Value | None:
    """Return the operand of a binary node beside the one that a test accepts."""
    left, right = node.inputs
    if is_one(right):
        return left
    return right if is_one(left) else None


def factors(value: ir.Value | None, whole: ir.Value | None = None) -> list[ir.Value]:
    """Return what a value is the product of, nested products taken apart.

    Args:
        value: The value.
        whole: A value that is not taken apart, though it may be a product itself.
    """
    if value is None:
        return []
    node = None if value is whole else produced_by(value, "Mul")
    if node is None:
        return [value]
    return [factor for operand in node.inputs for factor in factors(operand, whole)]


def is_product_of(
    value: ir.Value | None, operands: Sequence[ir.Value], number: float, whole: ir.Value
) -> bool:
    """Tell whether a value is the product of some values and a constant, in any order.

    Args:
        value: The value.
        operands: The values, each as often as it is a factor.
        number: The constant; a quotient by its inverse will do.
        whole: The one of the operands that may be a product itself.
    """
    if produced_by(value, "Div") is not None:
        rest = factors(times(value, number), whole)
        numbers = 1
    else:
        parts = factors(value, whole)
        rest = [part for part in parts if not is_scalar(part, number)]
        numbers = len(parts) - len(rest)
    return numbers == 1 and sorted(map(id, rest)) == sorted(map(id, operands))


def replace(
    graph: ir.Graph,
    old: ir.Value,
    kind: str,
    inputs: Sequence[ir.Value],
    attributes: Sequence[ir.Attr] = (),
) -> None:
    """Compute a value by one node of edgeconv's domain, which is free of opset versions."""
    producer = old.producer()
    assert producer is not None, "matched values are made by a node"
    node = ir.Node(
        DOMAIN,
        kind,
        inputs,
        attributes,
        name=producer.name,
        metadata_props=dict(producer.metadata_props),
    )
    new = node.outputs[0]
    new.type, new.shape = old.type, old.shape
    name = old.name
    graph.insert_before(producer, node)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(producer, safe=True)
    new.name = name


def number_of(node: ir.Node, name: str, default: float = 0.0) -> float:
    """Return the number that an attribute holds."""
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)
