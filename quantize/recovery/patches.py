"""What a layer with weights multiplies them with: rows of its input, one for each place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ai_edge_litert.schema_py_generated import Padding

from edgeconv.core.artifacts import Array
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution walks over its input ``[n, h, w, c]``; a dense layer is a single pixel.

    Attributes:
        size: Height and width of the kernel.
        strides: Steps from one place to the next.
        dilations: Steps from one weight to the next.
        same: Whether the input is padded, so that there are places at its borders.
    """

    size: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    same: bool = False

    @classmethod
    def of(cls, graph: Graph, operator: OperatorT) -> Window:
        """Return that of a CONV_2D or FULLY_CONNECTED."""
        if graph.op(operator) == "FULLY_CONNECTED":
            return cls()
        options = operator.builtinOptions
        _, height, width, _ = graph.shape(operator.inputs[1])
        return cls(
            (height, width),
            (options.strideH, options.strideW),
            (options.dilationHFactor, options.dilationWFactor),
            options.padding == Padding.SAME,
        )

    def rows(self, value: Array, most: int) -> npt.NDArray[np.float32]:
        """Return what the weights meet, ``[places, kernel height * kernel width * channels]``.

        Args:
            value: The input of a convolution, ``[n, h, w, c]``, or of a dense layer.
            most: Of more places than that about as many are returned, evenly spread.
        """
        if self == Window():
            flat = value.reshape(-1, value.shape[-1])
            return flat[:: max(1, len(flat) // most)].astype(np.float32)
        spans = [
            (size - 1) * step + 1 for size, step in zip(self.size, self.dilations, strict=True)
        ]
        pads = [(0, 0), (0, 0), (0, 0), (0, 0)]
        if self.same:
            for axis, (span, stride) in enumerate(zip(spans, self.strides, strict=True), 1):
                left = value.shape[axis] % stride or stride
                total = max(span - left, 0)
                pads[axis] = total // 2, total - total // 2
        view = np.lib.stride_tricks.sliding_window_view(
            np.pad(value.astype(np.float32), pads), (spans[0], spans[1]), axis=(1, 2)
        )
        (down, right), (below, beside) = self.strides, self.dilations
        places = view[:, ::down, ::right, :, ::below, ::beside].transpose(0, 1, 2, 4, 5, 3)
        count = int(np.prod(places.shape[:3]))
        chosen = np.unravel_index(np.arange(0, count, max(1, count // most)), places.shape[:3])
        found: npt.NDArray[np.float32] = places[chosen].reshape(len(chosen[0]), -1)
        return found
