"""The lowest version of each operator that expresses it.

TensorFlow's converter gives all operators of a kind the highest version that one of them needs. The
Edge TPU's compiler refuses a whole model for a version that it does not know, so that one grouped
convolution would take all others with it. Source of the versions: LiteRT's ``op_version.cc``.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeconv.targets.coral.legalise.rewrite import NONE
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph


def lower(graph: Graph) -> None:
    """Give every float operator the lowest version, in place."""
    for operator in graph.operators:
        lowest = _LOWEST.get(graph.op(operator))
        if lowest is not None and operator.outputs and graph.is_float(operator.outputs[0]):
            graph.set_version(operator, lowest(graph, operator))


def _conv(graph: Graph, operator: OperatorT) -> int:
    source, weight = operator.inputs[:2]
    return 1 if graph.shape(source)[3] == graph.shape(weight)[3] else 6


def _depthwise(graph: Graph, operator: OperatorT) -> int:  # noqa: ARG001
    options = operator.builtinOptions
    return 1 if (options.dilationHFactor, options.dilationWFactor) == (1, 1) else 2


def _fully_connected(graph: Graph, operator: OperatorT) -> int:
    if operator.builtinOptions.keepNumDims:
        return 5
    return 1 if graph.is_constant(operator.inputs[1]) else graph.version(operator)


def _transpose_conv(graph: Graph, operator: OperatorT) -> int:  # noqa: ARG001
    if operator.builtinOptions.fusedActivationFunction != NONE:
        return 4
    return 3 if len(operator.inputs) > 3 and operator.inputs[3] >= 0 else 1


def _up_to_four_axes(graph: Graph, operator: OperatorT) -> int:
    return 1 if len(graph.shape(operator.inputs[0])) <= 4 else graph.version(operator)


def _bilinear(graph: Graph, operator: OperatorT) -> int:  # noqa: ARG001
    return 3 if operator.builtinOptions.halfPixelCenters else 1


def _nearest(graph: Graph, operator: OperatorT) -> int:  # noqa: ARG001
    options = operator.builtinOptions
    return 3 if options.halfPixelCenters or options.alignCorners else 1


_LOWEST: dict[str, Callable[[Graph, OperatorT], int]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transpose_conv,
    "TRANSPOSE": _up_to_four_axes,
    "STRIDED_SLICE": _up_to_four_axes,
    "RESIZE_BILINEAR": _bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _nearest,
}
