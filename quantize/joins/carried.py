"""States of a stream among a graph's tensors: which must share a scale, so that bytes go round.

Where an input or output of a graph is an integer tensor, that one is an end of its states. Where
it is joined or taken apart as real numbers, its pieces are ends. Element by element they are
followed to the first integer tensors: forward from the input, backward from the output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeconv.core.artifacts import Array, TensorSpec
from edgeconv.core.states import Part, State
from edgeconv.quantize.joins.distribute import Parts
from edgeconv.quantize.joins.joins import find
from edgeconv.quantize.joins.moves import MOVES, data_slot, moved
from edgeconv.quantize.joins.widths import differ
from edgeconv.quantize.rules.precision import BITS, Precision
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

_CROSSINGS = ("QUANTIZE", "DEQUANTIZE")


def stored(states: Sequence[State], outputs: Sequence[TensorSpec]) -> tuple[State, ...]:
    """Return states whose parts lie along the axes of outputs as these are stored."""
    orders = {spec.name: spec.permutation for spec in outputs}
    return tuple(
        state
        if state.part is None
        else replace(
            state,
            part=replace(state.part, axis=orders[state.output].index(state.part.axis)),
        )
        for state in states
    )


def follow(
    graph: Graph, before: Sequence[str], split: Mapping[int, Parts]
) -> tuple[tuple[State, ...], list[str]]:
    """Return the states after outputs have become several, and what to say of it.

    Args:
        graph: The graph, whose states name outputs as they were.
        before: The names of the outputs, as they were.
        split: By the place of an output that has become several, its parts.
    """
    names: dict[str, list[str]] = {}
    after = iter([graph.name(index) for index in graph.outputs])
    for place, name in enumerate(before):
        count = len(split[place].parts) if place in split else 1
        names[name] = [next(after) for _ in range(count)]
    found, notes = [], []
    for state in graph.states:
        place = list(before).index(state.output)
        one = _within(state, split[place], names[state.output]) if place in split else state
        if one is not None:
            found.append(one)
            continue
        notes.append(
            f"state {state.input} is fed from several outputs ({', '.join(names[state.output])}), "
            "whose scales differ: one integer input cannot hold what they hold; use --io-dtype "
            "float32, or a model with a state for each"
        )
    return tuple(found), notes


def _within(state: State, split: Parts, names: Sequence[str]) -> State | None:
    """Return a state as that of the one output that it has become a part of."""
    part = state.part
    if part is None or part.axis != split.axis:
        return None
    wanted = list(range(part.start, part.stop))
    for name, one in zip(names, split.parts, strict=True):
        positions = list(one.positions)
        if positions == wanted:
            return replace(state, output=name, part=None)
        if set(wanted) <= set(positions):
            start = positions.index(part.start)
            if positions[start : start + len(wanted)] == wanted:
                return replace(state, output=name, part=Part(part.axis, start, start + len(wanted)))
    return None


def pairs(graph: Graph, bits: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the integer tensors at both ends of each state that must have one scale.

    Args:
        graph: The float graph; where precisions meet, QUANTIZE and DEQUANTIZE stand between.
        bits: The bits of each activation that becomes an integer one.
    """
    seen: set[tuple[int, int]] = set()
    for state in graph.states:
        source, target = index_of(graph, graph.outputs, state.output), _input(graph, state)
        if source is None or target is None:
            continue
        left = _leaving(graph, source, bits)
        if state.part is not None:
            left = state.part.of(left)
        if left.size != np.prod(graph.shape(target)):
            continue
        flat = left.ravel()
        for entered, elements in _entered(graph, target, bits):
            for index in np.unique(flat[elements]).tolist():
                pair = (entered, int(index))
                if index >= 0 and pair not in seen and bits[entered] == bits[index]:
                    seen.add(pair)
                    yield pair


