"""Slices that the Edge TPU does not take: with steps, by index, of unequal parts."""

from __future__ import annotations

import numpy as np

from edgeconv.targets.coral.legalise.rewrite import NONE, VALID, Rewrite, Site, values

_MOST_PARTS = 32


def _stepped(site: Site) -> bool | None:
    """Take every n-th row and column with a pool of window 1."""
    graph, (x, *operands) = site.graph, site.inputs
    found = [values(graph, index) for index in operands]
    if any(value is None for value in found):
        return None
    begin, _, steps = (np.asarray(value) for value in found)
    shape, result = site.shape(x), site.shape(site.output)
    options = site.options
    awkward = options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask
    if len(shape) != 4 or awkward or (steps <= 0).any() or steps[0] != 1 or steps[3] != 1:
        return None
    if (steps == 1).all():
        return None
    starts = [
        0 if options.beginMask >> axis & 1 else int(begin[axis]) % shape[axis] for axis in range(4)
    ]
    for axis in range(4):
        stop = starts[axis] + (result[axis] - 1) * int(steps[axis]) + 1
        if starts[axis] or (steps[axis] == 1 and stop != shape[axis]):
            x = site.cut(x, axis, starts[axis], stop)
        elif -(-shape[axis] // int(steps[axis])) != result[axis]:
            x = site.cut(x, axis, 0, stop)
    site.emit(
        "MAX_POOL_2D", (x,), result, "Pool2DOptions", out=site.output, padding=VALID,
        strideH=int(steps[1]), strideW=int(steps[2]), filterHeight=1, filterWidth=1,
        fusedActivationFunction=NONE,
    )  # fmt: skip
    return True


def _gather(site: Site) -> bool | None:
    """Gather constant positions along an axis: runs of them are slices."""
    graph, (x, where) = site.graph, site.inputs
    chosen = values(graph, where)
    if chosen is None or graph.is_constant(x) or site.options.batchDims or not chosen.size:
        return None
    shape = site.shape(x)
    axis = site.options.axis % len(shape)
    positions = np.ravel(chosen).astype(int)
    runs = _runs(positions)
    if len(runs) > _MOST_PARTS:
        return None
    if runs == [(0, shape[axis])]:
        site.reshape(x, site.shape(site.output), out=site.output)
        return True
    parts = [site.cut(x, axis, start, stop) for start, stop in runs]
    y = parts[0] if len(parts) == 1 else site.concat(parts, axis)
    site.reshape(y, site.shape(site.output), out=site.output)
    return True


def _runs(positions: np.ndarray[tuple[int], np.dtype[np.int_]]) -> list[tuple[int, int]]:
    """Return the maximal runs of consecutive positions as (start, stop)."""
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(positions, breaks)]


def _split_v(site: Site) -> bool | None:
    graph, (x, sizes, where) = site.graph, site.inputs
    axis = values(graph, where)
    if axis is None or values(graph, sizes) is None:
        return None
    place, start = int(axis.reshape(())) % len(site.shape(x)), 0
    for out in site.operator.outputs:
        stop = start + site.shape(out)[place]
        site.cut(x, place, start, stop, out=out)
        start = stop
    return True


def _unpack(site: Site) -> bool:
    (x,) = site.inputs
    axis = site.options.axis % len(site.shape(x))
    for number, out in enumerate(site.operator.outputs):
        site.reshape(site.cut(x, axis, number, number + 1), site.shape(out), out=out)
    return True


SLICING = (
    Rewrite("stepped-slice", ("STRIDED_SLICE",), _stepped, "all strides of a slice must be 1"),
    Rewrite("gather-runs", ("GATHER",), _gather, "GATHER is not supported"),
    Rewrite("uneven-split", ("SPLIT_V",), _split_v, "SPLIT_V is not supported"),
    Rewrite("unpack", ("UNPACK",), _unpack, "UNPACK is not supported"),
)
