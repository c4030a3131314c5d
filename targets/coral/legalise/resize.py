"""Resizing by large factors, which the Edge TPU leaves to the CPU.

A single pixel is repeated by TILE. The nearest neighbours of a whole factor are copies: of each
pixel beside itself, then of each row below itself, put there by concatenations along the channels.
Between pixels, a whole factor k gives k phases: the rows of each are a convolution of the image
with two weights, and a concatenation puts them between one another; then the columns. At the end of
a model that is not done: there the CPU resizes what it gets, and nothing waits for it.
"""

from __future__ import annotations

import math

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.targets.coral.legalise.padding import surround
from edgeconv.targets.coral.legalise.rewrite import NONE, VALID, Rewrite, Site
from edgeconv.targets.coral.legalise.tail import leads_to_weights

_LARGEST_FACTOR = 2
_MOST_PHASES = 16


def _change(site: Site) -> bool | None:
    x = site.inputs[0]
    shape, result = site.shape(x), site.shape(site.output)
    if shape[1:3] != (1, 1):
        return None
    if result[1:3] == (1, 1):
        site.reshape(x, result, out=site.output)
    else:
        factors = site.constant([1, *result[1:3], 1], "int32")
        site.emit("TILE", (x, factors), result, out=site.output)
    return True


def _nearest(site: Site) -> bool | None:
    x, options = site.inputs[0], site.options
    (_, height, width, channels), result = site.shape(x), site.shape(site.output)
    down, across = result[1] // height, result[2] // width
    whole = (down * height, across * width) == result[1:3]
    if not whole or options.alignCorners or max(down, across) <= _LARGEST_FACTOR:
        return None
    if across > 1:
        x = site.concat([x] * across, 3)
    x = site.reshape(x, (1, 1, height, across * width * channels))
    if down > 1:
        x = site.concat([x] * down, 3)
    site.reshape(x, result, out=site.output)
    return True


def _bilinear(site: Site) -> bool | None:
    x, options = site.inputs[0], site.options
    shape, result = site.shape(x), site.shape(site.output)
    factors = [result[axis] // shape[axis] for axis in (1, 2)]
    whole = [shape[axis] * factors[axis - 1] for axis in (1, 2)] == list(result[1:3])
    if not whole or options.alignCorners or not _LARGEST_FACTOR < max(factors) <= _MOST_PHASES:
        return None
    if not leads_to_weights(site.graph, site.operator):
        return None
    for axis, factor in zip((1, 2), factors, strict=True):
        if factor > 1:
            x = _phases(site, x, axis, factor, half_pixel=bool(options.halfPixelCenters))
    site.reshape(x, result, out=site.output)
    return True


def _phases(site: Site, x: int, axis: int, factor: int, *, half_pixel: bool) -> int:
    """Enlarge one axis of an image; the others stay."""
    shape = site.shape(x)
    padded = surround(site, x, {axis: (1, 1)}, 0)
    parts = []
    for phase in range(factor):
        where = (phase + 0.5) / factor - 0.5 if half_pixel else phase / factor
        below = math.floor(where)
        taps = np.zeros(3, np.float32)
        taps[below + 1 : below + 3] = 1 - (where - below), where - below
        parts.append(_along(site, padded, axis, taps))
    # Behind the axis, the phases of one row or column lie side by side.
    joined = site.concat(parts, axis + 1)
    return site.reshape(joined, [s * factor if i == axis else s for i, s in enumerate(shape)])


def _along(site: Site, x: int, axis: int, taps: Array) -> int:
    """Convolve each channel along an axis, without padding."""
    shape = list(site.shape(x))
    kernel = [1, 1, 1, shape[3]]
    kernel[axis], shape[axis] = len(taps), shape[axis] - len(taps) + 1
    weight = np.broadcast_to(taps.reshape([-1 if i == axis else 1 for i in range(4)]), kernel)
    operands = (x, site.constant(weight), site.constant(np.zeros(shape[3], np.float32)))
    return site.emit(
        "DEPTHWISE_CONV_2D", operands, shape, "DepthwiseConv2DOptions", padding=VALID,
        strideH=1, strideW=1, depthMultiplier=1, fusedActivationFunction=NONE,
    )  # fmt: skip


_WHY = "resizing by large factors is left to the CPU"
RESIZE = (
    Rewrite("resize-of-one-pixel", ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _change, _WHY),
    Rewrite("nearest-by-copies", ("RESIZE_NEAREST_NEIGHBOR",), _nearest, _WHY),
    Rewrite("bilinear-by-phases", ("RESIZE_BILINEAR",), _bilinear, _WHY),
)
