"""Softmax and its relatives, over one axis or, up to opset 12, over all from one on."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import (
    Tensor,
    Value,
    arranged,
    canonical,
    reshaped,
    shape_of,
)
from edgeconv.convert.translate.view import product

LastAxis = Callable[[Tensor], Tensor]
_LARGEST_RANK = 4  # of TFLite's SOFTMAX and LOG_SOFTMAX


@op("Softmax")
def softmax_flat(g: Context, x: Value, *, axis: int = 1) -> Value:
    """Softmax up to opset 12: over everything from ``axis`` on."""
    return _over_tail(x, axis, tf.nn.softmax, nonnegative=True)


@op("Softmax", since=13)
def softmax(g: Context, x: Value, *, axis: int = -1) -> Value:
    """Softmax over one axis."""
    return _over_axis(x, axis, tf.nn.softmax, nonnegative=True)


@op("LogSoftmax")
def log_softmax_flat(g: Context, x: Value, *, axis: int = 1) -> Value:
    """LogSoftmax up to opset 12: over everything from ``axis`` on."""
    return _over_tail(x, axis, tf.nn.log_softmax)


@op("LogSoftmax", since=13)
def log_softmax(g: Context, x: Value, *, axis: int = -1) -> Value:
    """LogSoftmax over one axis."""
    return _over_axis(x, axis, tf.nn.log_softmax)


@op("Hardmax")
def hardmax_flat(g: Context, x: Value, *, axis: int = 1) -> Value:
    """Hardmax up to opset 12: over everything from ``axis`` on."""
    return _over_tail(x, axis, _hardmax, nonnegative=True)


@op("Hardmax", since=13)
def hardmax(g: Context, x: Value, *, axis: int = -1) -> Value:
    """Hardmax over one axis: 1 at the first maximum, else 0."""
    return _over_axis(x, axis, _hardmax, nonnegative=True)


def _hardmax(t: Tensor) -> Tensor:
    return tf.one_hot(tf.argmax(t, -1, output_type=tf.int32), t.shape[-1], dtype=t.dtype)


def _over_axis(x: Value, axis: int, function: LastAxis, *, nonnegative: bool = False) -> Value:
    """Apply a function of the last axis to another one: TFLite knows the last one only."""
    axis = axis_of(axis, x.rank)
    if x.view.dimensions([axis]) == (len(x.view.stored) - 1,):
        return x.map(function, nonnegative=nonnegative)
    t, permutation = canonical(x)
    if permutation[-1] != axis:
        permutation = (*(a for a in permutation if a != axis), axis)
        t = arranged(x, permutation)
    rows = reshaped(t, (product(shape_of(t)[:-1]), x.shape[axis])) if x.rank > _LARGEST_RANK else t
    y = Value.of(reshaped(function(rows), shape_of(t)), permutation)
    return Value(y.tensor, y.view, nonnegative)


def _over_tail(x: Value, axis: int, function: LastAxis, *, nonnegative: bool = False) -> Value:
    axis = axis_of(axis, x.rank)
    if axis == x.rank - 1:
        return _over_axis(x, axis, function, nonnegative=nonnegative)
    flat = x.reshape((*x.shape[:axis], product(x.shape[axis:])))
    return _over_axis(flat, axis, function, nonnegative=nonnegative).reshape(x.shape)
