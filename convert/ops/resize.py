"""Resize and Upsample, in the fewest of TFLite's operators that compute them exactly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np
import tensorflow as tf

from edgeconv.convert.translate.context import Context, axis_of
from edgeconv.convert.translate.interpolation import (
    Interpolation,
    Resizing,
    nearest_elements,
    outside,
    weights,
)
from edgeconv.convert.translate.lowering import cast
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import (
    Tensor,
    Value,
    canonical,
    channels_last,
    reshaped,
    shape_of,
)
from edgeconv.convert.translate.view import DYNAMIC, product
from edgeconv.core.artifacts import Array
from edgeconv.core.wording import named

_SAME_WEIGHT = 1e-6  # interpolation weights that agree this well are the same in float32


@op("Upsample", since=7)
def upsample_attribute(
    g: Context, x: Value, *, scales: Sequence[float], mode: str = "nearest"
) -> Value:
    """Upsample with scales as an attribute."""
    return _upsample(x, scales, mode)


@op("Upsample", since=9)
def upsample(g: Context, x: Value, scales: Value, *, mode: str = "nearest") -> Value:
    """Upsample with scales as an input."""
    return _upsample(x, g.constant(scales, "scales").tolist(), mode)


@op("Resize", since=10)
def resize_scales(g: Context, x: Value, scales: Value, *, mode: str = "nearest") -> Value:
    """Resize of opset 10: scales only."""
    return _upsample(x, g.constant(scales, "scales").tolist(), mode)


def _upsample(x: Value, scales: Sequence[float], mode: str) -> Value:
    how = Interpolation(mode, "asymmetric", "simple")
    return _resized(x, _by_scales(x, range(x.rank), scales), how, 0.0)


@op("Resize", since=11)
def resize(
    g: Context,
    x: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Value:
    """Resize: x of any rank; roi, scales and sizes by axis of ``axes``."""
    chosen = [axis_of(axis, x.rank) for axis in (range(x.rank) if axes is None else axes)]
    factors = [] if scales is None else g.constant(scales, "scales").tolist()
    if factors:
        resizings = _by_scales(x, chosen, factors)
    elif sizes is not None and sizes.constant is None and keep_aspect_ratio_policy == "stretch":
        stated = g.result("sizes")
        wanted = [stated[axis] for axis in chosen]
        resizings = _by_sizes(x, chosen, wanted, keep_aspect_ratio_policy)
    elif sizes is not None:
        resizings = _by_sizes(x, chosen, g.integers(sizes, "sizes"), keep_aspect_ratio_policy)
    else:
        raise Unsupported("neither scales nor sizes are given")
    if coordinate_transformation_mode == "tf_crop_and_resize" and roi is not None:
        region = g.constant(roi, "roi").tolist()
        for place, axis in enumerate(chosen):
            bounds = (region[place], region[place + len(chosen)])
            resizings[axis] = dataclasses.replace(resizings[axis], roi=bounds)
    how = Interpolation(
        mode=mode,
        coordinates=coordinate_transformation_mode,
        nearest_mode=nearest_mode,
        cubic_coeff_a=cubic_coeff_a,
        antialias=bool(antialias),
        exclude_outside=bool(exclude_outside),
    )
    return _resized(x, resizings, how, extrapolation_value)


def _by_scales(x: Value, axes: Sequence[int], scales: Sequence[float]) -> list[Resizing]:
    resizings = _unchanged(x)
    for axis, scale in zip(axes, scales, strict=True):
        if scale != 1:
            size = _known_size(x, axis)
            resizings[axis] = Resizing.by_scale(size, scale)
    return resizings


def _by_sizes(x: Value, axes: Sequence[int], sizes: Sequence[int], policy: str) -> list[Resizing]:
    resizings = _unchanged(x)
    ratios = {
        axis: float(np.float32(size) / np.float32(_known_size(x, axis)))
        for axis, size in zip(axes, sizes, strict=True)
        if x.shape[axis] != DYNAMIC
    }
    if policy != "stretch":
        ratio = (min if policy == "not_larger" else max)(ratios.values())
        ratios = dict.fromkeys(ratios, ratio)
        products = [np.float32(ratio) * np.float32(_known_size(x, axis)) for axis in axes]
        sizes = [math.floor(float(product) + 0.5) for product in products]
    for axis, size in zip(axes, sizes, strict=True):
        if axis in ratios:
            resizings[axis] = Resizing(x.shape[axis], size, ratios[axis])
    return resizings


def _unchanged(x: Value) -> list[Resizing]:
    return [Resizing(size, size, 1.0) for size in x.shape]


def _known_size(x: Value, axis: int) -> int:
    if x.shape[axis] == DYNAMIC:
        raise Unsupported("an axis whose size is known at run time only is resized")
    return x.shape[axis]


def _resized(x: Value, resizings: list[Resizing], how: Interpolation, fill: float) -> Value:
    """Resize the stored tensor, whatever its axis order; integers go through float32.

    What keeps its size is copied, whatever the factors say, as onnxruntime does.
    """
    if how.coordinates != "tf_crop_and_resize" and all(item.out == item.size for item in resizings):
        return x
    if x.rank == 3:  # signals stay images of one row, as convolutions leave them
        row = Resizing(1, 1, 1.0)
        image = x.reshape((*x.shape[:2], 1, x.shape[2]))
        y = _resized(image, [*resizings[:2], row, resizings[2]], how, fill)
        return y.reshape((y.shape[0], y.shape[1], y.shape[3]))
    t, permutation = canonical(x, channels_last(x.rank))
    stored = [resizings[axis] for axis in permutation]
    picks = how.mode == "nearest"
    y = t if picks else cast(t, np.float32)
    for first, part in _groups(stored):
        y = _resize_pair(y, first, part, how)
    y = _with_fill(y, stored, how, fill)
    y = _to_integer(y, x.dtype, rounds=not picks)
    keeps = x.nonnegative and how.mode != "cubic" and fill >= 0
    return Value(y, Value.of(y, permutation).view, keeps)


def _to_integer(y: Tensor, dtype: np.dtype[Any], *, rounds: bool) -> Tensor:
    if rounds and np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        y = tf.minimum(tf.maximum(y, float(limits.min)), float(limits.max))
    return cast(y, dtype)


def _groups(stored: Sequence[Resizing]) -> Iterator[tuple[int, list[Resizing]]]:
    """Yield the axes that change, neighbours two at a time, with the place of the first."""
    place = 0
    while place < len(stored):
        if not stored[place].changes:
            place += 1
            continue
        count = 2 if place + 1 < len(stored) and stored[place + 1].changes else 1
        yield place, list(stored[place : place + count])
        place += count


def _resize_pair(t: Tensor, first: int, axes: list[Resizing], how: Interpolation) -> Tensor:
    """Resize one axis or two neighbours: as an image if TFLite's resizing does just that."""
    shape = shape_of(t)
    whole = [*axes, Resizing(1, 1, 1.0)][:2] if len(axes) == 1 else axes
    run = _image_resize(whole, how) if t.dtype == tf.float32 else None
    if run is None and len(axes) == 2:
        t = _resize_pair(t, first, axes[:1], how)
        return _resize_pair(t, first + 1, axes[1:], how)
    if run is None:
        return _resize_axis(t, first, axes[0], how)
    last = first + len(axes)
    lead, tail = product(shape[:first]), product(shape[last:])
    image = reshaped(t, (lead, *(axis.size for axis in whole), tail))
    y = run(image, [axis.out for axis in whole])
    return reshaped(y, (*shape[:first], *(axis.out for axis in axes), *shape[last:]))


