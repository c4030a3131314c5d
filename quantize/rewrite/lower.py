"""Rewrite a float graph into operators that have an int8 form, computing the same.

Each lowering is a function from one operator to the operators that replace it. The float graph
stays runnable, so that calibration sees the tensors that lowering introduces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import (
    ActivationFunctionType,
    AddOptionsT,
    BuiltinOptions,
    MaximumMinimumOptionsT,
    MulOptionsT,
    PowOptionsT,
    SubOptionsT,
)

from edgeconv.quantize.rewrite.lower_conv3d import conv_3d
from edgeconv.quantize.rewrite.lower_conv3d_transpose import conv_3d_transpose
from edgeconv.quantize.rules.precision import BITS, Precision, takes_int16
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

Lowering = Callable[[Graph, OperatorT], list[OperatorT] | None]
"""Returns the replacement, or ``None`` where the operator stays as it is."""


def lower(graph: Graph, precisions: Sequence[Precision]) -> list[Precision]:
    """Apply every lowering once, in place, to the operators that become integer ones.

    Where no kernel takes int16 activations, the operator is left as it is, for float.

    Args:
        graph: The float graph.
        precisions: The precision of each operator.

    Returns:
        The precision of each operator that the graph has now.
    """
    lowered: list[OperatorT] = []
    found: list[Precision] = []
    for operator, precision in zip(graph.operators, precisions, strict=True):
        replacement = _replacement(graph, operator, precision)
        if precision == "int16" and not all(takes_int16(graph, new) for new in replacement):
            replacement, precision = [operator], "float"  # noqa: PLW2901 - the one that it gets
        lowered += replacement
        found += [precision] * len(replacement)
    graph.subgraph.operators = lowered
    return found


def _replacement(graph: Graph, operator: OperatorT, precision: Precision) -> list[OperatorT]:
    name = graph.op(operator)
    lowerings = _INT16_LOWERINGS if precision == "int16" else _LOWERINGS
    if name not in lowerings or (precision not in BITS and name != "DEQUANTIZE"):
        return [operator]
    replacement = lowerings[name](graph, operator)
    return [operator] if replacement is None else replacement


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


def _squared_difference(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    (out,) = operator.outputs
    difference = graph.add_activation(f"{graph.name(out)}/difference", graph.shape(out), "float32")
    options = (BuiltinOptions.SubOptions, SubOptionsT())
    return [
        graph.operator("SUB", 1, operator.inputs, (difference,), options),
        graph.operator("MUL", 1, (difference, difference), (out,), _mul_options()),
    ]


def _hard_swish(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    """Compute x * (relu6(x + 3) / 6)."""
    (source,), (out,) = operator.inputs, operator.outputs
    name, shape = graph.name(out), graph.shape(out)
    gate, share = (
        graph.add_activation(f"{name}/{part}", shape, "float32") for part in ("gate", "share")
    )
    three = graph.add_constant(f"{name}/three", np.array(3, np.float32))
    sixth = graph.add_constant(f"{name}/sixth", np.array(1 / 6, np.float32))
    options = AddOptionsT()
    options.fusedActivationFunction = ActivationFunctionType.RELU6
    return [
        graph.operator("ADD", 1, (source, three), (gate,), (BuiltinOptions.AddOptions, options)),
        graph.operator("MUL", 1, (gate, sixth), (share,), _mul_options()),
        graph.operator("MUL", 1, (source, share), (out,), _mul_options()),
    ]


def _prelu(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    """Compute relu(x) + slope * min(x, 0)."""
    (source, slope), (out,) = operator.inputs, operator.outputs
    name, shape = graph.name(out), graph.shape(out)
    above, below, scaled = (
        graph.add_activation(f"{name}/{part}", shape, "float32")
        for part in ("above", "below", "scaled")
    )
    zero = graph.add_constant(f"{name}/zero", np.array(0, np.float32))
    least = (BuiltinOptions.MaximumMinimumOptions, MaximumMinimumOptionsT())
    total = (BuiltinOptions.AddOptions, AddOptionsT())
    return [
        graph.operator("RELU", 1, (source,), (above,)),
        graph.operator("MINIMUM", 1, (source, zero), (below,), least),
        graph.operator("MUL", 1, (below, slope), (scaled,), _mul_options()),
        graph.operator("ADD", 1, (above, scaled), (out,), total),
    ]


def _mul_options(activation: int = 0) -> tuple[int, Any]:
    options = MulOptionsT()
    options.fusedActivationFunction = activation
    return BuiltinOptions.MulOptions, options


_LOWERINGS: dict[str, Lowering] = {
    "ADD_N": _add_n,
    "CONV_3D": conv_3d,
    "CONV_3D_TRANSPOSE": conv_3d_transpose,
    "DEQUANTIZE": _dequantize,
    "DIV": _div,
    "NEG": _neg,
    "SQUARE": _square,
}

_INT16_LOWERINGS: dict[str, Lowering] = {
    **_LOWERINGS,
    "HARD_SWISH": _hard_swish,
    "PRELU": _prelu,
    "SQUARED_DIFFERENCE": _squared_difference,
}
"""More operators have kernels for int8 than for int16."""

LOWERED: tuple[str, ...] = tuple(_LOWERINGS)
"""Operators that are replaced by others before calibration."""
