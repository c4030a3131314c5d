"""Which tensors lead to scores and nothing else: there the few large values are what matters.

A detector gives a score to each place of an image, and at almost all of them finds nothing. Squared
error over all places clips what makes the few scores that are not zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeconv.quantize.joins import joins
from edgeconv.quantize.joins.joins import JOINS
from edgeconv.quantize.joins.moves import MOVES
from edgeconv.quantize.statistics.calibrators import HistogramObserver
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_PASSES = frozenset((*MOVES, *JOINS, "DEQUANTIZE", "QUANTIZE"))
"""Operators that may lie between a score and the output of the graph."""

_RARE = 0.02
"""At most that share of scores is above one half."""


def mark(graph: Graph, seen: Mapping[int, HistogramObserver]) -> None:
    """Mark what was seen of tensors whose few large values matter; see `rare`."""
    found = rare(graph, seen)
    for index, one in seen.items():
        one.mark(tail=index in found)


def rare(graph: Graph, seen: Mapping[int, HistogramObserver]) -> list[int]:
    """Return the tensors that lead only to scores of which few are high.

    There are none where all of the graph leads there: its error is that of the scores then.

    Args:
        graph: The float graph.
        seen: What was seen of its tensors; only of these any are returned.
    """
    leading: set[int] = set()
    shown: set[int] = set()
    readers = graph.consumers()
    for operator in reversed(graph.operators):
        for made in operator.outputs:
            after = [graph.op(reader) in _PASSES for reader in readers.get(made, ())]
            onward = {out for reader in readers.get(made, ()) for out in reader.outputs}
            if all(after) and onward <= shown and (onward or made in graph.outputs):
                shown.add(made)
            elif made not in graph.outputs and onward and onward <= leading:
                leading.add(made)
        if graph.op(operator) == "LOGISTIC" and set(operator.outputs) <= shown:
            pieces = _pieces(graph, operator)
            if _seldom(pieces, seen):
                leading |= pieces
    if not leading or any(_onward(index, readers) <= leading for index in graph.inputs):
        return []
    return sorted(leading & seen.keys())


def _onward(index: int, readers: Mapping[int, list[OperatorT]]) -> set[int]:
    return {out for reader in readers.get(index, ()) for out in reader.outputs}


def _pieces(graph: Graph, logistic: OperatorT) -> set[int]:
    """Return the tensors that scores are joined from, and that go nowhere else."""
    index = logistic.inputs[0]
    join = joins.find(graph, [index]).get(index)
    if join is None:
        return {index} if len(graph.consumers()[index]) == 1 else set()
    inside = [id(operator) for operator in (*join.between, logistic)]
    readers = graph.consumers()
    found = _present(join)
    for tensor in {*found, *(out for operator in join.between for out in operator.outputs)}:
        if any(id(reader) not in inside for reader in readers.get(tensor, ())):
            other = joins.find(graph, [tensor]).get(tensor)
            found -= {tensor} if other is None else _present(other)
    return found


def _present(join: joins.Join) -> set[int]:
    return {join.pieces[label] for label in np.unique(join.labels).tolist() if label >= 0}


def _seldom(pieces: set[int], seen: Mapping[int, HistogramObserver]) -> bool:
    """Tell whether few of the values that LOGISTIC makes scores of are above zero."""
    above = total = 0.0
    for index in pieces & seen.keys():
        centres, counts = seen[index].bins()
        above += float(counts[centres > 0].sum())
        total += float(counts.sum())
    return 0 < above <= _RARE * total
