"""Operators that present the same elements in another shape, or repeat them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.batch import BATCH, HINT, opened, sizes_of
from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.lowering import dtypes, widened
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Value, arranged, canonical
from edgeconv.convert.translate.view import DYNAMIC, Shape, product
from edgeconv.core.artifacts import Array

_TILE = dtypes("float32", "int32", "int64", "uint8", "bool")


@op("Identity")
def identity(g: Context, x: Value) -> Value:
    """Identity."""
    return x


@op("Dropout")
def dropout(g: Context, x: Value, *, ratio: float = 0.5, seed: int = 0) -> tuple[Value, ...]:
    """Dropout up to opset 11: inference leaves the input as it is."""
    return _kept(g, x)


@op("Dropout", since=12)
def dropout_inputs(
    g: Context,
    x: Value,
    ratio: Value | None = None,
    training: Value | None = None,
    *,
    seed: int = 0,
) -> tuple[Value, ...]:
    """Dropout: inference leaves the input as it is."""
    rate = 0.5 if ratio is None else g.constant(ratio, "ratio").item()
    if training is not None and g.constant(training, "training_mode").item() and rate:
        raise Unsupported("training_mode is on", "export the model in eval mode")
    return _kept(g, x)


def _kept(g: Context, x: Value) -> tuple[Value, ...]:
    return (x, Value.of(np.ones(x.shape, bool))) if len(g.outputs) > 1 else (x,)


@op("Transpose")
def transpose(g: Context, x: Value, *, perm: Sequence[int] | None = None) -> Value:
    """Transpose; nothing moves until an op asks for an order that is not stored."""
    return x.transpose(range(x.rank)[::-1] if perm is None else perm)


@op("Reshape", since=5)
def reshape(g: Context, x: Value, shape: Value, *, allowzero: int = 0) -> Value:
    """Reshape."""
    if shape.constant is None:
        return x.reshape(g.result("shape"))
    wanted = list(g.integers(shape, "shape"))
    if DYNAMIC in x.shape and not g.batch:
        kept = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
        return x.reshape(tuple(wanted if allowzero else kept))
    sizes = sizes_of(x, g.batch)
    if not allowzero:
        wanted = [sizes[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if -1 in wanted:
        known = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(sizes) // known if known else 0
    return x.reshape(opened(wanted))


@op("Flatten")
def flatten(g: Context, x: Value, *, axis: int = 1) -> Value:
    """Flatten to two axes."""
    axis = axis_of(axis, x.rank) if axis < x.rank else axis
    return x.reshape((product(x.shape[:axis]), product(x.shape[axis:])))


@op("Squeeze")
def squeeze_attribute(g: Context, x: Value, *, axes: Sequence[int] | None = None) -> Value:
    """Squeeze with axes as an attribute."""
    return _squeeze(x, axes)


@op("Squeeze", since=13)
def squeeze(g: Context, x: Value, axes: Value | None = None) -> Value:
    """Squeeze with axes as an input."""
    if axes is not None and axes.constant is None:
        return x.reshape(g.result("axes"))
    return _squeeze(x, None if axes is None else g.integers(axes, "axes"))


def _squeeze(x: Value, axes: Sequence[int] | None) -> Value:
    if axes is None:
        gone = {axis for axis, size in enumerate(x.shape) if size == 1}
    else:
        gone = {axis_of(axis, x.rank) for axis in axes}
    return x.reshape(tuple(size for axis, size in enumerate(x.shape) if axis not in gone))


@op("Unsqueeze")
def unsqueeze_attribute(g: Context, x: Value, *, axes: Sequence[int]) -> Value:
    """Unsqueeze with axes as an attribute."""
    return _unsqueeze(x, axes)


@op("Unsqueeze", since=13)
def unsqueeze(g: Context, x: Value, axes: Value) -> Value:
    """Unsqueeze with axes as an input."""
    if axes.constant is None:
        return x.reshape(g.result("axes"))
    return _unsqueeze(x, g.integers(axes, "axes"))


def _unsqueeze(x: Value, axes: Sequence[int]) -> Value:
    rank = x.rank + len(axes)
    new = {axis_of(axis, rank) for axis in axes}
    sizes = iter(x.shape)
    return x.reshape(tuple(1 if axis in new else next(sizes) for axis in range(rank)))


@op("Expand", since=8)
def expand(g: Context, x: Value, shape: Value) -> Value:
    """Expand by numpy's broadcasting rules."""
    sizes = sizes_of(x, g.batch)
    given = g.result("shape") if shape.constant is None else g.integers(shape, "shape")
    wanted = _broadcast(sizes, given)
    if wanted == sizes:
        return x
    whole = x.reshape((1,) * (len(wanted) - x.rank) + x.shape)
    if DYNAMIC in opened(wanted):
        return _expand_open(g, whole, wanted)
    t, permutation = canonical(whole)
    y = tf.broadcast_to(t, [wanted[axis] for axis in permutation])
    return Value(y, Value.of(y, permutation).view, x.nonnegative)


