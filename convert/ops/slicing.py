"""Operators that join tensors and cut pieces out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.lowering import dtypes, widened
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import (
    Tensor,
    Value,
    arranged,
    canonical,
    canonical_permutation,
)
from edgeconv.convert.translate.view import DYNAMIC, Shape
from edgeconv.convert.translate.view_cut import cut_of, resized

_REVERSE_SEQUENCE = dtypes("float32", "int32", "int64")


@op("Concat", since=4)
def concat(g: Context, *values: Value, axis: int) -> Value:
    """Concat, in the stored order of its largest operand that is not constant."""
    if len(values) == 1:
        return values[0]
    axis = axis_of(axis, values[0].rank)
    computed = [value for value in values if value.constant is None]
    lead = max(computed, key=lambda value: abs(int(np.prod(value.shape))))
    permutation = canonical_permutation(lead)
    tensors = [arranged(value, permutation) for value in values]
    y = Value.of(tf.concat(tensors, permutation.index(axis)), permutation)
    return Value(y.tensor, y.view, all(value.nonnegative for value in values))


@op("Split", since=2)
def split_attribute(
    g: Context, x: Value, *, axis: int = 0, split: Sequence[int] | None = None
) -> tuple[Value, ...]:
    """Split with its sizes as an attribute."""
    return _split(g, x, axis, split)


@op("Split", since=13)
def split_input(
    g: Context, x: Value, split: Value | None = None, *, axis: int = 0, num_outputs: int = 0
) -> tuple[Value, ...]:
    """Split with its sizes as an input."""
    if split is not None and split.constant is None:
        place = axis_of(axis, x.rank)
        sizes = [g.result("split", number)[place] for number in range(len(g.outputs))]
        return _split(g, x, axis, sizes)
    return _split(g, x, axis, None if split is None else g.integers(split, "split"))


def _split(g: Context, x: Value, axis: int, sizes: Sequence[int] | None) -> tuple[Value, ...]:
    axis = axis_of(axis, x.rank)
    _known(x, [axis])
    count = len(g.outputs)
    if sizes is None:
        size = -(-x.shape[axis] // count)
        sizes = [min(size, x.shape[axis] - start) for start in range(0, size * count, size)]
    cut = cut_of(x.view, axis) if x.constant is None else None
    if cut is not None:
        spans = [size * cut.inner for size in sizes]
        pieces = _parts(x.tensor, spans, cut.dimension, x.dtype)
        views = [resized(x.view, axis, size) for size in sizes]
        return tuple(map(Value, pieces, views, [x.nonnegative] * len(views)))
    t, permutation = canonical(x)
    parts = _parts(t, list(sizes), permutation.index(axis), x.dtype)
    values = [Value.of(part, permutation) for part in parts]
    return tuple(Value(value.tensor, value.view, x.nonnegative) for value in values)


def _parts(t: Tensor, sizes: list[int], axis: int, dtype: np.dtype[Any]) -> list[Tensor]:
    """Split a stored tensor; TFLite's SPLIT takes no bool, its STRIDED_SLICE does."""
    if len(sizes) == 1:
        return [t]
    if dtype == np.bool_:
        stops = np.cumsum(sizes).tolist()
        spans = zip([0, *stops[:-1]], stops, strict=True)
        lead = (slice(None),) * axis
        return [t[(*lead, slice(start, stop))] for start, stop in spans]
    even = len(set(sizes)) == 1
    return list(tf.split(t, len(sizes) if even else sizes, axis))


def _sliced_at_run_time(
    x: Value, starts: Value, ends: Value, axes: Value | None, steps: Value | None, shape: Shape
) -> Value:
    """Slice by bounds known at run time, with the value as the source has it."""
    count = starts.shape[0]
    first, last = (_vector(bound) for bound in (starts, ends))
    each = np.ones(count, np.int32) if steps is None else _vector(steps)
    at = np.arange(count, dtype=np.int32) if axes is None else _vector(axes)
    own = np.arange(x.rank, dtype=np.int32)[None, :]
    hit = tf.cast(tf.equal(tf.reshape(tf.math.floormod(at, x.rank), (count, 1)), own), tf.int32)
    sliced_axes = tf.reduce_sum(hit, 0)

    def placed(bounds: Tensor, other: int) -> Tensor:
        found = tf.reduce_sum(hit * tf.reshape(bounds, (count, 1)), 0)
        return tf.where(tf.equal(sliced_axes, 1), found, other)

    ends_of = (placed(first, 0), placed(last, np.iinfo(np.int32).max), placed(each, 1))
    y = tf.strided_slice(arranged(x, range(x.rank)), *ends_of)
    return Value.of(tf.reshape(y, shape))


