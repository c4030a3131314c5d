"""Bitwise logic and shifts.

LiteRT has BITWISE_XOR and RIGHT_SHIFT of int8, uint8 and int32 and nothing else of the kind;
64-bit integers are taken as pairs of int32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.integer import divide_int64
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import cast, dtype_of, dtypes, widened
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, aligned

_SHIFTABLE = dtypes("int8", "uint8", "int32")
_INT32 = dtypes("int32")
_WIDE = dtypes("int64", "uint64")


def _halves(t: Tensor) -> Tensor:
    """Take integers of 64 bits as pairs of int32 along a new last axis; others as they are."""
    if dtype_of(t) not in _WIDE:
        return t
    return (
        np.ascontiguousarray(t).reshape(*t.shape, 1).view(np.int32)
        if isinstance(t, np.ndarray)
        else tf.bitcast(t, "int32")
    )


def _whole(t: Tensor, dtype: np.dtype[Any]) -> Tensor:
    return tf.bitcast(t, dtype) if dtype in _WIDE else t


def _bitwise(a: Value, b: Value, function: Callable[[Tensor, Tensor], Tensor]) -> Value:
    (left, right), view = aligned([a, b])
    native = _SHIFTABLE if function is tf.bitwise.bitwise_xor else _INT32
    y = widened(function, _halves(left), _halves(right), native=native)
    return Value(_whole(y, a.dtype), view)


def _and(a: Tensor, b: Tensor) -> Tensor:
    """AND of int32: half the sum of both, less half of what only one of them has.

    No step overflows. Source: a + b = 2 (a & b) + (a ^ b), halved bit by bit.
    """
    one = np.int32(1)
    half_a, half_b = tf.bitwise.right_shift(a, one), tf.bitwise.right_shift(b, one)
    lowest = (a - 2 * half_a) * (b - 2 * half_b)
    differing = tf.bitwise.right_shift(tf.bitwise.bitwise_xor(a, b), one)
    return half_a + half_b + lowest - differing


def _or(a: Tensor, b: Tensor) -> Tensor:
    return _and(a, b) + tf.bitwise.bitwise_xor(a, b)


@op("BitwiseAnd", since=18)
def bitwise_and(g: Context, a: Value, b: Value) -> Value:
    """BitwiseAnd."""
    return _bitwise(a, b, _and)


@op("BitwiseOr", since=18)
def bitwise_or(g: Context, a: Value, b: Value) -> Value:
    """BitwiseOr."""
    return _bitwise(a, b, _or)


@op("BitwiseXor", since=18)
def bitwise_xor(g: Context, a: Value, b: Value) -> Value:
    """BitwiseXor."""
    return _bitwise(a, b, tf.bitwise.bitwise_xor)


@op("BitwiseNot", since=18)
def bitwise_not(g: Context, x: Value) -> Value:
    """BitwiseNot: -1 - x, with wrap-around."""
    return x.map(lambda t: widened(lambda u: np.asarray(-1, dtype_of(u)) - u, t))


@op("BitShift", since=11)
def bit_shift(g: Context, x: Value, y: Value, *, direction: str) -> Value:
    """BitShift; shifting by less than nothing or by all bits leaves what the sign bit gives."""
    if direction not in ("LEFT", "RIGHT"):
        raise Unsupported(f"direction {direction}")
    (t, amount), view = aligned([x, y])
    if direction == "LEFT":
        return Value(_shift_left(t, amount), view)
    if x.dtype in _WIDE:
        return Value(_shift_right_int64(t, cast(amount, np.int64)), view)
    return Value(widened(_shift_right, t, amount, native=_INT32), view)


def _shift_left(t: Tensor, amount: Tensor) -> Tensor:
    """Multiply by a power of two out of a table, whose last entry, zero, is for all bits."""
    bits = np.iinfo(dtype_of(t)).bits
    wide = np.int64 if bits == 64 else np.int32
    powers = np.append(np.left_shift(wide(1), np.arange(bits, dtype=wide)), wide(0))
    index = _in_range(amount, bits, bits)
    shifted = cast(t, wide) * tf.gather(powers, index)
    return cast(shifted, dtype_of(t))


def _in_range(amount: Tensor, bits: int, other: int) -> Tensor:
    """Return int32 amounts, those below zero or from ``bits`` on replaced."""
    amount = cast(amount, np.int64) if dtype_of(amount).itemsize == 8 else cast(amount, np.int32)
    valid = tf.logical_and(amount >= 0, amount < bits)
    return cast(tf.where(valid, amount, np.asarray(other, dtype_of(amount))), np.int32)


def _shift_right(t: Tensor, amount: Tensor) -> Tensor:
    return tf.bitwise.right_shift(t, _in_range(amount, 32, 31))


def _shift_right_int64(t: Tensor, amount: Tensor) -> Tensor:
    """Divide int64 downwards by a power of two; from 63 bits on only the sign is left."""
    powers = np.left_shift(np.int64(1), np.arange(63, dtype=np.int64))
    power = tf.gather(powers, _in_range(amount, 63, 0))
    quotient = divide_int64(t - tf.math.floormod(t, power), power)
    sign = tf.where(t < 0, np.int64(-1), np.int64(0))
    return tf.where(tf.logical_and(amount >= 0, amount < 63), quotient, sign)
