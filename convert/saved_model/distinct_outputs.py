"""Give every output of a TFLite model a tensor of its own.

A model may return an input unchanged, or one value twice. The converter then shares the tensor,
which can have one name only; here such an output becomes a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeconv.tflite import file as tflite


def copy_shared_outputs(model: Any, graph: Any) -> None:
    """Insert a RESHAPE to the same shape before outputs that are inputs or other outputs too."""
    taken = {int(index) for index in graph.inputs}
    outputs = [int(index) for index in graph.outputs]
    for place, index in enumerate(outputs):
        if index in taken:
            outputs[place] = _copy(model, graph, index)
        taken.add(index)
    graph.outputs = np.array(outputs, np.int32)


def _copy(model: Any, graph: Any, index: int) -> int:
    source = graph.tensors[index]
    shape = source.shapeSignature if source.shapeSignature is not None else source.shape
    sizes = np.asarray([] if shape is None else shape, np.int32)
    name = tflite.tensor_name(source) + "_copy"
    wanted = tflite.add_tensor(model, graph, name + "_shape", [sizes.size], "int32", value=sizes)
    target = tflite.add_tensor(model, graph, name, np.abs(sizes).tolist(), tflite.dtype_of(source))
    graph.tensors[target].shapeSignature = source.shapeSignature
    operator = schema.OperatorT()
    operator.opcodeIndex = tflite.opcode_index(model, "RESHAPE", 1)
    operator.inputs = np.array([index, wanted], np.int32)
    operator.outputs = np.array([target], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = sizes
    graph.operators.append(operator)
    return target