def _vector(value: Value) -> Tensor:
    """Return bounds as int32; the largest and smallest int64 stand for no bound."""
    t = arranged(value, (0,))
    limits = np.iinfo(np.int32)
    if isinstance(t, np.ndarray):
        return t.clip(limits.min, limits.max).astype(np.int32)
    if t.dtype == tf.int64:
        t = tf.minimum(tf.maximum(t, limits.min), limits.max)
    return tf.cast(t, tf.int32)


@op("Slice")
def slice_attributes(
    g: Context, x: Value, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] = ()
) -> Value:
    """Slice with its bounds as attributes."""
    return sliced(x, starts, ends, axes or range(len(starts)), [1] * len(starts))


@op("Slice", since=10)
def slice_inputs(
    g: Context,
    x: Value,
    starts: Value,
    ends: Value,
    axes: Value | None = None,
    steps: Value | None = None,
) -> Value:
    """Slice with its bounds as inputs."""
    given = (starts, ends, axes, steps)
    if any(bound is not None and bound.constant is None for bound in given):
        return _sliced_at_run_time(x, starts, ends, axes, steps, g.result("starts"))
    first = g.integers(starts, "starts")
    return sliced(
        x,
        first,
        g.integers(ends, "ends"),
        range(len(first)) if axes is None else g.integers(axes, "axes"),
        [1] * len(first) if steps is None else g.integers(steps, "steps"),
    )


def sliced(
    x: Value,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int],
    steps: Sequence[int],
) -> Value:
    """Cut a box out of a value; bounds count and clamp as Python's do.

    Raises:
        Unsupported: A sliced axis has a size known at run time only.
    """
    places = [axis_of(axis, x.rank) for axis in axes]
    _known(x, places)
    ranges = {
        axis: range(x.shape[axis])[start:end:step]
        for start, end, axis, step in zip(starts, ends, places, steps, strict=True)
    }
    if all(span == range(x.shape[axis]) for axis, span in ranges.items()):
        return x
    whole = _as_block(x, ranges)
    if whole is not None:
        return whole
    t, permutation = canonical(x)
    index: list[Any] = [slice(None)] * x.rank
    for axis, span in ranges.items():
        index[permutation.index(axis)] = _as_slice(span)
    y = t[tuple(index)]
    return Value(y, Value.of(y, permutation).view, x.nonnegative)


def _as_block(x: Value, ranges: Mapping[int, range]) -> Value | None:
    """Cut along one axis in the stored tensor as it is, or return None where that is no box."""
    (axis, span), *others = ranges.items()
    cut = cut_of(x.view, axis) if x.constant is None else None
    if others or cut is None or not span or (span.step != 1 and cut.inner > 1):
        return None
    index: list[Any] = [slice(None)] * len(x.view.stored)
    scaled = range(span.start * cut.inner, span.stop * cut.inner) if span.step == 1 else span
    index[cut.dimension] = _as_slice(scaled)
    return Value(x.tensor[tuple(index)], resized(x.view, axis, len(span)), x.nonnegative)


def _as_slice(span: range) -> slice:
    if not span:
        return slice(0, 0)
    if span.step > 0:
        return slice(span[0], span[-1] + 1, span.step)
    return slice(span[0], span[-1] - 1 if span[-1] else None, span.step)


def _known(x: Value, axes: Sequence[int]) -> None:
    if any(x.shape[axis] == DYNAMIC for axis in axes):
        raise Unsupported("an axis whose size is known at run time only is cut")


@op("ReverseSequence")
def reverse_sequence(
    g: Context, x: Value, sequence_lens: Value, *, batch_axis: int = 1, time_axis: int = 0
) -> Value:
    """ReverseSequence: the first elements of each sequence backwards, the rest as it is."""
    t, permutation = canonical(x)
    lengths = arranged(sequence_lens, (0,))
    time, batch = (permutation.index(axis_of(axis, x.rank)) for axis in (time_axis, batch_axis))
    y = widened(
        lambda part: tf.reverse_sequence(part, lengths, seq_axis=time, batch_axis=batch),
        t,
        native=_REVERSE_SEQUENCE,
    )
    return Value(y, Value.of(y, permutation).view, x.nonnegative)
