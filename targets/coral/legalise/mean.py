"""MEAN and SUM over axes that the Edge TPU does not reduce.

The batch axis, which has one element, is left out; a reduction over channels whose number is not
a multiple of four becomes a 1x1 convolution with equal weights.
"""

from __future__ import annotations

import numpy as np

from edgeconv.targets.coral.legalise.rewrite import Rewrite, Site, values


def _change(site: Site) -> bool | None:
    x, where = site.inputs
    shape, found = site.shape(x), values(site.graph, where)
    if found is None or not shape:
        return None
    axes = sorted({int(axis) % len(shape) for axis in np.ravel(found)})
    if axes == [len(shape) - 1] and shape[-1] % 4:
        return _over_channels(site, shape)
    kept = [axis for axis in axes if shape[axis] > 1]
    if not kept or 0 not in axes or shape[0] != 1:
        return None
    reduced = [1 if axis in kept else size for axis, size in enumerate(shape)]
    operands = (x, site.constant(kept, "int32"))
    name = site.graph.op(site.operator)
    if site.shape(site.output) == tuple(reduced):
        site.emit(name, operands, reduced, "ReducerOptions", out=site.output, keepDims=True)
    else:
        y = site.emit(name, operands, reduced, "ReducerOptions", keepDims=True)
        site.reshape(y, site.shape(site.output), out=site.output)
    return True


def _over_channels(site: Site, shape: tuple[int, ...]) -> bool:
    (x, _), width = site.inputs, shape[-1]
    rows = int(np.prod(shape[:-1]))
    image = shape if len(shape) == 4 and shape[0] == 1 else (1, 1, rows, width)
    share = 1 / width if site.graph.op(site.operator) == "MEAN" else 1.0
    weight = site.constant(np.full((1, 1, 1, width), share, np.float32))
    source = x if image == shape else site.reshape(x, image)
    y = site.conv(source, weight, site.constant([0.0]))
    site.reshape(y, site.shape(site.output), out=site.output)
    return True


MEAN = Rewrite(
    "mean-axes",
    ("MEAN", "SUM"),
    _change,
    "a reduction must leave out the batch, and over channels needs a multiple of four",
)
