"""64 bit axes, shapes and amounts as 32 bit ones: the compiler's kernels misread the former."""

from __future__ import annotations

import numpy as np

from edgeconv.targets.coral.legalise.rewrite import GraphRewrite
from edgeconv.tflite.graph import Graph

_SLOTS = {
    "PAD": (1,), "PADV2": (1,), "MIRROR_PAD": (1,), "RESHAPE": (1,), "TRANSPOSE": (1,),
    "MEAN": (1,), "SUM": (1,), "REDUCE_MAX": (1,), "REDUCE_MIN": (1,), "TILE": (1,),
    "STRIDED_SLICE": (1, 2, 3), "SLICE": (1, 2), "EXPAND_DIMS": (1,), "GATHER": (1,),
    "SPLIT_V": (1,),
}  # fmt: skip
_LIMITS = np.iinfo(np.int32)


def _change(graph: Graph) -> list[str]:
    changed = []
    for operator in graph.operators:
        for slot in _SLOTS.get(graph.op(operator), ()):
            index = operator.inputs[slot] if slot < len(operator.inputs) else -1
            if graph.is_constant(index) and graph.dtype(index) == "int64":
                narrow = graph.value(index).clip(_LIMITS.min, _LIMITS.max).astype(np.int32)
                operator.inputs[slot] = graph.add_constant(f"{graph.name(index)}/int32", narrow)
                changed.append(graph.label(operator))
    return changed


INDICES = GraphRewrite(
    "narrow-indices", _change, "the compiler reads 64 bit axes and amounts as 32 bit ones"
)
