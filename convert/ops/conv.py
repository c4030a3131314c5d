"""Convolutions. Source of the semantics: ONNX operator spec, Conv."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.padding import Pads, Window, pad_or_same, resolve_pads, seen_pads
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged, channels_last, loose
from edgeconv.convert.translate.view import Shape, View
from edgeconv.core.artifacts import Array


@op("Conv")
def conv(
    g: Context,
    x: Value,
    w: Value,
    b: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """Conv: x [N, C, spatial...], w [M, C / group, kernel...], b [M]."""
    spatial_rank = x.rank - 2
    window = Window.of(kernel_shape or w.shape[2:], strides, dilations)
    padding = resolve_pads(auto_pad, pads, x.shape[2:], window)
    padding = seen_pads(padding, x.shape[2:], window)
    if spatial_rank == 1:
        flat = _conv2d(g, as_image(x), as_image(w), b, group, as_2d(window), ((0, 0), *padding))
        return flat.reshape((flat.shape[0], flat.shape[1], flat.shape[3]))
    if spatial_rank == 2:
        return _conv2d(g, x, w, b, group, window, padding)
    if spatial_rank == 3:
        return _conv3d(x, w, b, group, window, padding)
    raise Unsupported(f"{spatial_rank} spatial axes", "TFLite convolves over 1, 2 or 3")


def as_image(value: Value) -> Value:
    """Present a signal [N, C, L] as an image of one row."""
    return value.reshape((value.shape[0], value.shape[1], 1, value.shape[2]))


def as_2d(window: Window) -> Window:
    """Return a window over an image of one row.

    Along the axis of size 1 any stride and dilation do the same; TensorFlow's depthwise
    convolution wants them equal.
    """
    return Window((1, *window.size), window.strides * 2, window.dilations * 2)


def _conv2d(
    g: Context, x: Value, w: Value, b: Value | None, group: int, window: Window, pads: Pads
) -> Value:
    channels = x.shape[1]
    if group == channels and group > 1 and len(set(window.strides)) == 1:
        return _depthwise(x, w, b, window, pads)
    if group > 1 or w.constant is None:
        image, order = arranged(x, (0, 2, 3, 1)), None
    else:
        image, _, elements = loose(x, (0, 2, 3, 1), [1])
        order = elements[1]
    kernel = _with_input_order(arranged(w, (2, 3, 1, 0)), order)
    if isinstance(kernel, np.ndarray):
        kernel = g.weight(kernel)
    image, mode = pad_or_same(image, pads, x.shape[2:], window)
    y = tf.nn.conv2d(image, kernel, window.strides, mode, dilations=window.dilations)
    return Value.of(with_bias(y, b), (0, 2, 3, 1))


def _with_input_order(kernel: Tensor, order: Array | None) -> Tensor:
    return kernel if order is None else np.ascontiguousarray(kernel[:, :, order])


def with_bias(y: Tensor, b: Value | None) -> Tensor:
    """Add a bias per channel to a channels-last tensor.

    Not as BiasAdd, which TensorFlow's CPU runtime fuses into grouped convolutions, and fails.
    """
    return y if b is None else tf.add(y, b.tensor)


def _depthwise(x: Value, w: Value, b: Value | None, window: Window, pads: Pads) -> Value:
    channels, outputs = x.shape[1], w.shape[0]
    multiplier = outputs // channels
    order: Array | None = None
    view: View | None = None
    constants = w.constant is not None and (b is None or b.constant is not None)
    if multiplier == 1 and constants:
        image, view, elements = loose(x, (0, 2, 3, 1), [1])
        order = elements[1]
    else:
        image = arranged(x, (0, 2, 3, 1))
    kernel = arranged(w, (2, 3, 0, 1), (*window.size, channels, multiplier))
    bias = None if b is None else b.tensor
    if order is not None:
        kernel = np.ascontiguousarray(kernel[:, :, order])
        bias = None if bias is None else bias[order]
    image, mode = pad_or_same(image, pads, x.shape[2:], window)
    strides = (1, *window.strides, 1)
    y = tf.nn.depthwise_conv2d(image, kernel, strides, mode, dilations=window.dilations)
    if bias is not None:
        y = tf.nn.bias_add(y, bias)
    result = Value.of(y, (0, 2, 3, 1))
    return result if order is None or view is None else _reordered(result, x.view)


def _reordered(result: Value, source: View) -> Value:
    """Give the channels of a result the stored order that the source's channels have."""
    sizes = source.sizes
    factors = source.axes[1]
    stored = sorted(factors)
    split = result.view.reshape(
        (
            result.shape[0],
            *(sizes[factor] for factor in stored),
            *result.shape[2:],
        )
    )
    assert split is not None, "the channel axis of a fresh result splits into any factors"
    count = len(stored)
    places = [1 + stored.index(factor) for factor in factors]
    ordered = split.transpose([0, *places, *range(1 + count, 1 + count + result.rank - 2)])
    merged = ordered.reshape(result.shape)
    assert merged is not None, "merging neighbouring axes always works"
    return Value(result.tensor, merged)


def _conv3d(x: Value, w: Value, b: Value | None, group: int, window: Window, pads: Pads) -> Value:
    """Convolve a volume; TensorFlow's CPU kernel has neither groups nor dilation."""
    image = arranged(x, channels_last(5))
    kernel = dilated(arranged(w, (2, 3, 4, 1, 0)), window.dilations)
    image, mode = pad_or_same(image, pads, x.shape[2:], window)
    strides = (1, *window.strides, 1)
    images, kernels = [image], [kernel]
    if group > 1:
        images, kernels = tf.split(image, group, axis=4), split_constant(kernel, group, axis=4)
    parts = [
        tf.nn.conv3d(part, filters, strides, mode)
        for part, filters in zip(images, kernels, strict=True)
    ]
    y = parts[0] if group == 1 else tf.concat(parts, axis=4)
    return Value.of(with_bias(y, b), channels_last(5))


def split_constant(tensor: Tensor, parts: int, axis: int) -> list[Tensor]:
    """Split evenly; an array stays an array."""
    if isinstance(tensor, np.ndarray):
        return np.split(tensor, parts, axis)
    return list(tf.split(tensor, parts, axis))


def dilated(kernel: Tensor, dilations: Shape) -> Tensor:
    """Write out the zeros of a dilated kernel whose first axes are spatial."""
    for axis, dilation in enumerate(dilations):
        size = kernel.shape[axis]
        if dilation == 1 or size == 1:
            continue
        lead, rest = tuple(kernel.shape[:axis]), tuple(kernel.shape[axis + 1 :])
        pad, reshape = (
            (np.pad, np.reshape) if isinstance(kernel, np.ndarray) else (tf.pad, tf.reshape)
        )
        rows = reshape(kernel, (math.prod(lead) * size, 1, math.prod(rest)))
        spread = pad(rows, ((0, 0), (0, dilation - 1), (0, 0)))
        whole = reshape(spread, (*lead, size * dilation, *rest))
        kernel = whole[(slice(None),) * axis + (slice((size - 1) * dilation + 1),)]
    return kernel
