"""Checks of a ``.tflite`` file that do not trust it: what unpacking would make, and zero points.

A flatbuffer's vectors hold offsets, and any number of them may lead to one table: 8 kB can stand
for millions of objects. Without shared tables a file holds no more than one for each four bytes,
the size of the offset that a table begins with. Layout of tables, vectors and strings:
https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from ai_edge_litert.schema_py_generated import (
    BuiltinOptions,
    BuiltinOptions2,
    QuantizationParametersT,
)

from edgeconv.core.artifacts import Array
from edgeconv.core.errors import InvalidModel
from edgeconv.core.mapped import Content

_TABLE_BYTES = 4
_SHARED_TABLES = 10_000
"""Tables beyond that which may be shared; converters share hardly any."""

_SHARED_VALUES = 1 << 20
"""Letters and numbers beyond the file's own size in bytes, likewise."""

# Fields by the place in the schema: texts and vectors of numbers that are read one by one, vectors
# of tables, and single tables.
_VALUES: Mapping[str, tuple[int, ...]] = {
    "Model": (3, 5),
    "SubGraph": (1, 2, 4),
    "Tensor": (0, 3, 7),
    "QuantizationParameters": (0, 1, 2, 3),
    "SparsityParameters": (0, 1),
    "VariantSubType": (0,),
    "Operator": (1, 2, 7, 8),
    "OperatorCode": (1,),
    "Metadata": (0,),
    "SignatureDef": (2,),
    "TensorMap": (0,),
    "ExternalBufferGroup": (0,),
    "ExternalBuffer": (4,),
    "VarHandleOptions": (0, 1),
    "StablehloCustomCallOptions": (0, 2),
    "StableHLOCompositeOptions": (0,),
}
_VECTORS: Mapping[str, Mapping[int, str]] = {
    "Model": {
        1: "OperatorCode",
        2: "SubGraph",
        4: "Buffer",
        6: "Metadata",
        7: "SignatureDef",
        8: "ExternalBufferGroup",
        9: "ExternalBuffer",
    },
    "SubGraph": {0: "Tensor", 3: "Operator"},
    "Tensor": {9: "VariantSubType"},
    "SparsityParameters": {2: "DimensionMetadata"},
    "SignatureDef": {0: "TensorMap", 1: "TensorMap"},
}
_TABLES: Mapping[str, Mapping[int, str]] = {
    "Tensor": {4: "QuantizationParameters", 6: "SparsityParameters"},
}
# Of unions: the field of the type, and the tables that hold texts by its value. Others hold
# numbers, which unpack to views of the file.
_UNIONS: Mapping[str, Mapping[int, tuple[int, Mapping[int, str]]]] = {
    "Operator": {
        4: (3, {BuiltinOptions.VarHandleOptions: "VarHandleOptions"}),
        12: (
            11,
            {
                BuiltinOptions2.StablehloCustomCallOptions: "StablehloCustomCallOptions",
                BuiltinOptions2.StableHLOCompositeOptions: "StableHLOCompositeOptions",
            },
        ),
    },
}


