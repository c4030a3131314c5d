"""Which channels of which tensors may be rescaled together without changing what a model computes.

Channels are the last axis, as everywhere in TFLite. A channel's *variable* is a positive factor
that may be put on it: convolutions, dense layers and products with constants take it up in their
weights, on either side; what is homogeneous (ReLU, pooling, sums of channels with equal factors,
moving values) hands it on; squares and square roots hand on its square and its root; all else pins
it to 1, as do the model's inputs and outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

Ids = npt.NDArray[np.int64]

WEIGHTED = ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D")
_HOMOGENEOUS = ("RELU", "ABS", "LEAKY_RELU", "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESIZE_BILINEAR",
                "RESIZE_NEAREST_NEIGHBOR")  # fmt: skip
_REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
_LINEAR = (ActivationFunctionType.NONE, ActivationFunctionType.RELU)
_LARGEST = 1 << 22
"""Tensors with more elements are not followed through operators that move values."""


@dataclass(slots=True)
class Channels:
    """The variable of each channel of one tensor, and the power in which it has it."""

    ids: Ids
    power: float = 1.0


class ChannelEquivalence:
    """The variables of a float graph, tied as its operators demand.

    Args:
        graph: The float graph.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._readers = Counter(index for op in graph.operators for index in op.inputs)
        self._parent: list[int] = []
        self._pinned: set[int] = set()
        self._pinned_roots: set[int] | None = None
        self.tensors: dict[int, Channels] = {}
        for index in graph.inputs:
            if graph.is_float(index):
                self._fresh(index)
                self._pin(index)
        for operator in graph.operators:
            self._visit(operator)
        for index in graph.outputs:
            self._pin(index)

    def roots(self, index: int) -> Ids:
        """Return the variable that stands for each channel of a tensor, -1 where it is pinned."""
        if self._pinned_roots is None:
            self._pinned_roots = {self._root(entry) for entry in self._pinned}
        pinned = self._pinned_roots
        found = [self._root(int(entry)) for entry in self.tensors[index].ids]
        return np.array([-1 if root in pinned else root for root in found], np.int64)

    def _root(self, entry: int) -> int:
        while self._parent[entry] != entry:
            self._parent[entry] = self._parent[self._parent[entry]]
            entry = self._parent[entry]
        return entry

    def _new(self, count: int) -> Ids:
        first = len(self._parent)
        self._parent += range(first, first + count)
        return np.arange(first, first + count)

    def _width(self, index: int) -> int:
        shape = self._graph.shape(index)
        return shape[-1] if shape else 1

    def _fresh(self, index: int) -> None:
        self.tensors[index] = Channels(self._new(self._width(index)))

    def _pin(self, index: int) -> None:
        if index in self.tensors:
            self._pinned.update(self.tensors[index].ids.tolist())

    def _tie(self, first: Ids, second: Ids) -> None:
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            self._parent[self._root(one)] = self._root(other)

    def _visit(self, operator: OperatorT) -> None:
        outputs = [index for index in operator.outputs if self._graph.is_activation(index)]
        name = self._graph.op(operator)
        handler = self._handler(name, operator)
        if len(outputs) == 1 and handler is not None and self._linear(operator):
            found = handler(self, operator)
            if found is not None and found.ids.size == self._width(outputs[0]):
                self.tensors[outputs[0]] = found
                return
        for index in operator.inputs:
            self._pin(index)
        for index in outputs:
            self._fresh(index)
            self._pin(index)

    def _linear(self, operator: OperatorT) -> bool:
        options = operator.builtinOptions
        return getattr(options, "fusedActivationFunction", ActivationFunctionType.NONE) in _LINEAR

    def _handler(self, name: str, operator: OperatorT) -> _Handler | None:
        if name in ("ADD", "SUB", "MUL"):
            constants = [index for index in operator.inputs if self._graph.is_constant(index)]
            kind = "constant" if constants else "pair"
            return _HANDLERS.get(f"{name} {kind}")
        return _HANDLERS.get(name)

    def source(self, operator: OperatorT) -> int:
        """Return the only computed float input, -1 where there are others."""
        found = [index for index in operator.inputs if index in self.tensors]
        return found[0] if len(found) == 1 else -1

    # One handler per kind of operator; they return the output's channels, None where it pins.

    def _weighted(self, operator: OperatorT) -> Channels | None:
        source, graph = self.source(operator), self._graph
        if source < 0 or not all(graph.is_constant(i) for i in operator.inputs[1:] if i >= 0):
            return None
        if self._readers[operator.inputs[1]] > 1:
            return None
        weight, depthwise = graph.shape(operator.inputs[1]), graph.op(operator) == WEIGHTED[2]
        width = self._width(source)
        if weight[-1] % width if depthwise else weight[-1] != width:
            return None
        if self.tensors[source].power != 1:
            self._pin(source)
        return Channels(self._new(weight[-1] if depthwise else weight[0]))

    def _scaled(self, operator: OperatorT) -> Channels | None:
        source = self.source(operator)
        if source < 0 or not self._broadcasts(operator, source):
            return None
        if self.tensors[source].power != 1:
            self._pin(source)
        return Channels(self._new(self._width(source)))

    def _broadcasts(self, operator: OperatorT, source: int) -> bool:
        """Tell whether the source has the output's channels, and the constant at most these."""
        return self._width(operator.outputs[0]) == self._width(source)

    def _shifted(self, operator: OperatorT) -> Channels | None:
        source = self.source(operator)
        if source < 0 or not self._broadcasts(operator, source):
            return None
        return self.tensors[source]

    def _summed(self, operator: OperatorT) -> Channels | None:
        first, second = (self.tensors.get(index) for index in operator.inputs)
        if first is None or second is None or first.ids.size != second.ids.size:
            return None
        if first.power != second.power:
            return None
        self._tie(first.ids, second.ids)
        return first

    def _squared(self, operator: OperatorT) -> Channels | None:
        first, second = operator.inputs
        found = self.tensors.get(first)
        return Channels(found.ids, 2 * found.power) if found and first == second else None

    def _rooted(self, operator: OperatorT) -> Channels | None:
        found = self.tensors.get(operator.inputs[0])
        return Channels(found.ids, found.power / 2) if found else None

    def _same(self, operator: OperatorT) -> Channels | None:
        return self.tensors.get(self.source(operator))

    def _reduced(self, operator: OperatorT) -> Channels | None:
        source, graph = self.source(operator), self._graph
        if source < 0 or not graph.is_constant(operator.inputs[1]):
            return None
        rank = len(graph.shape(source))
        axes = {int(axis) % rank for axis in graph.value(operator.inputs[1]).reshape(-1)}
        return None if rank - 1 in axes else self.tensors[source]

    def _moved(self, operator: OperatorT) -> Channels | None:
        """Follow every element, then tie what comes together in one channel."""
        graph = self._graph
        sources = [self.tensors.get(index) for index in operator.inputs if graph.is_float(index)]
        powers = {source.power for source in sources if source is not None}
        shape = graph.shape(operator.outputs[0])
        if None in sources or len(powers) != 1 or int(np.prod(shape)) > _LARGEST:
            return None
        elements = _move(graph, operator, [s.ids for s in sources if s is not None])
        if elements is None or elements.shape != shape or not shape:
            return None
        rows = elements.reshape(-1, shape[-1])
        ids = rows.max(axis=0)
        # Most operators leave channels alone, and telling rows apart is slow.
        plain = bool(((rows == ids) | (rows < 0)).all())
        rows = ids[None] if plain else np.unique(rows, axis=0)
        free = ids < 0
        ids[free] = self._new(int(free.sum()))
        for row in rows:
            known = row >= 0
            self._tie(row[known], ids[known])
        return Channels(ids, powers.pop())


