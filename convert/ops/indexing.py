"""Operators that pick elements by index. Source of the semantics: ONNX operator spec of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.slicing import sliced
from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.lowering import cast
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged, canonical, reshaped
from edgeconv.convert.translate.view import DYNAMIC
from edgeconv.core.artifacts import Array


@op("Gather")
def gather(g: Context, x: Value, indices: Value, *, axis: int = 0) -> Value:
    """Gather along one axis; evenly spaced constant indices become a slice."""
    axis = axis_of(axis, x.rank)
    fixed = indices.constant
    if fixed is not None and x.shape[axis] != DYNAMIC:
        span = _as_range(fixed.ravel(), x.shape[axis])
        if span is not None and (fixed.size == 1 or fixed.ndim == 1):
            piece = sliced(x, [span.start], [_end(span)], [axis], [span.step])
            return piece.reshape((*x.shape[:axis], *fixed.shape, *x.shape[axis + 1 :]))
    t, permutation = canonical(x)
    place = permutation.index(axis)
    y = tf.gather(t, positions(indices, x.shape[axis]), axis=place)
    added = indices.rank
    kept = [a if a < axis else a - 1 + added for a in permutation]
    kept[place : place + 1] = range(axis, axis + added)
    return Value(y, Value.of(y, kept).view, x.nonnegative)


def _as_range(indices: Array, size: int) -> range | None:
    """Return the range that the indices are, or None."""
    found = indices % size
    if found.size == 0:
        return None
    step = int(found[1]) - int(found[0]) if found.size > 1 else 1
    if step == 0:
        return None
    first = int(found[0])
    span = range(first, first + step * found.size, step)
    return span if np.array_equal(found, span) else None


def _end(span: range) -> int:
    """Return the end as a slice takes it: before the first element is not minus one."""
    return span.stop if span.stop >= 0 else -(2**31)


def positions(indices: Value, size: int) -> Tensor:
    """Return indices, negative ones counted from the end, as int32 or int64, in ONNX's layout."""
    if indices.constant is not None:
        return (indices.constant % size).astype(np.int32)
    t = arranged(indices, range(indices.rank))
    if indices.nonnegative:
        return t
    if size == DYNAMIC:
        raise Unsupported("indices of an axis whose size is known at run time only")
    return tf.math.floormod(t, np.asarray(size, indices.dtype))


@op("GatherElements", since=11)
def gather_elements(g: Context, x: Value, indices: Value, *, axis: int = 0) -> Value:
    """GatherElements: for each row along an axis, elements of the row."""
    axis = axis_of(axis, x.rank)
    kept = [a for a in range(x.rank) if a != axis]
    x = sliced(x, [0] * len(kept), [indices.shape[a] for a in kept], kept, [1] * len(kept))
    _, stored = canonical(x)
    permutation = (*(a for a in stored if a != axis), axis)
    rows = math.prod(x.shape[a] for a in kept)
    count = indices.shape[axis]
    table = arranged(x, permutation, (rows, x.shape[axis]))
    chosen = Value.of(positions(indices, x.shape[axis]))
    picked = tf.gather(table, arranged(chosen, permutation, (rows, count)), axis=1, batch_dims=1)
    y = reshaped(picked, tuple(indices.shape[a] for a in permutation))
    return Value(y, Value.of(y, permutation).view, x.nonnegative)


@op("GatherND", since=11)
def gather_nd(g: Context, x: Value, indices: Value, *, batch_dims: int = 0) -> Value:
    """GatherND."""
    t = arranged(x, range(x.rank))
    depth = indices.shape[-1]
    sizes = np.array(x.shape[batch_dims : batch_dims + depth], indices.dtype)
    if indices.constant is not None:
        places: Tensor = (indices.constant % sizes).astype(np.int32)
    else:
        places = arranged(indices, range(indices.rank))
        places = places if indices.nonnegative else tf.math.floormod(places, sizes)
    y = tf.gather_nd(t, places, batch_dims=batch_dims)
    return Value(y, Value.of(y).view, x.nonnegative)


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


