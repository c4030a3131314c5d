"""Recognise pixel shuffles written as reshape, transpose, reshape, as one node.

Source: Shi et al. 2016, Real-Time Single Image and Video Super-Resolution, section 3.2.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of, only_user
from edgeconv.convert.passes.pattern import produced_by, replace

Match = tuple[ir.Value, str, int, str]
"""The image, and the operator, block size and mode that do the same."""

_TO_SPACE = {(0, 1, 4, 2, 5, 3): ("CRD", 1, 2), (0, 3, 4, 1, 5, 2): ("DCR", 3, 1)}
"""Permutations of a pixel shuffle: mode, and the axes of the channels and of the block's rows in
the six axes before; the block's columns follow its rows."""
_TO_DEPTH = {(0, 1, 3, 5, 2, 4): "CRD", (0, 3, 5, 1, 2, 4): "DCR"}
"""Permutations of its inverse, from [N, C, H, block, W, block]."""


def fuse_depth_to_space(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of pixel shuffles found."""
    found = 0
    for node in list(graph):
        match = _match(node) if node.op_type == "Reshape" and not node.domain else None
        if match is not None:
            source, kind, block, mode = match
            attributes = [ir.AttrInt64("blocksize", block), ir.AttrString("mode", mode)]
            replace(graph, node.outputs[0], kind, [source], attributes)
            found += 1
    return found


def _match(last: ir.Node) -> Match | None:
    middle = produced_by(last.inputs[0], "Transpose")
    first = None if middle is None else produced_by(middle.inputs[0], "Reshape")
    if middle is None or first is None or "perm" not in middle.attributes:
        return None
    if any(only_user(node.outputs[0]) is None for node in (first, middle)):
        return None
    permutation = tuple(middle.attributes["perm"].as_ints())
    split, merged = (constant_of(node.inputs[1]) for node in (first, last))
    source = first.inputs[0]
    shape = None if source is None or source.shape is None else source.shape.dims
    if split is None or merged is None or shape is None or (split.size, len(shape)) != (6, 4):
        return None
    assert source is not None, "its shape is known"
    six, four = [int(size) for size in split], [int(size) for size in merged]
    if permutation in _TO_SPACE:
        mode, channels, block = _TO_SPACE[permutation]
        count, size, height, width = six[channels], six[block], six[4], six[5]
        image = [count * size * size, height, width]
        result = [count, height * size, width * size]
        kind, square = "DepthToSpace", six[block + 1]
    elif permutation in _TO_DEPTH:
        mode = _TO_DEPTH[permutation]
        _, count, height, size, width, square = six
        image = [count, height * size, width * size]
        result = [count * size * size, height, width]
        kind = "SpaceToDepth"
    else:
        return None
    fits = size == square and size > 1 and min(six[1:]) > 0 and list(shape[1:]) == image
    return (source, kind, size, mode) if fits and _is(four, six[0], result) else None


def _is(found: list[int], batch: int, sizes: list[int]) -> bool:
    """Tell whether a Reshape's sizes are a batch and three others; one may be inferred."""
    return (
        len(found) == 4
        and found[0] in (batch, 0, -1)
        and all(size in (wanted, -1) for size, wanted in zip(found[1:], sizes, strict=True))
    )
