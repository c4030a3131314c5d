"""Operators that pick elements by index."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgeconv.convert.context import Context, axis_of
from edgeconv.convert.registry import op
from edgeconv.convert.value import Tensor, Value, arranged, canonical


@op("Gather")
def gather(g: Context, x: Value, indices: Value, *, axis: int = 0) -> Value:
    """Gather along one axis; a single constant index becomes a slice."""
    axis = axis_of(axis, x.rank)
    fixed = indices.constant
    if fixed is not None and fixed.size == 1:
        return _take_one(x, int(fixed.item()), axis, indices.shape)
    chosen = _nonnegative(indices, x.shape[axis])
    if fixed is not None and indices.rank == 1:
        t, permutation = canonical(x)
        y = tf.gather(t, chosen, axis=permutation.index(axis))
        return Value(y, Value.of(y, permutation).view, x.nonnegative)
    y = tf.gather(arranged(x, range(x.rank)), chosen, axis=axis)
    return Value(y, Value.of(y).view, x.nonnegative)


def _take_one(x: Value, index: int, axis: int, index_shape: tuple[int, ...]) -> Value:
    t, permutation = canonical(x)
    place = permutation.index(axis)
    start = index % x.shape[axis]
    span = [slice(None)] * place + [slice(start, start + 1)]
    piece = t[tuple(span)]
    value = Value(piece, Value.of(piece, permutation).view, x.nonnegative)
    return value.reshape((*x.shape[:axis], *index_shape, *x.shape[axis + 1 :]))


def _nonnegative(indices: Value, size: int) -> Tensor:
    """Return the indices, negative ones counted from the end, as int32."""
    if indices.constant is not None:
        return (indices.constant % size).astype(np.int32)
    t = tf.cast(arranged(indices, range(indices.rank)), tf.int32)
    return tf.where(t < 0, t + size, t)


@op("GatherND")
def gather_nd(g: Context, x: Value, indices: Value, *, batch_dims: int = 0) -> Value:
    """GatherND."""
    t = arranged(x, range(x.rank))
    where = tf.cast(arranged(indices, range(indices.rank)), tf.int32)
    return Value.of(tf.gather_nd(t, where, batch_dims=batch_dims))


@op("ArgMax")
def arg_max(
    g: Context, x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> Value:
    """ArgMax."""
    return _arg(x, axis, keepdims, select_last_index, tf.argmax)


@op("ArgMin")
def arg_min(
    g: Context, x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> Value:
    """ArgMin."""
    return _arg(x, axis, keepdims, select_last_index, tf.argmin)


def _arg(x: Value, axis: int, keepdims: int, last: int, function: object) -> Value:
    axis = axis_of(axis, x.rank)
    t, permutation = canonical(x)
    place = permutation.index(axis)
    if last:
        t = tf.reverse(t, [place])
    y = function(t, axis=place, output_type=tf.int32)  # type: ignore[operator]
    if last:
        y = x.shape[axis] - 1 - y
    left = [a for a in permutation if a != axis]
    value = Value.of(tf.cast(y, tf.int64), [a - (a > axis) for a in left])
    if not keepdims:
        return value
    return value.reshape((*x.shape[:axis], 1, *x.shape[axis + 1 :]))
