"""Operators that ONNX's reference implementation computes wrongly."""

from __future__ import annotations

import numpy as np
from onnx.reference.op_run import OpRun

from edgeconv.core.artifacts import Array


class GatherElements(OpRun):
    """GatherElements for any number of entries along the axis.

    onnx.reference 1.23 relies on ``numpy.choose``, which takes at most 32 alternatives.
    """

    op_domain = ""

    def _run(self, data: Array, indices: Array, axis: int = 0) -> tuple[Array]:
        axis %= data.ndim
        # Along the other axes there may be fewer indices than data.
        sizes = [size if d != axis else data.shape[d] for d, size in enumerate(indices.shape)]
        rows = data[tuple(slice(size) for size in sizes)]
        return (np.take_along_axis(rows, indices.astype(np.int64), axis),)


CORRECTED = (GatherElements,)
"""In place of the implementations of the same name."""
