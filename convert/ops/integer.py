"""Integer arithmetic that TFLite has no kernel for, exact, from the kernels that it has."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.lowering import cast, dtype_of
from edgeconv.convert.translate.value import Tensor

_QUOTIENT_STEPS = 3  # each finds the next 23 of at most 63 bits


def divide_int64(a: Tensor, b: Tensor) -> Tensor:
    """Divide int64 towards zero: TFLite's DIV and FLOOR_DIV know int32 at most.

    Long division with digits of float32's precision: each step adds the rounded quotient of the
    remainder, which shrinks by 2^23; what is left is off by one at most.
    """
    dividend, divisor = _magnitude(a), _magnitude(b)
    approximate = cast(divisor, np.float32)
    quotient: Tensor = np.asarray(0, np.int64)
    remainder = dividend
    for _ in range(_QUOTIENT_STEPS):
        digit = cast(cast(remainder, np.float32) / approximate, np.int64)
        quotient = quotient + digit
        remainder = remainder - digit * divisor
    quotient = quotient + cast(remainder >= divisor, np.int64) - cast(remainder < 0, np.int64)
    return tf.where(tf.not_equal(a < 0, b < 0), -quotient, quotient)


def _magnitude(t: Tensor) -> Tensor:
    return np.abs(t) if isinstance(t, np.ndarray) else tf.maximum(t, -t)


def modulo_like_c(a: Tensor, b: Tensor) -> Tensor:
    """Return the remainder of a division towards zero, C's ``fmod`` and ``%``.

    For operands that are not negative it is the one of a division downwards, which TFLite has.
    """
    if np.issubdtype(dtype_of(a), np.floating):
        magnitude = tf.math.floormod(tf.abs(a), tf.abs(b))
        return tf.where(a < 0, -magnitude, magnitude)
    remainder = tf.math.floormod(a, b)
    across = tf.logical_and(tf.not_equal(remainder, 0), tf.not_equal(a < 0, b < 0))
    return tf.where(across, remainder - b, remainder)


def power_int64(base: Tensor, exponent: Tensor) -> Tensor:
    """Raise int64 to int32 powers that are not negative, by repeated squaring.

    An exponent over 63 gives the right answer for bases -1, 0 and 1, and for the others an
    overflow, as it must.
    """
    odd = exponent - 2 * tf.bitwise.right_shift(exponent, np.int32(1))
    rest = tf.minimum(exponent, 62 + odd)
    result: Tensor = np.asarray(1, np.int64)
    for step in range(6):
        half = tf.bitwise.right_shift(rest, np.int32(1))
        result = tf.where(tf.equal(rest, 2 * half), result, result * base)
        rest = half
        if step < 5:
            base = base * base
    return result
