"""Normalisations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.elementwise import binary
from edgeconv.convert.ops.reduce import reduced, with_dimensions
from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged, canonical, channels_last
from edgeconv.convert.translate.view import product
from edgeconv.core.artifacts import Array

_TINY = np.finfo(np.float32).tiny


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
    return _affine(x, _per_channel(Value.of(factor), x), _per_channel(Value.of(b - m * factor), x))


def _scaled(x: Value, factor: Array, offset: Array) -> Value:
    return _affine(x, Value.of(factor), Value.of(offset))


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
) -> tuple[Value, ...]:
    """LayerNormalization over the axes from ``axis`` on: Y, and Mean and InvStdDev if wanted."""
    axes = range(axis_of(axis, x.rank), x.rank)
    if not any(g.outputs[1:]):
        return (_affine(_normalized(x, axes, epsilon), scale, bias),)
    mean = reduced(x, axes, 1, tf.reduce_mean)
    centred = binary(tf.subtract, x, mean)
    variance = reduced(centred.map(tf.square), axes, 1, tf.reduce_mean)
    inverse = variance.map(lambda t: tf.math.rsqrt(t + np.float32(epsilon)))
    return _affine(binary(tf.multiply, centred, inverse), scale, bias), mean, inverse


@op("RMSNormalization", since=23)
def rms_normalization(
    g: Context,
    x: Value,
    scale: Value,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Value:
    """RMSNormalization over the axes from ``axis`` on."""
    axes = range(axis_of(axis, x.rank), x.rank)
    power = reduced(x.map(tf.square), axes, 1, tf.reduce_mean)
    inverse = power.map(lambda t: tf.math.rsqrt(t + np.float32(epsilon)))
    return _affine(binary(tf.multiply, x, inverse), scale, None)


def _normalized(x: Value, axes: Sequence[int], epsilon: float) -> Value:
    x = with_dimensions(x, axes)
    dimensions = x.view.dimensions(axes) or ()
    return x.map(lambda t: standardized(t, dimensions, epsilon))


def standardized(t: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    """Subtract the mean and divide by the standard deviation over stored axes."""
    mean = tf.reduce_mean(t, axis=axes, keepdims=True)
    centred = t - mean
    variance = tf.reduce_mean(tf.square(centred), axis=axes, keepdims=True)
    return centred * tf.math.rsqrt(variance + np.asarray(epsilon, np.float32))


def _affine(y: Value, scale: Value, bias: Value | None) -> Value:
    y = binary(tf.multiply, y, scale)
    return y if bias is None else binary(tf.add, y, bias)


def _per_channel(parameter: Value, x: Value) -> Value:
    return parameter.reshape((1, x.shape[1], *(1,) * (x.rank - 2)))


@op("InstanceNormalization", since=6)
def instance_normalization(
    g: Context, x: Value, scale: Value, bias: Value, *, epsilon: float = 1e-5
) -> Value:
    """InstanceNormalization: x [N, C, spatial...]."""
    y = _normalized(x, range(2, x.rank), epsilon)
    return _affine(y, _per_channel(scale, x), _per_channel(bias, x))


@op("GroupNormalization", since=18)
def group_normalization_by_group(
    g: Context, x: Value, scale: Value, bias: Value, *, num_groups: int, epsilon: float = 1e-5
) -> Value:
    """GroupNormalization up to opset 20: scale and bias [num_groups]."""
    y = _normalized_groups(x, num_groups, epsilon)
    shape = (1, num_groups, 1, 1)
    return _affine(y, scale.reshape(shape), bias.reshape(shape)).reshape(x.shape)


@op("GroupNormalization", since=21)
def group_normalization(
    g: Context,
    x: Value,
    scale: Value,
    bias: Value,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Value:
    """GroupNormalization: x [N, C, spatial...], scale and bias [C]."""
    y = _normalized_groups(x, num_groups, epsilon)
    shape = (1, num_groups, x.shape[1] // num_groups, 1)
    return _affine(y, scale.reshape(shape), bias.reshape(shape)).reshape(x.shape)


def _normalized_groups(x: Value, groups: int, epsilon: float) -> Value:
    """Return x as [N, groups, C / groups, positions], each group of a sample standardized."""
    batch, channels, *spatial = x.shape
    grouped = x.reshape((batch, groups, channels // groups, product(spatial)))
    return _normalized(grouped, (2, 3), epsilon)


@op("MeanVarianceNormalization", since=9)
def mean_variance_normalization(g: Context, x: Value, *, axes: Sequence[int] = (0, 2, 3)) -> Value:
    """MeanVarianceNormalization: the spec adds 1e-9 to the deviation, not the variance."""
    axes = [axis_of(axis, x.rank) for axis in axes]
    centred = binary(tf.subtract, x, reduced(x, axes, 1, tf.reduce_mean))
    variance = reduced(centred.map(tf.square), axes, 1, tf.reduce_mean)
    deviation = variance.map(lambda t: tf.sqrt(t) + np.float32(1e-9))
    return binary(tf.divide, centred, deviation)


@op("LpNormalization", domain=DOMAIN)
@op("LpNormalization")
def lp_normalization(g: Context, x: Value, *, axis: int = -1, p: int = 2) -> Value:
    """LpNormalization; a vector of zeros stays one.

    The form of p = 2 is the one that becomes L2_NORMALIZATION over the last stored axis; like it,
    it takes a norm under 1e-6 as 1e-6.
    """
    axis = axis_of(axis, x.rank)
    if p == 2:
        t, permutation = canonical(x)
        place = permutation.index(axis)
        return Value.of(tf.math.l2_normalize(t, place, epsilon=1e-12), permutation)
    if p != 1:
        raise Unsupported(f"p = {p}")
    norm = reduced(x.map(tf.abs), [axis], 1, tf.reduce_sum)
    return binary(tf.divide, x, norm.map(lambda t: tf.maximum(t, np.float32(_TINY))))


@op("LRN")
def lrn(
    g: Context,
    x: Value,
    *,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    bias: float = 1.0,
) -> Value:
    """LRN over ``size`` channels, the larger half of an even number after the centre."""
    order = channels_last(x.rank)
    t = arranged(x, order)
    if size % 2 and x.rank == 4:
        share = alpha / size
        return Value.of(tf.nn.lrn(t, (size - 1) // 2, bias, share, beta), order)
    before = (size - 1) // 2
    sides = [(0, 0)] * (x.rank - 1) + [(before, size - 1 - before)]
    squares = tf.pad(tf.square(t), sides)
    channels = x.shape[1]
    total = tf.add_n([squares[..., start : start + channels] for start in range(size)])
    scale = tf.pow(np.float32(bias) + np.float32(alpha / size) * total, np.float32(-beta))
    return Value.of(t * scale, order)
