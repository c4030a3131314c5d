"""Exact int8 forms of elementwise functions without an int8 kernel: a table of 256 results.

The stored value, shifted to 0..255, gathers from a constant: CAST to int32, ADD 128, GATHER.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert.schema_py_generated import (
    AddOptionsT,
    BuiltinOptions,
    CastOptionsT,
    GatherOptionsT,
)

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.qparams import QuantParams
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

Function = Callable[[Array], Array]
"""A real function, elementwise over float64."""

_UNARY: dict[str, Function] = {
    "CEIL": np.ceil,
    "COS": np.cos,
    "FLOOR": np.floor,
    "RELU_0_TO_1": lambda x: np.clip(x, 0.0, 1.0),
    "ROUND": np.rint,
    "SIGN": np.sign,
    "SIN": np.sin,
}
_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "FLOOR_DIV": np.floor_divide,
    "FLOOR_MOD": np.mod,
    "POW": np.power,
}
_CODES = np.arange(-128, 128)


def function(graph: Graph, operator: OperatorT) -> tuple[int, Function] | None:
    """Return the one computed input of an operator and the function applied to it.

    Args:
        graph: The float graph.
        operator: One of its operators.

    Returns:
        The input's tensor index and the function; ``None`` where the operator is none of one
        computed value, for example a power of two computed tensors.
    """
    name = graph.op(operator)
    if name in _UNARY:
        return operator.inputs[0], _UNARY[name]
    if name not in _BINARY:
        return None
    compute = _BINARY[name]
    left, right = operator.inputs
    if graph.is_constant(right) and graph.value(right).size == 1:
        second = graph.value(right).astype(np.float64).reshape(())
        return left, lambda x: compute(x, second)
    if graph.is_constant(left) and graph.value(left).size == 1:
        first = graph.value(left).astype(np.float64).reshape(())
        return right, lambda x: compute(first, x)
    return None


def int8_table(compute: Function, source: QuantParams, target: QuantParams) -> Array:
    """Return the 256 int8 results of a function; undefined ones saturate."""
    results = _evaluate(compute, source)
    limits = target.limits
    results = np.nan_to_num(results, nan=0.0, posinf=limits.high, neginf=limits.low)
    return target.quantize(results)


def integer_table(source: QuantParams, dtype: str) -> Array:
    """Return the 256 results of a cast to integers or booleans, truncated towards zero."""
    reals = source.dequantize(_CODES)
    if dtype == "bool":
        nonzero: Array = reals != 0
        return nonzero
    limits = np.iinfo(dtype)
    return np.clip(np.trunc(reals), limits.min, limits.max).astype(dtype)


def lookup(graph: Graph, source: int, table: Array, output: int) -> list[OperatorT]:
    """Return the operators that look an int8 tensor up in a table.

    Args:
        graph: The graph under rewriting.
        source: The int8 tensor.
        table: 256 results, in the order of the stored values -128 to 127.
        output: The tensor that receives them.
    """
    name, shape = graph.name(output), graph.shape(source)
    wide = graph.add_activation(f"{name}/code", shape, "int32")
    shifted = graph.add_activation(f"{name}/index", shape, "int32")
    offset = graph.add_constant(f"{name}/offset", np.array(128, np.int32))
    values = graph.add_constant(f"{name}/table", table)
    cast = CastOptionsT()
    cast.inDataType, cast.outDataType = map(tflite.tensor_type, ("int8", "int32"))
    version = {"int8": 2, "bool": 3, "int16": 4}.get(table.dtype.name, 1)
    return [
        graph.operator("CAST", 3, (source,), (wide,), (BuiltinOptions.CastOptions, cast)),
        graph.operator(
            "ADD", 1, (wide, offset), (shifted,), (BuiltinOptions.AddOptions, AddOptionsT())
        ),
        graph.operator(
            "GATHER",
            version,
            (values, shifted),
            (output,),
            (BuiltinOptions.GatherOptions, GatherOptionsT()),
        ),
    ]


def _evaluate(compute: Function, source: QuantParams) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(compute(source.dequantize(_CODES)), np.float64)
