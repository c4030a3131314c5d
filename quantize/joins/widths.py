"""How wide the ranges of values are that one scale would have to hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.joins.joins import Join
from edgeconv.tflite.graph import Graph
from edgeconv.tflite.run import Runner

RATIO = 8.0
"""Ranges that differ by more lose three bits in a common scale."""

_SAMPLES = 32
"""At most as many samples tell the ranges."""


def differ(wide: Iterable[float]) -> bool:
    """Tell whether ranges are too different for one scale; what is always zero fits any."""
    known = [width for width in wide if width > 0]
    return bool(known) and max(known) > RATIO * min(known)


def widths(
    graph: Graph, joins: Mapping[int, Join], feeds: Sequence[Sequence[Array]]
) -> dict[int, Array]:
    """Return how wide the range of each piece of a tensor is, zero included.

    Args:
        graph: The float graph.
        joins: What the tensors are joined from.
        feeds: Per sample the graph's inputs, in the stored form.

    Returns:
        By tensor; ``[piece]``.
    """
    sorted_ = {index: _Sorted(join) for index, join in joins.items()}
    low = {index: np.zeros(len(join.pieces)) for index, join in joins.items()}
    high = {index: np.zeros(len(join.pieces)) for index, join in joins.items()}

    def see(index: int, values: Array) -> None:
        least, most = sorted_[index].extremes(values)
        low[index] = np.minimum(low[index], least)
        high[index] = np.maximum(high[index], most)

    if joins:
        runner = Runner(graph, joins)
        for feed in few(feeds):
            runner.show(feed, see)
    return {index: high[index] - low[index] for index in joins}


def widths_of(
    graph: Graph, tensors: Collection[int], feeds: Sequence[Sequence[Array]]
) -> list[float]:
    """Return how wide the range of each tensor is, zero included."""
    low, high = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)

    def see(index: int, values: Array) -> None:
        low[index] = min(low[index], float(values.min(initial=0.0)))
        high[index] = max(high[index], float(values.max(initial=0.0)))

    runner = Runner(graph, low)
    for feed in few(feeds):
        runner.show(feed, see)
    return [high[index] - low[index] for index in tensors]


def few(feeds: Sequence[Sequence[Array]]) -> Sequence[Sequence[Array]]:
    """Return as many samples as tell ranges, evenly spread."""
    return feeds[:: max(1, -(-len(feeds) // _SAMPLES))]


class _Sorted:
    """The elements of a tensor in the order of their pieces."""

    def __init__(self, join: Join) -> None:
        labels = join.labels.ravel()
        order = np.argsort(labels, kind="stable")
        self._order = order[np.count_nonzero(labels < 0) :]
        self._starts = np.searchsorted(labels[self._order], np.arange(len(join.pieces)))

    def extremes(self, values: Array) -> tuple[Array, Array]:
        """Return the least and the largest value of each piece."""
        ordered = values.ravel()[self._order]
        least = np.minimum.reduceat(ordered, self._starts)
        return least, np.maximum.reduceat(ordered, self._starts)
