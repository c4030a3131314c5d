"""The tensors of an ONNX file, and where their data lies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.core.errors import InvalidModel

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

_PACKED = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Bits of the types of which a byte holds several."""


def require_external_data(model: ModelProto, path: Path) -> None:
    """Refuse external data that is not what a tensor needs, or lies outside the model's directory.

    Args:
        model: The model; nothing has read the data yet.
        path: Its file.

    Raises:
        InvalidModel: Some is missing, misplaced, or of another size.
    """
    base = path.parent.resolve()
    functions = [node for function in model.functions for node in function.node]
    tensors = [*tensors_of(model.graph), *(t for node in functions for t in _attributes(node))]
    for tensor in tensors:
        if is_external(tensor):
            _check_location(tensor, base, path)


def _check_location(tensor: TensorProto, base: Path, path: Path) -> None:
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = fields.get("location", "")
    where = f"{path}, tensor {tensor.name!r}"
    target = (base / location).resolve()
    escapes = Path(location).is_absolute() or ".." in Path(location).parts or "\\" in location
    if not location or escapes or not target.is_relative_to(base):
        raise InvalidModel(
            "the external data lies outside the model's directory",
            where=where,
            why=f"its location is {location!r}",
            hint="no exporter writes that; do not trust this file",
        )
    if not target.is_file():
        raise InvalidModel(
            "the external data is missing",
            where=where,
            why=f"there is no file {location!r} beside the model",
            hint="copy it together with the model",
        )
    try:
        offset, length = (int(fields.get(key, 0)) for key in ("offset", "length"))
    except ValueError:
        offset, length = -1, 0
    needed = tensor_size(tensor)
    if length and length != needed:
        raise InvalidModel(
            "the length of the external data is not the tensor's",
            where=where,
            why=f"{fields['length']} bytes are given, its shape {list(tensor.dims)} has {needed:,}",
            hint="export it again",
        )
    size = target.stat().st_size
    if offset < 0 or offset + needed > size:
        raise InvalidModel(
            "the external data is truncated, or its place is wrong",
            where=where,
            why=f"{location!r} has {size:,} bytes, needed are {offset + needed:,}"
            if offset >= 0
            else f"its offset is {fields.get('offset')!r}, its length {fields.get('length')!r}",
            hint="copy it again",
        )


def is_external(tensor: TensorProto) -> bool:
    """Tell whether the data of a tensor lies in another file."""
    import onnx

    return tensor.data_location == onnx.TensorProto.EXTERNAL


def tensor_size(tensor: TensorProto) -> int:
    """Return the number of bytes of a tensor's data, stored inside or outside."""
    import onnx

    count: int = math.prod(tensor.dims)
    for name, bits in _PACKED.items():
        if tensor.data_type == getattr(onnx.TensorProto, name, None):
            return -(-count * bits // 8)
    itemsize: int = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return count * itemsize


def tensors_of(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every constant of a graph and its subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _attributes(node)


def _attributes(node: object) -> Iterator[TensorProto]:
    for attribute in node.attribute:  # type: ignore[attr-defined]  # NodeProto
        if attribute.HasField("t"):
            yield attribute.t
        if attribute.HasField("sparse_tensor"):
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        yield from attribute.tensors
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from tensors_of(graph)
