"""The shapes that a TFLite file of an open batch records: those of a batch of one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from tensorflow.lite.python.interpreter import Interpreter, OpResolverType

from edgeconv.tflite import file as tflite


def record_shapes(model: Any) -> None:
    """Record for every tensor the shape that it has when the batch is 1.

    TensorFlow's converter writes 1 for each dimension that it does not know, also for one that is
    twice the batch. The signatures, which say what is open, stay.

    Args:
        model: The model, an object of the schema; its inputs may be open in their first dimension.
    """
    interpreter = _interpreter(bytes(tflite.serialize(model)))
    for details in interpreter.get_input_details():
        interpreter.resize_tensor_input(details["index"], [1, *details["shape"][1:]])
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    # Some shapes are computed; those are known once the model ran.
    interpreter.invoke()
    shapes = {item["index"]: item["shape"] for item in interpreter.get_tensor_details()}
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if tensor.shapeSignature is not None and len(tensor.shapeSignature):
            tensor.shape = np.array(shapes[index], np.int32)


def _interpreter(content: bytes) -> Any:
    # TensorFlow announces that the class moves to LiteRT; both plan shapes alike.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        )
