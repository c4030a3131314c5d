"""Read an ONNX file of our own without its large weights, which are found when they are asked for.

Whoever follows a graph needs its nodes, shapes and small constants. A large initializer becomes
external data whose file is the ONNX file itself (https://onnx.ai/onnx/repo-docs/ExternalData.html),
so that whatever reads external data reads it from there, and nothing else of it is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.core.mapped import Content, mapped

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto, TensorProto

_LARGE = 1 << 20
"""Bytes of a tensor from which it stays in the file."""

# Fields of onnx.proto3 that lead to the data of an initializer.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9

_Span = tuple[int, int, int, int]
"""A field: its number, where it begins, where its content begins, and where both end."""


def load_light(path: Path) -> ModelProto:
    """Return the model of a file, large initializers as external data in that very file.

    Args:
        path: The file, which is sound; it must stay while the weights are read.
    """
    import onnx

    if path.stat().st_size > _LARGE:
        model = onnx.ModelProto()
        model.ParseFromString(_without_weights(mapped(path), path.name))
        return model
    return onnx.load(str(path), load_external_data=False)


def load_light_graph(path: Path) -> ir.Model:
    """Return the model of a file as `onnx_ir.load` does, its large weights not yet read."""
    import onnx_ir as ir
    from onnx_ir import external_data

    model = ir.from_proto(load_light(path))
    external_data.set_base_dir(model.graph, path.parent)
    return model


def _without_weights(raw: Content, name: str) -> bytes:
    """Return the model's bytes, its large initializers being external data."""
    model = []
    for number, start, content, end in _fields(raw, 0, len(raw)):
        if number != _GRAPH:
            model.append(raw[start:end])
            continue
        graph = b"".join(_graph_parts(raw, content, end, name))
        model.append(_message(_GRAPH, graph))
    return b"".join(model)


def _graph_parts(raw: Content, start: int, end: int, name: str) -> Iterator[bytes]:
    """Yield the fields of the graph; what lies between two large initializers in one piece."""
    done = start
    for number, begins, content, ends in _fields(raw, start, end):
        if number == _INITIALIZER and ends - begins > _LARGE:
            tensor = _light_tensor(raw, content, ends, name)
            if tensor is not None:
                yield raw[done:begins]
                yield _message(_INITIALIZER, tensor.SerializeToString())
                done = ends
    yield raw[done:end]


def _light_tensor(raw: Content, start: int, end: int, name: str) -> TensorProto | None:
    """Return a tensor that says where in the file its data is; ``None`` where that is not raw."""
    import onnx

    fields = list(_fields(raw, start, end))
    data = [span for span in fields if span[0] == _RAW_DATA]
    if len(data) != 1:
        return None
    tensor = onnx.TensorProto()
    others = (raw[begins:ends] for number, begins, _, ends in fields if number != _RAW_DATA)
    tensor.ParseFromString(b"".join(others))
    _, _, content, ends = data[0]
    place = {"location": name, "offset": content, "length": ends - content}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    return tensor


def _fields(raw: Content, start: int, end: int) -> Iterator[_Span]:
    """Yield the fields of a message (https://protobuf.dev/programming-guides/encoding/)."""
    at = start
    while at < end:
        begins = at
        tag, at = _varint(raw, at)
        kind = tag & 7
        content = at
        if kind == 2:
            size, content = _varint(raw, at)
            at = content + size
        elif kind == 0:
            _, at = _varint(raw, at)
        else:
            at += 8 if kind == 1 else 4
        yield tag >> 3, begins, content, at


def _varint(raw: Content, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _message(number: int, content: bytes) -> bytes:
    """Return a field that holds a message."""
    size, head = len(content), bytearray([number << 3 | 2])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(head) + bytes([size]) + content
