"""Casts between real numbers, which become int8, and true integers or booleans."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOptions, CastOptionsT

from edgeconv.quantize.params.qparams import QuantParams
from edgeconv.quantize.rewrite import tables
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

ONE_PER_STEP = QuantParams(1.0, 0)
"""The scale in which a stored integer is its own value: that of booleans cast to real numbers."""


def prescribed(graph: Graph, operator: OperatorT) -> QuantParams | None:
    """Return the scale that a cast's float output must have; ``None`` if it is free."""
    source, target = operator.inputs[0], operator.outputs[0]
    return ONE_PER_STEP if graph.dtype(source) == "bool" and graph.is_float(target) else None


def rewrite(
    graph: Graph, operator: OperatorT, affine: Mapping[int, QuantParams]
) -> list[OperatorT]:
    """Return the operators that replace a cast from or to real numbers.

    From booleans: a plain cast, in steps of one. From integers: a QUANTIZE of an int32 tensor in
    steps of one. To integers or booleans: a lookup table, exact for every stored value.

    Args:
        graph: The graph under rewriting.
        operator: The cast.
        affine: Scale and zero point of every float activation.
    """
    source, target = operator.inputs[0], operator.outputs[0]
    if source in affine:
        table = tables.integer_table(affine[source], graph.dtype(target))
        return tables.lookup(graph, source, table, target)
    if graph.dtype(source) == "bool":
        return [cast(graph, source, target, ("bool", "int8"), 3)]
    wide = graph.add_activation(
        f"{graph.name(source)}/wide", graph.shape(source), "int32", _unit_steps()
    )
    return [
        cast(graph, source, wide, (graph.dtype(source), "int32"), 3),
        graph.operator("QUANTIZE", 1, (wide,), (target,)),
    ]


def cast(
    graph: Graph, source: int, target: int, dtypes: tuple[str, str], version: int
) -> OperatorT:
    """Return a CAST of stored values between two dtypes."""
    options = CastOptionsT()
    options.inDataType, options.outDataType = map(tflite.tensor_type, dtypes)
    return graph.operator(
        "CAST", version, (source,), (target,), (BuiltinOptions.CastOptions, options)
    )


def _unit_steps() -> tflite.QuantizationParametersT:
    parameters = tflite.QuantizationParametersT()
    parameters.scale = np.ones(1, np.float32)
    parameters.zeroPoint = np.zeros(1, np.int64)
    return parameters
