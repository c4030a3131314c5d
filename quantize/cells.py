"""States that are sums over many steps, such as an LSTM's cell, in 16 bits.

What a cell gathers grows far beyond what its readers tell apart: their tanh is saturated beyond 4,
while the cell goes on to hundreds (Hochreiter & Schmidhuber 1997, "Long short-term memory"). Eight
bits over that range leave the tanh three values, and swallow what a step adds. Integer LSTM kernels
keep cells in 16 bits for that reason (Li & Alvarez 2021, "On the quantization of recurrent neural
networks").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgeconv.artifacts import Array
from edgeconv.quantize.carried import index_of
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.joins import JOINS
from edgeconv.quantize.moves import MOVES, data_slot
from edgeconv.quantize.precision import Precision
from edgeconv.quantize.rules import INT16_VERSIONS
from edgeconv.quantize.runs import Runner
from edgeconv.tflite import OperatorT

_SUMS = ("ADD", "MUL", "SUB")
_SATURATING = ("LOGISTIC", "TANH")

_SATURATED = 4.0
"""Beyond this a tanh is 1 to the last of 8 bits; a state that goes farther has a coarse one."""


def in_16_bits(
    graph: Graph, precisions: Sequence[Precision], feeds: Sequence[Sequence[Array]], *, mixed: bool
) -> tuple[list[Precision], list[str]]:
    """Let what gathers a state compute in 16 bits, where 8 would be too few.

    Args:
        graph: The float graph, lowered.
        precisions: The precision of each operator.
        feeds: Per sample the graph's inputs, in the stored form.
        mixed: Whether the model may have operators of other precision; else it is only said.

    Returns:
        The precision of each operator, and what to say of it.
    """
    result, notes = list(precisions), []
    known = {id(operator): place for place, operator in enumerate(graph.operators)}
    for name, cell in _cells(graph).items():
        places = [known[id(operator)] for operator in cell]
        if any(precisions[place] == "int16" for place in places):
            continue
        peak = _peak(graph, cell, feeds)
        narrow = [place for place in places if result[place] == "int8"]
        if peak <= _SATURATED or not narrow:
            continue
        what = f"state {name} gathers values up to {peak:.3g} that a tanh or sigmoid reads"
        if not mixed:
            notes.append(f"{what}: 8 bits are too few for it, and the target takes no others")
            continue
        for place in narrow:
            result[place] = "int16"
        notes.append(f"{what}: that has 16 bits inside")
    return result, notes


def _cells(graph: Graph) -> Mapping[str, list[OperatorT]]:
    """Return, by state, the sums that keep it, where an operator that saturates reads one."""
    readers = graph.consumers()
    found: dict[str, list[OperatorT]] = {}
    for state in graph.states:
        source = index_of(graph, graph.inputs, state.input)
        target = index_of(graph, graph.outputs, state.output)
        if source is None or target is None:
            continue
        cell = _between(graph, source, target)
        made = [index for operator in cell for index in operator.outputs]
        kinds = {graph.op(reader) for index in made for reader in readers.get(index, ())}
        sums = [operator for operator in cell if graph.op(operator) in _SUMS]
        if kinds & set(_SATURATING) and any(graph.op(one) != "MUL" for one in sums):
            found[state.input] = [one for one in cell if graph.op(one) in INT16_VERSIONS]
    return found


def _between(graph: Graph, source: int, target: int) -> list[OperatorT]:
    """Return what leads from an input to an output by products, sums and moves alone."""
    behind = {source}
    for operator in graph.operators:
        if behind & set(_passed(graph, operator)):
            behind |= set(operator.outputs)
    before = {target}
    found = []
    for operator in reversed(graph.operators):
        ways = [index for index in _passed(graph, operator) if index in behind]
        if before & set(operator.outputs) and ways:
            before |= set(ways)
            if graph.op(operator) not in JOINS:
                found.append(operator)
    return found[::-1]


def _passed(graph: Graph, operator: OperatorT) -> Iterable[int]:
    """Return the inputs whose own values are still in what an operator makes."""
    name = graph.op(operator)
    if name in _SUMS or name in JOINS:
        return [index for index in operator.inputs if graph.is_activation(index)]
    return [operator.inputs[data_slot(graph, operator)]] if name in MOVES else []


def _peak(graph: Graph, cell: Iterable[OperatorT], feeds: Sequence[Sequence[Array]]) -> float:
    """Return the largest magnitude of what the sums make."""
    tensors = [one.outputs[0] for one in cell if graph.op(one) in ("ADD", "SUB")]
    peak = 0.0

    def see(index: int, values: Array) -> None:  # noqa: ARG001
        nonlocal peak
        peak = max(peak, float(np.abs(values).max(initial=0)))

    runner = Runner(graph, tensors)
    for feed in feeds:
        runner.show(feed, see)
    return peak
