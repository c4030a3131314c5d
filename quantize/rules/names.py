"""Operators of a graph: those that rewrites add, and what notes call them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from ai_edge_litert.schema_py_generated import (
    BuiltinOptions,
    ConcatenationOptionsT,
    SliceOptionsT,
)

from edgeconv.tflite.file import OperatorT
from edgeconv.tflite.graph import Graph

NAMED = 8
"""As many operators are named in a note."""


def slice_of(graph: Graph, tensor: int, begin: Sequence[int], sizes: Sequence[int]) -> OperatorT:
    """Return what takes a box of a tensor; its output is new.

    Args:
        graph: The graph; constants and the output are added, the operator is not.
        tensor: The tensor.
        begin: The first position on each axis.
        sizes: The number of positions on each axis.
    """
    name = f"{graph.name(tensor)}/sliced_{len(graph.tensors)}"
    target = graph.add_activation(name, sizes, graph.dtype(tensor))
    corners = [
        graph.add_constant(f"{name}/{what}", np.array(value, np.int32))
        for what, value in (("begin", begin), ("size", sizes))
    ]
    options = (BuiltinOptions.SliceOptions, SliceOptionsT())
    return graph.operator("SLICE", 1, (tensor, *corners), (target,), options)


def concatenation(graph: Graph, tensors: Sequence[int], axis: int, output: int) -> OperatorT:
    """Return what joins tensors along an axis, as a tensor that is there."""
    options = ConcatenationOptionsT()
    options.axis = axis
    coded = (BuiltinOptions.ConcatenationOptions, options)
    return graph.operator("CONCATENATION", 1, tensors, (output,), coded)


def named(labels: Iterable[str]) -> str:
    """Return the first of some operators, each once, by what converters call them first."""
    names = list(dict.fromkeys(label.partition(";")[0] for label in labels))
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def kinds(graph: Graph, operators: Iterable[OperatorT]) -> str:
    """Return what some operators are, and how many of each."""
    counts = Counter(map(graph.op, operators))
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
