"""Resizing of a single pixel, which the Edge TPU leaves to the CPU, as TILE."""

from __future__ import annotations

from edgeconv.targets.coral.legalise.rewrite import Rewrite, Site


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


RESIZE = Rewrite(
    "resize-of-one-pixel",
    ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
    _change,
    "resizing by large factors is left to the CPU",
)
