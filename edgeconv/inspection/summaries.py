"""What is in an ONNX file or a SavedModel. Called in a worker process; nothing of a model runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgeconv.convert.onnx import file as onnx_file
from edgeconv.convert.onnx.origin import module_of
from edgeconv.convert.onnx.tensors import tensor_size, tensors_of
from edgeconv.core.errors import InvalidModel
from edgeconv.core.sniff import truncated

_NUMPY = {"float": "float32", "double": "float64", "half": "float16"}


def onnx_summary(path: str) -> dict[str, Any]:
    """Describe an ONNX file: operators, inputs and outputs, sizes, and whether it converts.

    Raises:
        InvalidModel: It is damaged or unsafe.
    """
    model = onnx_file.read(Path(path))
    graph = model.graph
    constant = {tensor.name for tensor in graph.initializer}
    return {
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": [_onnx_value(value) for value in graph.input if value.name not in constant],
        "outputs": [_onnx_value(value) for value in graph.output],
        "constant_bytes": sum(tensor_size(item) for item in tensors_of(graph)),
        "nodes": [
            {
                "name": node.name,
                "op": node.op_type,
                "domain": node.domain or "ai.onnx",
                "outputs": list(node.output),
                "module": module_of(node),
            }
            for node in graph.node
        ],
        "op_counts": _counts(node.op_type for node in graph.node),
    }


def saved_model_summary(path: str) -> dict[str, Any]:
    """Describe a SavedModel: its signatures, and the operators of its functions.

    Raises:
        InvalidModel: ``saved_model.pb`` is damaged.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    file = Path(path) / "saved_model.pb"
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(file.read_bytes())
    except Exception as error:
        # protobuf's DecodeError, whose class depends on the implementation that is installed.
        raise truncated(file, "SavedModel") from error
    if not model.meta_graphs:
        raise InvalidModel("the SavedModel holds no graph", where=path)
    meta = model.meta_graphs[0]
    return {
        "tensorflow_version": meta.meta_info_def.tensorflow_version,
        "tags": list(meta.meta_info_def.tags),
        "signatures": [
            {
                "name": name,
                "inputs": [_tf_tensor(key, info) for key, info in sorted(item.inputs.items())],
                "outputs": [_tf_tensor(key, info) for key, info in sorted(item.outputs.items())],
            }
            for name, item in sorted(meta.signature_def.items())
            if not name.startswith("__")
        ],
        "op_counts": _counts(_tf_ops(meta.graph_def)),
    }


def _onnx_value(value: Any) -> dict[str, Any]:
    import onnx

    kind = value.type.tensor_type
    kinds = onnx.TensorProto.DataType
    name = _named(kinds, kind.elem_type).lower() if kind.elem_type else "unknown"
    shape = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in kind.shape.dim
    ]
    return {"name": value.name, "shape": shape, "dtype": _NUMPY.get(name, name)}


def _tf_tensor(name: str, info: Any) -> dict[str, Any]:
    from tensorflow.core.framework import types_pb2

    dtype = _named(types_pb2.DataType, info.dtype).removeprefix("DT_").lower()
    shape = [None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim]
    return {"name": name, "shape": shape, "dtype": _NUMPY.get(dtype, dtype)}


def _named(kinds: Any, number: int) -> str:
    """Return the name of an enum's value; files may hold any number."""
    return str(kinds.Name(number)) if number in kinds.values() else f"type {number}"


def _tf_ops(graph: Any) -> Iterator[str]:
    yield from (node.op for node in graph.node)
    for function in graph.library.function:
        yield from (node.op for node in function.node_def)


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
