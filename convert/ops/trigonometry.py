"""Circular and hyperbolic functions, and the error function.

TFLite has SIN, COS, TANH and ATAN2; the others are composed of these. Every form keeps float32's
relative accuracy near zero and does not overflow before the function itself does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.elementwise import unary
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import Tensor, Value

_ERF = (
    1.4223177e-07, -5.6752648e-06, 8.7680368e-05, -6.1990432e-04, -1.9168447e-04, 1.0276899e-01,
    1.1283793,
)  # fmt: skip
"""P in erf(x) = tanh(x P(x^2)), highest power first: a minimax fit over 0 <= x <= 4.2, where its
error is 1e-7; beyond, both sides are 1. In float32 the error is 1.7e-7, relative 2.6e-7."""


def erf(t: Tensor) -> Tensor:
    """Return the error function; TFLite has none."""
    square = t * t
    polynomial: Tensor = np.float32(_ERF[0])
    for coefficient in _ERF[1:]:
        polynomial = polynomial * square + np.float32(coefficient)
    return tf.tanh(t * polynomial)


def log1p(t: Tensor) -> Tensor:
    """Return log(1 + t), accurate near zero.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, section 1.14.1: the error of
    rounding 1 + t cancels in log(w) / (w - 1).
    """
    one = np.float32(1)
    w = one + t
    rounded = w - one
    exact = tf.logical_or(tf.equal(rounded, 0), tf.equal(rounded, np.float32(np.inf)))
    divisor = tf.where(exact, one, rounded)
    return tf.where(exact, tf.minimum(t, tf.math.log(w) + t), tf.math.log(w) * (t / divisor))


def _acos(t: Tensor) -> Tensor:
    return tf.atan2(tf.sqrt((1 - t) * (1 + t)), t)


def _asin(t: Tensor) -> Tensor:
    return tf.atan2(t, tf.sqrt((1 - t) * (1 + t)))


def _sinh(t: Tensor) -> Tensor:
    return tf.tanh(t) * _cosh(t)


def _cosh(t: Tensor) -> Tensor:
    half = np.float32(0.5)
    return half * tf.exp(t) + half * tf.exp(-t)


def _asinh(t: Tensor) -> Tensor:
    size = tf.abs(t)
    return tf.sign(t) * log1p(size + size * (size / (1 + tf.sqrt(size * size + 1))))


def _acosh(t: Tensor) -> Tensor:
    above = t - 1
    return log1p(above + tf.sqrt(above) * tf.sqrt(t + 1))


def _atanh(t: Tensor) -> Tensor:
    size = tf.abs(t)
    return np.float32(0.5) * tf.sign(t) * log1p(2 * size / (1 - size))


def _float_function(name: str, function: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    @op(name)
    def translate(g: Context, x: Value) -> Value:
        return unary(function, x)

    translate.__doc__ = f"{name}, elementwise."
    return translate


sin = _float_function("Sin", tf.sin)
cos = _float_function("Cos", tf.cos)
tan = _float_function("Tan", lambda t: tf.sin(t) / tf.cos(t))
acos = _float_function("Acos", _acos)
asin = _float_function("Asin", _asin)
atan = _float_function("Atan", lambda t: tf.atan2(t, tf.ones_like(t)))
sinh = _float_function("Sinh", _sinh)
cosh = _float_function("Cosh", _cosh)
asinh = _float_function("Asinh", _asinh)
acosh = _float_function("Acosh", _acosh)
atanh = _float_function("Atanh", _atanh)
error_function = _float_function("Erf", erf)
