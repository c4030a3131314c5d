"""The names of an exported program's inputs, without torch."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

_LARGEST = 1 << 26
"""Bytes of a description that is read for the names alone."""


# What zipfile, zlib and json raise over files that are something else.
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def program_inputs(path: Path) -> list[str] | None:
    """Return the names of a program's tensor inputs; ``None`` where the file does not tell.

    Args:
        path: What may be a ``torch.export`` archive; it is believed for messages only.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                one for one in archive.infolist() if one.filename.endswith("models/model.json")
            ]
            if len(members) != 1 or members[0].file_size > _LARGEST:
                return None
            content = json.loads(archive.read(members[0]))
        specs = content["graph_module"]["signature"]["input_specs"]
        return [name for spec in specs if (name := _name(spec)) is not None] or None
    except _DAMAGE:
        return None


def _name(spec: dict[str, Any]) -> str | None:
    """Return the name of a tensor that users give; others are ``None``."""
    if "user_input" not in spec:
        return None
    tensor = spec["user_input"]["arg"].get("as_tensor")
    return None if tensor is None else str(tensor["name"])
