"""Transposed convolutions. Source of the semantics: ONNX operator spec, ConvTranspose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.conv import as_2d, as_image, dilated, split_constant, with_bias
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.padding import Pads, Window, pad_spatial
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged, channels_last, shape_of
from edgeconv.convert.translate.view import DYNAMIC, Shape
from edgeconv.core.wording import named

_FEW_GROUPS = 4  # up to here one TRANSPOSE_CONV a group is cheaper than spreading the image


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
    rank = x.rank - 2
    if rank > 3:
        raise Unsupported(f"{rank} spatial axes", "TFLite convolves over 1, 2 or 3")
    if DYNAMIC in x.shape[2:]:
        raise Unsupported("a spatial size known at run time only", f"give {named('input_shapes')}")
    window = Window.of(kernel_shape or w.shape[2:], strides, dilations)
    extra = tuple(output_padding or (0,) * rank)
    cut = _cut(auto_pad, pads, x.shape[2:], window, extra, output_shape)
    return transposed(x, w, b, group, window, cut)


def _cut(
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
        return tuple((flat[axis], flat[axis + rank] - extra[axis]) for axis in range(rank))
    wanted = tuple(
        output_shape or (size * s for size, s in zip(spatial, window.strides, strict=True))
    )
    result = []
    for axis in range(rank):
        full = (spatial[axis] - 1) * window.strides[axis] + window.extent[axis]
        total = full + extra[axis] - wanted[len(wanted) - rank + axis]
        small, large = total // 2, total - total // 2
        before, after = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
        result.append((before, after - extra[axis]))
    return tuple(result)


def transposed(x: Value, w: Value, b: Value | None, group: int, window: Window, cut: Pads) -> Value:
    """Convolve transposed over 1, 2 or 3 spatial axes.

    Args:
        x: [N, C, spatial...].
        w: [C, M / group, kernel...].
        b: [M].
        group: Number of groups.
        window: The kernel's geometry.
        cut: For each axis what is cut off the full output's ends; zeros are added if negative.
    """
    if x.rank == 3:
        y = transposed(as_image(x), as_image(w), b, group, _one_row(window), ((0, 0), *cut))
        return y.reshape((y.shape[0], y.shape[1], y.shape[3]))
    permutation = channels_last(x.rank)
    image = arranged(x, permutation)
    if group > _FEW_GROUPS and x.rank == 4 and w.constant is not None:
        y = with_bias(_spread(image, w.constant, group, window, cut), b)
        return Value.of(y, permutation)
    kernel = dilated(arranged(w, (*range(2, x.rank), 1, 0)), window.dilations)
    if group == 1:
        return Value.of(_dense(image, kernel, b, window, cut), permutation)
    axis = x.rank - 1
    pairs = zip(tf.split(image, group, axis), split_constant(kernel, group, axis), strict=True)
    parts = [_dense(*pair, None, window, cut) for pair in pairs]
    return Value.of(with_bias(tf.concat(parts, axis), b), permutation)


def _one_row(window: Window) -> Window:
    flat = as_2d(window)
    return Window(flat.size, (1, *window.strides), flat.dilations)


def _dense(image: Tensor, kernel: Tensor, b: Value | None, window: Window, cut: Pads) -> Tensor:
    """Convolve transposed without groups; ``kernel`` is [kernel..., M, C] with dilations in it."""
    _, *spatial, _ = image.shape
    # The batch of an open one; TensorFlow wants the result's shape.
    batch = image.shape[0] or tf.shape(image)[0]
    full = [
        (size - 1) * stride + extent
        for size, stride, extent in zip(spatial, window.strides, window.extent, strict=True)
    ]
    rank = len(spatial)
    run = tf.nn.conv2d_transpose if rank == 2 else tf.nn.conv3d_transpose
    strides = window.strides if rank == 2 else (1, *window.strides, 1)
    outputs = kernel.shape[rank]
    wanted = [size - sum(pair) for size, pair in zip(full, cut, strict=True)]
    if _is_same(spatial, wanted, full, window, cut):
        y = run(image, kernel, [batch, *wanted, outputs], strides, "SAME")
        return with_bias(y, b)
    grown = [
        min(max(-after, 0), stride - 1)
        for (_, after), stride in zip(cut, window.strides, strict=True)
    ]
    shape = [batch, *(size + more for size, more in zip(full, grown, strict=True)), outputs]
    y = run(image, kernel, shape, strides, "VALID")
    rest = tuple((-before, -after - more) for (before, after), more in zip(cut, grown, strict=True))
    if all(side <= 0 for pair in rest for side in pair):
        return pad_spatial(with_bias(y, b), rest)
    return with_bias(pad_spatial(y, rest), b)


def _is_same(
    spatial: Sequence[int], wanted: Sequence[int], full: Sequence[int], window: Window, cut: Pads
) -> bool:
    """Tell whether TensorFlow's SAME padding makes exactly this cut."""
    totals = [size - out for size, out in zip(full, wanted, strict=True)]
    return all(
        total >= 0 and -(-out // stride) == size and pair == (total // 2, total - total // 2)
        for total, out, stride, size, pair in zip(
            totals, wanted, window.strides, spatial, cut, strict=True
        )
    )


def _spread(image: Tensor, weight: Tensor, group: int, window: Window, cut: Pads) -> Tensor:
    """Convolve the image with zeros put between its pixels: TFLite's groups are CONV_2D's only."""
    for axis, stride in enumerate(window.strides, start=1):
        if stride > 1:
            batch, height, width, channels = shape_of(image)
            rest = width * channels if axis == 1 else channels
            lead = height if axis == 1 else height * width
            rows = tf.reshape(image, (batch, lead, 1, rest))
            rows = tf.pad(rows, ((0, 0), (0, 0), (0, stride - 1), (0, 0)))
            sizes = [batch, height, width, channels]
            sizes[axis] *= stride
            image = tf.reshape(rows, sizes)
    channels, multiplier = weight.shape[:2]
    pads = tuple(
        (extent - 1 - before, extent - stride - after)
        for extent, stride, (before, after) in zip(window.extent, window.strides, cut, strict=True)
    )
    image = pad_spatial(image, pads)
    flipped = weight[:, :, ::-1, ::-1]
    if group == channels:
        kernel = np.ascontiguousarray(flipped.transpose(2, 3, 0, 1))
        return tf.nn.depthwise_conv2d(
            image, kernel, (1, 1, 1, 1), "VALID", dilations=window.dilations
        )
    grouped = flipped.reshape(group, channels // group, multiplier, *window.size)
    kernel = grouped.transpose(3, 4, 1, 0, 2).reshape(*window.size, channels // group, -1)
    return tf.nn.conv2d(image, kernel, 1, "VALID", dilations=window.dilations)
