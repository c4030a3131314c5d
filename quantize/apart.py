"""Keep what is joined in an output apart where one scale cannot hold it.

One scale for boxes of hundreds of pixels and scores below one leaves the scores nothing, as every
detector exported to int8 shows. Where pieces that differ that much in range are joined, each gets
a scale of its own, and they are joined as real numbers, behind DEQUANTIZE. Separate scales for
what differs in range: Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient
inference", section 3.1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from edgeconv.artifacts import Array
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.joins import Join, find
from edgeconv.quantize.moves import MOVES, data_slot
from edgeconv.quantize.precision import BITS, Precision
from edgeconv.quantize.runs import Runner
from edgeconv.tflite import OperatorT

RATIO = 8.0
"""Ranges that differ by more lose three bits in a common scale."""

_SAMPLES = 64
"""At most as many samples tell the ranges."""


def joined_in_float(
    graph: Graph,
    precisions: Sequence[Precision],
    feeds: Sequence[Sequence[Array]],
    given: Collection[int] = (),
) -> tuple[list[Precision], list[str]]:
    """Let outputs be joined as real numbers where their pieces differ in range.

    What joins them, and what stands between there and the output, computes in float: operators
    that move values, and cheap element-wise ones.

    Args:
        graph: The float graph, lowered.
        precisions: The precision of each operator.
        feeds: Per sample the graph's inputs, in the stored form.
        given: Tensors that have a scale already, which their model has learnt to live with.

    Returns:
        The precision of each operator, and what to say of it.
    """
    chosen: set[int] = set()
    notes = []
    for output, join in find(graph).items():
        free = {index: one for index, one in between(graph, join).items() if index not in given}
        found = _behind(graph, join, mixed(graph, free, feeds))
        if found:
            chosen |= found
            notes.append(
                f"output {graph.name(output)} joins values of different ranges: that is done as "
                "float32, behind DEQUANTIZE, so that each has a scale of its own"
            )
    result: list[Precision] = [
        "float" if id(operator) in chosen and precision in BITS else precision
        for operator, precision in zip(graph.operators, precisions, strict=True)
    ]
    return (result, notes) if result != list(precisions) else (result, [])


def between(graph: Graph, join: Join) -> dict[int, Join]:
    """Return the tensors from the first join on to the last, with what each is joined from."""
    return find(graph, [index for operator in join.between for index in operator.outputs])


def mixed(
    graph: Graph, joins: dict[int, Join], feeds: Sequence[Sequence[Array]]
) -> dict[int, Array]:
    """Return the ranges of the pieces of tensors, where these differ too much for one scale.

    Returns:
        By tensor: how wide each piece's range is there, zero included; ``[piece]``.
    """
    found = widths(graph, joins, feeds)
    return {index: wide for index, wide in found.items() if differ(wide)}


def differ(wide: Iterable[float]) -> bool:
    """Tell whether ranges are too different for one scale; what is always zero fits any."""
    known = [width for width in wide if width > 0]
    return bool(known) and max(known) > RATIO * min(known)


def widths(
    graph: Graph, joins: dict[int, Join], feeds: Sequence[Sequence[Array]]
) -> dict[int, Array]:
    """Return how wide the range of each piece of a tensor is, zero included, over samples."""
    step = max(1, -(-len(feeds) // _SAMPLES))
    sorted_ = {index: _Sorted(join) for index, join in joins.items()}
    low = {index: np.zeros(len(join.pieces)) for index, join in joins.items()}
    high = {index: np.zeros(len(join.pieces)) for index, join in joins.items()}
    if not joins:
        return {}

    def see(index: int, values: Array) -> None:
        least, most = sorted_[index].extremes(values)
        low[index] = np.minimum(low[index], least)
        high[index] = np.maximum(high[index], most)

    runner = Runner(graph, joins)
    for feed in feeds[::step]:
        runner.show(feed, see)
    return {index: high[index] - low[index] for index in joins}


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


def _behind(graph: Graph, join: Join, wide: dict[int, Array]) -> set[int]:
    """Return what makes tensors of mixed ranges, and what follows up to the output, by identity.

    Integers that become real numbers only to be joined do so exactly, as real numbers.
    """
    reached: set[int] = set()
    found: set[int] = set()
    for operator in join.between:
        if reached & set(operator.inputs) or wide.keys() & set(operator.outputs):
            found.add(id(operator))
            reached |= set(operator.outputs)
    if found:
        for piece in join.pieces:
            found |= {id(operator) for operator in _counted(graph, piece, found)}
    return found


def _counted(graph: Graph, piece: int, behind: Collection[int]) -> list[OperatorT]:
    """Return what makes a real number of an integer for the operators behind alone, or nothing."""
    readers, producers = graph.consumers(), graph.producers()
    chain: list[OperatorT] = []
    allowed = set(behind)
    while piece in producers and all(id(one) in allowed for one in readers.get(piece, ())):
        made = producers[piece]
        chain.append(made)
        allowed.add(id(made))
        if graph.op(made) == "CAST":
            return [] if graph.is_float(made.inputs[0]) else chain
        if graph.op(made) not in MOVES:
            return []
        piece = made.inputs[data_slot(graph, made)]
    return []