def _arg(x: Value, axis: int, keepdims: int, last: int, function: Callable[..., Tensor]) -> Value:
    axis = axis_of(axis, x.rank)
    t, permutation = canonical(x)
    place = permutation.index(axis)
    if last:
        t = tf.reverse(t, [place])
    y = function(t, axis=place, output_type=tf.int32)
    if last:
        y = x.shape[axis] - 1 - y
    left = [a for a in permutation if a != axis]
    value = Value.of(tf.cast(y, tf.int64), [a - (a > axis) for a in left])
    value = Value(value.tensor, value.view, nonnegative=True)
    if not keepdims:
        return value
    return value.reshape((*x.shape[:axis], 1, *x.shape[axis + 1 :]))


@op("TopK")
def top_k_attribute(g: Context, x: Value, *, k: int, axis: int = -1) -> tuple[Value, ...]:
    """TopK with k as an attribute."""
    return _top_k(x, k, axis, largest=True)


@op("TopK", since=10)
def top_k(
    g: Context, x: Value, k: Value, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Value, ...]:
    """TopK; of equal elements the first comes first."""
    if k.constant is None:
        return _top_k(x, g.result("k")[axis_of(axis, x.rank)], axis, largest=bool(largest))
    return _top_k(x, g.integers(k, "k")[0], axis, largest=bool(largest))


def _top_k(x: Value, k: int, axis: int, *, largest: bool) -> tuple[Value, ...]:
    axis = axis_of(axis, x.rank)
    _, stored = canonical(x)
    permutation = (*(a for a in stored if a != axis), axis)
    t = arranged(x, permutation)
    if not largest:
        t = _upside_down(cast(t, np.int32) if x.dtype.itemsize == 1 else t)
    values, indices = tf.math.top_k(t, k)
    if not largest:
        values = cast(_upside_down(values), x.dtype)
    value = Value(values, Value.of(values, permutation).view, x.nonnegative)
    places = tf.cast(indices, tf.int64)
    return value, Value(places, Value.of(places, permutation).view, nonnegative=True)


def _upside_down(t: Tensor) -> Tensor:
    """Reverse the order of numbers; an integer's negative may not exist, its complement does."""
    return -t if t.dtype.is_floating else -1 - t


@op("OneHot", since=9)
def one_hot(g: Context, indices: Value, depth: Value, values: Value, *, axis: int = -1) -> Value:
    """OneHot; indices out of range give a row without a hit."""
    place = axis_of(axis, indices.rank + 1)
    size = g.result("depth")[place] if depth.constant is None else int(depth.constant.item())
    t = tf.cast(arranged(indices, range(indices.rank)), tf.int32)
    if not indices.nonnegative:
        t = tf.where(t < 0, t + size, t)
    off, on = values.tensor[0], values.tensor[1]
    dtype = np.dtype(values.dtype)
    return Value.of(tf.one_hot(t, size, on, off, axis=place, dtype=dtype))


@op("Compress", since=9)
def compress(g: Context, x: Value, condition: Value, *, axis: int | None = None) -> Value:
    """Compress: the elements along an axis where a condition holds."""
    if axis is None:
        x, axis = x.reshape((math.prod(x.shape),)), 0
    fixed = condition.constant
    chosen: Any = (
        np.flatnonzero(fixed).astype(np.int32)
        if fixed is not None
        else tf.squeeze(tf.where(arranged(condition, (0,))), 1)
    )
    t, permutation = canonical(x)
    y = tf.gather(t, chosen, axis=permutation.index(axis_of(axis, x.rank)))
    return Value(y, Value.of(y, permutation).view, x.nonnegative)


@op("NonZero", since=9)
def non_zero(g: Context, x: Value) -> Value:
    """NonZero: how many there are is known at run time only, which TFLite's WHERE allows."""
    if x.rank == 0:
        raise Unsupported("NonZero of a scalar")
    t = arranged(x, range(x.rank))
    if x.dtype != np.bool_:
        t = tf.not_equal(cast(t, np.int32) if x.dtype.itemsize == 1 else t, 0)
    places = tf.where(t)
    value = Value.of(places, (1, 0))
    return Value(value.tensor, value.view, nonnegative=True)


@op("Unique", since=11)
def unique(g: Context, x: Value, *, axis: int | None = None, sorted: int = 1) -> tuple[Value, ...]:
    """Unique: refused, TFLite neither sorts unique elements nor counts them."""
    raise Unsupported("how many elements are unique is known at run time only")
