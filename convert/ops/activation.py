"""Activation functions."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.elementwise import binary, is_float, unary
from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import cast, dtype_of, widened
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import Tensor, Value, aligned


@op("Relu")
def relu(g: Context, x: Value) -> Value:
    """Relu; of integers it is a maximum with zero."""
    if is_float(x):
        return x.map(tf.nn.relu, nonnegative=True)
    return unary(lambda t: tf.maximum(t, np.asarray(0, dtype_of(t))), x, nonnegative=True)


@op("Sigmoid")
def sigmoid(g: Context, x: Value) -> Value:
    """Sigmoid."""
    return x.map(tf.sigmoid, nonnegative=True)


@op("Tanh")
def tanh(g: Context, x: Value) -> Value:
    """Tanh."""
    return x.map(tf.tanh)


@op("Softplus")
def softplus(g: Context, x: Value) -> Value:
    """Softplus, log(1 + exp(x)), in the form that does not overflow."""
    return x.map(lambda t: tf.maximum(t, 0) + tf.math.log(1 + tf.exp(-tf.abs(t))), nonnegative=True)


@op("Softsign")
def softsign(g: Context, x: Value) -> Value:
    """Softsign, x / (1 + abs(x))."""
    return x.map(lambda t: t / (1 + tf.abs(t)))


@op("LeakyRelu")
def leaky_relu(g: Context, x: Value, *, alpha: float = 0.01) -> Value:
    """LeakyRelu."""
    return x.map(lambda t: tf.nn.leaky_relu(t, alpha))


@op("PRelu", since=7)
def prelu(g: Context, x: Value, slope: Value) -> Value:
    """PRelu, in the form that the TFLite converter recognises as PRELU.

    It does so where the slope is constant and has one axis less than x.
    """
    (t, alpha), view = aligned([x, slope])
    if not is_float(x):
        return Value(widened(lambda u, a: tf.where(u < 0, a * u, u), t, alpha), view)
    if slope.constant is None:
        return Value(tf.nn.relu(t) - alpha * tf.nn.relu(-t), view)
    missing = max(len(t.shape) - 1 - alpha.ndim, 0)
    alpha = np.negative(alpha).reshape((1,) * missing + alpha.shape)
    return Value(tf.nn.relu(t) + alpha * tf.nn.relu(-t), view)


@op("Elu")
def elu(g: Context, x: Value, *, alpha: float = 1.0) -> Value:
    """Elu."""
    return x.map(tf.nn.elu if alpha == 1 else lambda t: _elu(t, 1.0, alpha))


def _elu(t: Tensor, positive: float, negative: float) -> Tensor:
    """Return ELU with a factor for each side of zero."""
    above = tf.nn.relu(t)
    below = np.float32(negative) * tf.nn.elu(tf.minimum(t, 0))
    return below + (above if positive == 1 else np.float32(positive) * above)


@op("Celu", since=12)
def celu(g: Context, x: Value, *, alpha: float = 1.0) -> Value:
    """Celu: ELU stretched by alpha along both axes."""
    if alpha == 1:
        return x.map(tf.nn.elu)
    return x.map(lambda t: np.float32(alpha) * tf.nn.elu(t * np.float32(1 / alpha)))


@op("Selu", since=6)
def selu(
    g: Context, x: Value, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805
) -> Value:
    """Selu: gamma * (x, or alpha * (exp(x) - 1) below zero)."""
    return x.map(lambda t: _elu(t, gamma, gamma * alpha))


@op("Swish", since=24)
def swish(g: Context, x: Value, *, alpha: float = 1.0) -> Value:
    """Swish, x * sigmoid(alpha * x)."""
    return x.map(lambda t: _swish(t, alpha))


def _swish(t: Tensor, alpha: float) -> Tensor:
    return t * tf.sigmoid(t if alpha == 1 else t * np.float32(alpha))


@op("SwiGLU", since=28)
def swiglu(g: Context, a: Value, b: Value, *, alpha: float = 1.0) -> Value:
    """SwiGLU, Swish(a) * b."""
    return binary(tf.multiply, swish(g, a, alpha=alpha), b)


@op("Mish", since=18)
def mish(g: Context, x: Value) -> Value:
    """Mish, x * tanh(log(1 + exp(x))).

    With e = exp(x) that is x * n / (n + 2), n = e (e + 2); from x = 20 on the quotient is 1.
    """

    def function(t: Tensor) -> Tensor:
        e = tf.exp(tf.minimum(t, 20))
        n = e * (e + 2)
        return t * (n / (n + 2))

    return x.map(function)


@op("Shrink", since=9)
def shrink(g: Context, x: Value, *, bias: float = 0.0, lambd: float = 0.5) -> Value:
    """Shrink: zero between -lambd and lambd, elsewhere bias nearer to zero."""

    def function(t: Tensor) -> Tensor:
        zero, shift = np.asarray(0, dtype_of(t)), np.asarray(bias, dtype_of(t))
        above = tf.where(cast(t, np.float32) > np.float32(lambd), t - shift, zero)
        return tf.where(cast(t, np.float32) < np.float32(-lambd), t + shift, above)

    return unary(function, x)


@op("ThresholdedRelu", since=10)
def thresholded_relu(g: Context, x: Value, *, alpha: float = 1.0) -> Value:
    """ThresholdedRelu: x where it is over alpha, else zero."""
    return x.map(
        lambda t: tf.where(t > np.float32(alpha), t, np.float32(0)), nonnegative=alpha >= 0
    )


@op("HardSigmoid")
def hard_sigmoid(g: Context, x: Value, *, alpha: float = 0.2, beta: float = 0.5) -> Value:
    """HardSigmoid, clip(alpha * x + beta, 0, 1), as relu6 of six times that over six.

    The addition and the relu6 become one TFLite op, as two bounds would not.
    """

    def function(t: Tensor) -> Tensor:
        if not np.isclose(alpha * 6, 1, rtol=1e-6):
            t = t * np.float32(alpha * 6)
        return tf.nn.relu6(t + np.float32(beta * 6)) * np.float32(1 / 6)

    return x.map(function, nonnegative=True)


@op("HardSwish", domain=DOMAIN)
@op("HardSwish", since=14)
def hard_swish(g: Context, x: Value) -> Value:
    """HardSwish, x * relu6(x + 3) / 6."""
    return x.map(lambda t: t * tf.nn.relu6(t + 3.0) * np.float32(1 / 6))


@op("Gelu", domain=DOMAIN)
@op("Gelu", since=20)
def gelu(g: Context, x: Value, *, approximate: str = "none") -> Value:
    """Gelu, exact (erf) or approximate (tanh)."""
    return x.map(lambda t: tf.nn.gelu(t, approximate=approximate == "tanh"))


@op("Clip", since=6)
def clip_attributes(g: Context, x: Value, *, min: float = -np.inf, max: float = np.inf) -> Value:
    """Clip with its bounds as attributes."""
    return _clip(x, min, max)


@op("Clip", since=11)
def clip(g: Context, x: Value, min: Value | None = None, max: Value | None = None) -> Value:
    """Clip with its bounds as inputs."""
    bounds = [None if bound is None else bound.constant for bound in (min, max)]
    if (min is None or bounds[0] is not None) and (max is None or bounds[1] is not None):
        low, high = bounds
        return _clip(
            x, -np.inf if low is None else low.item(), np.inf if high is None else high.item()
        )
    y = x
    if min is not None:
        y = binary(tf.maximum, y, min.reshape(()))
    return y if max is None else binary(tf.minimum, y, max.reshape(()))


def _clip(x: Value, low: float, high: float) -> Value:
    if np.issubdtype(x.dtype, np.floating):
        if (low, high) == (0, 6):
            return x.map(tf.nn.relu6, nonnegative=True)
        if low == 0 and high >= np.finfo(x.dtype).max:
            return x.map(tf.nn.relu, nonnegative=True)
        limits: tuple[float, float] = (float(np.finfo(x.dtype).min), float(np.finfo(x.dtype).max))
    else:
        limits = (int(np.iinfo(x.dtype).min), int(np.iinfo(x.dtype).max))
    y = x
    if low > limits[0]:
        y = unary(lambda t: tf.maximum(t, np.asarray(low, dtype_of(t))), y)
    if high < limits[1]:
        y = unary(lambda t: tf.minimum(t, np.asarray(high, dtype_of(t))), y)
    return Value(y.tensor, y.view, low >= 0)