def _image_resize(
    axes: list[Resizing], how: Interpolation
) -> Callable[[Tensor, list[int]], Tensor] | None:
    """Return TensorFlow's resizing of images that weighs as ONNX does, or None."""
    if how.mode == "nearest":
        wanted = [nearest_elements(axis, how) for axis in axes]
        for variant, elements in _NEAREST.items():
            pairs = zip(axes, wanted, strict=True)
            if all(np.array_equal(elements(a.size, a.out), found) for a, found in pairs):
                return _nearest_resize(*variant)
    if how.mode == "linear":
        matrices = [weights(axis, how) for axis in axes]
        for variant, coordinates in _LINEAR.items():
            pairs = zip(axes, matrices, strict=True)
            if all(_same(_lerp(coordinates(a.size, a.out), a.size), m) for a, m in pairs):
                return _linear_resize(*variant)
    return None


def _same(a: Array, b: Array) -> bool:
    return bool(np.abs(a - b).max(initial=0) < _SAME_WEIGHT)


def _nearest_resize(corners: bool, centers: bool) -> Callable[[Tensor, list[int]], Tensor]:
    return lambda t, size: tf.raw_ops.ResizeNearestNeighbor(
        images=t, size=size, align_corners=corners, half_pixel_centers=centers
    )


def _linear_resize(corners: bool, centers: bool) -> Callable[[Tensor, list[int]], Tensor]:
    return lambda t, size: tf.raw_ops.ResizeBilinear(
        images=t, size=size, align_corners=corners, half_pixel_centers=centers
    )


