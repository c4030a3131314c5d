"""What moves the values of a joined tensor, on each of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.quantize.joins.distribute import Distributor, Part, Parts, Push, label
from edgeconv.quantize.joins.joins import along
from edgeconv.quantize.joins.moves import constant, moved
from edgeconv.quantize.rules.names import slice_of
from edgeconv.tflite.file import OperatorT


def _transpose(made: Distributor, operator: OperatorT) -> None:
    graph, source = made.graph, operator.inputs[0]
    order = constant(graph, operator, 1)
    if order is None or source not in made.parts:
        return
    axis = order.tolist().index(made.parts[source].axis)
    _same(made, operator, source, axis)


def _same(made: Distributor, operator: OperatorT, source: int, axis: int) -> None:
    """Let an operator that leaves the axis alone work on each part; the axis is then another."""
    graph, output = made.graph, operator.outputs[0]
    shape, found = list(graph.shape(output)), []
    for part in made.parts[source].parts:
        shape[axis] = len(part.positions)
        inputs = [part.tensor if index == source else index for index in operator.inputs]
        found.append(Part(made.emit(operator, inputs, shape), part.positions))
    made.take(output, Parts(axis, tuple(found)))


def _reshape(made: Distributor, operator: OperatorT) -> None:
    """Reshape each part, where an axis tells the parts apart afterwards."""
    graph, source, output = made.graph, operator.inputs[0], operator.outputs[0]
    if source not in made.parts:
        return
    labels = label(made.parts[source], graph.shape(source))
    found = along(labels.reshape(graph.shape(output)), len(made.parts[source].parts))
    if found is None:
        return
    parts = []
    for part, positions in zip(made.parts[source].parts, found.positions, strict=True):
        shape = list(graph.shape(output))
        shape[found.axis] = len(positions)
        parts.append(Part(made.reshape(part.tensor, shape), tuple(positions.tolist())))
    made.take(output, Parts(found.axis, tuple(parts)))


def _cut(made: Distributor, operator: OperatorT) -> None:
    """Take what an operator takes of each part, by the positions that are left of it."""
    graph = made.graph
    source = next(index for index in operator.inputs if index in made.parts)
    shape = graph.shape(source)
    labels = label(made.parts[source], shape)
    places = np.arange(labels.size, dtype=np.int64).reshape(shape)
    taken = moved(graph, operator, labels), moved(graph, operator, places)
    for output, *arrays in zip(operator.outputs, *(one or () for one in taken), strict=False):
        _cut_one(made, source, output, *arrays)


def _cut_one(made: Distributor, source: int, output: int, labels: Array, places: Array) -> None:
    """Make one output of boxes of the parts, where it is that.

    Args:
        made: What is being built.
        source: The joined tensor.
        output: What is taken of it.
        labels: For each element of the output the place of its part.
        places: Its place in the joined tensor, counted along all axes.
    """
    whole, shape = made.parts[source], made.graph.shape(source)
    numbers = np.unique(labels)
    found = along(np.searchsorted(numbers, labels), len(numbers))
    if found is None or not labels.size:
        return
    parts = [whole.parts[number] for number in numbers]
    boxes = [
        _box(places[labels == number], shape, whole.axis, part)
        for number, part in zip(numbers, parts, strict=True)
    ]
    taken = []
    for part, box, positions in zip(parts, boxes, found.positions, strict=True):
        if box is None:
            return
        target = list(labels.shape)
        target[found.axis] = len(positions)
        tensor = _sliced(made, part.tensor, box, target)
        taken.append(Part(tensor, tuple(positions.tolist())))
    made.take(output, Parts(found.axis, tuple(taken)))


_Box = list[tuple[int, int]]
"""Start and stop on each axis."""


def _box(places: Array, shape: Sequence[int], axis: int, part: Part) -> _Box | None:
    """Return the box of a part that has these places of the joined tensor, in this order."""
    inside = list(np.unravel_index(places, shape))
    inside[axis] = np.searchsorted(np.array(part.positions), inside[axis])
    box = [(int(at.min()), int(at.max()) + 1) for at in inside]
    size = int(np.prod([stop - start for start, stop in box]))
    return box if size == places.size and (np.diff(places) > 0).all() else None


def _sliced(made: Distributor, tensor: int, box: _Box, shape: Sequence[int]) -> int:
    """Return a box of a tensor, in another shape of as many values."""
    graph = made.graph
    sizes = [stop - start for start, stop in box]
    if sizes != list(graph.shape(tensor)):
        operator = slice_of(graph, tensor, [start for start, _ in box], sizes)
        made.add(operator)
        tensor = operator.outputs[0]
    return made.reshape(tensor, shape) if sizes != list(shape) else tensor


def _gather(made: Distributor, operator: OperatorT) -> None:
    """Gather along another axis of each part, or cut what is gathered of one."""
    graph, source = made.graph, operator.inputs[0]
    if source not in made.parts:
        return
    options, own = operator.builtinOptions, made.parts[source].axis
    axis = options.axis % len(graph.shape(source))
    if axis == own:
        _cut(made, operator)
    elif own >= options.batchDims:
        added = len(graph.shape(operator.inputs[1])) - options.batchDims - 1
        _same(made, operator, source, own if own < axis else own + added)


def _gather_nd(made: Distributor, operator: OperatorT) -> None:
    graph, source = made.graph, operator.inputs[0]
    if source in made.parts:
        *rows, depth = graph.shape(operator.inputs[1])
        own = made.parts[source].axis
        if own >= depth:
            _same(made, operator, source, own - depth + len(rows))


def _padded(made: Distributor, operator: OperatorT) -> None:
    graph, source = made.graph, operator.inputs[0]
    pads = constant(graph, operator, 1)
    if pads is not None and source in made.parts:
        axis = made.parts[source].axis
        if not pads.reshape(-1, 2)[axis].any():
            _same(made, operator, source, axis)


PUSHES: Mapping[str, Push] = {
    "EXPAND_DIMS": _reshape,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "MIRROR_PAD": _padded,
    "PAD": _padded,
    "PADV2": _padded,
    "RESHAPE": _reshape,
    "SLICE": _cut,
    "SPLIT": _cut,
    "SPLIT_V": _cut,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _cut,
    "TRANSPOSE": _transpose,
    "UNPACK": _cut,
}
"""By operator."""
