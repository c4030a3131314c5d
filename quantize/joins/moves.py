"""What operators that only move values do to an array, so that where values go can be followed.

The semantics are those of LiteRT's reference kernels (``tensorflow/lite/kernels/internal/
reference``). Nothing is computed: the arrays may hold anything, labels as well as values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

Move = Callable[[Graph, OperatorT, Array], list[Array] | None]
"""From a graph, an operator and an array like its data to its outputs; ``None`` where they depend
on values that the graph computes."""


def data_slot(graph: Graph, operator: OperatorT) -> int:
    """Return which input of a moving operator holds what it moves."""
    return 1 if graph.op(operator) == "SPLIT" else 0


def moved(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    """Return what an operator makes of an array in the place of its data.

    Args:
        graph: The graph.
        operator: One of its operators.
        array: In the shape of the operator's data, of any dtype.

    Returns:
        An array for each output; ``None`` where the operator does more than move values, or it is
        not known before the graph runs where they go.
    """
    move = MOVES.get(graph.op(operator))
    return None if move is None else move(graph, operator, array)


def constant(graph: Graph, operator: OperatorT, slot: int) -> Array | None:
    """Return a constant integer operand as a vector; ``None`` where it is none, or missing."""
    inputs = operator.inputs
    if slot >= len(inputs) or inputs[slot] < 0 or not graph.is_constant(inputs[slot]):
        return None
    return np.ravel(graph.value(inputs[slot])).astype(np.int64)


def _reshape(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    shape = graph.shape(operator.outputs[0])
    return [array.reshape(shape)] if int(np.prod(shape)) == array.size else None


def _transpose(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    order = constant(graph, operator, 1)
    return None if order is None else [np.transpose(array, order)]


def _slice(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    begin = constant(graph, operator, 1)
    if begin is None:
        return None
    ends = begin + np.array(graph.shape(operator.outputs[0]), np.int64)
    return [array[tuple(slice(int(a), int(b)) for a, b in zip(begin, ends, strict=True))]]


def strides(graph: Graph, operator: OperatorT) -> tuple[slice | int | None, ...] | None:
    """Return the index that a STRIDED_SLICE takes of its data, as numpy has it.

    Returns:
        For each axis of the data a slice, or a number where the axis goes; ``None`` stands for a
        new axis. Of an ellipsis, full slices. ``None`` alone where an operand is computed.
    """
    operands = [constant(graph, operator, slot) for slot in (1, 2, 3)]
    if any(operand is None for operand in operands):
        return None
    options, rank = operator.builtinOptions, len(graph.shape(operator.inputs[0]))
    begins, ends, steps = ([int(one) for one in operand] for operand in operands)  # type: ignore[union-attr]
    index: list[slice | int | None] = []
    for place, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        bit = 1 << place
        if options.ellipsisMask & bit:
            after = bin(options.newAxisMask >> (place + 1)).count("1")
            before = sum(item is not None for item in index)
            index += [slice(None)] * (rank - before - (len(begins) - place - 1 - after))
        elif options.newAxisMask & bit:
            index.append(None)
        elif options.shrinkAxisMask & bit:
            index.append(begin)
        else:
            first = None if options.beginMask & bit else begin
            last = None if options.endMask & bit else end
            index.append(slice(first, last, step))
    return tuple(index)


def _strided_slice(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    index = strides(graph, operator)
    if index is None:
        return None
    found = array[index]
    return [found] if found.shape == graph.shape(operator.outputs[0]) else None


def _split(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    axis = constant(graph, operator, 0)
    return None if axis is None else np.split(array, len(operator.outputs), int(axis[0]))


def _split_v(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    axis = constant(graph, operator, 2)
    if axis is None:
        return None
    sizes = [graph.shape(index)[int(axis[0])] for index in operator.outputs]
    return np.split(array, np.cumsum(sizes)[:-1].tolist(), int(axis[0]))


def _unpack(graph: Graph, operator: OperatorT, array: Array) -> list[Array]:  # noqa: ARG001
    return list(np.moveaxis(array, operator.builtinOptions.axis, 0))


def _reverse(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    axes = constant(graph, operator, 1)
    return None if axes is None else [np.flip(array, tuple(axes.tolist()))]


def _tile(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    counts = constant(graph, operator, 1)
    return None if counts is None else [np.tile(array, counts)]


def _broadcast(graph: Graph, operator: OperatorT, array: Array) -> list[Array]:
    return [np.broadcast_to(array, graph.shape(operator.outputs[0]))]


def _gather(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    """Take constant positions; of computed ones, any where all along the axis is the same."""
    options, where = operator.builtinOptions, operator.inputs[1]
    axis = options.axis % array.ndim
    if graph.is_constant(where) and not options.batchDims:
        return [np.take(array, graph.value(where).astype(np.int64), axis)]
    first = np.take(array, [0], axis)
    if array.shape[axis] == 0 or not (array == first).all():
        return None
    shape = graph.shape(where)[options.batchDims :]
    spread = np.take(array, np.zeros(shape, np.int64), axis)
    return [spread] if spread.shape == graph.shape(operator.outputs[0]) else None


def _gather_nd(graph: Graph, operator: OperatorT, array: Array) -> list[Array] | None:
    where = operator.inputs[1]
    shape = graph.shape(where)
    if graph.is_constant(where):
        return [array[tuple(np.moveaxis(graph.value(where).astype(np.int64), -1, 0))]]
    first = array[(0,) * shape[-1]] if array.size else array
    if not array.size or not (array == first).all():
        return None
    return [np.broadcast_to(first, (*shape[:-1], *first.shape))]


def _depth_to_space(graph: Graph, operator: OperatorT, array: Array) -> list[Array]:  # noqa: ARG001
    size = operator.builtinOptions.blockSize
    n, h, w, c = array.shape
    blocks = array.reshape(n, h, w, size, size, c // size**2)
    return [blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * size, w * size, c // size**2)]


def _space_to_depth(graph: Graph, operator: OperatorT, array: Array) -> list[Array]:  # noqa: ARG001
    size = operator.builtinOptions.blockSize
    n, h, w, c = array.shape
    blocks = array.reshape(n, h // size, size, w // size, size, c)
    return [blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // size, w // size, c * size**2)]


MOVES: Mapping[str, Move] = {
    "BROADCAST_TO": _broadcast,
    "DEPTH_TO_SPACE": _depth_to_space,
    "EXPAND_DIMS": _reshape,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "RESHAPE": _reshape,
    "REVERSE_V2": _reverse,
    "SLICE": _slice,
    "SPACE_TO_DEPTH": _space_to_depth,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
}
"""Operators that move values and do nothing else to them."""
