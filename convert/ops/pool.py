"""Pooling. Source of the semantics: ONNX operator spec, MaxPool, AveragePool, Global*Pool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.context import Context
from edgeconv.convert.padding import Pads, Window, is_same, pad_spatial, resolve_pads, seen_pads
from edgeconv.convert.registry import Unsupported, op
from edgeconv.convert.value import Tensor, Value, arranged, channels_last
from edgeconv.convert.view import DYNAMIC


def _image_and_window(
    x: Value,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
) -> tuple[Value, Window]:
    """Return x as an image, a 1-D signal becoming one row, and the window over it."""
    window = Window.of(kernel_shape, strides, dilations)
    if x.rank == 3:
        row = x.reshape((x.shape[0], x.shape[1], 1, x.shape[2]))
        return row, Window((1, *window.size), (1, *window.strides), (1, *window.dilations))
    if x.rank != 4:
        raise Unsupported(f"{x.rank - 2} spatial axes", "TFLite pools over 1 or 2")
    return x, window


def _image_pads(pads: Pads) -> Pads:
    return ((0, 0), *pads) if len(pads) == 1 else pads


def _from_image(y: Tensor, rank: int, *, nonnegative: bool = False) -> Value:
    value = Value.of(y, (0, 2, 3, 1))
    if rank == 3:
        value = value.reshape((value.shape[0], value.shape[1], value.shape[3]))
    return Value(value.tensor, value.view, nonnegative)


@op("MaxPool")
def max_pool(
    g: Context,
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> Value:
    """MaxPool: x [N, C, spatial...]."""
    if len(g.outputs) > 1 and g.outputs[1]:
        raise Unsupported("the Indices output", "TFLite has no max-pool with indices")
    flat = Window.of(kernel_shape, strides, dilations)
    padding = resolve_pads(auto_pad, pads, x.shape[2:], flat)
    padding = seen_pads(padding, x.shape[2:], flat, ceil_mode=bool(ceil_mode))
    image, window = _image_and_window(x, kernel_shape, strides, dilations)
    padding = _image_pads(padding)
    t = arranged(image, (0, 2, 3, 1))
    if set(window.dilations) != {1}:
        y = _dilated_max(t, window, padding)
    else:
        mode = "VALID"
        if is_same(padding, image.shape[2:], window):
            mode = "SAME"
        else:
            t = _pad_for_max(t, padding, window, nonnegative=x.nonnegative)
        y = tf.nn.max_pool2d(t, window.size, window.strides, mode)
    return _from_image(y, x.rank, nonnegative=x.nonnegative)


def _pad_for_max(t: Tensor, pads: Pads, window: Window, *, nonnegative: bool) -> Tensor:
    """Pad with values that cannot change a maximum, and that no calibration can trip over.

    Zero after a non-negative op; else a mirror image of the border, every row of which is inside
    the window anyway while the padding is at most half of it; else copies of the border row.
    """
    if not any(side for pair in pads for side in pair):
        return t
    if nonnegative and all(side >= 0 for pair in pads for side in pair):
        return pad_spatial(t, pads)
    halves = zip(pads, window.size, strict=True)
    if all(0 <= 2 * side <= size for pair, size in halves for side in pair):
        return tf.pad(t, [(0, 0), *pads, (0, 0)], mode="SYMMETRIC")
    return repeat_border(t, pads)


def repeat_border(t: Tensor, pads: Pads) -> Tensor:
    """Pad the spatial axes of a channels-last tensor with copies of the border."""
    for axis, (before, after) in enumerate(pads, start=1):
        first = tf.gather(t, [0], axis=axis) if before else None
        last = tf.gather(t, [t.shape[axis] - 1], axis=axis) if after else None
        parts = [first] * before + [t] + [last] * after
        t = tf.concat(parts, axis=axis) if len(parts) > 1 else t
    return t


def _dilated_max(t: Tensor, window: Window, pads: Pads) -> Tensor:
    """Take the maximum over shifted strided slices: TFLite pools have no dilation."""
    t = repeat_border(t, pads) if any(side for pair in pads for side in pair) else t
    count = [
        (t.shape[axis + 1] - window.extent[axis]) // window.strides[axis] + 1 for axis in (0, 1)
    ]
    result = None
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            top, left = row * window.dilations[0], column * window.dilations[1]
            bottom = top + (count[0] - 1) * window.strides[0] + 1
            right = left + (count[1] - 1) * window.strides[1] + 1
            part = t[:, top : bottom : window.strides[0], left : right : window.strides[1], :]
            result = part if result is None else tf.maximum(result, part)
    return result


@op("AveragePool")
def average_pool(
    g: Context,
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """AveragePool: x [N, C, spatial...]."""
    if dilations is not None and set(dilations) != {1}:
        raise Unsupported("dilations other than 1")
    flat = Window.of(kernel_shape, strides, dilations)
    spatial = x.shape[2:]
    whole = resolve_pads(auto_pad, pads, spatial, flat)
    padding = seen_pads(whole, spatial, flat, ceil_mode=bool(ceil_mode))
    counted = tuple(
        (min(pair[0], seen[0]), min(pair[1], seen[1])) if count_include_pad else (0, 0)
        for pair, seen in zip(whole, padding, strict=True)
    )
    image, window = _image_and_window(x, kernel_shape, strides, dilations)
    t = arranged(image, (0, 2, 3, 1))
    y = _average(t, window, _image_pads(padding), _image_pads(counted))
    return _from_image(y, x.rank, nonnegative=x.nonnegative)


def _average(t: Tensor, window: Window, pads: Pads, counted: Pads) -> Tensor:
    """Average over windows; of the padding, only the ``counted`` part counts as elements."""
    spatial = tuple(DYNAMIC if size is None else size for size in t.shape[1:3])
    if not any(side for pair in pads for side in pair):
        return tf.nn.avg_pool2d(t, window.size, window.strides, "VALID")
    if counted == ((0, 0), (0, 0)) and is_same(pads, spatial, window):
        return tf.nn.avg_pool2d(t, window.size, window.strides, "SAME")
    padded = pad_spatial(t, pads)
    y = tf.nn.avg_pool2d(padded, window.size, window.strides, "VALID")
    if pads == counted:
        return y
    if DYNAMIC in spatial:
        raise Unsupported("uneven padding of a spatial size known at run time only")
    return y * _correction(spatial, window, pads, counted)


def _correction(spatial: Sequence[int], window: Window, pads: Pads, counted: Pads) -> Tensor:
    """Window size over the number of elements that count, for each output position."""
    result = np.ones((1, 1, 1, 1))
    for axis in (0, 1):
        inside = np.zeros(spatial[axis] + sum(pads[axis]), np.float32)
        start = pads[axis][0] - counted[axis][0]
        inside[start : pads[axis][0] + spatial[axis] + counted[axis][1]] = 1
        starts = range(0, len(inside) - window.size[axis] + 1, window.strides[axis])
        counts = np.array([inside[s : s + window.size[axis]].sum() for s in starts], np.float32)
        shape = [1, 1, 1, 1]
        shape[axis + 1] = len(counts)
        result = result * (window.size[axis] / counts).reshape(shape)
    return result.astype(np.float32)


@op("GlobalAveragePool")
def global_average_pool(g: Context, x: Value) -> Value:
    """GlobalAveragePool: x [N, C, spatial...]."""
    return _global(x, tf.reduce_mean)


@op("GlobalMaxPool")
def global_max_pool(g: Context, x: Value) -> Value:
    """GlobalMaxPool: x [N, C, spatial...]."""
    return _global(x, tf.reduce_max)


def _global(x: Value, reduce: object) -> Value:
    permutation = channels_last(x.rank)
    t = arranged(x, permutation)
    y = reduce(t, axis=list(range(1, x.rank - 1)), keepdims=True)  # type: ignore[operator]
    result = Value.of(y, permutation)
    return Value(result.tensor, result.view, x.nonnegative)
