"""States that are sums over many steps, such as an LSTM's cell, in 16 bits.

What a cell gathers grows far beyond what its readers tell apart: their tanh is saturated beyond 4,
while the cell goes on to hundreds (Hochreiter & Schmidhuber 1997, "Long short-term memory"). Eight
bits over that range leave the tanh three values, and swallow what a step adds. Integer LSTM kernels
keep cells in 16 bits for that reason (Li & Alvarez 2021, "On the quantization of recurrent neural
networks").

What decides how much of a state is kept has 16 bits, too. In 8 bits the largest value of a gate is
255/256, so that a state of which all is to be kept loses a 256th in every step, and as much of a
term is lost that a gate lets in slowly. The gates and terms of a cell are computed in 16 bits from
where they saturate.

A state that moves slowly needs 16 bits whatever its range is: what a step adds to it is nothing
where that is less than half of a step of 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.core.states import State
from edgeconv.quantize.joins.carried import index_of
from edgeconv.quantize.joins.joins import JOINS
from edgeconv.quantize.joins.moves import MOVES, data_slot
from edgeconv.quantize.rules.precision import Precision
from edgeconv.quantize.rules.table import INT16_VERSIONS
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_SUMS = ("ADD", "MUL", "SUB")
_SATURATING = ("LOGISTIC", "TANH")

_SATURATED = 4.0
"""Beyond this a tanh is 1 to the last of 8 bits; a state that goes farther has a coarse one."""

_MOST = 0.5
"""A state of whose changes 8 bits would miss more is in the wrong place soon."""

_SAMPLES = 64


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
    for cell in _cells(graph):
        places = [known[id(operator)] for operator in cell.operators]
        if any(precisions[place] == "int16" for place in places):
            continue
        narrow = [place for place in places if result[place] == "int8"]
        why = _too_much(graph, cell, feeds) if narrow else ""
        if not why:
            continue
        what = f"state {cell.state.input} {why}"
        if not mixed:
            notes.append(f"{what}: 8 bits are too few for it, and the target takes no others")
            continue
        for place in narrow:
            result[place] = "int16"
        notes.append(f"{what}: that has 16 bits inside")
    return result, notes


@dataclass(frozen=True, slots=True)
class _Cell:
    """What keeps a state.

    Attributes:
        state: The state.
        ends: The input and the output that hold it.
        sums: The sums that it goes through.
        saturates: Whether an operator that saturates reads one.
        operators: What computes it, gates and terms among it, as far as it may have 16 bits.
    """

    state: State
    ends: tuple[int, int]
    sums: Sequence[OperatorT]
    saturates: bool
    operators: Sequence[OperatorT]


def _cells(graph: Graph) -> Iterator[_Cell]:
    """Yield what keeps each state that goes through sums."""
    readers = graph.consumers()
    for state in graph.states:
        source = index_of(graph, graph.inputs, state.input)
        target = index_of(graph, graph.outputs, state.output)
        if source is None or target is None:
            continue
        cell = _between(graph, source, target)
        made = [index for operator in cell for index in operator.outputs]
        kinds = {graph.op(reader) for index in made for reader in readers.get(index, ())}
        sums = [operator for operator in cell if graph.op(operator) in ("ADD", "SUB")]
        if sums:
            inside = [*_terms(graph, cell), *cell]
            wide = [one for one in inside if graph.op(one) in INT16_VERSIONS]
            saturates = bool(kinds & set(_SATURATING))
            yield _Cell(state, (source, target), sums, saturates, wide)


def _too_much(graph: Graph, cell: _Cell, feeds: Sequence[Sequence[Array]]) -> str:
    """Return why a state is too much for 8 bits; ``""`` where it is not."""
    if cell.saturates:
        peak = _peak(graph, cell.sums, feeds)
        if peak > _SATURATED:
            return f"gathers values up to {peak:.3g} that a tanh or sigmoid reads"
    share = _swallowed(graph, cell, feeds)
    if share > _MOST:
        return f"moves by less than half of an 8-bit step in {share:.0%} of its changes"
    return ""


def _swallowed(graph: Graph, cell: _Cell, feeds: Sequence[Sequence[Array]]) -> float:
    """Return which share of a state's changes, in all samples, 8 bits would not see."""
    source, target = cell.ends
    place = list(graph.inputs).index(source)
    runner = Runner(graph, [target])
    moved, peak, low = [], 0.0, 0.0
    for feed in feeds[:_SAMPLES]:
        before = feed[place]
        if cell.state.part is None and np.prod(graph.shape(target)) != before.size:
            return 0.0
        after = cell.state.of(runner.run(feed)[target], before.shape)
        moved.append(np.abs(after - before).ravel())
        low = min(low, float(before.min(initial=0)), float(after.min(initial=0)))
        peak = max(peak, float(before.max(initial=0)), float(after.max(initial=0)))
    changes = np.concatenate(moved) if moved else np.zeros(0)
    changes = changes[changes > 0]
    return float((changes < (peak - low) / 255 / 2).mean()) if changes.size else 0.0


def _terms(graph: Graph, cell: Sequence[OperatorT]) -> list[OperatorT]:
    """Return what makes the gates and terms of a cell: up to what saturates, in order."""
    known = {id(operator) for operator in cell}
    producers = graph.producers()
    waiting = [index for one in cell if graph.op(one) in _SUMS for index in one.inputs]
    found: set[int] = set()
    while waiting:
        one = producers.get(waiting.pop())
        if one is None or id(one) in known | found or graph.op(one) in JOINS:
            continue
        sources = _passed(graph, one)
        if graph.op(one) in _SATURATING or sources:
            found.add(id(one))
            waiting += sources
    return [one for one in graph.operators if id(one) in found]


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


def _peak(graph: Graph, sums: Iterable[OperatorT], feeds: Sequence[Sequence[Array]]) -> float:
    """Return the largest magnitude of what the sums make."""
    tensors = [one.outputs[0] for one in sums]
    peak = 0.0

    def see(index: int, values: Array) -> None:  # noqa: ARG001
        nonlocal peak
        peak = max(peak, float(np.abs(values).max(initial=0)))

    runner = Runner(graph, tensors)
    for feed in feeds:
        runner.show(feed, see)
    return peak
