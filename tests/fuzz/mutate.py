"""Change files: blindly, or knowing how they are built. Equal seeds make equal files."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    -(2**70),
    1e308,
    0.5,
    "",
    "x",
    "../../x",
    "\x1b[31m",
    "é\u202e",
    "9" * 300,
    [],
    {},
    [[]],
    [{}],
    [None],
)


def blind(content: bytes, rng: random.Random) -> bytes:
    """Flip bits, overwrite, cut, double and move pieces."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not data:
            return bytes(rng.randbytes(rng.randrange(64)))
        at, kind = rng.randrange(len(data)), rng.randrange(6)
        size = min(rng.choice((1, 2, 4, 8, 64)), len(data) - at)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
        elif kind == 4:
            del data[at:]
        else:
            data[at:at] = bytes(rng.choice((1, 4, 100)))
    return bytes(data)


def words(content: bytes, rng: random.Random) -> bytes:
    """Overwrite aligned numbers of a binary file, offsets and sizes among them."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        width = rng.choice((1, 2, 4, 4, 4, 8))
        if len(data) < width:
            return bytes(data)
        at = rng.randrange(len(data) // width) * width
        old = int.from_bytes(data[at : at + width], "little")
        new = rng.choice((*_NUMBERS, old + 1, old - 1, old * 2, old + 4, len(data), len(data) - at))
        data[at : at + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(data)


def protobuf(content: bytes, rng: random.Random) -> bytes:
    """Change one field somewhere in a message, the lengths around it kept right.

    Wire format: https://protobuf.dev/programming-guides/encoding/.
    """
    fields = _fields(content)
    if not fields:
        return blind(content, rng)
    at = rng.randrange(len(fields))
    number, kind, value = fields[at]
    action = rng.randrange(8)
    if action == 0:
        del fields[at]
    elif action == 1:
        fields.insert(at, fields[rng.randrange(len(fields))])
    elif action == 2:
        fields += fields[at : at + 1] * rng.choice((1, 3, 200))
    elif kind == 2 and isinstance(value, bytes):
        deeper = protobuf if _fields(value) and action < 7 else blind
        fields[at] = number, kind, deeper(value, rng)
    elif kind == 0:
        new = rng.choice((*_NUMBERS, 2**63 - 1, 2**63, 2**64 - 1, int(value) + 1))
        fields[at] = number, kind, new
    else:
        fields[at] = rng.choice((number, number + 1)), kind, value
    return b"".join(_field(*field) for field in fields)


_Field = tuple[int, int, int | bytes]


def _fields(content: bytes) -> list[_Field]:
    """Return the fields of a message; none where it is no message."""
    fields: list[_Field] = []
    at = 0
    try:
        while at < len(content):
            tag, at = _number(content, at)
            number, kind = tag >> 3, tag & 7
            value: int | bytes
            if kind == 0:
                value, at = _number(content, at)
            elif kind in (1, 5):
                value, at = content[at : at + (8 if kind == 1 else 4)], at + (8 if kind == 1 else 4)
            elif kind == 2:
                size, at = _number(content, at)
                value, at = content[at : at + size], at + size
            else:
                return []
            if not number or at > len(content):
                return []
            fields.append((number, kind, value))
    except IndexError:
        return []
    return fields


def _number(content: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = content[at]
        result |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return result, at
        if shift > 63:
            raise IndexError


def _field(number: int, kind: int, value: int | bytes) -> bytes:
    tag = _varint(number << 3 | kind)
    if isinstance(value, int):
        return tag + _varint(value)
    return tag + (_varint(len(value)) if kind == 2 else b"") + value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(parts) + bytes([value])


def text_json(content: bytes, rng: random.Random) -> bytes:
    """Change a value or a key somewhere in a JSON text."""
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        value = _changed(value, rng)
    return json.dumps(value).encode()


def _changed(value: Any, rng: random.Random) -> Any:
    """Return a value with one of those inside it replaced, left out, or doubled."""
    keys: list[Any] = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        keys = list(range(len(value)))
    if not keys or rng.random() < 0.15:
        return rng.choice(_VALUES)
    key, kind = rng.choice(keys), rng.randrange(10)
    result = value.copy()
    if kind == 0:
        del result[key]
    elif kind == 1 and isinstance(result, dict):
        result[str(rng.choice(_VALUES))] = result.pop(key)
    elif kind == 2 and isinstance(result, list):
        result += [result[key]] * rng.choice((1, 100))
    else:
        result[key] = _changed(result[key], rng)
    return result


def lines(content: bytes, rng: random.Random) -> bytes:
    """Change the lines, words and numbers of a text."""
    text = content.decode(errors="replace").split("\n")
    for _ in range(rng.choice((1, 2, 4))):
        at, kind = rng.randrange(len(text)), rng.randrange(5)
        if kind == 0:
            text.insert(at, rng.choice(text))
        elif kind == 1:
            del text[at]
            text = text or [""]
        elif kind == 2:
            parts = text[at].split(" ")
            parts[rng.randrange(len(parts))] = str(rng.choice(_VALUES))
            text[at] = " ".join(parts)
        elif kind == 3:
            text[at] = text[at].replace(rng.choice("0123456789"), rng.choice(("", ".", "99", "-")))
        else:
            text[at] *= rng.choice((2, 50))
    return "\n".join(text).encode()


def members(inner: Mutation) -> Mutation:
    """Return a mutation of a zip archive: of a member's content, names, or the list of members."""

    def mutate(content: bytes, rng: random.Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [(one.filename, archive.read(one)) for one in archive.infolist()]
        at, kind = rng.randrange(len(entries)), rng.randrange(12)
        name, data = entries[at]
        if kind == 0:
            del entries[at]
        elif kind == 1:
            entries[at] = str(rng.choice(_VALUES)) + name, data
        elif kind == 2:
            entries[at] = name, entries[rng.randrange(len(entries))][1]
        else:
            is_json = name.endswith(".json") and rng.random() < 0.8
            entries[at] = name, (text_json if is_json else inner)(data, rng)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", rng.choice((0, 0, 8))) as archive:
            for name, data in entries:
                archive.writestr(zipfile.ZipInfo(name), data)
        return stream.getvalue()

    return mutate


def header(content: bytes, rng: random.Random) -> bytes:
    """Change the text of the header of an ``.npy`` file, its length kept right."""
    if content[:6] != b"\x93NUMPY":
        return blind(content, rng)
    size = struct.unpack("<H", content[8:10])[0]
    text = content[10 : 10 + size].decode("latin1")
    choices = {
        "<f4": ("|O", "<U3", "<f8", "|V4", "<M8[s]", ">f4", "f4,i2", "x"),
        "False": ("True", "None", "3", "False or True"),
        "(": ("(-1, ", "(9999999999999, ", "(True, ", "((", "[", "(0, ", "('a', "),
        "shape": ("shap", "shape': (), 'x"),
    }
    old = rng.choice(list(choices))
    new = text.rstrip().replace(old, rng.choice(choices[old]), 1).encode("latin1")
    new += b" " * (-(len(new) + 11) % 64) + b"\n"
    return content[:8] + struct.pack("<H", len(new)) + new + content[10 + size :]
