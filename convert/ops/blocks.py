"""Operators that trade blocks of pixels for channels. Source: ONNX operator spec of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.conv_transpose import transposed
from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import dtypes, widened
from edgeconv.convert.translate.padding import Window
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Value, arranged

_IMAGE = (0, 2, 3, 1)
_DEPTH_TO_SPACE = dtypes("float32", "int32", "int64", "int8", "uint8")
_SPACE_TO_DEPTH = dtypes("float32", "int32", "int64")


@op("DepthToSpace")
@op("DepthToSpace", domain=DOMAIN)
def depth_to_space(g: Context, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """DepthToSpace: x [N, C, H, W]; in mode CRD the block's position is inside the channel."""
    batch, channels, height, width = x.shape
    if mode == "CRD":
        inner = channels // blocksize**2
        split = x.reshape((batch, inner, blocksize**2, height, width))
        x = split.transpose((0, 2, 1, 3, 4)).reshape(x.shape)
    y = widened(
        lambda t: tf.nn.depth_to_space(t, blocksize), arranged(x, _IMAGE), native=_DEPTH_TO_SPACE
    )
    return Value(y, Value.of(y, _IMAGE).view, x.nonnegative)


@op("SpaceToDepth")
@op("SpaceToDepth", domain=DOMAIN)
def space_to_depth(g: Context, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """SpaceToDepth: x [N, C, H, W]; in mode CRD the block's position is inside the channel."""
    y = widened(
        lambda t: tf.nn.space_to_depth(t, blocksize), arranged(x, _IMAGE), native=_SPACE_TO_DEPTH
    )
    value = Value.of(y, _IMAGE)
    if mode == "CRD":
        batch, channels, height, width = value.shape
        inner = channels // blocksize**2
        split = value.reshape((batch, blocksize**2, inner, height, width))
        value = split.transpose((0, 2, 1, 3, 4)).reshape(value.shape)
    return Value(value.tensor, value.view, x.nonnegative)


@op("Col2Im", since=18)
def col2im(
    g: Context,
    x: Value,
    image_shape: Value,
    block_shape: Value,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """Col2Im: x [N, C * block, positions]; overlapping elements add up.

    Each channel becomes an image of its own, whose channels are the elements of a block: a
    transposed convolution puts each at its place.
    """
    image = g.integers(image_shape, "image_shape")
    window = Window.of(g.integers(block_shape, "block_shape"), strides, dilations)
    rank = len(image)
    if rank > 3:
        raise Unsupported(f"{rank} spatial axes", "TFLite convolves over 1, 2 or 3")
    flat = list(pads or (0,) * (2 * rank))
    places = [
        (size + flat[axis] + flat[axis + rank] - extent) // stride + 1
        for axis, (size, extent, stride) in enumerate(
            zip(image, window.extent, window.strides, strict=True)
        )
    ]
    block = int(np.prod(window.size))
    batch, channels = x.shape[0], x.shape[1] // block
    columns = x.reshape((batch * channels, block, *places))
    kernel = np.eye(block, dtype=x.dtype).reshape((block, 1, *window.size))
    cut = tuple(
        (
            flat[axis],
            (places[axis] - 1) * window.strides[axis]
            + window.extent[axis]
            - flat[axis]
            - image[axis],
        )
        for axis in range(rank)
    )
    y = transposed(columns, Value.of(kernel), None, 1, window, cut)
    return y.reshape((batch, channels, *image))
