"""Give an int8 graph the inputs and outputs that its callers asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from edgeconv.quantize.graph import Graph
from edgeconv.quantize.qparams import Affine
from edgeconv.tflite import QuantizationParametersT

IoDtype = Literal["float32", "int8", "uint8", "int16"]

_UINT8_SHIFT = 128


def connect(graph: Graph, affine: Mapping[int, Affine], io_dtype: IoDtype) -> None:
    """Put QUANTIZE and DEQUANTIZE between int8 tensors and the graph's inputs and outputs.

    The tensors at the edges take over the names; names, order and shapes stay.

    Args:
        graph: The int8 graph.
        affine: Scale and zero point of each int8 tensor that was float.
        io_dtype: dtype of the edges; with ``int8`` nothing is put between.
    """
    if io_dtype == "int8":
        return
    quantized = set(affine)
    inner = {index: index for index in (*graph.inputs, *graph.outputs) if index in quantized}
    outer = {index: _edge(graph, index, affine[index], io_dtype) for index in inner}
    readers = graph.consumers()
    entries = [
        graph.operator("QUANTIZE", 1, (outer[index],), (index,))
        for index in dict.fromkeys(graph.inputs)
        if index in outer and index in readers
    ]
    leave, version = ("DEQUANTIZE", 2) if io_dtype == "float32" else ("QUANTIZE", 1)
    exits = [
        graph.operator(leave, version, (index,), (outer[index],))
        for index in dict.fromkeys(graph.outputs)
        if index in outer and index not in graph.inputs
    ]
    graph.subgraph.operators = [*entries, *graph.operators, *exits]
    graph.subgraph.inputs = [outer.get(index, index) for index in graph.inputs]
    graph.subgraph.outputs = [outer.get(index, index) for index in graph.outputs]
    for entry in graph.signature_entries():
        entry.tensorIndex = outer.get(entry.tensorIndex, entry.tensorIndex)


def _edge(graph: Graph, index: int, affine: Affine, io_dtype: IoDtype) -> int:
    """Return a new tensor that takes over the name of an int8 tensor."""
    tensor, name = graph.tensors[index], graph.name(index)
    tensor.name = f"{name}_int8"
    quantization = _uint8(affine) if io_dtype == "uint8" else None
    edge = graph.add_activation(name, graph.shape(index), io_dtype, quantization)
    graph.tensors[edge].shapeSignature = tensor.shapeSignature
    return edge


def _uint8(affine: Affine) -> QuantizationParametersT:
    parameters = affine.stored()
    parameters.zeroPoint = np.array([affine.zero_point + _UINT8_SHIFT], np.int64)
    return parameters