_Handler = Callable[[ChannelEquivalence, OperatorT], Channels | None]

_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(WEIGHTED, ChannelEquivalence._weighted),
    "MUL constant": ChannelEquivalence._scaled,
    "ADD constant": ChannelEquivalence._shifted,
    "SUB constant": ChannelEquivalence._shifted,
    "ADD pair": ChannelEquivalence._summed,
    "SUB pair": ChannelEquivalence._summed,
    "MUL pair": ChannelEquivalence._squared,
    "SQRT": ChannelEquivalence._rooted,
    "PRELU": ChannelEquivalence._same,
    **dict.fromkeys(_HOMOGENEOUS, ChannelEquivalence._same),
    **dict.fromkeys(_REDUCTIONS, ChannelEquivalence._reduced),
    **dict.fromkeys(
        ("RESHAPE", "EXPAND_DIMS", "SQUEEZE", "TRANSPOSE", "PAD", "CONCATENATION", "STRIDED_SLICE",
         "MIRROR_PAD"),
        ChannelEquivalence._moved,
    ),
}  # fmt: skip


def _move(graph: Graph, operator: OperatorT, ids: Sequence[Ids]) -> Ids | None:
    """Return the variable of every element of the output, -1 for zeros; None where not known."""
    name, shape = graph.op(operator), graph.shape(operator.outputs[0])
    floats = [index for index in operator.inputs if graph.is_float(index)]
    arrays = [
        np.broadcast_to(found, graph.shape(index) or 1).reshape(graph.shape(index))
        for found, index in zip(ids, floats, strict=True)
    ]
    if name == "CONCATENATION":
        return np.concatenate(arrays, operator.builtinOptions.axis)
    if name in ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"):
        return arrays[0].reshape(shape)
    if not all(graph.is_constant(index) for index in operator.inputs[1:]):
        return None
    values = [graph.value(index).tolist() for index in operator.inputs[1:]]
    if name == "TRANSPOSE":
        return arrays[0].transpose(values[0])
    if name == "PAD":
        return np.pad(arrays[0], values[0], constant_values=-1)
    if name == "MIRROR_PAD":
        return np.pad(
            arrays[0], values[0], "symmetric" if operator.builtinOptions.mode else "reflect"
        )
    return _slice(operator, arrays[0], *values)


def _slice(
    operator: OperatorT, array: Ids, begin: list[int], end: list[int], strides: list[int]
) -> Ids | None:
    options = operator.builtinOptions
    if options.ellipsisMask or options.newAxisMask:
        return None
    parts: list[slice | int] = []
    for axis, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << axis
        if options.shrinkAxisMask & bit:
            parts.append(first)
        else:
            low = None if options.beginMask & bit else first
            high = None if options.endMask & bit else last
            parts.append(slice(low, high, step))
    return array[tuple(parts)]
