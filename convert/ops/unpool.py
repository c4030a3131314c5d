"""Max-pooling that remembers where each maximum was, and its inverse.

Source of the semantics: ONNX operator spec, MaxPool (output Indices) and MaxUnpool.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.pad import padded
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.padding import Pads, Window
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged, shape_of
from edgeconv.convert.translate.view import DYNAMIC, Shape
from edgeconv.core.artifacts import Array


def max_with_indices(
    t: Tensor, window: Window, pads: Pads, *, column_major: bool = False
) -> tuple[Tensor, Tensor]:
    """Pool a channels-last tensor [N, spatial..., C] and tell where the maxima were.

    Args:
        t: The tensor.
        window: The window; its first maximum counts.
        pads: Padding, which is never chosen.
        column_major: Spatial positions are counted with the first axis fastest.

    Returns:
        The maxima and the flat positions, int64, in the tensor as ONNX stores it, [N, C, ...].

    Raises:
        Unsupported: A size is known at run time only.
    """
    shape = shape_of(t)
    if DYNAMIC in shape:
        raise Unsupported("the Indices output with a size known at run time only")
    spatial = shape[1:-1]
    lowest = np.finfo(np.float32).min
    full = tf.pad(t, [(0, 0), *pads, (0, 0)], constant_values=lowest)
    counts = tuple(
        (size + sum(pair) - extent) // stride + 1
        for size, pair, extent, stride in zip(
            spatial, pads, window.extent, window.strides, strict=True
        )
    )
    offsets = list(itertools.product(*map(range, window.size)))
    candidates = tf.concat(
        [tf.reshape(_seen_at(full, offset, window, counts), (1, -1)) for offset in offsets], axis=0
    )
    result = (shape[0], *counts, shape[-1])
    steps = _steps(spatial, column_major=column_major)
    moves = np.array(offsets) * np.array(window.dilations) @ steps
    chosen = tf.gather(moves.astype(np.int32), tf.argmax(candidates, 0, output_type=tf.int32))
    flat = tf.reshape(chosen, result) + _origins(shape, counts, steps, window, pads)
    return tf.reshape(tf.reduce_max(candidates, 0), result), tf.cast(flat, tf.int64)


def _seen_at(t: Tensor, offset: Sequence[int], window: Window, counts: Shape) -> Tensor:
    index = [slice(None)]
    for place, dilation, stride, count in zip(
        offset, window.dilations, window.strides, counts, strict=True
    ):
        start = place * dilation
        index.append(slice(start, start + (count - 1) * stride + 1, stride))
    return t[tuple(index)]


def _steps(spatial: Shape, *, column_major: bool) -> Array:
    """Return how far apart neighbours along each spatial axis are."""
    if column_major:
        return np.array([math.prod(spatial[:axis]) for axis in range(len(spatial))])
    return np.array([math.prod(spatial[axis + 1 :]) for axis in range(len(spatial))])


def _origins(shape: Shape, counts: Shape, steps: Array, window: Window, pads: Pads) -> Array:
    """Return the flat position of the first element of every window, channels last."""
    batch, *spatial, channels = shape
    size = math.prod(spatial)
    starts = [
        (np.arange(count) * stride - pair[0]) * step
        for count, stride, pair, step in zip(counts, window.strides, pads, steps, strict=True)
    ]
    grids = np.ix_(np.arange(batch) * channels * size, *starts, np.arange(channels) * size)
    return sum(grids[1:], start=grids[0]).astype(np.int32)


@op("MaxUnpool", since=9)
def max_unpool(
    g: Context,
    x: Value,
    indices: Value,
    output_shape: Value | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """MaxUnpool: each element back to where MaxPool took it from, zero elsewhere."""
    window = Window.of(kernel_shape, strides, None)
    rank = len(window.size)
    cut = list(pads or (0,) * (2 * rank))
    spatial = tuple(
        (x.shape[axis + 2] - 1) * window.strides[axis]
        - (cut[axis] + cut[axis + rank])
        + window.size[axis]
        for axis in range(rank)
    )
    shape = (*x.shape[:2], *spatial)
    count = math.prod(x.shape)
    elements = arranged(x, range(x.rank), (count,))
    places = tf.cast(arranged(indices, range(x.rank), (count,)), tf.int32)
    total = math.prod(shape)
    if all(size <= stride for size, stride in zip(window.size, window.strides, strict=True)):
        flat = tf.scatter_nd(tf.reshape(places, (count, 1)), elements, [total])
    else:
        hit = tf.scatter_nd(tf.reshape(places, (count, 1)), np.ones(count, np.float32), [total])
        highest = tf.math.unsorted_segment_max(elements, places, total)
        flat = tf.where(hit > 0, highest, np.zeros((), np.float32))
    y = Value.of(tf.reshape(flat, shape))
    if output_shape is None:
        return y
    wanted = g.integers(output_shape, "output_shape")
    return padded(y, "constant", [(0, to - size) for to, size in zip(wanted, shape, strict=True)])
