"""Operators that present the same elements in another shape, or repeat them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.context import Context, axis_of
from edgeconv.convert.lowering import dtypes, widened
from edgeconv.convert.registry import Unsupported, op
from edgeconv.convert.value import Value, canonical
from edgeconv.convert.view import DYNAMIC, Shape, product

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
    wanted = list(g.integers(shape, "shape"))
    if not allowzero:
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if DYNAMIC in x.shape:
        return x.reshape(tuple(wanted))
    if -1 in wanted:
        known = int(np.prod([size for size in wanted if size != -1]))
        wanted[wanted.index(-1)] = int(np.prod(x.shape)) // known if known else 0
    return x.reshape(tuple(wanted))


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
    return _unsqueeze(x, g.integers(axes, "axes"))


def _unsqueeze(x: Value, axes: Sequence[int]) -> Value:
    rank = x.rank + len(axes)
    new = {axis_of(axis, rank) for axis in axes}
    sizes = iter(x.shape)
    return x.reshape(tuple(1 if axis in new else next(sizes) for axis in range(rank)))


@op("Expand", since=8)
def expand(g: Context, x: Value, shape: Value) -> Value:
    """Expand by numpy's broadcasting rules."""
    wanted = np.broadcast_shapes(x.shape, g.integers(shape, "shape"))
    if wanted == x.shape:
        return x
    whole = x.reshape((1,) * (len(wanted) - x.rank) + x.shape)
    t, permutation = canonical(whole)
    y = tf.broadcast_to(t, [wanted[axis] for axis in permutation])
    return Value(y, Value.of(y, permutation).view, x.nonnegative)


@op("Tile", since=6)
def tile(g: Context, x: Value, repeats: Value) -> Value:
    """Tile."""
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
    return Value.of(np.array(_static(x)[start:end], np.int64))


@op("Size")
def size_of_value(g: Context, x: Value) -> Value:
    """Size, a constant because shapes are."""
    return Value.of(np.array(math.prod(_static(x)), np.int64))


def _static(x: Value) -> Shape:
    if DYNAMIC in x.shape:
        raise Unsupported("a shape known at run time only", "give --input-shape")
    return x.shape