def require_bounded(raw: Content, where: str) -> None:
    """Require that unpacking a file makes no more than its size can hold.

    Args:
        raw: The file's content, at least 8 bytes.
        where: The file, for messages.

    Raises:
        InvalidModel: It would make more.
        ValueError: An offset leads out of the file.
        struct.error: Likewise.
    """
    root = struct.unpack_from("<I", raw)[0]
    tables, values = _Counter(raw).table(root, "Model")
    for count, limit, what in (
        (tables, len(raw) // _TABLE_BYTES + _SHARED_TABLES, "tables"),
        (values, len(raw) + _SHARED_VALUES, "letters and numbers"),
    ):
        if count > limit:
            raise InvalidModel(
                "the TFLite file stands for more than it can hold",
                where=where,
                why=f"its {len(raw):,} bytes stand for {count:,} {what}, which share their places",
                hint="no converter writes that; do not trust this file",
            )


class _Counter:
    """Counts tables and what they hold, each place once however often it is shared."""

    def __init__(self, raw: Content) -> None:
        self._raw = raw
        self._known: dict[tuple[int, str], tuple[int, int]] = {}

    def table(self, position: int, kind: str) -> tuple[int, int]:
        """Return the number of tables in a table, itself included, and of their values."""
        key = position, kind
        if key not in self._known:
            self._known[key] = self._count(position, kind)
        return self._known[key]

    def _count(self, position: int, kind: str) -> tuple[int, int]:
        field = self._fields(position)
        tables, values = 1, 0
        for slot in _VALUES.get(kind, ()):
            if place := field(slot):
                values += self._vector(self._target(place), 1)[1]
        for place, inner in self._inner(field, kind):
            more, longer = self.table(self._target(place), inner)
            tables, values = tables + more, values + longer
        for slot, inner in _VECTORS.get(kind, {}).items():
            if place := field(slot):
                for target, count in self._targets(self._target(place)):
                    more, longer = self.table(target, inner)
                    tables, values = tables + count * more, values + count * longer
        return tables, values

    def _fields(self, position: int) -> Callable[[int], int]:
        """Return what gives the place of a table's field, 0 for one that is left out."""
        raw = self._raw
        vtable = position - struct.unpack_from("<i", raw, position)[0]
        if not 0 <= vtable < len(raw):
            raise ValueError(f"the table at byte {position} has no description within the file")
        size = struct.unpack_from("<H", raw, vtable)[0]

        def field(slot: int) -> int:
            entry = 4 + 2 * slot
            if entry + 2 > size:
                return 0
            offset: int = struct.unpack_from("<H", raw, vtable + entry)[0]
            return position + offset if offset else 0

        return field

    def _inner(self, field: Callable[[int], int], kind: str) -> Iterator[tuple[int, str]]:
        """Yield the place and the kind of each single table in a table."""
        for slot, inner in _TABLES.get(kind, {}).items():
            if place := field(slot):
                yield place, inner
        for slot, (type_slot, kinds) in _UNIONS.get(kind, {}).items():
            place, type_place = field(slot), field(type_slot)
            if place and type_place:
                yield place, kinds.get(self._raw[type_place], "numbers")

    def _target(self, place: int) -> int:
        return int(place + struct.unpack_from("<I", self._raw, place)[0])

    def _vector(self, position: int, width: int) -> tuple[int, int]:
        """Return where a vector's elements begin and how many there are."""
        count: int = struct.unpack_from("<I", self._raw, position)[0]
        if position + 4 + count * width > len(self._raw):
            raise ValueError(f"the vector at byte {position} ends behind the file")
        return position + 4, count

    def _targets(self, position: int) -> Iterator[tuple[int, int]]:
        """Yield each table that a vector leads to, and how often it does."""
        start, count = self._vector(position, 4)
        offsets: Array = np.frombuffer(self._raw, "<u4", count, start).astype(np.int64)
        places = np.arange(start, start + 4 * count, 4) + offsets
        found, counts = np.unique(places, return_counts=True)
        yield from zip(found.tolist(), counts.tolist(), strict=True)


def complete_quantization(parameters: QuantizationParametersT | None, name: str) -> None:
    """Give every scale its zero point; the runtime takes those that are left out as 0.

    Args:
        parameters: They are changed; None stands for no quantization.
        name: The tensor, for messages.

    Raises:
        ValueError: There are neither as many zero points as scales, nor one, nor none.
    """
    if parameters is None or parameters.scale is None or not len(parameters.scale):
        return
    scales = len(parameters.scale)
    zeros = 0 if parameters.zeroPoint is None else len(parameters.zeroPoint)
    if not zeros:
        parameters.zeroPoint = np.zeros(scales, np.int64)
    elif zeros not in (1, scales):
        raise ValueError(f"{scales} scales and {zeros} zero points of {name}")
