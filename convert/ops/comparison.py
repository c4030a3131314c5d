"""Comparisons and logic, with numpy broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.elementwise import binary
from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import ARITHMETIC, DTypes, dtypes
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import Tensor, Value, arranged

_BOOL = dtypes("bool")


def _comparison(
    name: str, since: int, function: Callable[[Tensor, Tensor], Tensor], native: DTypes = ARITHMETIC
) -> Callable[..., Any]:
    @op(name, since=since)
    def translate(g: Context, a: Value, b: Value) -> Value:
        return binary(function, a, b, native=native)

    translate.__doc__ = f"{name} of two tensors that broadcast."
    return translate


equal = _comparison("Equal", 7, tf.equal, ARITHMETIC | _BOOL)
less = _comparison("Less", 7, tf.less)
greater = _comparison("Greater", 7, tf.greater)
less_or_equal = _comparison("LessOrEqual", 12, tf.less_equal)
greater_or_equal = _comparison("GreaterOrEqual", 12, tf.greater_equal)
logical_and = _comparison("And", 7, tf.logical_and, _BOOL)
logical_or = _comparison("Or", 7, tf.logical_or, _BOOL)
logical_xor = _comparison("Xor", 7, tf.not_equal, _BOOL)


@op("Not")
def logical_not(g: Context, x: Value) -> Value:
    """Not."""
    return x.map(tf.logical_not)


@op("AllOfRow", domain=DOMAIN)
def all_of_row(g: Context, x: Value) -> Value:
    """Tell of each row along the last axis, which is kept, whether all of it is true."""
    return Value.of(tf.reduce_all(arranged(x, range(x.rank)), axis=-1, keepdims=True))


@op("IsNaN", since=9)
def is_nan(g: Context, x: Value) -> Value:
    """IsNaN."""
    return x.map(tf.math.is_nan)


@op("IsInf", since=10)
def is_inf(g: Context, x: Value, *, detect_negative: int = 1, detect_positive: int = 1) -> Value:
    """IsInf, of either sign or of one."""
    largest = np.finfo(x.dtype).max  # LiteRT compares floats for equality within a tolerance
    if detect_negative and detect_positive:
        return x.map(lambda t: tf.greater(tf.abs(t), largest))
    if detect_positive:
        return x.map(lambda t: tf.greater(t, largest))
    if detect_negative:
        return x.map(lambda t: tf.less(t, -largest))
    return x.map(lambda t: tf.less(tf.abs(t), np.asarray(0, x.dtype)))
