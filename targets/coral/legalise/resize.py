"""Resizing by large factors, which the Edge TPU leaves to the CPU.

A single pixel is repeated by TILE. The nearest neighbours of a whole factor are copies: of each
pixel beside itself, then of each row below itself, put there by concatenations along the channels.
"""

from __future__ import annotations

from edgeconv.targets.coral.legalise.rewrite import Rewrite, Site

_LARGEST_FACTOR = 2


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


_WHY = "resizing by large factors is left to the CPU"
RESIZE = (
    Rewrite("resize-of-one-pixel", ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _change, _WHY),
    Rewrite("nearest-by-copies", ("RESIZE_NEAREST_NEIGHBOR",), _nearest, _WHY),
)
