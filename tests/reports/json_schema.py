"""The part of JSON Schema that our schema uses, enough to test with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
KNOWN = {
    *("$schema", "$id", "$defs", "$ref", "title", "description", "type", "required", "properties"),
    *("items", "const", "enum", "minimum", "maximum", "oneOf", "additionalProperties"),
}


def violations(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str = "$"
) -> Iterator[str]:
    """Yield each place where a value is not what a schema says."""
    assert set(schema) <= KNOWN, f"a keyword that is not tested: {set(schema) - KNOWN}"
    if "$ref" in schema:
        yield from violations(value, root["$defs"][schema["$ref"].split("/")[-1]], root, at)
    if "const" in schema and value != schema["const"]:
        yield f"{at} is {value!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at} is {value!r}"
    if "oneOf" in schema:
        fitting = [s for s in schema["oneOf"] if not list(violations(value, s, root, at))]
        if len(fitting) != 1:
            yield f"{at} fits {len(fitting)} alternatives"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{at} is a {type(value).__name__}"
        return
    lowest, highest = (schema.get(key, value) for key in ("minimum", "maximum"))
    if _is(value, "number") and not lowest <= value <= highest:
        yield f"{at} is {value}"
    yield from _within(value, schema, root, at)


def _within(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str
) -> Iterator[str]:
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{at} lacks {name}"
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if inner is not None:
                yield from violations(item, inner, root, f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from violations(item, schema["items"], root, f"{at}[{index}]")


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
