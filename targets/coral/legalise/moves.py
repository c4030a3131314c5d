"""Transposes of many axes or of the channels, and DEPTH_TO_SPACE, with fewer axes or as slices.

The Edge TPU maps tensors of at most three axes longer than one, which must be the innermost.
Axes of one element do not count, and axes that stay side by side are one. Where the last axis stays
in its place, any order of the others is a chain of transposes [a, b, c] to [b, a, c].
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from edgeconv.targets.coral.legalise.rewrite import Rewrite, Site, values

_MOST_PARTS = 16
_MOST_AXES = 7


def canonical(shape: Sequence[int], order: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the least axes and their order that move values as a transpose does.

    Args:
        shape: The shape of its input.
        order: Input axis by output axis.
    """
    long = [axis for axis in order if shape[axis] > 1]
    runs: list[list[int]] = []
    ranks = {axis: rank for rank, axis in enumerate(sorted(long))}
    for axis in long:
        if runs and ranks[runs[-1][-1]] + 1 == ranks[axis]:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    sources = sorted(runs)
    sizes = [math.prod(shape[axis] for axis in run) for run in sources]
    return sizes, [sources.index(run) for run in runs]


def rotations(moved: Sequence[int]) -> list[tuple[int, int]]:
    """Return the fewest swaps of two blocks at the front that reorder axes; the last axis stays.

    Args:
        moved: Source axis by result axis; the last one is the last.

    Returns:
        In order, the axes in the first block and those in the second.
    """
    start, goal = tuple(range(len(moved))), tuple(moved)
    paths: dict[tuple[int, ...], list[tuple[int, int]]] = {start: []}
    open_ = deque([start])
    while goal not in paths:
        axes = open_.popleft()
        for end in range(2, len(axes)):
            for middle in range(1, end):
                turned = axes[middle:end] + axes[:middle] + axes[end:]
                if turned not in paths:
                    paths[turned] = [*paths[axes], (middle, end - middle)]
                    open_.append(turned)
    return paths[goal]


def _transpose(site: Site) -> bool | None:
    x, where = site.inputs
    order = values(site.graph, where)
    if order is None:
        return None
    shape, result = site.shape(x), site.shape(site.output)
    sizes, moved = canonical(shape, [int(axis) for axis in order])
    if moved == list(range(len(moved))):
        site.reshape(x, result, out=site.output)
        return True
    if len(sizes) <= 3 and moved[-2:] == [len(sizes) - 1, len(sizes) - 2]:
        return _turn_channels(site, x, sizes)
    if len(shape) <= 4 and math.prod(shape[:-3]) == 1:
        return None
    if moved == [0, 2, 1, 3] and min(sizes[1:3]) <= _MOST_PARTS:
        swap_inner(site, x, sizes)
        return True
    if len(sizes) <= 3 or moved[-1] != len(sizes) - 1:
        return _one_transpose(site, x, sizes, moved)
    if len(sizes) > _MOST_AXES:
        return None
    _chain(site, x, sizes, moved)
    return True


def _one_transpose(site: Site, x: int, sizes: Sequence[int], moved: Sequence[int]) -> bool | None:
    """Transpose the least axes. Four do not map, but five would cost the whole model."""
    if len(sizes) > 4 or (len(sizes) == 4 and len(site.shape(x)) <= 4):
        return None
    _emit_transpose(site, x, sizes, moved)
    return True


def _emit_transpose(site: Site, x: int, sizes: Sequence[int], moved: Sequence[int]) -> None:
    flat = site.reshape(x, sizes)
    turned = [sizes[axis] for axis in moved]
    operands = (flat, site.constant(moved, "int32"))
    y = site.emit("TRANSPOSE", operands, turned, "TransposeOptions")
    site.reshape(y, site.shape(site.output), out=site.output)


def _chain(site: Site, x: int, sizes: Sequence[int], moved: Sequence[int]) -> None:
    """Reorder all axes but the last by transposes of three axes, which keep the last."""
    left = list(sizes)
    for first, second in rotations(moved):
        end = first + second
        blocks = [math.prod(part) for part in (left[:first], left[first:end], left[end:])]
        order = site.constant([1, 0, 2], "int32")
        shape = [blocks[1], blocks[0], blocks[2]]
        flat = site.reshape(x, blocks)
        x = site.emit("TRANSPOSE", (flat, order), shape, "TransposeOptions")
        left = [*left[first:end], *left[:first], *left[end:]]
    site.reshape(x, site.shape(site.output), out=site.output)


def _turn_channels(site: Site, x: int, sizes: Sequence[int]) -> bool | None:
    """Swap the last two axes with slices: transposes that move the channels do not map."""
    full = [1] * (3 - len(sizes)) + list(sizes)
    if min(full[1:]) > _MOST_PARTS:
        return None
    swap_inner(site, x, (*full, 1))
    return True


def swap_inner(site: Site, x: int, sizes: Sequence[int]) -> None:
    """Emit what turns a tensor of the sizes [a, b, c, d] into [a, c, b, d], with slices."""
    a, b, c, d = sizes
    result = site.shape(site.output)
    if b < c:
        rows = site.reshape(x, (1, a, b, c * d))
        parts = [site.cut(rows, 2, row, row + 1) for row in range(b)]
        y = site.concat([site.reshape(part, (1, a, c, d)) for part in parts], 3)
    else:
        rows = site.reshape(x, (1, a, b, c * d))
        parts = [site.cut(rows, 3, column * d, (column + 1) * d) for column in range(c)]
        y = site.concat([site.reshape(part, (1, 1, a, b * d)) for part in parts], 3)
    site.reshape(y, result, out=site.output)


def _depth_to_space(site: Site) -> bool | None:
    (x,) = site.inputs
    block = site.options.blockSize
    batch, height, width, channels = site.shape(x)
    if block > _MOST_PARTS:
        return None
    swap_inner(site, x, (batch * height, width, block, channels // block))
    return True


MOVES = (
    Rewrite(
        "transpose",
        ("TRANSPOSE",),
        _transpose,
        "a transpose may have three long axes only, and not move the channels",
    ),
    Rewrite(
        "pixel-shuffle", ("DEPTH_TO_SPACE",), _depth_to_space, "DEPTH_TO_SPACE is not supported"
    ),
)
