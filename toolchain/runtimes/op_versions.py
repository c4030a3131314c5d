"""Which version of each operator a runtime has, so that a model that is too new is told early.

The table ``op_versions.json`` was measured: the runtimes themselves were asked, version by version
(``python -m benchmarks.op_versions``). A runtime refuses a whole model for one operator that is
newer than its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from edgeconv.core.errors import UsageError
from edgeconv.tflite import file as tflite

_TABLE = Path(__file__).with_name("op_versions.json")


def op_versions() -> dict[str, dict[str, int]]:
    """Return the newest version of each builtin by runtime, ``{"tflite-runtime 2.14.0": ...}``."""
    table: dict[str, dict[str, int]] = json.loads(_TABLE.read_text())
    return table


def newer_operators(path: Path, runtime: str) -> list[str]:
    """Say what in a .tflite file a runtime does not have, one sentence for each operator.

    Args:
        path: The file.
        runtime: A key of `op_versions`.

    Raises:
        UsageError: Nothing is known of the runtime.
        InvalidModel: The file is damaged.
    """
    table = op_versions()
    if runtime not in table:
        raise UsageError(f"nothing is known of {runtime}", hint="use one of " + ", ".join(table))
    model = tflite.load(path)
    found: dict[tuple[str, int], None] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if not code.customCode:
                found[tflite.builtin_name(code), int(code.version)] = None
    return [
        text for name, version in found if (text := _newer(name, version, table[runtime], runtime))
    ]


def table_for(runtime: str) -> str | None:
    """Return the key of `op_versions` that bounds what a runtime has, ``None`` for none.

    That is the runtime's own, else the next newer version of it, which has all that it has.

    Args:
        runtime: Name and version, ``"tflite-runtime 2.14.0"``.
    """
    name, _, version = runtime.rpartition(" ")
    later = [
        key
        for key in op_versions()
        if key.rpartition(" ")[0] == name and _numbers(key) >= _numbers(version)
    ]
    return min(later, key=_numbers) if version and later else None


def _numbers(text: str) -> tuple[int, ...]:
    """Return the release number in a text, ``(2, 5, 0)`` of ``"2.5.0.post1"``."""
    found = re.search(r"(\d+(?:\.\d+)*)", text.rpartition(" ")[2])
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def _newer(name: str, version: int, known: Mapping[str, int], runtime: str) -> str:
    if name not in known:
        return f"{name} is not in {runtime}"
    if version > known[name]:
        return f"{name} has version {version}, {runtime} knows versions up to {known[name]}"
    return ""
