"""Recognise division by a Euclidean norm, kept off zero, as LpNormalization.

Exporters write torch's ``normalize`` as ReduceL2, Clip, Expand, Div. The one node becomes TFLite's
L2_NORMALIZATION where the axis is stored last.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeconv.convert.passes.graph import constant_of
from edgeconv.convert.passes.pattern import number_of, produced_by, replace, scalar

_LARGEST_EPSILON = 1e-6  # what L2_NORMALIZATION itself keeps the norm above


def fuse_l2_normalize(graph: ir.Graph) -> int:
    """Rewrite the graph in place; return the number of normalisations found."""
    found = 0
    for node in list(graph):
        axis = _axis(node) if node.op_type == "Div" and not node.domain else None
        if axis is not None and (source := node.inputs[0]) is not None:
            replace(
                graph,
                node.outputs[0],
                "LpNormalization",
                [source],
                [ir.AttrInt64("axis", axis), ir.AttrInt64("p", 2)],
            )
            found += 1
    return found


def _axis(div: ir.Node) -> int | None:
    """Return the axis of the norm that a node divides its own operand by."""
    norm = div.inputs[1]
    expand = produced_by(norm, "Expand")
    norm = norm if expand is None else expand.inputs[0]
    clip = produced_by(norm, "Clip", "Max")
    if clip is None or not _is_small(clip):
        return None
    reduce = produced_by(clip.inputs[0], "ReduceL2")
    if reduce is None or reduce.inputs[0] is not div.inputs[0]:
        return None
    axes = _axes(reduce)
    return axes[0] if len(axes) == 1 and number_of(reduce, "keepdims", 1) == 1 else None


def _is_small(clip: ir.Node) -> bool:
    """Tell whether a Clip or Max does no more than keep the norm off zero."""
    if clip.op_type == "Clip" and len(clip.inputs) > 2 and clip.inputs[2] is not None:
        return False
    if clip.op_type == "Clip" and len(clip.inputs) == 1:
        low: float | None = number_of(clip, "min", 1.0)
        if "max" in clip.attributes:
            return False
    else:
        low = scalar(clip.inputs[1]) if len(clip.inputs) > 1 else None
    return low is not None and 0 <= low <= _LARGEST_EPSILON


def _axes(reduce: ir.Node) -> list[int]:
    if "axes" in reduce.attributes:
        return list(reduce.attributes["axes"].as_ints())
    axes = constant_of(reduce.inputs[1]) if len(reduce.inputs) > 1 else None
    return [] if axes is None else [int(axis) for axis in axes.ravel()]
