"""Which operators compute in float because samples make them read or write NaN or infinity.

An integer has no NaN, so that what finds NaN and puts something else in its place must see it as
the float model does: from the operator that makes it to the one that removes it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.rules.table import COMPARISONS
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_MAKERS = ("LOG", "SQRT", "RSQRT", "DIV", "POW")
"""Operators that make NaN or infinity of ordinary numbers."""

_CHOOSING = ("SELECT", "SELECT_V2")
_REMOVERS = (*_CHOOSING, "MAXIMUM", "MINIMUM", "SOFTMAX", "REDUCE_MAX", "REDUCE_MIN", "EXP",
             "LOGISTIC", "TANH", "RELU", "RELU6")  # fmt: skip
"""What may make finite numbers of infinite ones; NaN is removed by the first two only."""


def find(graph: Graph, feeds: Sequence[Sequence[Array]]) -> set[int]:
    """Return the positions of the operators that read or write NaN or infinity.

    There are none where such numbers reach an output, or something that is not there to remove
    them: then the data or the model are wrong, which calibration says.

    Args:
        graph: The float graph, before it is lowered.
        feeds: Per sample the graph's inputs, in the stored form.
    """
    given = {index for index in range(len(graph.tensors)) if _constant_undefined(graph, index)}
    suspects = {index for one in graph.operators if _suspect(graph, one, given)
                for index in one.outputs if graph.is_activation(index)}  # fmt: skip
    nan, infinite = _undefined(graph, suspects, feeds)
    if not nan | infinite:
        return set()
    nan, infinite = _undefined(graph, graph.activations(), feeds)
    found = nan | infinite
    if found & {*graph.inputs, *graph.outputs}:
        return set()
    places = set()
    for place, operator in enumerate(graph.operators):
        if not (found | given) & {*operator.inputs, *operator.outputs}:
            continue
        real = any(map(graph.is_float, operator.outputs))
        ends = real and not found & set(operator.outputs)
        removers = _CHOOSING if nan & set(operator.inputs) else _REMOVERS
        if ends and found & set(operator.inputs) and graph.op(operator) not in removers:
            return set()
        if real or graph.op(operator) in COMPARISONS:
            places.add(place)
    return places


def _constant_undefined(graph: Graph, index: int) -> bool:
    """Tell whether a tensor is a constant that holds NaN or infinity."""
    if not graph.is_constant(index) or not graph.is_float(index):
        return False
    return not np.isfinite(tflite.constant(graph.model, graph.tensors[index])).all()


def _suspect(graph: Graph, operator: OperatorT, given: set[int]) -> bool:
    """Tell whether an operator can make NaN or infinity of ordinary numbers."""
    if given & set(operator.inputs):
        return True
    if graph.op(operator) not in _MAKERS:
        return False
    last = operator.inputs[-1]
    return not (graph.op(operator) == "DIV" and graph.is_constant(last) and graph.value(last).all())


def _undefined(
    graph: Graph, tensors: Collection[int], feeds: Sequence[Sequence[Array]]
) -> tuple[set[int], set[int]]:
    """Return which tensors hold NaN, and which infinity but no NaN, in some sample."""
    nan, infinite = set[int](), set[int]()
    if not tensors:
        return nan, infinite

    def see(index: int, values: Array) -> None:
        if not np.isfinite(values).all():
            (nan if np.isnan(values).any() else infinite).add(index)

    runner = Runner(graph, sorted(tensors))
    for feed in feeds:
        runner.show(feed, see)
    return nan, infinite - nan
