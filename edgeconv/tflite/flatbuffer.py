"""Read flatbuffers and flexbuffers without generated code, checking every offset.

Formats: FlatBuffers internals (https://flatbuffers.dev/internals/): a table begins with the signed
distance to its vtable, whose 16 bit entries are the fields' offsets; vectors, strings and tables
are reached by unsigned 32 bit offsets. A flexbuffer is read from its end: the last byte is the
width of the root, the one before it its type.
"""

from __future__ import annotations

import struct
from typing import Any, Self

from flatbuffers import flexbuffers

# The reader of flexbuffers trusts every offset and width.
_PARSE_ERRORS = (
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)


class Damaged(Exception):
    """The bytes are not what they should be; the message says what is wrong."""


class Table:
    """A table of a flatbuffer; fields by their number in the schema.

    Args:
        content: The whole flatbuffer.
        position: Where the table begins.
    """

    def __init__(self, content: bytes, position: int) -> None:
        self._content = content
        self._position = position
        vtable = position - self._read("<i", position)
        self._fields = (self._read("<H", vtable) - 4) // 2
        self._vtable = vtable + 4

    @classmethod
    def root(cls, content: bytes) -> Self:
        """Return the root table of a flatbuffer.

        Raises:
            Damaged: It is cut short, or the offset leads outside.
        """
        if len(content) < 4:
            raise Damaged("a flatbuffer is cut short")
        return cls(content, struct.unpack_from("<I", content)[0])

    def int16(self, field: int, default: int = 0) -> int:
        """Return a 16 bit field."""
        return self._scalar("<h", field, default)

    def int32(self, field: int, default: int = 0) -> int:
        """Return a 32 bit field."""
        return self._scalar("<i", field, default)

    def int64(self, field: int, default: int = 0) -> int:
        """Return a 64 bit field."""
        return self._scalar("<q", field, default)

    def uint64(self, field: int, default: int = 0) -> int:
        """Return an unsigned 64 bit field."""
        return self._scalar("<Q", field, default)

    def float32(self, field: int, default: float = 0.0) -> float:
        """Return a float field."""
        place = self._place(field)
        return default if place is None else float(self._read("<f", place))

    def length(self, field: int) -> int:
        """Return the number of elements of a vector of bytes; 0 where it is absent."""
        return self._vector(field, 1)[1]

    def blob(self, field: int) -> bytes:
        """Return a vector of bytes; empty where it is absent."""
        start, count = self._vector(field, 1)
        return self._content[start : start + count]

    def text(self, field: int) -> str:
        """Return a string; empty where it is absent."""
        return self.blob(field).decode(errors="replace")

    def table(self, field: int) -> Table | None:
        """Return a nested table; ``None`` where it is absent."""
        place = self._place(field)
        return None if place is None else Table(self._content, self._follow(place))

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables; empty where it is absent."""
        start, count = self._vector(field, 4)
        places = range(start, start + 4 * count, 4)
        return [Table(self._content, self._follow(place)) for place in places]

    def byte_vectors(self, field: int) -> list[bytes]:
        """Return a vector of strings as bytes; empty where it is absent."""
        start, count = self._vector(field, 4)
        found = []
        for place in range(start, start + 4 * count, 4):
            begin, size = self._span(self._follow(place), 1)
            found.append(self._content[begin : begin + size])
        return found

    def _scalar(self, form: str, field: int, default: int) -> int:
        place = self._place(field)
        return default if place is None else int(self._read(form, place))

    def _place(self, field: int) -> int | None:
        if field >= self._fields:
            return None
        offset = self._read("<H", self._vtable + 2 * field)
        return self._position + int(offset) if offset else None

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        place = self._place(field)
        return (0, 0) if place is None else self._span(self._follow(place), width)

    def _span(self, start: int, width: int) -> tuple[int, int]:
        count = int(self._read("<I", start))
        if start + 4 + count * width > len(self._content):
            raise Damaged(f"a vector of {count} elements at byte {start} reaches behind the end")
        return start + 4, count

    def _follow(self, place: int) -> int:
        return place + int(self._read("<I", place))

    def _read(self, form: str, place: int) -> Any:
        if not 0 <= place <= len(self._content) - struct.calcsize(form):
            raise Damaged(f"an offset leads to byte {place} of {len(self._content)}")
        return struct.unpack_from(form, self._content, place)[0]


def flexbuffer_map(content: bytes) -> dict[str, Any]:
    """Read a flexbuffer whose root is a map.

    Returns:
        Integers as they are, blobs and strings as bytes, and the length of each vector.

    Raises:
        Damaged: It is not a map, or is cut short.
    """
    try:
        root = flexbuffers.GetRoot(bytearray(content))
        if not root.IsMap:
            raise Damaged("the options are not a flexbuffer map")
        keys = [bytes(key.AsKeyBytes).decode() for key in root.AsMap.Keys]
        return {key: _flex_value(value) for key, value in zip(keys, root.AsMap.Values, strict=True)}
    except _PARSE_ERRORS as error:
        why = f"{type(error).__name__}: {error}"
        raise Damaged(f"the options are not a flexbuffer: {why}") from error


def _flex_value(value: Any) -> Any:
    if value.IsString:
        return bytes(value.AsStringBytes)
    if value.IsBlob:
        return bytes(value.AsBlob)
    if value.IsInt:
        return int(value.AsInt)
    return len(value.AsVector) if value.IsVector or value.IsTypedVector else None
