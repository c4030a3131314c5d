"""Which operators compute in float, among others that do not, because no integer form serves.

Some have none at all, as running sums. Others read or make numbers such as -1e9 that hide what a
mask hides: where these go to SOFTMAX or a maximum, all that matters is that they are the lowest,
and integers serve; but a difference or an exponential needs them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.joins.widths import few
from edgeconv.quantize.params import needs
from edgeconv.quantize.rewrite import check
from edgeconv.quantize.rules.names import kinds, named
from edgeconv.quantize.rules.precision import BITS, Precision
from edgeconv.quantize.rules.table import RULES, Scaling
from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_ABSORBING = {
    "ARG_MAX", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "REDUCE_MAX", "RELU", "RELU6", "SELECT",
    "SELECT_V2", "SOFTMAX", "TANH",
}  # fmt: skip
"""Operators whose results are the same for all numbers that are low enough."""

_PASSING = {"ADD", "MAXIMUM", "MUL", "PAD", "PADV2", "SELECT", "SELECT_V2", "SUB"}
"""Operators of which integer kernels make the lowest number of what is hidden."""

_MOST_VALUES = 1 << 20
"""Larger constants are weights."""


def formless(graph: Graph, precisions: Sequence[Precision]) -> tuple[list[Precision], list[str]]:
    """Let operators compute in float that have no integer form.

    Args:
        graph: The lowered float graph.
        precisions: The precision of each operator.

    Returns:
        The precision of each operator, and a note if that is another one.
    """
    left = [
        place
        for place, operator in enumerate(graph.operators)
        if precisions[place] == "int8" and check.obstacle(graph, operator)
    ]
    return _moved(graph, precisions, left, "no int8 form serves for {}: they compute in float32")


def hidden(
    graph: Graph, precisions: Sequence[Precision], feeds: Sequence[Sequence[Array]]
) -> tuple[list[Precision], list[str]]:
    """Let operators compute in float that need the numbers that hide as they are.

    Args:
        graph: The lowered float graph.
        precisions: The precision of each operator.
        feeds: Per sample the graph's inputs, in the stored form.

    Returns:
        The precision of each operator, and a note if that is another one.
    """
    if not BITS.keys() & {*precisions}:
        return list(precisions), []
    hiding = _hiding(graph, feeds)
    served = _served(graph, hiding)
    places = [
        place
        for place, operator in enumerate(graph.operators)
        if (hiding - served) & {*operator.inputs, *operator.outputs}
        and precisions[place] in BITS
        and any(map(graph.is_float, operator.outputs))
    ]
    what = "numbers that stand for minus infinity leave no scale to others for {}: "
    return _moved(graph, precisions, places, what + "they compute in float32")


def _hiding(graph: Graph, feeds: Sequence[Sequence[Array]]) -> set[int]:
    """Return the activations in which a mask hides something."""
    low = {index for index in range(len(graph.tensors)) if _lowest(graph, index)}
    reached = set(low)
    for operator in graph.operators:
        if reached & set(operator.inputs):
            reached.update(filter(graph.is_activation, operator.outputs))
    found = set[int]()

    def see(index: int, values: Array) -> None:
        if needs.hides(values):
            found.add(index)

    if reached - low:
        runner = Runner(graph, sorted(reached - low))
        for feed in few(feeds):
            runner.show(feed, see)
    return found


def _lowest(graph: Graph, index: int) -> bool:
    """Tell whether a constant holds what hides."""
    if not graph.is_constant(index) or not graph.is_float(index):
        return False
    value = tflite.constant(graph.model, graph.tensors[index])
    return 0 < value.size <= _MOST_VALUES and bool(np.abs(value).max() >= needs.HIDDEN)


def _served(graph: Graph, hiding: set[int]) -> set[int]:
    """Return those of them that integers serve for: all readers take what is lowest for hidden."""
    readers: Mapping[int, list[OperatorT]] = graph.consumers()
    found = set[int]()
    for operator in reversed(graph.operators):
        for index in hiding & set(operator.outputs):
            each = [_serves(graph, one, hiding, found) for one in readers.get(index, [])]
            if index not in graph.outputs and all(each):
                found.add(index)
    return found


def _serves(graph: Graph, reader: OperatorT, hiding: set[int], served: set[int]) -> bool:
    """Tell whether a reader of hidden numbers does right with the lowest ones instead."""
    name, made = graph.op(reader), set(reader.outputs) & hiding
    if not made:
        return name in _ABSORBING
    rule = RULES.get(name)
    moves = rule is not None and rule.scaling in (Scaling.SAME, Scaling.SHARED)
    return made <= served and (moves or name in _PASSING)


def _moved(
    graph: Graph, precisions: Sequence[Precision], places: Sequence[int], what: str
) -> tuple[list[Precision], list[str]]:
    changed: list[Precision] = list(precisions)
    for place in places:
        changed[place] = "float"
    if not places:
        return changed, []
    operators = [graph.operators[place] for place in places]
    said = what.format(kinds(graph, operators))
    return changed, [f"{said}, at {named(map(graph.label, operators))}"]
