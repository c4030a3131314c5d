"""Elementwise arithmetic with numpy broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.integer import divide_int64, modulo_like_c, power_int64
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import ARITHMETIC, cast, dtype_of, dtypes, widened
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, aligned

Binary = Callable[[Tensor, Tensor], Tensor]
_SELECT = dtypes("float32", "int32", "int64", "int8", "bool")


def binary(
    function: Binary, a: Value, b: Value, *, native: Iterable[np.dtype[Any]] = ARITHMETIC
) -> Value:
    """Apply an elementwise function of two tensors that broadcast.

    Args:
        function: Takes the two stored tensors.
        a: First operand.
        b: Second operand, of the same dtype.
        native: Dtypes that TFLite has a kernel for; see `widened`.
    """
    (left, right), view = aligned([a, b])
    return Value(widened(function, left, right, native=native), view)


def unary(function: Callable[[Tensor], Tensor], x: Value, *, nonnegative: bool = False) -> Value:
    """Apply an elementwise function, in a wider dtype where TFLite lacks x's."""
    return x.map(lambda t: widened(function, t), nonnegative=nonnegative)


def is_float(value: Value) -> bool:
    """Tell whether a value holds floating-point numbers."""
    return bool(np.issubdtype(value.dtype, np.floating))


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
    if not is_float(a):
        wide = a.dtype in dtypes("int64", "uint32")
        return binary(divide_int64 if wide else tf.truncatediv, a, b)
    divisor = b.constant
    if divisor is not None and np.all(divisor != 0):
        inverse = (1 / divisor.astype(np.float64)).astype(divisor.dtype)
        if np.all(np.isfinite(inverse)) and np.all(inverse != 0):
            return binary(tf.multiply, a, Value.of(inverse))
    return binary(tf.divide, a, b)


@op("Mod", since=10)
def mod(g: Context, a: Value, b: Value, *, fmod: int = 0) -> Value:
    """Mod: the sign is the divisor's, or with ``fmod`` the dividend's, as in C."""
    native = dtypes("float32", "int32", "int64")
    return binary(modulo_like_c if fmod else tf.math.floormod, a, b, native=native)


@op("Pow", since=7)
def power(g: Context, x: Value, y: Value) -> Value:
    """Pow; the exponents that have an op of their own get it. The result has x's dtype."""
    exponent = y.constant
    if exponent is not None and exponent.size == 1 and is_float(x) and y.rank <= x.rank:
        single = _POWERS.get(float(exponent.item()))
        if single is not None:
            return x.map(single)
    (base, exponents), view = aligned([x, y])
    return Value(_power(base, exponents), view)


def _power(base: Tensor, exponents: Tensor) -> Tensor:
    dtype = dtype_of(base)
    floats = [np.issubdtype(dtype_of(t), np.floating) for t in (base, exponents)]
    if any(floats):
        common = dtype if floats[0] else np.dtype(np.float32)
        return cast(widened(tf.pow, cast(base, common), cast(exponents, common)), dtype)
    if dtype in dtypes("int64", "uint32"):
        return cast(power_int64(cast(base, np.int64), cast(exponents, np.int32)), dtype)
    return cast(tf.pow(cast(base, np.int32), cast(exponents, np.int32)), dtype)


_POWERS: dict[float, Callable[[Tensor], Tensor]] = {
    1.0: tf.identity,
    2.0: tf.square,
    0.5: tf.sqrt,
    -0.5: tf.math.rsqrt,
}


def _chain(function: Binary, values: tuple[Value, ...]) -> Value:
    if not values:
        raise Unsupported("no input")
    return reduce(lambda a, b: binary(function, a, b), values)


@op("Max", since=6)
def maximum(g: Context, *values: Value) -> Value:
    """Max of one or more tensors."""
    y = _chain(tf.maximum, values)
    return Value(y.tensor, y.view, any(value.nonnegative for value in values))


@op("Min", since=6)
def minimum(g: Context, *values: Value) -> Value:
    """Min of one or more tensors."""
    y = _chain(tf.minimum, values)
    return Value(y.tensor, y.view, all(value.nonnegative for value in values))


@op("Sum", since=6)
def total(g: Context, *values: Value) -> Value:
    """Sum of one or more tensors."""
    return _chain(tf.add, values)


@op("Mean", since=6)
def mean(g: Context, *values: Value) -> Value:
    """Mean of one or more tensors."""
    if len(values) == 1:
        return values[0]
    share = np.asarray(1 / len(values), values[0].dtype)
    return _chain(tf.add, values).map(lambda t: t * share)


@op("Where", since=9)
def where(g: Context, condition: Value, x: Value, y: Value) -> Value:
    """Where."""
    (chosen, *tensors), view = aligned([condition, x, y])
    selected = widened(lambda a, b: tf.where(chosen, a, b), *tensors, native=_SELECT)
    return Value(selected, view, x.nonnegative and y.nonnegative)


@op("Abs", since=6)
def absolute(g: Context, x: Value) -> Value:
    """Abs."""
    if np.issubdtype(x.dtype, np.unsignedinteger):
        return x
    if x.dtype == np.int64:  # TFLite's ABS has no int64
        return x.map(lambda t: tf.maximum(t, -t), nonnegative=True)
    return unary(tf.abs, x, nonnegative=True)


@op("Sign", since=9)
def sign(g: Context, x: Value) -> Value:
    """Sign: -1, 0 or 1."""
    if is_float(x):
        return unary(tf.sign, x)

    def clipped(t: Tensor) -> Tensor:
        one = np.asarray(1, dtype_of(t))
        return tf.maximum(tf.minimum(t, one), -one)

    return unary(clipped, x)


def _unary(
    name: str, function: Callable[[Tensor], Tensor], *, nonnegative: bool = False
) -> Callable[..., Any]:
    @op(name)
    def translate(g: Context, x: Value) -> Value:
        return unary(function, x, nonnegative=nonnegative)

    translate.__doc__ = f"{name}, elementwise."
    return translate


neg = _unary("Neg", tf.negative)
sqrt = _unary("Sqrt", tf.sqrt, nonnegative=True)
exp = _unary("Exp", tf.exp, nonnegative=True)
log = _unary("Log", tf.math.log)
floor = _unary("Floor", tf.floor)
ceil = _unary("Ceil", tf.math.ceil)
round_half_even = _unary("Round", tf.round)
reciprocal = _unary("Reciprocal", lambda t: tf.divide(np.asarray(1, dtype_of(t)), t))
