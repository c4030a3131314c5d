"""Operators that write elements by index. Source of the semantics: ONNX operator spec of each.

Where the places are known and form a block, slices are laid side by side; where few places are
known at run time, elements are selected by comparing positions. All else comes down to rows: the
tensor is [P, rest...], and each update replaces, or is combined with, the row whose number it
names. Rows that are written twice without a reduction are undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.indexing import positions
from edgeconv.convert.ops.placement import Combine, block_of_elements, block_of_slices, place
from edgeconv.convert.ops.slicing import sliced
from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.lowering import dtype_of, dtypes, widened
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import (
    Tensor,
    Value,
    aligned,
    arranged,
    canonical,
    reshaped,
    shape_of,
)
from edgeconv.convert.translate.view import DYNAMIC, Shape
from edgeconv.core.artifacts import Array
from edgeconv.core.wording import named

_SELECT = dtypes("float32", "int32", "int64", "int8", "bool")
_FEW = 4  # updates of one line that are written one by one
_SEGMENT = dtypes("float32", "int32")


@op("Scatter", since=9)
@op("ScatterElements", since=11)
def scatter_elements(
    g: Context,
    data: Value,
    indices: Value,
    updates: Value,
    *,
    axis: int = 0,
    reduction: str = "none",
) -> Value:
    """ScatterElements: each update goes to its own place but for one axis, which indices give."""
    _static(data)
    axis = axis_of(axis, data.rank)
    if indices.constant is not None:
        fixed = indices.constant % data.shape[axis]
        block = block_of_elements(fixed, data.shape, axis)
        y = None if block is None else place(data, block, updates, _combine(reduction))
        if y is not None:
            return _result(y, data, updates, reduction)
    elif _is_few_lines(data, indices, axis):
        return _result(_selected(data, indices, updates, axis, reduction), data, updates, reduction)
    shape = data.shape
    steps = [math.prod(shape[place + 1 :]) for place in range(data.rank)]
    count = math.prod(indices.shape)
    places = positions(indices, shape[axis])
    grid = np.indices(indices.shape, np.int64)
    base = sum(grid[place] * steps[place] for place in range(data.rank) if place != axis)
    rows = _numbers(places, np.asarray(base), steps[axis])
    flat = arranged(data, range(data.rank), (math.prod(shape),))
    new = arranged(updates, range(updates.rank), (count,))
    y = _written(flat, _flattened(rows, count), new, reduction)
    return _result(Value.of(reshaped(y, shape)), data, updates, reduction)


def _is_few_lines(data: Value, indices: Value, axis: int) -> bool:
    """Tell whether each line along an axis takes so few updates that it compares their places."""
    lines = [
        (size, own)
        for place, (size, own) in enumerate(zip(data.shape, indices.shape, strict=True))
        if place != axis
    ]
    return indices.shape[axis] <= _FEW and all(size == own for size, own in lines)


def _selected(data: Value, indices: Value, updates: Value, axis: int, reduction: str) -> Value:
    """Write each update along an axis, one after the other, where its place is the position."""
    size = data.shape[axis]
    shape = [size if place == axis else 1 for place in range(data.rank)]
    places = Value.of(reshaped(positions(indices, size), indices.shape))
    counting = Value.of(np.arange(size, dtype=places.dtype).reshape(shape))
    combine = _combine(reduction)
    y = data
    for number in range(indices.shape[axis]):
        here, new = (_one(value, axis, number) for value in (places, updates))
        (t, update, at, own), view = aligned([y, new, here, counting])
        y = Value(_where(tf.equal(at, own), t, update, combine), view)
    return y


def _one(value: Value, axis: int, number: int) -> Value:
    """Return one element along an axis, which stays."""
    if value.shape[axis] == 1:
        return value
    return sliced(value, [number], [number + 1], [axis], [1])


def _numbers(places: Tensor, base: Array, step: int) -> Tensor:
    """Return base + places * step, leaving out what does nothing."""
    if isinstance(places, np.ndarray):
        return (places * step + base).astype(np.int32)
    dtype = places.dtype.as_numpy_dtype
    scaled = places if step == 1 else places * np.asarray(step, dtype)
    return scaled + base.astype(dtype) if np.any(base) else scaled


@op("ScatterND", since=11)
def scatter_nd(
    g: Context, data: Value, indices: Value, updates: Value, *, reduction: str = "none"
) -> Value:
    """ScatterND: each update is a slice, whose place the last axis of the indices gives."""
    _static(data)
    depth = indices.shape[-1]
    lead, rest = data.shape[:depth], data.shape[depth:]
    count = math.prod(indices.shape[:-1])
    if indices.constant is not None and count:
        fixed = (indices.constant % np.array(lead)).reshape(count, depth)
        block = block_of_slices(fixed, data.shape)
        if block is not None:
            sizes = [len(block.get(axis, range(size))) for axis, size in enumerate(lead)]
            y = place(data, block, updates.reshape((*sizes, *rest)), _combine(reduction))
            if y is not None:
                return _result(y, data, updates, reduction)
    elif depth == 1 and (count == 1 or reduction == "none"):
        rows = _flattened(_row_numbers(indices, lead), count)
        y = _written_along(data, rows, updates.reshape((count, *rest)), _combine(reduction))
        return _result(y, data, updates, reduction)
    rows = _flattened(_row_numbers(indices, lead), count)
    table = arranged(data, range(data.rank), (math.prod(lead), *rest))
    new = arranged(updates, range(updates.rank), (count, *rest))
    y = _written(table, rows, new, reduction)
    return _result(Value.of(reshaped(y, data.shape)), data, updates, reduction)


def _flattened(rows: Tensor, count: int) -> Tensor:
    return rows.reshape(count) if isinstance(rows, np.ndarray) else reshaped(rows, (count,))


def _written_along(data: Value, rows: Tensor, updates: Value, combine: Combine | None) -> Value:
    """Write at places of the first axis that are known at run time, as it is stored."""
    t, permutation = canonical(data)
    at = permutation.index(0)
    y = _replaced(t, rows, arranged(updates, permutation), at, combine)
    return Value.of(y, permutation)


def _row_numbers(indices: Value, lead: Shape) -> Tensor:
    steps = np.array([math.prod(lead[place + 1 :]) for place in range(len(lead))])
    sizes = np.array(lead)
    if indices.constant is not None:
        return ((indices.constant % sizes) @ steps).astype(np.int32)
    t = arranged(indices, range(indices.rank))
    if not indices.nonnegative:
        t = tf.math.floormod(t, sizes.astype(indices.dtype))
    if len(lead) == 1:
        return t
    return tf.reduce_sum(t * steps.astype(indices.dtype), axis=-1)


def _static(data: Value) -> None:
    if DYNAMIC in data.shape:
        raise Unsupported("a shape known at run time only", f"give {named('input_shapes')}")


def _result(y: Value, data: Value, updates: Value, reduction: str) -> Value:
    signs = data.nonnegative and updates.nonnegative
    return Value(y.tensor, y.view, signs and reduction in ("none", *_COMBINE))


_COMBINE: dict[str, Combine] = {
    "add": tf.add, "mul": tf.multiply, "max": tf.maximum, "min": tf.minimum
}  # fmt: skip


def _combine(reduction: str) -> Combine | None:
    """Return what a place becomes of what it has and its only update."""
    if reduction == "none":
        return None
    if reduction not in _COMBINE:
        raise Unsupported(f"reduction {reduction}")
    return lambda old, new: widened(_COMBINE[reduction], old, new)


def _written(table: Tensor, rows: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """Write rows.

    Args:
        table: [P, rest...].
        rows: [K], numbers of rows.
        updates: [K, rest...].
        reduction: ONNX's name of it.
    """
    if reduction == "none":
        return _replaced(table, rows, updates)
    if reduction == "add":
        return widened(
            lambda old, new: old + tf.scatter_nd(rows[:, None], new, shape_of(old)), table, updates
        )
    if reduction not in _REDUCTIONS:
        raise Unsupported(f"reduction {reduction}")
    segments, combine = _REDUCTIONS[reduction]
    return widened(
        lambda old, new: combine(old, segments(new, rows, old.shape[0])),
        table,
        updates,
        native=_SEGMENT,
    )


_REDUCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "max": (tf.math.unsorted_segment_max, tf.maximum),
    "min": (tf.math.unsorted_segment_min, tf.minimum),
    "mul": (tf.math.unsorted_segment_prod, tf.multiply),
}
"""How updates to one row are combined with each other, and the outcome with the row. An empty
segment holds the neutral element."""


def _replaced(
    t: Tensor, rows: Tensor, updates: Tensor, at: int = 0, combine: Combine | None = None
) -> Tensor:
    """Write along one axis.

    Args:
        t: The tensor.
        rows: Positions along the axis, [K].
        updates: As the tensor, K along the axis.
        at: The axis.
        combine: With a single update: what is written.
    """
    total, count = t.shape[at], rows.shape[0]
    numbers = np.arange(total, dtype=dtype_of(rows))
    if count == 1:
        shape = [1] * len(t.shape)
        shape[at] = total
        return _where(tf.reshape(tf.equal(rows, numbers), shape), t, updates, combine)
    if isinstance(rows, np.ndarray):
        source: Tensor = numbers.copy()
        source[rows] = total + np.arange(count)
    else:
        # Only the numbers of the updates are scattered: any other type then moves as it is.
        turns = np.arange(1, count + 1, dtype=np.int32)
        turn = tf.scatter_nd(tf.expand_dims(rows, 1), turns, [total])
        own = np.arange(total, dtype=np.int32)
        source = tf.where(tf.greater(turn, 0), tf.minimum(turn, count) + (total - 1), own)
    return tf.gather(tf.concat([t, updates], at), source, axis=at)


def _where(hit: Tensor, old: Tensor, new: Tensor, combine: Combine | None) -> Tensor:
    made = new if combine is None else combine(old, new)
    return widened(lambda a, b: tf.where(hit, a, b), made, old, native=_SELECT)


@op("TensorScatter", since=24)
def tensor_scatter(
    g: Context,
    past_cache: Value,
    update: Value,
    write_indices: Value | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Value:
    """TensorScatter: write a run of elements into each sample of a cache, from its own place on.

    Every place of the cache takes the update that is due there, if one is, or keeps what it has.
    """
    axis = axis_of(axis, past_cache.rank)
    _, permutation = canonical(past_cache)
    if permutation[0] != 0:
        permutation = tuple(range(past_cache.rank))
    place = permutation.index(axis)
    old, new = arranged(past_cache, permutation), arranged(update, permutation)
    size, length = past_cache.shape[axis], update.shape[axis]
    starts = (
        np.zeros((past_cache.shape[0], 1), np.int32)
        if write_indices is None
        else tf.cast(arranged(write_indices, (0,), (write_indices.shape[0], 1)), tf.int32)
    )
    behind = np.arange(size, dtype=np.int32)[None, :] - starts
    due = behind % size if isinstance(behind, np.ndarray) else tf.math.floormod(behind, size)
    chosen = tf.gather(new, tf.minimum(due, length - 1), axis=place, batch_dims=1)
    shape = [1] * past_cache.rank
    shape[0], shape[place] = past_cache.shape[0], size
    hit = tf.reshape(due < length, shape)
    y = widened(lambda a, b: tf.where(hit, a, b), chosen, old, native=_SELECT)
    return Value.of(y, permutation)
