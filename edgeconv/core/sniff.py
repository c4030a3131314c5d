"""Tell model files apart by what is in them, without running or unpickling anything."""

from __future__ import annotations

import zipfile
import zlib
from enum import StrEnum
from pathlib import Path

from edgeconv.core.errors import InvalidModel

_HEAD = 1 << 16
_ZIP = b"PK\x03\x04"
# Protocols 2 to 5; torch.save without zip writes 2.
_PICKLE_HEADS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_HDF5 = b"\x89HDF\r\n\x1a\n"
# Deflate reaches 1032:1 (RFC 1951 codes of 258 bytes in 2 bits); models hardly compress at all.
_MAX_RATIO = 1100
_MAX_MEMBERS = 1_000_000
# What zipfile and zlib raise over damaged archives; RuntimeError over encrypted ones.
_DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Kind(StrEnum):
    """What a model file holds."""

    EXPORTED_PROGRAM = "torch.export program"
    OLD_EXPORTED_PROGRAM = "torch.export program, format of torch 2.7 and before"
    TORCHSCRIPT = "TorchScript archive"
    TORCH_SAVE = "torch.save archive"
    PICKLE = "pickle, or torch.save file without a zip"
    SAFETENSORS = "safetensors file"
    ONNX = "ONNX model"


def kind_of(path: Path) -> Kind:
    """Return the kind of a model file.

    Args:
        path: The file; its name is of no account.

    Raises:
        InvalidModel: It is missing, not a file, empty, truncated, or no model that edgeconv reads.
    """
    head = _read_head(path)
    if head.startswith(_ZIP):
        return _kind_of_zip(path)
    if head.startswith(_PICKLE_HEADS):
        return Kind.PICKLE
    if head[8:].startswith(b"{") and b'"dtype"' in head[:4096]:
        return Kind.SAFETENSORS
    _refuse_foreign(path, head)
    if looks_like_onnx(head):
        return Kind.ONNX
    raise InvalidModel(
        "this is not a model file that edgeconv reads",
        where=str(path),
        why=f"its content starts with {head[:8]!r}",
        hint="give a torch.export .pt2, a TorchScript archive, a state dict or an .onnx file",
    )


def _read_head(path: Path) -> bytes:
    where = str(path)
    try:
        if path.is_dir():
            raise _directory(path)
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError as error:
        raise InvalidModel(
            "no such file", where=where, hint="check the path of the model"
        ) from error
    except OSError as error:
        raise InvalidModel(
            "the file cannot be read", where=where, why=error.strerror or ""
        ) from error
    if not head:
        raise InvalidModel("the file is empty", where=where, hint="export or copy the model again")
    return head


def _directory(path: Path) -> InvalidModel:
    if (path / "saved_model.pb").exists():
        return InvalidModel(
            "this is a TensorFlow SavedModel, not a PyTorch or ONNX model",
            where=str(path),
            hint="convert it with TensorFlow's own TFLiteConverter",
        )
    return InvalidModel(
        "this is a directory, not a model file", where=str(path), hint="name the file inside it"
    )


def _refuse_foreign(path: Path, head: bytes) -> None:
    what = ""
    hint = "give the PyTorch or ONNX model that it was made from"
    if head[4:8] == b"TFL3":
        what, hint = "this is a TFLite model already", "edgeconv starts from PyTorch or ONNX"
    elif head.startswith(_HDF5):
        what = "this is an HDF5 file (Keras weights?), not a PyTorch or ONNX model"
    elif b"saved_model_schema_version" in head or path.name == "saved_model.pb":
        what = "this is a TensorFlow SavedModel, not a PyTorch or ONNX model"
    if what:
        raise InvalidModel(what, where=str(path), hint=hint)


def looks_like_onnx(head: bytes) -> bool:
    """Tell whether bytes can start an ONNX ModelProto.

    The serialised message starts with its lowest field: ``ir_version`` (field 1, varint), which
    every ONNX model must have.
    """
    return head[:1] == b"\x08" and len(head) > 2 and 1 <= head[1] <= 0x20


def _kind_of_zip(path: Path) -> Kind:
    names = [name.partition("/")[2] for name in _members(path)]
    found = set(names)
    top_level = set(_members(path))
    if "serialized_exported_program.json" in top_level:
        return Kind.OLD_EXPORTED_PROGRAM
    if "archive_format" in found or any(name.startswith("models/") for name in names):
        return Kind.EXPORTED_PROGRAM
    if "constants.pkl" in found and any(name.startswith("code/") for name in names):
        return Kind.TORCHSCRIPT
    if "data.pkl" in found:
        return Kind.TORCH_SAVE
    raise InvalidModel(
        "this zip archive holds no PyTorch model",
        where=str(path),
        why=_zip_guess(top_level),
        hint="give a torch.export .pt2, a TorchScript archive or a file made by torch.save",
    )


def _zip_guess(names: set[str]) -> str:
    if any(name.endswith(".npy") for name in names):
        return "it is an .npz file of arrays"
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return "it is a Keras model"
    listed = ", ".join(sorted(names)[:3])
    return f"it holds {listed}" if listed else "it is empty"


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except _DAMAGE as error:
        raise truncated(path, "zip archive") from error
    # A truncated archive may end inside a member that is a whole archive itself.
    if entries and min(entry.header_offset for entry in entries) != 0:
        raise truncated(path, "zip archive")
    _refuse_bomb(path, entries)
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise InvalidModel(
            "the zip archive holds two members of one name",
            where=str(path),
            hint="no exporter writes that; do not trust this file",
        )
    return names


def _refuse_bomb(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    size = path.stat().st_size
    declared = sum(entry.file_size for entry in entries)
    if declared > size * _MAX_RATIO or len(entries) > _MAX_MEMBERS:
        raise InvalidModel(
            "the zip archive declares more than it can hold",
            where=str(path),
            why=f"{len(entries)} members of {declared:,} bytes in a file of {size:,} bytes",
            hint="do not trust this file",
        )
    stored = [entry for entry in entries if entry.compress_type == zipfile.ZIP_STORED]
    if any(entry.file_size > size for entry in stored):
        raise truncated(path, "zip archive")


def require_checksums(path: Path) -> None:
    """Require every member of a zip archive to have the checksum that it was written with.

    PyTorch reads archives without looking at them: a changed weight would go unnoticed.

    Raises:
        InvalidModel: A member was changed after it was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except _DAMAGE as error:
        raise truncated(path, "zip archive") from error
    if changed is not None:
        raise InvalidModel(
            "the zip archive is corrupt",
            where=str(path),
            why=f"the checksum of its member {changed} is wrong",
            hint="copy or export the model again",
        )


def truncated(path: Path, kind: str) -> InvalidModel:
    """Return the error for a file that starts well and is not whole."""
    return InvalidModel(
        f"the {kind} is truncated or corrupt",
        where=str(path),
        why="its table of contents cannot be read" if kind == "zip archive" else "",
        hint="copy or export the model again",
    )
