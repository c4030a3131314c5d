"""Convolutions. Source of the semantics: ONNX operator spec, Conv and ConvTranspose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.artifacts import Array
from edgeconv.convert.context import Context
from edgeconv.convert.padding import Pads, Window, pad_or_same, pad_spatial, resolve_pads, seen_pads
from edgeconv.convert.registry import Unsupported, op
from edgeconv.convert.value import Tensor, Value, arranged, channels_last, loose
from edgeconv.convert.view import Shape, View


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
        flat = _conv2d(_as_image(x), _as_image(w), b, group, _as_2d(window), ((0, 0), *padding))
        return flat.reshape((flat.shape[0], flat.shape[1], flat.shape[3]))
    if spatial_rank == 2:
        return _conv2d(x, w, b, group, window, padding)
    if spatial_rank == 3:
        return _conv3d(x, w, b, group, window, padding)
    raise Unsupported(f"{spatial_rank} spatial axes", "TFLite convolves over 1, 2 or 3")


def _as_image(value: Value) -> Value:
    return value.reshape((value.shape[0], value.shape[1], 1, value.shape[2]))


def _as_2d(window: Window) -> Window:
    return Window((1, *window.size), (1, *window.strides), (1, *window.dilations))


def _conv2d(x: Value, w: Value, b: Value | None, group: int, window: Window, pads: Pads) -> Value:
    channels = x.shape[1]
    if group == channels and group > 1 and len(set(window.strides)) == 1:
        return _depthwise(x, w, b, window, pads)
    if group > 1 or w.constant is None:
        image, order = arranged(x, (0, 2, 3, 1)), None
    else:
        image, _, elements = loose(x, (0, 2, 3, 1), [1])
        order = elements[1]
    kernel = _with_input_order(arranged(w, (2, 3, 1, 0)), order)
    image, mode = pad_or_same(image, pads, x.shape[2:], window)
    y = tf.nn.conv2d(image, kernel, window.strides, mode, dilations=window.dilations)
    return Value.of(_with_bias(y, b), (0, 2, 3, 1))


def _with_input_order(kernel: Tensor, order: Array | None) -> Tensor:
    return kernel if order is None else np.ascontiguousarray(kernel[:, :, order])


def _with_bias(y: Tensor, b: Value | None) -> Tensor:
    return y if b is None else tf.nn.bias_add(y, b.tensor)


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
    if group != 1:
        raise Unsupported(f"a 3-D convolution with group={group}", "use group=1")
    image = arranged(x, channels_last(5))
    kernel = arranged(w, (2, 3, 4, 1, 0))
    image, mode = pad_or_same(image, pads, x.shape[2:], window)
    strides, dilations = (1, *window.strides, 1), (1, *window.dilations, 1)
    y = tf.nn.conv3d(image, kernel, strides, mode, dilations=dilations)
    return Value.of(_with_bias(y, b), channels_last(5))


@op("ConvTranspose")
def conv_transpose(
    g: Context,
    x: Value,
    w: Value,
    b: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """ConvTranspose: x [N, C, spatial...], w [C, M / group, kernel...], b [M]."""
    spatial_rank = x.rank - 2
    window = Window.of(kernel_shape or w.shape[2:], strides, dilations)
    extra = tuple(output_padding or (0,) * spatial_rank)
    padding = _transposed_pads(auto_pad, pads, x.shape[2:], window, extra, output_shape)
    if spatial_rank == 1:
        flat = _transposed_groups(
            _as_image(x), _as_image(w), b, group, _as_2d(window), ((0, 0), *padding), (0, *extra)
        )
        return flat.reshape((flat.shape[0], flat.shape[1], flat.shape[3]))
    if spatial_rank == 2:
        return _transposed_groups(x, w, b, group, window, padding, extra)
    raise Unsupported(f"{spatial_rank} spatial axes", "use 1 or 2")


def _transposed_pads(
    auto_pad: str,
    pads: Sequence[int] | None,
    spatial: Shape,
    window: Window,
    extra: Shape,
    output_shape: Sequence[int] | None,
) -> Pads:
    """Return what is cut off the full output at both ends of each axis."""
    rank = len(spatial)
    if auto_pad == "VALID" or (auto_pad == "NOTSET" and output_shape is None):
        flat = list(pads) if pads is not None and auto_pad == "NOTSET" else [0] * (2 * rank)
        return tuple((flat[axis], flat[axis + rank]) for axis in range(rank))
    wanted = tuple(
        output_shape or (size * s for size, s in zip(spatial, window.strides, strict=True))
    )
    result = []
    for axis in range(rank):
        full = (spatial[axis] - 1) * window.strides[axis] + window.extent[axis] + extra[axis]
        total = full - wanted[len(wanted) - rank + axis]
        small, large = total // 2, total - total // 2
        result.append((small, large) if auto_pad == "SAME_UPPER" else (large, small))
    return tuple(result)


def _transposed_groups(
    x: Value, w: Value, b: Value | None, group: int, window: Window, pads: Pads, extra: Shape
) -> Value:
    image = arranged(x, (0, 2, 3, 1))
    kernel = arranged(w, (2, 3, 1, 0))
    if group == 1:
        y = _transposed(image, kernel, window, pads, extra)
    else:
        images = tf.split(image, group, axis=3)
        kernels = (
            np.split(kernel, group, axis=3)
            if isinstance(kernel, np.ndarray)
            else tf.split(kernel, group, axis=3)
        )
        parts = [
            _transposed(*pair, window, pads, extra) for pair in zip(images, kernels, strict=True)
        ]
        y = tf.concat(parts, axis=3)
    return Value.of(_with_bias(y, b), (0, 2, 3, 1))


def _transposed(image: Tensor, kernel: Tensor, window: Window, pads: Pads, extra: Shape) -> Tensor:
    """Transposed convolution: the full output, cut or padded to ``pads`` and ``extra``.

    TRANSPOSE_CONV has no dilation, so a dilated kernel is written out with its zeros.
    """
    kernel = _dilated(kernel, window.dilations)
    batch, height, width, _ = image.shape
    sizes = [
        (size - 1) * stride + extent
        for size, stride, extent in zip((height, width), window.strides, window.extent, strict=True)
    ]
    shape = [batch, *sizes, kernel.shape[2]]
    y = tf.nn.conv2d_transpose(image, kernel, shape, window.strides, "VALID")
    cut = tuple((-before, more - after) for (before, after), more in zip(pads, extra, strict=True))
    return pad_spatial(y, cut)


def _dilated(kernel: Tensor, dilations: Shape) -> Tensor:
    if set(dilations) == {1}:
        return kernel
    if not isinstance(kernel, np.ndarray):
        raise Unsupported("dilations with weights computed at run time")
    extents = [(size - 1) * d + 1 for size, d in zip(kernel.shape[:2], dilations, strict=True)]
    sparse = np.zeros((*extents, *kernel.shape[2:]), kernel.dtype)
    sparse[:: dilations[0], :: dilations[1]] = kernel
    return sparse
