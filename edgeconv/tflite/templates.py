"""Write models that differ little, again and again, in a fraction of the time.

A graph's tensors, operators and buffers are much alike: most differ only in names, numbers and
where they point. So one of each kind is packed by the schema's object API, and copies of its bytes,
with the differences filled in, make the others. That is sound because a flatbuffer's offsets are
relative (FlatBuffers, "Internals"): what points nowhere outside can lie anywhere that is aligned.
The price is a few bytes for each, as they do not share their vtables; so models that are kept are
written by `tflite.save`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers.table import Table

from edgeconv.tflite import file as tflite
from edgeconv.tflite.file import BufferT, ModelT, OperatorT, TensorT

_LARGE = 1 << 12
"""Buffers of more bytes are written as they are, which costs one copy of their bytes."""

_ALIGNMENT = 16

# Fields by their place in the vtable, 4 + 2 * number in the schema.
_BUFFER_DATA = 4
_OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 6, 8
_TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTIZATION = 8, 10, 12
_SCALE, _ZERO_POINT = 8, 10

_Find = Callable[[Table], int | None]
"""From a table to the position of what is filled in; ``None`` where it is absent."""

_Parts = Sequence[tuple[_Find, bytes]]


@dataclass(frozen=True, slots=True)
class _Template:
    """A packed table.

    Attributes:
        raw: Its bytes, a multiple of 16, with all that it points to.
        root: Where the table lies, in bytes from the end.
        places: Where each part that differs is filled in; -1 for none.
    """

    raw: bytes
    root: int
    places: tuple[int, ...]

    @classmethod
    def of(cls, packed: Any, parts: _Parts) -> _Template:
        """Return the template of an object of the schema."""
        builder = tflite.Builder(256)
        root = packed.Pack(builder)
        builder.Prep(_ALIGNMENT, 0)
        raw = bytes(builder.Bytes[builder.Head() :])
        table = Table(raw, len(raw) - root)
        places = tuple(find(table) if part else None for find, part in parts)
        return cls(raw, root, tuple(-1 if place is None else place for place in places))


@dataclass(frozen=True, slots=True)
class _Filled:
    """A template with what differs; packs as an object of the schema does."""

    template: _Template
    parts: tuple[bytes, ...]

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - flatbuffers' name
        """Write it, and return its offset."""
        raw = self.template.raw
        builder.Prep(_ALIGNMENT, len(raw))
        end = builder.Head()
        start = builder.head = end - len(raw)
        builder.Bytes[start:end] = raw
        for place, part in zip(self.template.places, self.parts, strict=True):
            if part and place >= 0:
                builder.Bytes[start + place : start + place + len(part)] = part
        root: int = builder.Offset() - len(raw) + self.template.root
        return root


class Templates:
    """The templates of all that was written so far; models share them as they like."""

    def __init__(self) -> None:
        self._known: dict[Hashable, _Template] = {}

    def serialize(self, model: ModelT) -> memoryview:
        """Return the content of a file that reads as the model; see `tflite.serialize`."""
        light = copy.copy(model)
        light.buffers = [self._buffer(buffer) for buffer in model.buffers]
        light.subgraphs = []
        for graph in model.subgraphs:
            made = copy.copy(graph)
            made.tensors = [self._tensor(tensor) for tensor in graph.tensors]
            made.operators = [self._operator(operator) for operator in graph.operators]
            light.subgraphs.append(made)
        size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
        builder = tflite.Builder(size + (1 << 16))
        builder.Finish(light.Pack(builder), tflite.IDENTIFIER)
        return memoryview(builder.Bytes)[builder.Head() :]

    def _buffer(self, buffer: BufferT) -> Any:
        data = buffer.data
        if buffer.offset:
            return buffer
        if data is not None and (not isinstance(data, np.ndarray) or data.size > _LARGE):
            return buffer
        part = b"" if data is None else data.tobytes()
        return self._filled(buffer, ("data",), [(_vector(_BUFFER_DATA), part)])

    def _operator(self, operator: OperatorT) -> Any:
        parts = [
            (_vector(slot), b"" if found is None else np.asarray(found, "<i4").tobytes())
            for slot, found in (
                (_OPERATOR_INPUTS, operator.inputs),
                (_OPERATOR_OUTPUTS, operator.outputs),
            )
        ]
        return self._filled(operator, ("inputs", "outputs"), parts)

    def _tensor(self, tensor: TensorT) -> Any:
        name, index = tensor.name, tensor.buffer
        name = name.encode() if isinstance(name, str) else name or b""
        parts: list[tuple[_Find, bytes]] = [
            (_vector(_TENSOR_NAME), name),
            # Zero is the default, which is not written.
            (_scalar(_TENSOR_BUFFER), index.to_bytes(4, "little") if index else b""),
        ]
        quantization = tensor.quantization
        for slot, dtype in ((_SCALE, "<f4"), (_ZERO_POINT, "<i8")):
            values = None
            if quantization is not None:
                values = quantization.scale if slot == _SCALE else quantization.zeroPoint
            part = b"" if values is None else np.asarray(values, dtype).tobytes()
            parts.append((_inside(_TENSOR_QUANTIZATION, slot), part))
        return self._filled(tensor, ("name", "buffer", "scale", "zeroPoint"), parts)

    def _filled(self, packed: Any, differing: Sequence[str], parts: _Parts) -> Any:
        """Return an object that packs as another one does, by a template of its kind."""
        alike = _alike(packed, differing)
        if alike is None:
            return packed
        key = (type(packed), alike, tuple(len(part) for _, part in parts))
        template = self._known.get(key)
        if template is None:
            template = self._known[key] = _Template.of(packed, parts)
        return _Filled(template, tuple(part for _, part in parts))


def _alike(value: Any, differing: Sequence[str] = ()) -> Hashable | None:
    """Return what two objects have in common whose bytes are; ``None`` where that is not known.

    Args:
        value: A number, text, an array, a list of numbers, or an object of the schema.
        differing: Fields that do not count but for whether they are there.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        return (type(value), value)
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, list | tuple):
        plain = all(isinstance(one, bool | int | float | np.generic) for one in value)
        return (list, *value) if plain else None
    if not hasattr(value, "Pack"):
        return None
    found: list[Any] = [type(value)]
    for name, one in vars(value).items():
        part = (one is None,) if name in differing else _alike(one, differing)
        if part is None:
            return None
        found.append(part)
    return tuple(found)


def _vector(slot: int) -> _Find:
    """Return what finds the first element of a vector, or the first byte of a text."""

    def find(table: Table) -> int | None:
        offset = table.Offset(slot)
        return table.Vector(offset) if offset else None

    return find


def _scalar(slot: int) -> _Find:
    """Return what finds a number."""

    def find(table: Table) -> int | None:
        offset = table.Offset(slot)
        return table.Pos + offset if offset else None

    return find


def _inside(slot: int, inner: int) -> _Find:
    """Return what finds the first element of a vector of a table that a table points to."""

    def find(table: Table) -> int | None:
        offset = table.Offset(slot)
        if not offset:
            return None
        return _vector(inner)(Table(table.Bytes, table.Indirect(table.Pos + offset)))

    return find
