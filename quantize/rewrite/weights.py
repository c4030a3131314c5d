"""Modes that store weights in fewer bits and leave activations float32.

``fp16`` stores constants as float16; a DEQUANTIZE turns them back when the model is loaded.
``dynamic`` stores weights as int8. Operators with a hybrid kernel quantize their input while they
run and compute in integers; others read the weight through a DEQUANTIZE. ``weight-only`` stores
them likewise, and all operators compute in float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeconv.quantize.params.qparams import symmetric
from edgeconv.quantize.rewrite.stored import scales_of, stored_weight
from edgeconv.quantize.rules.precision import Chosen
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

MIN_ELEMENTS = 1024
"""Smaller constants stay float32: they weigh nothing, and biases need their precision."""

_FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class WeightRule:
    """How an operator's weight is stored in ``dynamic`` mode.

    Attributes:
        weight: Input slot of the weight.
        axis: Axis with a scale per slice; ``None`` for one scale in all.
        hybrid_version: Operator version whose kernel reads int8 weights beside float32
            activations; ``None`` where none does, so that the weight is dequantized first.
        asymmetric: Whether the operator's options ask for asymmetric input quantization, which
            is the more accurate one.
    """

    weight: int
    axis: int | None
    hybrid_version: int | None = None
    asymmetric: bool = False


WEIGHT_RULES: dict[str, WeightRule] = {
    "BATCH_MATMUL": WeightRule(1, None, hybrid_version=4, asymmetric=True),
    "CONV_2D": WeightRule(1, 0, hybrid_version=5),
    "CONV_3D": WeightRule(1, 4),
    "DEPTHWISE_CONV_2D": WeightRule(1, 3, hybrid_version=6),
    "FULLY_CONNECTED": WeightRule(1, 0, hybrid_version=12, asymmetric=True),
    "GATHER": WeightRule(0, 0),
    "TRANSPOSE_CONV": WeightRule(1, 0),
}
"""Operators whose weights are stored as int8, by builtin name."""


def quantize(graph: Graph, chosen: Chosen) -> None:
    """Store a graph's weights in fewer bits, in place.

    Args:
        graph: A graph with operators that compute in float.
        chosen: Tells which of them read weights of ``fp16``, ``dynamic`` or ``weight-only``.
    """
    entries: list[OperatorT] = []
    half: dict[int, int] = {}
    stored: dict[tuple[int, int | None], int] = {}
    dequantized: dict[tuple[int, int | None], int] = {}
    for operator in graph.operators:
        mode = chosen(operator)
        if mode == "fp16":
            entries += _to_float16(graph, operator, half)
        elif mode in ("dynamic", "weight-only"):
            hybrid = mode == "dynamic"
            entries += _to_int8(graph, operator, stored, dequantized, hybrid=hybrid)
    graph.subgraph.operators = [*entries, *graph.operators]
    graph.compact()


def _to_float16(graph: Graph, operator: OperatorT, half: dict[int, int]) -> list[OperatorT]:
    """Let an operator read its large constants from float16; return the operators added."""
    entries = []
    for index in operator.inputs:
        if index in half or not _is_large(graph, index):
            continue
        value = graph.value(index)
        if float(np.abs(value).max()) > _FLOAT16_MAX:
            continue
        stored = graph.add_constant(f"{graph.name(index)}/fp16", value.astype(np.float16))
        half[index] = graph.add_activation(graph.name(index), value.shape, "float32")
        entries.append(graph.operator("DEQUANTIZE", 3, (stored,), (half[index],)))
    operator.inputs = [half.get(index, index) for index in operator.inputs]
    return entries


def _to_int8(
    graph: Graph,
    operator: OperatorT,
    stored: dict[tuple[int, int | None], int],
    dequantized: dict[tuple[int, int | None], int],
    *,
    hybrid: bool,
) -> list[OperatorT]:
    """Let an operator read its large weight from int8; return the operators added."""
    rule = WEIGHT_RULES.get(graph.op(operator))
    if rule is None or not _is_large(graph, operator.inputs[rule.weight]):
        return []
    entries = []
    key = (operator.inputs[rule.weight], rule.axis)
    if key not in stored:
        stored[key] = _store(graph, *key)
    weight = stored[key]
    if hybrid and rule.hybrid_version is not None:
        graph.set_version(operator, max(rule.hybrid_version, graph.version(operator)))
        if rule.asymmetric:
            operator.builtinOptions.asymmetricQuantizeInputs = True
    else:
        if key not in dequantized:
            name, shape = graph.name(key[0]), graph.shape(key[0])
            dequantized[key] = graph.add_activation(name, shape, "float32")
            entries.append(graph.operator("DEQUANTIZE", 5, (weight,), (dequantized[key],)))
        weight = dequantized[key]
    inputs = list(operator.inputs)
    inputs[rule.weight] = weight
    operator.inputs = inputs
    return entries


def _store(graph: Graph, index: int, axis: int | None) -> int:
    scales = scales_of(graph, index, axis)
    quantized = stored_weight(graph, index, scales, axis)
    return graph.add_constant(f"{graph.name(index)}/int8", quantized, symmetric(scales, axis))


def _is_large(graph: Graph, index: int) -> bool:
    if not (graph.is_float(index) and graph.is_constant(index)):
        return False
    return graph.value(index).size >= MIN_ELEMENTS
