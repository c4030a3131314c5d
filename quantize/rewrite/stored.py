"""What weights are stored as: computed once for a graph and all its copies."""

from __future__ import annotations

from edgeconv.core.artifacts import Array
from edgeconv.quantize.params.qparams import quantize_weight, weight_scales
from edgeconv.tflite.graph import Graph


def scales_of(graph: Graph, index: int, axis: int | None) -> Array:
    """Return `qparams.weight_scales` of a constant."""
    return graph.remembered(index, axis, lambda value: weight_scales(value, axis))


def stored_weight(graph: Graph, index: int, scales: Array, axis: int | None) -> Array:
    """Return `qparams.quantize_weight` of a constant."""
    return graph.remembered(
        index, (axis, scales.tobytes()), lambda value: quantize_weight(value, scales, axis)
    )
