"""What the archive of an exported program says of it, without torch: inputs, bytes of weights."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

_LARGEST = 1 << 26
"""Bytes of a description that is read for these alone."""

_FLOAT = 7  # of ScalarType, torch/_export/serde/schema.py


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
            content = _described(archive, "models/model.json")
        specs = content["graph_module"]["signature"]["input_specs"]
        return [name for spec in specs if (name := _name(spec)) is not None] or None
    except _DAMAGE:
        return None


def float_bytes(path: Path) -> int:
    """Return the bytes of a program's float32 weights; 0 where the file does not tell.

    Args:
        path: See `program_inputs`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            weights = _described(archive, "weights/model_weights_config.json")["config"].values()
            names = {
                f"data/weights/{one['path_name']}"
                for one in weights
                if one["tensor_meta"]["dtype"] == _FLOAT
            }
            sizes = {one.filename.partition("/")[2]: one.file_size for one in archive.infolist()}
        return sum(sizes[name] for name in names)
    except _DAMAGE:
        return 0


def _described(archive: zipfile.ZipFile, name: str) -> Any:
    """Return the content of the one member of a name, which is JSON.

    Raises:
        ValueError: There is none, or it is too long.
    """
    members = [one for one in archive.infolist() if one.filename.endswith(name)]
    if len(members) != 1 or members[0].file_size > _LARGEST:
        raise ValueError(name)
    return json.loads(archive.read(members[0]))


def _name(spec: dict[str, Any]) -> str | None:
    """Return the name of a tensor that users give; others are ``None``."""
    if "user_input" not in spec:
        return None
    tensor = spec["user_input"]["arg"].get("as_tensor")
    return None if tensor is None else str(tensor["name"])
