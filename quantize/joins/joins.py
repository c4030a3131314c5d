"""Which pieces a graph's outputs are joined from, and where each is.

An output is followed back through operators that move values or work element by element to the
CONCATENATION or PACK behind it, and through its inputs to others. Then each element of the output
gets the number of its piece, sent the way that the values go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.joins.moves import MOVES, data_slot, moved
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

JOINS = ("CONCATENATION", "PACK")
"""Operators that put tensors side by side."""

UNARY = (
    "ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG",
    "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIGN",
    "SIN", "SQRT", "SQUARE", "TANH",
)  # fmt: skip
"""Operators that make each value from the one in its place."""

BINARY = (
    "ADD", "DIV", "FLOOR_DIV", "FLOOR_MOD", "MAXIMUM", "MINIMUM", "MUL", "POW", "PRELU",
    "SQUARED_DIFFERENCE", "SUB",
)  # fmt: skip
"""Operators that make each value from two in its place; operands are broadcast."""

ELEMENTWISE = frozenset((*UNARY, *BINARY))

NO_PIECE = -1
"""The label of what is no piece's: constants that are joined with them."""


@dataclass(frozen=True, slots=True)
class Join:
    """What a tensor is joined from.

    Attributes:
        pieces: The tensors that are joined, in the order in which they are first read.
        labels: For each element of the tensor its place in ``pieces``, or `NO_PIECE`; int32, in the
            tensor's stored shape.
        between: The operators between the pieces and the tensor, joins among them, in the graph's
            order.
    """

    pieces: tuple[int, ...]
    labels: Array
    between: tuple[OperatorT, ...]

    def along(self, groups: Iterable[Iterable[int]] | None = None) -> Along | None:
        """Return the axis along which pieces lie side by side.

        Args:
            groups: Places in ``pieces`` that are taken together; each piece alone by default.

        Returns:
            ``None`` where more than one axis tells them apart.
        """
        wanted = [[place] for place in range(len(self.pieces))] if groups is None else groups
        group = np.full(len(self.pieces) + 1, NO_PIECE, np.int32)
        for number, places in enumerate(wanted):
            group[list(places)] = number
        return along(group[self.labels], int(group.max()) + 1)


@dataclass(frozen=True, slots=True)
class Along:
    """Pieces side by side.

    Attributes:
        axis: The stored axis.
        positions: For each piece its positions on that axis, ascending.
    """

    axis: int
    positions: tuple[Array, ...]


def along(labels: Array, count: int) -> Along | None:
    """Return the axis along which labels 0 to `count` - 1 differ, and the positions of each.

    Returns:
        ``None`` where more than one axis tells them apart.
    """
    for axis in range(labels.ndim):
        row = np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis])
        if (row == row[:1]).all():
            positions = (np.flatnonzero(row[0] == number) for number in range(count))
            return Along(axis, tuple(positions))
    return None


def find(graph: Graph, tensors: Iterable[int] | None = None) -> dict[int, Join]:
    """Return what float tensors are joined from.

    Args:
        graph: A float graph.
        tensors: The tensors to follow back; the graph's outputs by default.

    Returns:
        By tensor; none for those that are of one piece.
    """
    wanted = graph.outputs if tensors is None else tensors
    finder = _Finder(graph)
    found = {index: finder.join(index) for index in wanted if graph.is_activation(index)}
    return {index: join for index, join in found.items() if join is not None}


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._producers = graph.producers()
        self._order = {id(operator): place for place, operator in enumerate(graph.operators)}
        self._labels: dict[int, Array] = {}

    def join(self, index: int) -> Join | None:
        """Return what one tensor is joined from; ``None`` if it is of one piece."""
        between = self._between(index)
        for operator in between:
            self._label(operator)
        labels = self._labels.get(index)
        if labels is None:
            return None
        pieces = [int(piece) for piece in np.unique(labels) if piece >= 0]
        if len(pieces) < 2:
            return None
        place = np.full(max(pieces) + 2, NO_PIECE, np.int32)
        firsts = np.argsort([int(np.argmax(labels == piece)) for piece in pieces], kind="stable")
        ordered = [pieces[first] for first in firsts]
        place[ordered] = np.arange(len(ordered))
        used = [operator for operator in between if self._labels.keys() & set(operator.outputs)]
        return Join(tuple(ordered), place[labels], tuple(used))

    def _between(self, index: int) -> list[OperatorT]:
        """Return the operators that may lie between a tensor and its pieces, in order."""
        found: dict[int, OperatorT] = {}
        waiting = [index]
        while waiting:
            operator = self._producers.get(waiting.pop())
            if operator is None or id(operator) in found or not self._is_followed(operator):
                continue
            found[id(operator)] = operator
            waiting += self._sources(operator)
        return sorted(found.values(), key=lambda operator: self._order[id(operator)])

    def _is_followed(self, operator: OperatorT) -> bool:
        graph, name = self._graph, self._graph.op(operator)
        known = name in JOINS or name in ELEMENTWISE or name in MOVES
        return known and all(graph.is_float(index) for index in operator.outputs)

    def _sources(self, operator: OperatorT) -> list[int]:
        """Return the computed tensors whose values an operator passes on."""
        graph, name = self._graph, self._graph.op(operator)
        if name in JOINS or name in ELEMENTWISE:
            return [index for index in operator.inputs if graph.is_activation(index)]
        source = operator.inputs[data_slot(graph, operator)]
        return [source] if graph.is_activation(source) else []

    def _label(self, operator: OperatorT) -> None:
        """Label the outputs of an operator whose inputs come from more than one piece."""
        if self._labels.keys() & set(operator.outputs):
            return
        graph, name = self._graph, self._graph.op(operator)
        if name in JOINS:
            found: list[Array] | None = [self._joined(operator)]
        elif name in ELEMENTWISE:
            found = self._elementwise(operator)
        else:
            labels = self._labels.get(operator.inputs[data_slot(graph, operator)])
            found = None if labels is None else moved(graph, operator, labels)
        for index, labels in zip(operator.outputs, found or (), strict=False):
            if labels.size and labels.min() != labels.max():
                self._labels[index] = labels

    def _joined(self, operator: OperatorT) -> Array:
        graph = self._graph
        parts = [self._of(index) for index in operator.inputs]
        if graph.op(operator) == "PACK":
            return np.stack(parts, operator.builtinOptions.axis)
        return np.concatenate(parts, operator.builtinOptions.axis)

    def _of(self, index: int) -> Array:
        """Return a joined tensor's labels: its own pieces', or it is one."""
        if index in self._labels:
            return self._labels[index]
        label = index if self._graph.is_activation(index) else NO_PIECE
        return np.full(self._graph.shape(index), label, np.int32)

    def _elementwise(self, operator: OperatorT) -> list[Array] | None:
        """Return the labels of what is computed element by element; ``None`` if they disagree."""
        shape = self._graph.shape(operator.outputs[0])
        known = [self._labels[index] for index in operator.inputs if index in self._labels]
        spread = [np.broadcast_to(labels, shape) for labels in known]
        if not spread or not all(np.array_equal(spread[0], other) for other in spread[1:]):
            return None
        return [spread[0]]
