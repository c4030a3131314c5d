"""Rewrite a float graph into operators that have an int8 form, computing the same.

Each lowering is a function from one operator to the operators that replace it. The float graph
stays runnable, so that calibration sees the tensors that lowering introduces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import (
    AddOptionsT,
    BuiltinOptions,
    MulOptionsT,
    PowOptionsT,
)

from edgeconv.quantize.graph import Graph
from edgeconv.tflite import OperatorT

Lowering = Callable[[Graph, OperatorT], list[OperatorT] | None]
"""Returns the replacement, or ``None`` where the operator stays as it is."""


def lower(graph: Graph) -> None:
    """Apply every lowering once, in place.

    Args:
        graph: The float graph.
    """
    lowered: list[OperatorT] = []
    for operator in graph.operators:
        lowering = _LOWERINGS.get(graph.op(operator))
        replacement = lowering(graph, operator) if lowering else None
        lowered += [operator] if replacement is None else replacement
    graph.subgraph.operators = lowered


def _square(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    (source,) = operator.inputs
    if not graph.is_float(source):
        return None
    return [graph.operator("MUL", 1, (source, source), operator.outputs, _mul_options())]


def _neg(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    (source,) = operator.inputs
    if not graph.is_float(source):
        return None
    minus_one = graph.add_constant(f"{graph.label(operator)}/minus_one", np.array(-1, np.float32))
    return [graph.operator("MUL", 1, (source, minus_one), operator.outputs, _mul_options())]


def _add_n(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    if not graph.is_float(operator.inputs[0]) or len(operator.inputs) < 2:
        return None
    total, *terms = operator.inputs
    result = []
    for count, term in enumerate(terms, 1):
        last = count == len(terms)
        name = f"{graph.label(operator)}/sum_{count}"
        shape = graph.shape(operator.outputs[0])
        out = operator.outputs[0] if last else graph.add_activation(name, shape, "float32")
        options = (BuiltinOptions.AddOptions, AddOptionsT())
        result.append(graph.operator("ADD", 1, (total, term), (out,), options))
        total = out
    return result


def _div(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    """Multiply by the reciprocal, which is a constant or becomes a lookup table."""
    dividend, divisor = operator.inputs
    if not graph.is_float(dividend):
        return None
    name = f"{graph.label(operator)}/reciprocal"
    activation = operator.builtinOptions.fusedActivationFunction if operator.builtinOptions else 0
    result = []
    if graph.is_constant(divisor):
        value = graph.value(divisor)
        if not value.all():
            return None
        reciprocal = graph.add_constant(name, np.asarray(np.float32(1) / value))
    else:
        reciprocal = graph.add_activation(name, graph.shape(divisor), "float32")
        minus_one = graph.add_constant(f"{name}/exponent", np.array(-1, np.float32))
        options = (BuiltinOptions.PowOptions, PowOptionsT())
        result.append(graph.operator("POW", 1, (divisor, minus_one), (reciprocal,), options))
    factors = (dividend, reciprocal)
    return [*result, graph.operator("MUL", 1, factors, operator.outputs, _mul_options(activation))]


def _dequantize(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    """Fold a float16 constant into a float32 one."""
    (source,) = operator.inputs
    if graph.dtype(source) != "float16" or not graph.is_constant(source):
        return None
    folded = graph.add_constant(graph.label(operator), graph.value(source).astype(np.float32))
    tensor = graph.tensors[operator.outputs[0]]
    tensor.buffer = graph.tensors[folded].buffer
    return []


def _mul_options(activation: int = 0) -> tuple[int, Any]:
    options = MulOptionsT()
    options.fusedActivationFunction = activation
    return BuiltinOptions.MulOptions, options


_LOWERINGS: dict[str, Lowering] = {
    "ADD_N": _add_n,
    "DEQUANTIZE": _dequantize,
    "DIV": _div,
    "NEG": _neg,
    "SQUARE": _square,
}

LOWERED: tuple[str, ...] = tuple(_LOWERINGS)
"""Operators that are replaced by others before calibration."""
