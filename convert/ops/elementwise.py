"""Elementwise arithmetic, comparison and logic, with numpy broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.context import Context
from edgeconv.convert.registry import Unsupported, op
from edgeconv.convert.value import Tensor, Value, aligned


def binary(function: Callable[[Tensor, Tensor], Tensor], a: Value, b: Value) -> Value:
    """Apply an elementwise function of two tensors that broadcast."""
    (left, right), view = aligned([a, b])
    return Value(function(left, right), view)


@op("Add", since=7)
def add(g: Context, a: Value, b: Value) -> Value:
    """Add."""
    y = binary(tf.add, a, b)
    return Value(y.tensor, y.view, a.nonnegative and b.nonnegative)


@op("Sub", since=7)
def sub(g: Context, a: Value, b: Value) -> Value:
    """Sub."""
    return binary(tf.subtract, a, b)


@op("Mul", since=7)
def mul(g: Context, a: Value, b: Value) -> Value:
    """Mul."""
    y = binary(tf.multiply, a, b)
    return Value(y.tensor, y.view, a.nonnegative and b.nonnegative)


@op("Div", since=7)
def div(g: Context, a: Value, b: Value) -> Value:
    """Div; integers are divided towards zero, as C does."""
    if np.issubdtype(a.dtype, np.floating):
        divisor = b.constant
        if divisor is not None and np.all(divisor != 0):
            return binary(tf.multiply, a, Value.of((1 / divisor).astype(divisor.dtype)))
        return binary(tf.divide, a, b)
    return binary(tf.truncatediv, a, b)


@op("Pow", since=7)
def power(g: Context, x: Value, y: Value) -> Value:
    """Pow; the exponents that have an op of their own get it."""
    exponent = y.constant
    if exponent is not None and exponent.size == 1 and np.issubdtype(x.dtype, np.floating):
        single = _POWERS.get(float(exponent.item()))
        if single is not None and y.rank <= x.rank:
            return x.map(single)
    if y.dtype != x.dtype:
        y = (
            y.map(lambda t: tf.cast(t, x.dtype))
            if exponent is None
            else Value.of(exponent.astype(x.dtype))
        )
    return binary(tf.pow, x, y)


_POWERS: dict[float, Callable[[Tensor], Tensor]] = {
    1.0: tf.identity,
    2.0: tf.square,
    0.5: tf.sqrt,
    -0.5: tf.math.rsqrt,
}


def _chain(function: Callable[[Tensor, Tensor], Tensor], values: tuple[Value, ...]) -> Value:
    if not values:
        raise Unsupported("no input")
    return reduce(lambda a, b: binary(function, a, b), values)


@op("Max", since=8)
def maximum(g: Context, *values: Value) -> Value:
    """Max of one or more tensors."""
    return _chain(tf.maximum, values)


@op("Min", since=8)
def minimum(g: Context, *values: Value) -> Value:
    """Min of one or more tensors."""
    return _chain(tf.minimum, values)


@op("Sum", since=8)
def total(g: Context, *values: Value) -> Value:
    """Sum of one or more tensors."""
    return _chain(tf.add, values)


@op("Mean", since=8)
def mean(g: Context, *values: Value) -> Value:
    """Mean of one or more tensors."""
    share = np.asarray(1 / len(values), values[0].dtype)
    return _chain(tf.add, values).map(lambda t: t * share)


@op("Where", since=9)
def where(g: Context, condition: Value, x: Value, y: Value) -> Value:
    """Where."""
    tensors, view = aligned([condition, x, y])
    return Value(tf.where(*tensors), view)


def _unary(
    name: str, function: Callable[[Tensor], Tensor], *, nonnegative: bool = False
) -> Callable[..., Any]:
    @op(name)
    def translate(g: Context, x: Value) -> Value:
        return x.map(function, nonnegative=nonnegative)

    translate.__doc__ = f"{name}, elementwise."
    return translate


neg = _unary("Neg", tf.negative)
absolute = _unary("Abs", tf.abs, nonnegative=True)
sqrt = _unary("Sqrt", tf.sqrt, nonnegative=True)
exp = _unary("Exp", tf.exp, nonnegative=True)
log = _unary("Log", tf.math.log)
sin = _unary("Sin", tf.sin)
cos = _unary("Cos", tf.cos)
floor = _unary("Floor", tf.floor)
ceil = _unary("Ceil", tf.math.ceil)
round_half_even = _unary("Round", tf.round)
sign = _unary("Sign", tf.sign)
logical_not = _unary("Not", tf.logical_not)
reciprocal = _unary("Reciprocal", lambda t: tf.divide(np.asarray(1, np.float32), t))


def _comparison(
    name: str, since: int, function: Callable[[Tensor, Tensor], Tensor]
) -> Callable[..., Any]:
    @op(name, since=since)
    def translate(g: Context, a: Value, b: Value) -> Value:
        return binary(function, a, b)

    translate.__doc__ = f"{name} of two tensors that broadcast."
    return translate


equal = _comparison("Equal", 7, tf.equal)
less = _comparison("Less", 7, tf.less)
greater = _comparison("Greater", 7, tf.greater)
less_or_equal = _comparison("LessOrEqual", 12, tf.less_equal)
greater_or_equal = _comparison("GreaterOrEqual", 12, tf.greater_equal)
logical_and = _comparison("And", 7, tf.logical_and)
logical_or = _comparison("Or", 7, tf.logical_or)
logical_xor = _comparison("Xor", 7, tf.not_equal)
