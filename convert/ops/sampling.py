"""Sampling of images on grids. Source of the semantics: ONNX operator spec of each operator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.conv import split_constant, with_bias
from edgeconv.convert.ops.interpolate_at import (
    Bounds,
    Reflection,
    Taps,
    cubic_taps,
    first_pixels,
    linear_taps,
    nearest_taps,
    pixels_at,
    weighted_sum,
)
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.padding import Window
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged, channels_last
from edgeconv.convert.translate.view import DYNAMIC
from edgeconv.core.artifacts import Array
from edgeconv.core.wording import named


@op("GridSample", since=16)
def grid_sample(
    g: Context,
    x: Value,
    grid: Value,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Value:
    """GridSample: x [N, C, spatial...], grid [N, out..., axes] from -1 to 1, last axis first."""
    _static(x, grid)
    sizes = x.shape[2:]
    rank = len(sizes)
    points = math.prod(grid.shape[1:-1])
    t = arranged(grid, range(grid.rank), (x.shape[0], points, rank))
    size = np.array(sizes[::-1], np.float32)
    half = (size - 1) / 2 if align_corners else size / 2
    coordinates = tf.reverse(t * half + (size - 1) / 2, [2])
    taps, bounds = _taps(coordinates, sizes, mode, padding_mode, bool(align_corners))
    permutation = channels_last(x.rank)
    image = arranged(x, permutation)
    pixels, weight = pixels_at(image, taps, first_pixels(x.shape[0], sizes, bounds), bounds)
    y = tf.reshape(weighted_sum(pixels, weight), (*grid.shape[:-1], x.shape[1]))
    return Value.of(y, permutation)


def _static(*values: Value) -> None:
    if any(DYNAMIC in value.shape for value in values):
        raise Unsupported("a shape known at run time only", f"give {named('input_shapes')}")


def _taps(
    coordinates: Tensor, sizes: Sequence[int], mode: str, padding_mode: str, corners: bool
) -> tuple[Taps, Bounds]:
    if padding_mode not in ("zeros", "border", "reflection"):
        raise Unsupported(f"padding_mode {padding_mode}")
    bounds = Bounds.of(sizes, zeros=padding_mode == "zeros")
    reflect = Reflection.of(sizes, align_corners=corners) if padding_mode == "reflection" else None
    if mode in ("cubic", "bicubic"):
        return cubic_taps(coordinates, bounds, reflect), bounds
    if reflect is not None:
        coordinates = reflect(coordinates)
    if mode == "nearest":
        return nearest_taps(coordinates, bounds), bounds
    if mode in ("linear", "bilinear"):
        return linear_taps(coordinates, bounds), bounds
    raise Unsupported(f"mode {mode}")


@op("AffineGrid", since=20)
def affine_grid(g: Context, theta: Value, size: Value, *, align_corners: int = 0) -> Value:
    """AffineGrid: theta [N, axes, axes + 1]; size [N, C, spatial...]."""
    batch, _, *spatial = g.integers(size, "size")
    axes = [_centres(count, bool(align_corners)) for count in spatial]
    grids = np.meshgrid(*axes, indexing="ij")
    points = np.stack([*grids[::-1], np.ones(spatial)], axis=-1).reshape(-1, len(spatial) + 1)
    y = tf.matmul(points.astype(np.float32)[None], arranged(theta, (0, 1, 2)), transpose_b=True)
    return Value.of(tf.reshape(y, (batch, *spatial, len(spatial))))


def _centres(count: int, align_corners: bool) -> Array:
    if align_corners:
        return np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
    return (np.arange(count) + 0.5) * 2 / count - 1


@op("DeformConv", since=19)
def deform_conv(
    g: Context,
    x: Value,
    w: Value,
    offset: Value,
    b: Value | None = None,
    mask: Value | None = None,
    *,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    offset_group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """DeformConv: x [N, C, H, W], offset [N, offset_group * kernel * 2, out...].

    The image is sampled where each element of each window looks; then it is a matrix product.
    """
    _static(x, offset)
    if x.rank != 4:
        raise Unsupported(f"{x.rank - 2} spatial axes", "use 2")
    window = Window.of(kernel_shape or w.shape[2:], strides, dilations)
    batch, channels, *sizes = x.shape
    out = offset.shape[2:]
    taps = math.prod(window.size)
    starts = tuple(pads or (0,) * 4)[:2]
    shifts = _split_groups(offset, offset_group, (taps, 2), out)
    points = shifts + _undeformed(window, out, starts)
    image = x.reshape((batch, offset_group, channels // offset_group, *sizes))
    images = arranged(
        image,
        (0, 1, 3, 4, 2),
        (batch * offset_group, *sizes, channels // offset_group),
    )
    bounds = Bounds.of(sizes, zeros=True)
    base = first_pixels(batch * offset_group, sizes, bounds)
    sampled = weighted_sum(*pixels_at(images, linear_taps(points, bounds), base, bounds))
    if mask is not None:
        sampled = sampled * _split_groups(mask, offset_group, (taps, 1), out)
    columns = Value.of(sampled).reshape(
        (batch, offset_group, math.prod(out), taps, channels // offset_group)
    )
    rows = arranged(
        columns.transpose((0, 2, 3, 1, 4)), range(5), (batch * math.prod(out), taps, channels)
    )
    y = with_bias(_product(rows, w, group), b)
    return Value.of(tf.reshape(y, (batch, *out, w.shape[0])), (0, 2, 3, 1))


def _split_groups(value: Value, groups: int, inner: tuple[int, int], out: Sequence[int]) -> Tensor:
    """Arrange [N, groups * inner, out...] as [N * groups, out * inner[0], inner[1]]."""
    batch = value.shape[0]
    split = value.reshape((batch, groups, *inner, *out))
    return arranged(
        split, (0, 1, 4, 5, 2, 3), (batch * groups, math.prod(out) * inner[0], inner[1])
    )


def _undeformed(window: Window, out: Sequence[int], starts: Sequence[int]) -> Array:
    """Return where the elements of each window look without offsets, [1, out * kernel, 2]."""
    tops, lefts = (
        np.arange(count) * stride - start
        for count, stride, start in zip(out, window.strides, starts, strict=True)
    )
    rows, columns = (
        np.arange(size) * dilation
        for size, dilation in zip(window.size, window.dilations, strict=True)
    )
    grid = np.meshgrid(tops, lefts, rows, columns, indexing="ij")
    points = np.stack([grid[0] + grid[2], grid[1] + grid[3]], axis=-1)
    return points.reshape(1, -1, 2).astype(np.float32)


def _product(rows: Tensor, w: Value, group: int) -> Tensor:
    """Multiply [R, taps, C] by weights [M, C / group, kernel...]."""
    count, taps, channels = rows.shape
    inner = channels // group
    kernel = arranged(w, (2, 3, 1, 0), (taps * inner, w.shape[0]))
    parts = []
    for number, weights in enumerate(split_constant(kernel, group, 1)):
        part = rows if group == 1 else rows[:, :, number * inner : (number + 1) * inner]
        parts.append(tf.matmul(tf.reshape(part, (count, taps * inner)), weights))
    return parts[0] if group == 1 else tf.concat(parts, axis=1)
