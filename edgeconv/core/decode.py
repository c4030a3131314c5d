"""Read JSON values that nobody vouches for into dataclasses, by the types of their fields.

A field is read from the key of its name, or from the one that its metadata has (`key`); one that is
not there has its default. What a dataclass does not know is left out.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_KEY = "json"
_LARGEST = 2**63


class Malformed(ValueError):
    """A value is not what its field can hold.

    Args:
        where: Its place, ``stages[2].outputs[0].name``; ``""`` for the whole.
        why: What it should be.
    """

    def __init__(self, where: str, why: str) -> None:
        self.where = where
        self.why = why
        super().__init__(f"{where or 'the value'} {why}")


def key(name: str) -> dict[str, str]:
    """Return the metadata of a dataclass's field that has another name in JSON."""
    return {_KEY: name}


def decode(kind: type[T], value: object) -> T:
    """Return a dataclass from a JSON value.

    Args:
        kind: The dataclass. Its fields are strings, numbers, booleans, literals, other dataclasses,
            tuples of one kind or of one for each item, and mappings from strings; or ``None``.
        value: The value, as `json` reads it.

    Raises:
        Malformed: A value is missing, or of another type; a number is not finite.
    """
    found: T = _read(kind, value, "")
    return found


def _read(kind: Any, value: object, where: str) -> Any:
    if kind is object:
        return value
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind, value, where)
    if origin is Literal:
        if value in get_args(kind):
            return value
        raise Malformed(where, f"is none of {', '.join(map(str, get_args(kind)))}")
    if origin is tuple:
        return _tuple(get_args(kind), value, where)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(get_args(kind)[1], value, where)
    return _scalar(kind, value, where)


def _dataclass(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise Malformed(where, "is no object")
    hints = _hints(kind)
    found = {}
    for item in fields(kind):
        name = str(item.metadata.get(_KEY, item.name))
        place = f"{where}.{name}" if where else name
        if name in value:
            found[item.name] = _read(hints[item.name], value[name], place)
        elif not _has_default(item):
            raise Malformed(place, "is missing")
    return kind(**found)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _has_default(item: Field[Any]) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def _optional(kind: Any, value: object, where: str) -> Any:
    others = [other for other in get_args(kind) if other is not type(None)]
    if value is None and len(others) < len(get_args(kind)):
        return None
    (other,) = others
    return _read(other, value, where)


def _tuple(kinds: Sequence[Any], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise Malformed(where, "is no array")
    if kinds[-1] is Ellipsis:
        kinds = [kinds[0]] * len(value)
    if len(kinds) != len(value):
        raise Malformed(where, f"has {len(value)} items, not {len(kinds)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_read(kind, item, f"{where}[{index}]") for index, (kind, item) in pairs)


def _mapping(kind: Any, value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(where, "is no object")
    return {str(name): _read(kind, item, f"{where}.{name}") for name, item in value.items()}


def _scalar(kind: Any, value: object, where: str) -> Any:
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise Malformed(where, f"is no {_WORDS[kind]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise Malformed(where, "is not finite")
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise Malformed(where, "is too large")
    return value


_WORDS = {str: "text", int: "whole number", float: "number", bool: "boolean"}