def _broadcast(first: Sequence[int], second: Sequence[int]) -> Shape:
    rank = max(len(first), len(second))
    padded = ((1,) * (rank - len(sizes)) + tuple(sizes) for sizes in (first, second))
    pairs = list(zip(*padded, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        raise Unsupported("the shapes do not broadcast")
    return tuple(b if a == 1 else a for a, b in pairs)


def _expand_open(g: Context, x: Value, wanted: Shape) -> Value:
    """Repeat along fixed axes, then give each sample of the batch its copy."""
    t, permutation = canonical(x)
    now = sizes_of(x, g.batch)
    repeats = [
        wanted[axis] if now[axis] == 1 and wanted[axis] % BATCH else 1 for axis in permutation
    ]
    if set(repeats) != {1}:
        t = widened(lambda part: tf.tile(part, repeats), t, native=_TILE)
    for place, axis in enumerate(permutation):
        if now[axis] == 1 and wanted[axis] == BATCH:
            t = tf.gather(t, g.first_of_each(), axis=place)
        elif now[axis] == 1 and wanted[axis] % BATCH == 0:
            raise Unsupported("it repeats values more than once for each sample", HINT)
    return Value(t, Value.of(t, permutation).view, x.nonnegative)


@op("ConstantOfShape", since=9)
def constant_of_shape(g: Context, shape: Value, *, value: Array | None = None) -> Value:
    """ConstantOfShape, where the shape depends on the batch; others are folded."""
    if shape.constant is None:
        filled = np.zeros(1, np.float32) if value is None else value
        return Value.of(np.full(g.result("the shape"), filled.item(), filled.dtype))
    sizes = g.integers(shape, "the shape")
    fill = np.zeros(1, np.float32) if value is None else value
    one = np.full([size if size % BATCH else 1 for size in sizes], fill.item(), fill.dtype)
    return _expand_open(g, Value.of(one), sizes) if DYNAMIC in opened(sizes) else Value.of(one)


@op("Tile", since=6)
def tile(g: Context, x: Value, repeats: Value) -> Value:
    """Tile."""
    if repeats.constant is None:
        y = tf.tile(arranged(x, range(x.rank)), tf.cast(arranged(repeats, (0,)), tf.int32))
        return Value.of(tf.reshape(y, g.result("repeats")))
    counts = g.integers(repeats, "repeats")
    if set(counts) <= {1}:
        return x
    t, permutation = canonical(x)
    multiples = [counts[axis] for axis in permutation]
    y = widened(lambda part: tf.tile(part, multiples), t, native=_TILE)
    return Value(y, Value.of(y, permutation).view, x.nonnegative)


@op("Shape")
def shape_of_value(g: Context, x: Value, *, start: int = 0, end: int | None = None) -> Value:
    """Shape, a constant because shapes are."""
    return Value.of(np.array(sizes_of(x, g.batch)[start:end], np.int64))


@op("Size")
def size_of_value(g: Context, x: Value) -> Value:
    """Size, a constant because shapes are."""
    return Value.of(np.array(math.prod(sizes_of(x, g.batch)), np.int64))
