"""Make up for zero points that would have to lie between two integers.

Bytes normalised to -1..1 have their zero at 127.5. A model that takes them as they are sees all of
them shifted by half a step, which is a constant, and which the biases of the layers that read them
take off again. Zeros that a convolution pads with are not shifted, so that its border is less exact
than the rest, by half a step of the input at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeconv.quantize.params.input_scales import Held
from edgeconv.quantize.rules.table import RULES, Scaling
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_SUMMED: dict[str, tuple[int, ...]] = {
    "CONV_2D": (1, 2, 3),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (1,),
}
"""Axes of the weight along which each output's products are summed."""

_NO_ACTIVATION = -1


def centre(graph: Graph, held: Held, precisions: Sequence[str], *, real: bool) -> None:
    """Take the shift of held inputs off the biases of what reads them in int8, in place.

    Args:
        graph: The float graph, before it is split by precision.
        held: What the graph's inputs can hold, in order.
        precisions: The precision of each operator.
        real: Whether the inputs are float32, which are quantized on their way in.
    """
    shifts = {
        index: scale.shift(real=real)
        for index, scale in zip(graph.inputs, held, strict=False)
        if scale is not None and scale.held and graph.is_float(index)
    }
    moved = {index: shift for index, shift in shifts.items() if shift}
    if not moved:
        return
    for operator, precision in zip(graph.operators, precisions, strict=True):
        rule = RULES.get(graph.op(operator))
        source = next((index for index in operator.inputs if graph.is_float(index)), _NO_ACTIVATION)
        if source not in moved or rule is None or (real and precision != "int8"):
            continue
        if rule.scaling is Scaling.SAME:
            moved |= dict.fromkeys(operator.outputs, moved[source])
        elif graph.op(operator) in _SUMMED:
            _take_off(graph, operator, moved[source])


def _take_off(graph: Graph, operator: OperatorT, shift: float) -> None:
    """Change the bias by what a shift of all inputs changes."""
    weight, *rest = operator.inputs[1:]
    if not graph.is_constant(weight) or any(not graph.is_constant(one) for one in rest if one >= 0):
        return
    sums = graph.value(weight).astype(np.float64).sum(axis=_SUMMED[graph.op(operator)])
    bias = graph.value(rest[0]) if rest and rest[0] >= 0 else np.zeros(sums.size)
    name = f"{graph.label(operator)}/centred"
    made = graph.add_constant(name, (bias - shift * sums).astype(np.float32))
    operator.inputs = [*operator.inputs[:2], made]