def _step(size: int, out: int) -> np.float32:
    return np.float32(size) / np.float32(out)


def _corner_step(size: int, out: int) -> np.float32:
    return np.float32(size - 1) / np.float32(out - 1) if out > 1 else _step(size, out)


def _range(out: int) -> Array:
    return np.arange(out, dtype=np.float32)


_NEAREST: dict[tuple[bool, bool], Callable[[int, int], Array]] = {
    (False, False): lambda size, out: np.floor(_range(out) * _step(size, out)).clip(0, size - 1),
    (False, True): lambda size, out: np.floor(
        (_range(out) + np.float32(0.5)) * _step(size, out)
    ).clip(0, size - 1),
    (True, False): lambda size, out: np.floor(
        _range(out) * _corner_step(size, out) + np.float32(0.5)
    ).clip(0, size - 1),
}
"""Elements that TensorFlow takes, computed in float32 as its kernel and TFLite's do, by
``align_corners`` and ``half_pixel_centers``."""

_LINEAR: dict[tuple[bool, bool], Callable[[int, int], Array]] = {
    (False, True): lambda size, out: (np.arange(out) + 0.5) * (size / out) - 0.5,
    (True, False): lambda size, out: np.arange(out) * ((size - 1) / max(out - 1, 1)),
    (False, False): lambda size, out: np.arange(out) * (size / out),
}
"""Coordinates that TensorFlow interpolates at."""


def _lerp(x: Array, size: int) -> Array:
    """Return the matrix of a linear interpolation whose outside is the border."""
    x = x.clip(0, size - 1)
    low = np.minimum(np.floor(x).astype(np.int64), max(size - 2, 0))
    high = np.minimum(low + 1, size - 1)
    rows = np.arange(len(x))
    matrix = np.zeros((len(x), size))
    np.add.at(matrix, (rows, low), 1 - (x - low))
    np.add.at(matrix, (rows, high), x - low)
    return matrix


def _resize_axis(t: Tensor, place: int, axis: Resizing, how: Interpolation) -> Tensor:
    """Resize one stored axis by picking elements, or by a product with its constant matrix."""
    if how.mode == "nearest":
        return tf.gather(t, nearest_elements(axis, how), axis=place)
    matrix = weights(axis, how).astype(np.float32)
    shape = shape_of(t)
    lead, tail = product(shape[:place]), product(shape[place + 1 :])
    if tail == 1:
        y = tf.matmul(reshaped(t, (lead, axis.size)), np.ascontiguousarray(matrix.T))
    else:
        rows = reshaped(t, (lead, axis.size, tail))
        y = tf.matmul(matrix[None], rows)
    return reshaped(y, (*shape[:place], axis.out, *shape[place + 1 :]))


def _with_fill(y: Tensor, stored: Sequence[Resizing], how: Interpolation, fill: float) -> Tensor:
    """Put the fill value where mode tf_crop_and_resize shows nothing of the input."""
    if how.coordinates != "tf_crop_and_resize":
        return y
    if any(axis.size == DYNAMIC for axis in stored):
        raise Unsupported("tf_crop_and_resize with an open batch", f"give {named('input_shapes')}")
    masks = [outside(axis, how) for axis in stored]
    if not any(mask.any() for mask in masks):
        return y
    seen = reduce(np.logical_and.outer, [~mask for mask in masks])
    return tf.where(seen, y, np.asarray(fill, y.dtype.as_numpy_dtype))
