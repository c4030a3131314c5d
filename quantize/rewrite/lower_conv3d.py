"""Compute a convolution over three axes by one over two, for which there are integer kernels.

The slices that meet one place along the first axis are joined as channels, and the weights that
meet them likewise; the places themselves join the batch. All products and sums are the same ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import (
    BuiltinOptions,
    ConcatenationOptionsT,
    Conv2DOptionsT,
    Padding,
    PadOptionsT,
    ReshapeOptionsT,
    StridedSliceOptionsT,
)

from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

_WHOLE = 0b11101
"""Mask of the axes that a slice takes whole: all but the second."""


def conv_3d(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    """Return what replaces a CONV_3D, ``None`` where its weight is computed."""
    if not graph.is_float(operator.inputs[0]) or not graph.is_constant(operator.inputs[1]):
        return None
    return _Convolution(graph, operator).run()


class Volumes:
    """What replaces an operator on volumes ``[n, depth, h, w, c]``, as it is put together."""

    def __init__(self, graph: Graph, operator: OperatorT) -> None:
        self._graph = graph
        self._operator = operator
        self._name = graph.label(operator)
        self._made: list[OperatorT] = []

    def _pad(self, source: int, before: int, after: int) -> int:
        """Put zeros before and behind the first axis."""
        shape = self._graph.shape(source)
        if before == after == 0:
            return source
        pads = np.zeros((5, 2), np.int32)
        pads[1] = before, after
        padded = (shape[0], shape[1] + before + after, *shape[2:])
        inputs = [source, self._graph.add_constant(f"{self._name}/pads", pads)]
        kind = (BuiltinOptions.PadOptions, PadOptionsT())
        return self._add("PAD", inputs, padded, kind, "padded")

    def _slice(self, source: int, first: int, places: int, stride: int = 1) -> int:
        """Take every ``stride``-th slice along the first axis."""
        graph, shape = self._graph, self._graph.shape(source)
        if (first, places, stride) == (0, shape[1], 1):
            return source
        options = StridedSliceOptionsT()
        options.beginMask = options.endMask = _WHOLE
        corners = ([0, first, 0, 0, 0], [0, first + (places - 1) * stride + 1, 0, 0, 0],
                   [1, stride, 1, 1, 1])  # fmt: skip
        parts = [
            graph.add_constant(f"{self._name}/corner", np.array(corner, np.int32))
            for corner in corners
        ]
        kind = (BuiltinOptions.StridedSliceOptions, options)
        taken = (shape[0], places, *shape[2:])
        return self._add("STRIDED_SLICE", [source, *parts], taken, kind, f"slice_{first}")

    def _concat(self, sources: list[int], axis: int, name: str) -> int:
        """Join values along an axis."""
        if len(sources) == 1:
            return sources[0]
        joining = ConcatenationOptionsT()
        joining.axis = axis
        shape = list(self._graph.shape(sources[0]))
        shape[axis] = sum(self._graph.shape(source)[axis] for source in sources)
        kind = (BuiltinOptions.ConcatenationOptions, joining)
        return self._add("CONCATENATION", sources, tuple(shape), kind, name)

    def _reshape(
        self, source: int, shape: tuple[int, ...], name: str, output: int | None = None
    ) -> int:
        """Reshape to a shape whose first axis, -1, follows from the rest."""
        options = ReshapeOptionsT()
        options.newShape = list(shape)
        size = int(np.prod(self._graph.shape(source))) // -int(np.prod(shape))
        inputs = [
            source,
            self._graph.add_constant(f"{self._name}/shape", np.array(shape, np.int32)),
        ]
        kind = (BuiltinOptions.ReshapeOptions, options)
        return self._add("RESHAPE", inputs, (size, *shape[1:]), kind, name, output)

    def _add(
        self,
        builtin: str,
        inputs: list[int],
        shape: tuple[int, ...],
        options: tuple[int, Any],
        name: str,
        output: int | None = None,
    ) -> int:
        graph = self._graph
        if output is None:
            output = graph.add_activation(f"{self._name}/{name}", shape, "float32")
        self._made.append(graph.operator(builtin, 1, inputs, (output,), options))
        return output


class _Convolution(Volumes):
    """Weights are ``[depth, h, w, c, outputs]``."""

    def run(self) -> list[OperatorT]:
        """Return the operators."""
        graph, operator, options = self._graph, self._operator, self._operator.builtinOptions
        weight = graph.value(operator.inputs[1])
        joined = self._joined(self._padded(operator.inputs[0], len(weight)), len(weight))
        _, depth, height, width, channels = graph.shape(joined)
        flat = self._reshape(joined, (-1, height, width, channels), "slices")
        weights = weight.transpose(4, 1, 2, 0, 3).reshape(weight.shape[4], *weight.shape[1:3], -1)
        (output,) = operator.outputs
        _, _, height, width, channels = graph.shape(output)
        bias = operator.inputs[2] if len(operator.inputs) > 2 else -1
        if bias < 0:  # without one the kernel takes no integers
            bias = graph.add_constant(f"{self._name}/bias", np.zeros(channels, np.float32))
        places = self._add(
            "CONV_2D",
            [flat, graph.add_constant(f"{self._name}/weight", weights), bias],
            (graph.shape(flat)[0], height, width, channels),
            (BuiltinOptions.Conv2DOptions, _without_depth(options)),
            "places",
        )
        self._reshape(places, (-1, depth, height, width, channels), "", output)
        return self._made

    def _padded(self, source: int, size: int) -> int:
        """Return the input, with zeros before and behind its first axis where it is padded."""
        options, depth = self._operator.builtinOptions, self._graph.shape(source)[1]
        places = self._graph.shape(self._operator.outputs[0])[1]
        reach = (places - 1) * options.strideD + (size - 1) * options.dilationDFactor + 1
        total = max(reach - depth, 0) if options.padding == Padding.SAME else 0
        return self._pad(source, total // 2, total - total // 2)

    def _joined(self, source: int, size: int) -> int:
        """Return for each place along the first axis the slices that meet it, as channels."""
        options = self._operator.builtinOptions
        places = self._graph.shape(self._operator.outputs[0])[1]
        slices = [
            self._slice(source, step * options.dilationDFactor, places, options.strideD)
            for step in range(size)
        ]
        return self._concat(slices, 4, "joined")


def _without_depth(options: Any) -> Conv2DOptionsT:
    found = Conv2DOptionsT()
    for name in ("padding", "fusedActivationFunction", "strideH", "strideW", "dilationHFactor",
                 "dilationWFactor"):  # fmt: skip
        setattr(found, name, getattr(options, name))
    return found
