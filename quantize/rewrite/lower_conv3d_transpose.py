"""Compute a transposed convolution over three axes by some over two.

Places of the result along the first axis whose numbers leave the same rest, divided by the stride,
meet the same slices of the weights: each such phase is one transposed convolution over the other
two axes, of the slices that meet a place, joined as channels. All products and sums are the same.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOptions, Padding, TransposeConvOptionsT

from edgeconv.core.artifacts import Array
from edgeconv.quantize.rewrite.lower_conv3d import Volumes
from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph


def conv_3d_transpose(graph: Graph, operator: OperatorT) -> list[OperatorT] | None:
    """Return what replaces a CONV_3D_TRANSPOSE, ``None`` where its weight or bias is computed."""
    shape, weight, source, *bias = operator.inputs
    constants = [shape, weight, *(index for index in bias if index >= 0)]
    if not graph.is_float(source) or not all(map(graph.is_constant, constants)):
        return None
    return _Transposed(graph, operator).run()


class _Transposed(Volumes):
    """Weights are ``[depth, h, w, outputs, c]``."""

    def run(self) -> list[OperatorT]:
        """Return the operators."""
        graph, operator, options = self._graph, self._operator, self._operator.builtinOptions
        _, weight, source, *bias = operator.inputs
        kernel, (output,) = graph.value(weight), operator.outputs
        _, depth, height, width, outputs = graph.shape(output)
        stride = options.strideD
        full = (graph.shape(source)[1] - 1) * stride + len(kernel)
        cut = max(full - depth, 0) // 2 if options.padding == Padding.SAME else 0
        groups = -(-(depth + cut) // stride)  # places of each phase
        taps = -(-len(kernel) // stride)
        joined = self._met(source, groups, taps)
        phases = [
            self._phase(joined, self._taps(kernel, phase, taps), bias, (height, width), phase)
            for phase in range(stride)
        ]
        size = height * width * outputs
        rows = [self._reshape(y, (-1, groups, 1, 1, size), "phase") for y in phases]
        mixed = self._reshape(
            self._concat(rows, 2, "phases"), (-1, groups * stride, 1, 1, size), "mixed"
        )
        kept = self._slice(mixed, cut, depth)
        self._reshape(kept, (-1, depth, height, width, outputs), "", output)
        return self._made

    def _met(self, source: int, groups: int, taps: int) -> int:
        """Return for each place of a phase the slices that meet it, the nearest first."""
        depth = self._graph.shape(source)[1]
        padded = self._pad(source, taps - 1, max(groups - depth, 0))
        slices = [self._slice(padded, taps - 1 - tap, groups) for tap in range(taps)]
        return self._concat(slices, 4, "joined")

    def _taps(self, kernel: Array, phase: int, taps: int) -> Array:
        """Return the weights of a phase, ``[outputs, h, w, taps * c]``; zeros beyond the kernel."""
        stride = self._operator.builtinOptions.strideD
        met = np.zeros((taps, *kernel.shape[1:]), np.float32)
        own = kernel[phase::stride]
        met[: len(own)] = own
        return met.transpose(3, 1, 2, 0, 4).reshape(kernel.shape[3], *kernel.shape[1:3], -1)

    def _phase(
        self, joined: int, weight: Array, bias: list[int], size: tuple[int, int], phase: int
    ) -> int:
        graph, options = self._graph, self._operator.builtinOptions
        samples, groups, height, width, channels = graph.shape(joined)
        flat = self._reshape(joined, (-1, height, width, channels), f"slices_{phase}")
        shape = (samples * groups, *size, len(weight))
        kind = TransposeConvOptionsT()
        for name in ("padding", "strideH", "strideW", "fusedActivationFunction"):
            setattr(kind, name, getattr(options, name))
        inputs = [
            graph.add_constant(f"{self._name}/shape", np.array(shape, np.int32)),
            graph.add_constant(f"{self._name}/weight_{phase}", np.ascontiguousarray(weight)),
            flat,
            *bias,
        ]
        options_of = (BuiltinOptions.TransposeConvOptions, kind)
        return self._add("TRANSPOSE_CONV", inputs, shape, options_of, f"phase_{phase}")
