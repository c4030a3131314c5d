"""Normalisations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.artifacts import Array
from edgeconv.convert.context import Context, axis_of
from edgeconv.convert.registry import Unsupported, op
from edgeconv.convert.value import Tensor, Value, aligned, canonical


@op("BatchNormalization", since=7)
def batch_normalization(
    g: Context,
    x: Value,
    scale: Value,
    bias: Value,
    mean: Value,
    variance: Value,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> Value:
    """BatchNormalization in inference: one multiplication and one addition per channel."""
    if training_mode:
        raise Unsupported("training_mode is on", "export the model in eval mode")
    shape = (1, -1, *(1,) * (x.rank - 2))
    parameters = [scale, bias, mean, variance]
    if all(parameter.constant is not None for parameter in parameters):
        s, b, m, v = (g.constant(parameter, "parameter") for parameter in parameters)
        factor = (s / np.sqrt(v.astype(np.float64) + epsilon)).astype(x.dtype)
        offset = (b - m * factor.astype(np.float64)).astype(x.dtype)
        return _scaled(x, factor.reshape(shape), offset.reshape(shape))
    s, b, m, v = (parameter.tensor for parameter in parameters)
    factor = s * tf.math.rsqrt(v + epsilon)
    scaled = _times(x, Value.of(factor).reshape((1, x.shape[1], *(1,) * (x.rank - 2))))
    rest = Value.of(b - m * factor).reshape((1, x.shape[1], *(1,) * (x.rank - 2)))
    tensors, view = aligned([scaled, rest])
    return Value(tf.add(*tensors), view)


def _scaled(x: Value, factor: Array, offset: Array) -> Value:
    product = _times(x, Value.of(factor))
    tensors, view = aligned([product, Value.of(offset)])
    return Value(tf.add(*tensors), view)


def _times(x: Value, factor: Value) -> Value:
    tensors, view = aligned([x, factor])
    return Value(tf.multiply(*tensors), view)


@op("LayerNormalization", since=17)
def layer_normalization(
    g: Context,
    x: Value,
    scale: Value,
    bias: Value | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Value:
    """LayerNormalization over the axes from ``axis`` on."""
    if any(g.outputs[1:]):
        raise Unsupported("the Mean and InvStdDev outputs")
    y = _normalized(x, range(axis_of(axis, x.rank), x.rank), epsilon)
    return _affine(y, scale, bias)


def _normalized(x: Value, axes: Sequence[int], epsilon: float) -> Value:
    dimensions = x.view.dimensions(axes)
    if dimensions is None:
        x = Value.of(*canonical(x))
        dimensions = x.view.dimensions(axes) or ()
    return x.map(lambda t: standardized(t, dimensions, epsilon))


def standardized(t: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    """Subtract the mean and divide by the standard deviation over stored axes."""
    mean = tf.reduce_mean(t, axis=axes, keepdims=True)
    centred = t - mean
    variance = tf.reduce_mean(tf.square(centred), axis=axes, keepdims=True)
    return centred * tf.math.rsqrt(variance + np.asarray(epsilon, np.float32))


def _affine(y: Value, scale: Value, bias: Value | None) -> Value:
    y = _times(y, scale)
    if bias is None:
        return y
    tensors, view = aligned([y, bias])
    return Value(tf.add(*tensors), view)


@op("InstanceNormalization", since=6)
def instance_normalization(
    g: Context, x: Value, scale: Value, bias: Value, *, epsilon: float = 1e-5
) -> Value:
    """InstanceNormalization: x [N, C, spatial...]."""
    y = _normalized(x, range(2, x.rank), epsilon)
    shape = (1, x.shape[1], *(1,) * (x.rank - 2))
    return _affine(y, scale.reshape(shape), bias.reshape(shape))
