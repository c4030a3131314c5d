"""Fold products and sums with constants, such as batch norms, into the layers before them.

As Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3.2; and through a ReLU where all factors are positive,
as relu(x) * m is relu(x * m) then. Each operator less is a rounding less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from edgeconv.quantize.recovery.base import Candidate, replace_constant
from edgeconv.quantize.recovery.channels import WEIGHTED
from edgeconv.quantize.rules.precision import Precision
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_NONE, _RELU = ActivationFunctionType.NONE, ActivationFunctionType.RELU


class BatchNorm:
    """See the module."""

    name = "batch-norm"
    worth_db = 0.0
    slack_db = 0.0
    chooses_ranges = False

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate, with everything folded that can be."""
        graph = candidate.graph.copy()
        precisions = list(candidate.precisions)
        folded = False
        while (found := _foldable(graph, precisions)) is not None:
            _fold(graph, *found)
            del graph.operators[found[1]], precisions[found[1]]
            folded = True
        if folded:
            yield candidate.on(graph, precisions)


def _foldable(graph: Graph, precisions: Sequence[Precision]) -> tuple[int, int] | None:
    """Return the positions of a layer and of an operator that can be folded into it."""
    readers = graph.consumers()
    makers = {out: p for p, operator in enumerate(graph.operators) for out in operator.outputs}
    for position, operator in enumerate(graph.operators):
        source = next((i for i in operator.inputs if graph.is_activation(i)), -1)
        before = makers.get(source)
        if before is None or source in graph.outputs or len(readers[source]) != 1:
            continue
        if precisions[before] != precisions[position]:
            continue
        if _fits(graph, graph.operators[before], operator):
            return before, position
    return None


def _fits(graph: Graph, layer: OperatorT, operator: OperatorT) -> bool:
    constants = [index for index in operator.inputs if graph.is_constant(index)]
    weighted = graph.op(layer) in WEIGHTED and len(layer.inputs) > 2
    if graph.op(operator) not in ("MUL", "ADD") or not weighted or len(constants) != 1:
        return False
    if not all(graph.is_constant(index) for index in layer.inputs[1:]):
        return False
    value, channels = graph.value(constants[0]), graph.value(layer.inputs[2]).size
    if value.size not in (1, channels) or (value.ndim and value.shape[-1] != value.size):
        return False
    if graph.shape(layer.outputs[0]) != graph.shape(operator.outputs[0]):
        return False
    before, after = (_activation(entry) for entry in (layer, operator))
    if before == _NONE:
        return after in (_NONE, _RELU)
    positive = graph.op(operator) == "MUL" and bool((value > 0).all())
    return before == _RELU and after in (_NONE, _RELU) and positive


def _activation(operator: OperatorT) -> int:
    found: int = operator.builtinOptions.fusedActivationFunction
    return found


def _fold(graph: Graph, before: int, position: int) -> None:
    """Change the layer's constants so that it makes the operator's output."""
    layer, operator = graph.operators[before], graph.operators[position]
    (constant,) = (graph.value(index) for index in operator.inputs if graph.is_constant(index))
    bias = graph.value(layer.inputs[2])
    value = np.broadcast_to(constant.reshape(-1), bias.shape)
    if graph.op(operator) == "ADD":
        replace_constant(graph, before, 2, bias + value)
    else:
        weight = graph.value(layer.inputs[1])
        last = graph.op(layer) == "DEPTHWISE_CONV_2D"
        factors = value if last else value.reshape(-1, *[1] * (weight.ndim - 1))
        replace_constant(graph, before, 1, weight * factors)
        replace_constant(graph, before, 2, bias * value)
    if _activation(operator) == _RELU:
        layer.builtinOptions.fusedActivationFunction = _RELU
    layer.outputs = list(operator.outputs)
