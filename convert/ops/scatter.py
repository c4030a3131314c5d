"""Operators that write elements by index. Source of the semantics: ONNX operator spec of each.

All come down to rows: the tensor is [P, rest...], and each update replaces, or is combined with,
the row whose number it names. Rows that are written twice without a reduction are undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.artifacts import Array
from edgeconv.convert.context import Context, axis_of
from edgeconv.convert.lowering import dtypes, widened
from edgeconv.convert.ops.indexing import positions
from edgeconv.convert.registry import Unsupported, op
from edgeconv.convert.value import Tensor, Value, arranged, canonical, reshaped, shape_of
from edgeconv.convert.view import DYNAMIC, Shape

_SELECT = dtypes("float32", "int32", "int64", "int8", "bool")
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
    shape = data.shape
    steps = [math.prod(shape[place + 1 :]) for place in range(data.rank)]
    count = math.prod(indices.shape)
    places = positions(indices, shape[axis])
    grid = np.indices(indices.shape, np.int64)
    base = sum(grid[place] * steps[place] for place in range(data.rank) if place != axis)
    rows = _numbers(places, np.asarray(base), steps[axis])
    flat = arranged(data, range(data.rank), (math.prod(shape),))
    new = arranged(updates, range(updates.rank), (count,))
    y = _written(flat, reshaped(rows, (count,)), new, reduction)
    return _result(reshaped(y, shape), data, updates, reduction)


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
    rows = reshaped(_row_numbers(indices, lead), (count,))
    table = arranged(data, range(data.rank), (math.prod(lead), *rest))
    new = arranged(updates, range(updates.rank), (count, *rest))
    y = _written(table, rows, new, reduction)
    return _result(reshaped(y, data.shape), data, updates, reduction)


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
        raise Unsupported("a shape known at run time only", "give --input-shape")


def _result(y: Tensor, data: Value, updates: Value, reduction: str) -> Value:
    signs = data.nonnegative and updates.nonnegative
    return Value(y, Value.of(y).view, signs and reduction in ("none", "add", "max", "min", "mul"))


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


def _replaced(table: Tensor, rows: Tensor, updates: Tensor) -> Tensor:
    if isinstance(rows, np.ndarray):
        return _replaced_at(table, rows, updates)
    places = tf.expand_dims(rows, 1)
    total, *rest = table.shape
    hit = tf.scatter_nd(places, np.ones(rows.shape[0], np.bool_), [total])
    hit = reshaped(hit, (total, *(1,) * len(rest)))
    new = tf.scatter_nd(places, updates, [total, *rest])
    return widened(lambda a, b: tf.where(hit, a, b), new, table, native=_SELECT)


def _replaced_at(table: Tensor, rows: Array, updates: Tensor) -> Tensor:
    """Write rows at known places: pieces laid side by side, or picked from both in one go."""
    total = table.shape[0]
    first, stop = int(rows[0]), int(rows[0]) + len(rows)
    if np.array_equal(rows, np.arange(first, stop)):
        pieces = [table[:first]] * (first > 0) + [updates] + [table[stop:]] * (stop < total)
        return pieces[0] if len(pieces) == 1 else tf.concat(pieces, 0)
    source = np.arange(total)
    source[rows] = total + np.arange(len(rows))
    return tf.gather(tf.concat([table, updates], 0), source.astype(np.int32))


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
