"""Pooling over windows. Source of the semantics: ONNX operator spec, MaxPool and AveragePool.

TFLite pools images. Pooling is separable, so windows over other numbers of axes are pooled two
axes at a time, all other axes lying in the batch or in the channels meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.conv import as_image
from edgeconv.convert.ops.unpool import max_with_indices
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.lowering import cast
from edgeconv.convert.translate.padding import (
    Pads,
    Window,
    is_same,
    pad_spatial,
    resolve_pads,
    seen_pads,
)
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import (
    Tensor,
    Value,
    arranged,
    channels_last,
    reshaped,
    shape_of,
)
from edgeconv.convert.translate.view import DYNAMIC, Shape, product
from edgeconv.core.artifacts import Array

PoolImage = Callable[..., Tensor]
"""Pools an image [N, H, W, C]; takes it, the window, and the amounts of `over_pairs`."""


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
) -> Value | tuple[Value, ...]:
    """MaxPool: x [N, C, spatial...]; 8-bit integers go through float32, which holds them."""
    window = Window.of(kernel_shape, strides, dilations)
    padding = resolve_pads(auto_pad, pads, x.shape[2:], window)
    padding = seen_pads(padding, x.shape[2:], window, ceil_mode=bool(ceil_mode))
    image, window, (padding,) = _with_rows(x, window, [padding])
    permutation = channels_last(image.rank)
    t = cast(arranged(image, permutation), np.float32)
    if any(g.outputs[1:]):
        y, indices = max_with_indices(t, window, padding, column_major=bool(storage_order))
        results = (Value.of(cast(y, x.dtype), permutation), Value.of(indices, permutation))
        return tuple(_without_rows(value, x.rank) for value in results)
    pool = partial(_max, nonnegative=x.nonnegative)
    y = cast(over_pairs(t, window, [padding], pool), x.dtype)
    return _without_rows(Value.of(y, permutation), x.rank, nonnegative=x.nonnegative)


def over_pairs(t: Tensor, window: Window, sides: Sequence[Pads], pool: PoolImage) -> Tensor:
    """Pool a channels-last tensor over any number of spatial axes, two at a time from the end.

    Args:
        t: [N, spatial..., C].
        window: The window over all spatial axes.
        sides: Amounts by spatial axis, of which ``pool`` gets those of its two axes.
        pool: Pools an image.
    """
    for stop in range(len(window.size), 0, -2):
        first = max(stop - 2, 0)
        row = (1,) * (first + 2 - stop)
        shape = shape_of(t)
        sizes = (*row, *shape[first + 1 : stop + 1])
        image = reshaped(t, (product(shape[: first + 1]), *sizes, product(shape[stop + 1 :])))
        part = Window(
            *(
                (*row, *values[first:stop])
                for values in (window.size, window.strides, window.dilations)
            )
        )
        y = pool(image, part, *(((0, 0),) * len(row) + tuple(pads[first:stop]) for pads in sides))
        pooled = shape_of(y)[1 + len(row) : 3]
        t = reshaped(y, (*shape[: first + 1], *pooled, *shape[stop + 1 :]))
    return t


def _with_rows(x: Value, window: Window, sides: Sequence[Pads]) -> tuple[Value, Window, list[Pads]]:
    """Present a signal as an image of one row, as convolutions do; leave others as they are."""
    if x.rank != 3:
        return x, window, list(sides)
    row = Window((1, *window.size), (1, *window.strides), (1, *window.dilations))
    return as_image(x), row, [((0, 0), *pads) for pads in sides]


def _without_rows(y: Value, rank: int, *, nonnegative: bool = False) -> Value:
    if rank == 3:
        y = y.reshape((y.shape[0], y.shape[1], y.shape[3]))
    return Value(y.tensor, y.view, nonnegative)


def _max(t: Tensor, window: Window, pads: Pads, *, nonnegative: bool) -> Tensor:
    spatial = shape_of(t)[1:3]
    if set(window.dilations) == {1} and is_same(pads, spatial, window):
        return tf.nn.max_pool2d(t, window.size, window.strides, "SAME")
    t = _pad_for_max(t, pads, window, nonnegative=nonnegative)
    if set(window.dilations) == {1}:
        return tf.nn.max_pool2d(t, window.size, window.strides, "VALID")
    for axis in (0, 1):
        t = reduce(tf.maximum, _shifted(t, axis, window))
    return t


def _pad_for_max(t: Tensor, pads: Pads, window: Window, *, nonnegative: bool) -> Tensor:
    """Pad with values that cannot change a maximum, and that no calibration can trip over.

    Zero after a non-negative op; else a mirror image of the border, every row of which is inside
    the window anyway while the padding is at most half of it; else the first element inside the
    image that the same window looks at.
    """
    if not any(side for pair in pads for side in pair):
        return t
    if nonnegative and all(side >= 0 for pair in pads for side in pair):
        return pad_spatial(t, pads)
    sizes = zip(pads, window.size, window.dilations, strict=True)
    if all(d == 1 and 0 <= 2 * max(pair) <= size for pair, size, d in sizes if any(pair)):
        return tf.pad(t, [(0, 0), *pads, (0, 0)], mode="SYMMETRIC")
    for axis, (before, after) in enumerate(pads):
        size = shape_of(t)[axis + 1]
        if size == DYNAMIC and (before or after):
            raise Unsupported("uneven padding of a spatial size known at run time only")
        if before or after:
            chosen = _same_phase(np.arange(-before, size + after), size, window.dilations[axis])
            t = tf.gather(t, chosen, axis=axis + 1)
    return t


def _same_phase(positions: Array, size: int, dilation: int) -> Array:
    """Move positions outside an axis inwards by a multiple of the dilation."""
    last = size - 1
    inner = np.where(positions < 0, positions % dilation, positions)
    inner = np.where(positions > last, last - (last - positions) % dilation, inner)
    return inner.clip(0, last).astype(np.int32)


def _shifted(t: Tensor, axis: int, window: Window) -> list[Tensor]:
    """Return for each element of the window along one axis what all the windows see there."""
    size, stride, dilation = window.size[axis], window.strides[axis], window.dilations[axis]
    count = (shape_of(t)[axis + 1] - window.extent[axis]) // stride + 1
    lead = (slice(None),) * (axis + 1)
    starts = range(0, size * dilation, dilation)
    return [t[(*lead, slice(s, s + (count - 1) * stride + 1, stride))] for s in starts]


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
    window = Window.of(kernel_shape, strides, dilations)
    spatial = x.shape[2:]
    whole = resolve_pads(auto_pad, pads, spatial, window)
    padding = seen_pads(whole, spatial, window, ceil_mode=bool(ceil_mode))
    counted = tuple(
        (min(pair[0], seen[0]), min(pair[1], seen[1])) if count_include_pad else (0, 0)
        for pair, seen in zip(whole, padding, strict=True)
    )

    image, window, sides = _with_rows(x, window, [padding, counted])
    permutation = channels_last(image.rank)
    y = over_pairs(arranged(image, permutation), window, sides, _average)
    return _without_rows(Value.of(y, permutation), x.rank, nonnegative=x.nonnegative)


def _average(t: Tensor, window: Window, pads: Pads, counted: Pads) -> Tensor:
    """Average over windows; of the padding, only the ``counted`` part counts as elements.

    One window over everything is a MEAN: quantized, that has a range of its own for its output,
    where AVERAGE_POOL_2D must take its input's.
    """
    spatial = shape_of(t)[1:3]
    plain = set(window.dilations) == {1}
    if window.size == spatial and not any(side for pair in pads for side in pair):
        return tf.reduce_mean(t, axis=(1, 2), keepdims=True)
    if plain and counted == ((0, 0), (0, 0)) and is_same(pads, spatial, window):
        return tf.nn.avg_pool2d(t, window.size, window.strides, "SAME")
    padded = pad_spatial(t, pads)
    if plain:
        y = tf.nn.avg_pool2d(padded, window.size, window.strides, "VALID")
        if pads == counted:
            return y
        scale = math.prod(window.size)
    else:
        y, scale = padded, 1
        for axis in (0, 1):
            y = reduce(tf.add, _shifted(y, axis, window))
    if DYNAMIC in spatial:
        raise Unsupported("uneven padding of a spatial size known at run time only")
    return y * (scale / _element_counts(spatial, window, pads, counted)).astype(np.float32)


def _element_counts(spatial: Shape, window: Window, pads: Pads, counted: Pads) -> Array:
    """Return how many elements each window averages, to broadcast over [N, H, W, C]."""
    result = np.ones((1, 1, 1, 1))
    for axis in (0, 1):
        inside = np.zeros(spatial[axis] + sum(pads[axis]))
        start = pads[axis][0] - counted[axis][0]
        inside[start : pads[axis][0] + spatial[axis] + counted[axis][1]] = 1
        extent, dilation = window.extent[axis], window.dilations[axis]
        starts = range(0, len(inside) - extent + 1, window.strides[axis])
        counts = [inside[s : s + extent : dilation].sum() for s in starts]
        shape = [1, 1, 1, 1]
        shape[axis + 1] = len(counts)
        result = result * np.array(counts).reshape(shape)
    return result


@op("GlobalAveragePool")
def global_average_pool(g: Context, x: Value) -> Value:
    """GlobalAveragePool: x [N, C, spatial...]."""
    return _global(x, tf.reduce_mean)


@op("GlobalMaxPool")
def global_max_pool(g: Context, x: Value) -> Value:
    """GlobalMaxPool: x [N, C, spatial...]."""
    return _global(x, tf.reduce_max)


def _global(x: Value, function: Callable[..., Tensor]) -> Value:
    permutation = channels_last(x.rank)
    t = arranged(x, permutation)
    y = function(t, axis=list(range(1, x.rank - 1)), keepdims=True)
    return Value(y, Value.of(y, permutation).view, x.nonnegative)