def apart_in_float(
    graph: Graph, precisions: Sequence[Precision], feeds: Sequence[Sequence[Array]]
) -> tuple[list[Precision], list[str]]:
    """Let states be taken apart as real numbers where what they hold differs in range.

    Args:
        graph: The float graph, lowered; its inputs are to be real numbers.
        precisions: The precision of each operator.
        feeds: Per sample the graph's inputs, in the stored form.

    Returns:
        The precision of each operator, and what to say of it.
    """
    chosen: set[int] = set()
    notes = []
    for name in dict.fromkeys(state.input for state in graph.states):
        index = index_of(graph, graph.inputs, name)
        if index is None or not graph.is_float(index):
            continue
        moves, pieces = _taken_apart(graph, index)
        if moves and differ(_widths(graph, pieces, feeds)):
            chosen |= {id(operator) for operator in moves}
            notes.append(
                f"state {name} holds values of different ranges: it is taken apart as float32, "
                "before QUANTIZE, so that each has a scale of its own"
            )
    result: list[Precision] = [
        "float" if id(operator) in chosen and precision in BITS else precision
        for operator, precision in zip(graph.operators, precisions, strict=True)
    ]
    return result, notes


def index_of(graph: Graph, tensors: Sequence[int], name: str) -> int | None:
    """Return the one of some tensors that has a name; ``None`` if there is none."""
    return next((index for index in tensors if graph.name(index) == name), None)


def _input(graph: Graph, state: State) -> int | None:
    return index_of(graph, graph.inputs, state.input)


def _entered(graph: Graph, source: int, bits: Collection[int]) -> Iterator[tuple[int, Array]]:
    """Yield the first integer tensors behind an input, and which of its elements each holds."""
    held = {source: np.arange(int(np.prod(graph.shape(source)))).reshape(graph.shape(source))}
    if source in bits:
        yield source, held[source].ravel()
        return
    for operator in graph.operators:
        for index, elements in _passed(graph, operator, held):
            if index in bits:
                yield index, elements.ravel()
            else:
                held[index] = elements


def _passed(
    graph: Graph, operator: OperatorT, held: Mapping[int, Array]
) -> list[tuple[int, Array]]:
    name = graph.op(operator)
    slot = 0 if name in _CROSSINGS or name not in MOVES else data_slot(graph, operator)
    if not operator.inputs or operator.inputs[slot] not in held:
        return []
    elements = held[operator.inputs[slot]]
    if name in _CROSSINGS:
        return [(operator.outputs[0], elements)]
    found = moved(graph, operator, elements) if name in MOVES else None
    return list(zip(operator.outputs, found or (), strict=False))


def _leaving(graph: Graph, output: int, bits: Collection[int]) -> Array:
    """Return, for each element of an output, the last integer tensor before it; -1 for none."""
    if output in bits:
        return np.full(graph.shape(output), output)
    join = find(graph, [output]).get(output)
    pieces = (output,) if join is None else join.pieces
    last = np.array([*(_integer(graph, piece, bits) for piece in pieces), -1])
    labels = np.zeros(graph.shape(output), np.int32) if join is None else join.labels
    return last[labels]


def _integer(graph: Graph, index: int, bits: Collection[int]) -> int:
    """Return the integer tensor that a real one is a copy of, moved or not; -1 for none."""
    producers = graph.producers()
    while index not in bits:
        operator = producers.get(index)
        if operator is None or graph.op(operator) not in (*MOVES, *_CROSSINGS):
            return -1
        crossing = graph.op(operator) in _CROSSINGS
        index = operator.inputs[0 if crossing else data_slot(graph, operator)]
    return index


def _taken_apart(graph: Graph, source: int) -> tuple[list[OperatorT], list[int]]:
    """Return what takes a tensor apart and moves the parts, and the parts in the end."""
    reached, moves = {source}, []
    ends: dict[int, None] = {}
    whole = int(np.prod(graph.shape(source)))
    for operator in graph.operators:
        if graph.op(operator) not in MOVES:
            continue
        if operator.inputs[data_slot(graph, operator)] in reached:
            moves.append(operator)
            reached |= set(operator.outputs)
            ends |= dict.fromkeys(operator.outputs)
            ends.pop(operator.inputs[data_slot(graph, operator)], None)
    parts = [index for index in ends if int(np.prod(graph.shape(index))) < whole]
    return (moves, parts) if len(parts) > 1 else ([], [])


def _widths(graph: Graph, tensors: Sequence[int], feeds: Sequence[Sequence[Array]]) -> list[float]:
    """Return how wide the range of each tensor is over samples, zero included."""
    low, high = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)

    def see(index: int, values: Array) -> None:
        low[index] = min(low[index], float(values.min(initial=0)))
        high[index] = max(high[index], float(values.max(initial=0)))

    runner = Runner(graph, tensors)
    for feed in feeds:
        runner.show(feed, see)
    return [high[index] - low[index] for index in tensors]
