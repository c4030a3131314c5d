"""Give an int8 graph the inputs and outputs that its callers asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from edgeconv.quantize.params.qparams import QuantParams
from edgeconv.tflite.file import QuantizationParametersT
from edgeconv.tflite.graph import Graph

IoDtype = Literal["float32", "int8", "uint8", "int16"]

QUANTIZE_VERSION = {8: 1, 16: 2}
"""Lowest version of QUANTIZE that makes activations of that many bits."""

DEQUANTIZE_VERSION = {8: 2, 16: 3}
"""Lowest version of DEQUANTIZE that reads them."""

_UINT8_SHIFT = 128


def connect(graph: Graph, affine: Mapping[int, QuantParams], io_dtype: IoDtype) -> None:
    """Put QUANTIZE and DEQUANTIZE between integer tensors and the graph's inputs and outputs.

    The tensors at the edges take over the names; names, order and shapes stay.

    Args:
        graph: The integer graph.
        affine: Scale and zero point of each integer tensor that was float.
        io_dtype: dtype of the edges; nothing is put between where the tensors have it.
    """
    if io_dtype in ("int8", "int16"):
        return
    quantized = set(affine)
    inner = {index: index for index in (*graph.inputs, *graph.outputs) if index in quantized}
    outer = {index: _edge(graph, index, affine[index], io_dtype) for index in inner}
    readers = graph.consumers()
    entries = [
        graph.operator("QUANTIZE", QUANTIZE_VERSION[affine[index].bits], (outer[index],), (index,))
        for index in dict.fromkeys(graph.inputs)
        if index in outer and index in readers
    ]
    exits = [
        graph.operator(
            "DEQUANTIZE", DEQUANTIZE_VERSION[affine[index].bits], (index,), (outer[index],)
        )
        if io_dtype == "float32"
        else graph.operator("QUANTIZE", 1, (index,), (outer[index],))
        for index in dict.fromkeys(graph.outputs)
        if index in outer and index not in graph.inputs
    ]
    graph.subgraph.operators = [*entries, *graph.operators, *exits]
    graph.subgraph.inputs = [outer.get(index, index) for index in graph.inputs]
    graph.subgraph.outputs = [outer.get(index, index) for index in graph.outputs]
    for entry in graph.signature_entries():
        entry.tensorIndex = outer.get(entry.tensorIndex, entry.tensorIndex)


def _edge(graph: Graph, index: int, affine: QuantParams, io_dtype: IoDtype) -> int:
    """Return a new tensor that takes over the name of an integer tensor."""
    tensor, name = graph.tensors[index], graph.name(index)
    tensor.name = f"{name}_{affine.dtype}"
    quantization = _uint8(affine) if io_dtype == "uint8" else None
    edge = graph.add_activation(name, graph.shape(index), io_dtype, quantization)
    graph.tensors[edge].shapeSignature = tensor.shapeSignature
    return edge


def _uint8(affine: QuantParams) -> QuantizationParametersT:
    parameters = affine.stored()
    parameters.zeroPoint = np.array([affine.zero_point + _UINT8_SHIFT], np.int64)
    return parameters
