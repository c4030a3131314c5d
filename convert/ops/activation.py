"""Activation functions."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgeconv.convert.context import Context, axis_of
from edgeconv.convert.registry import op
from edgeconv.convert.value import Tensor, Value, aligned, arranged, canonical


@op("Relu")
def relu(g: Context, x: Value) -> Value:
    """Relu."""
    return x.map(tf.nn.relu, nonnegative=True)


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
    if slope.constant is None:
        return Value(tf.nn.relu(t) - alpha * tf.nn.relu(-t), view)
    missing = max(len(t.shape) - 1 - alpha.ndim, 0)
    alpha = np.negative(alpha).reshape((1,) * missing + alpha.shape)
    return Value(tf.nn.relu(t) + alpha * tf.nn.relu(-t), view)


@op("Elu")
def elu(g: Context, x: Value, *, alpha: float = 1.0) -> Value:
    """Elu."""
    if alpha == 1:
        return x.map(tf.nn.elu)
    return x.map(lambda t: tf.nn.relu(t) + alpha * (tf.exp(tf.minimum(t, 0)) - 1))


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


@op("HardSwish", since=14)
def hard_swish(g: Context, x: Value) -> Value:
    """HardSwish, x * relu6(x + 3) / 6."""
    return x.map(lambda t: t * tf.nn.relu6(t + 3.0) * np.float32(1 / 6))


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
    if any(bound is not None and bound.constant is None for bound in (min, max)):
        y = x
        if min is not None:
            y = y.map(lambda t: tf.maximum(t, min.tensor))
        return y if max is None else y.map(lambda t: tf.minimum(t, max.tensor))
    low = -np.inf if min is None or min.constant is None else min.constant.item()
    high = np.inf if max is None or max.constant is None else max.constant.item()
    return _clip(x, low, high)


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
        y = y.map(lambda t: tf.maximum(t, np.asarray(low, x.dtype)))
    if high < limits[1]:
        y = y.map(lambda t: tf.minimum(t, np.asarray(high, x.dtype)))
    return Value(y.tensor, y.view, low >= 0)


@op("Softmax")
def softmax_flat(g: Context, x: Value, *, axis: int = 1) -> Value:
    """Softmax up to opset 12: over everything from ``axis`` on."""
    return _over_tail(x, axis, tf.nn.softmax)


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


def _over_axis(x: Value, axis: int, function: object, *, nonnegative: bool = False) -> Value:
    """Apply a function of the last axis to another one: TFLite knows the last one only."""
    axis = axis_of(axis, x.rank)
    t, permutation = canonical(x)
    if permutation[-1] != axis:
        permutation = (*(a for a in permutation if a != axis), axis)
        t = arranged(x, permutation)
    y = Value.of(function(t), permutation)  # type: ignore[operator]
    return Value(y.tensor, y.view, nonnegative)


def _over_tail(x: Value, axis: int, function: object) -> Value:
    axis = axis_of(axis, x.rank)
    if axis == x.rank - 1:
        return _over_axis(x, axis, function)
    tail = int(np.prod(x.shape[axis:]))
    flat = x.reshape((*x.shape[:axis], tail))
    return _over_axis(flat, axis, function).reshape(x.shape)
