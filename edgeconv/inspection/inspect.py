"""Tell what a file is, and read it in the way that its format needs.

Files are parsed in a worker process, whose time and memory are limited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.core import bundle, sniff
from edgeconv.core.artifacts import Format
from edgeconv.core.disk import size_of
from edgeconv.core.errors import ConversionError, InvalidModel, UsageError, WorkerError
from edgeconv.toolchain.worker.process import Worker

_TFLITE_IDENTIFIER = b"TFL3"
_HEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading files may take.

    Attributes:
        timeout: Seconds for each step.
        memory: Bytes; half of the machine's memory by default.
    """

    timeout: float = 300.0
    memory: int | None = None


def inspect(path: Path, target: str | None = None, limits: Limits | None = None) -> dict[str, Any]:
    """Describe a model file, a SavedModel directory or a bundle.

    Args:
        path: The file or directory.
        target: Also say where each operator would run on this target.
        limits: What reading it may take.

    Returns:
        JSON-ready: ``file``, ``format``, ``bytes``, and what the format has. With a target the
        placement of each operator instead.

    Raises:
        InvalidModel: It is missing, damaged, or nothing that edgeconv reads.
        UsageError: The target is unknown, or predicts nothing for this format.
        WorkerError: The process that parses it failed.
    """
    limits = limits or Limits()
    with Worker("inspection", timeout=limits.timeout, memory=limits.memory) as worker:
        if target is not None:
            return _placement(path, target, worker)
        if (path / bundle.MANIFEST).is_file():
            return _bundle(path, worker)
        return {**_head(path), **_content(path, worker), **_beside(path)}


def _head(path: Path) -> dict[str, Any]:
    return {"file": str(path), "format": _format(path).value, "bytes": size_of(path)}


def _format(path: Path) -> Format:
    """Return the format of a file; `Format.COMPILED` of one that only a target may know.

    Raises:
        InvalidModel: It cannot be read, or the directory is no SavedModel.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return Format.SAVED_MODEL
        raise InvalidModel(
            "this directory is no model",
            where=str(path),
            why=f"it has neither saved_model.pb nor {bundle.MANIFEST}",
            hint="give a model file, a SavedModel directory or a bundle",
        )
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InvalidModel(
            "the file cannot be read", where=str(path), why=error.strerror or str(error)
        ) from error
    if head[4:8] == _TFLITE_IDENTIFIER:
        return Format.TFLITE
    if sniff.looks_like_onnx(head):
        return Format.ONNX
    return Format.COMPILED


def _unknown(path: Path) -> InvalidModel:
    return InvalidModel(
        "inspect cannot read this file",
        where=str(path),
        why="it is neither TFLite nor ONNX",
        hint="give an .onnx, SavedModel, .tflite or bundle; edgeconv torch2tflite makes them of a "
        "PyTorch model",
    )


def _content(path: Path, worker: Worker) -> dict[str, Any]:
    kind = _format(path)
    function = {
        Format.TFLITE: "edgeconv.inspection.tflite_file:describe_file",
        Format.ONNX: "edgeconv.inspection.summaries:onnx_summary",
        Format.SAVED_MODEL: "edgeconv.inspection.summaries:saved_model_summary",
        Format.COMPILED: "edgeconv.inspection.tflite_file:describe_compiled",
    }[kind]
    found: dict[str, Any] | None = worker.call(function, path=str(path))
    if found is None:
        raise _unknown(path)
    if kind is Format.ONNX:
        found |= _convertible(worker, path)
    return found


def _convertible(worker: Worker, path: Path) -> dict[str, Any]:
    """Return the nodes that a conversion would refuse, or why that could not be found out."""
    try:
        nodes = worker.call("edgeconv.convert.saved_model.preflight:preflight", onnx=str(path))
    except (UsageError, ConversionError, WorkerError) as error:
        why = f"{error.what}: {error.why}" if error.why else error.what
        return {"unsupported": None, "not_checked": why}
    return {"unsupported": nodes, "not_checked": None}


def _beside(path: Path) -> dict[str, Any]:
    """Return what the bundle that a file lies in knows of it, and the file does not say."""
    if not (path.parent / bundle.MANIFEST).is_file():
        return {}
    try:
        stages = bundle.open_bundle(path.parent, allow_failed=True).manifest["stages"]
    except InvalidModel:  # of a file that lies beside a damaged manifest
        return {}
    return next((_joins(entry) for entry in stages if entry["file"] == path.name), {})


def _joins(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return how outputs of the source model are put together from those of a stage's file."""
    return {"joins": entry["joins"]} if entry.get("joins") else {}


def _bundle(path: Path, worker: Worker) -> dict[str, Any]:
    opened = bundle.open_bundle(path, allow_failed=True)
    manifest = opened.manifest
    return {
        "file": str(path),
        "format": "bundle",
        "bytes": size_of(path),
        "model": manifest["model"],
        "status": manifest["status"],
        "verdict": manifest["verdict"],
        "options": manifest["options"],
        "stages": [
            {"stage": entry["name"], **_head(file), **_stage(entry, file, worker), **_joins(entry)}
            for entry in manifest["stages"]
            for file in [path / entry["file"]]
        ],
    }


def _stage(entry: Mapping[str, Any], file: Path, worker: Worker) -> dict[str, Any]:
    """Return what a stage's file holds; of a file for a target that is not here, only that."""
    from edgeconv import targets

    made_for = entry.get("target")
    if made_for is None or made_for in targets.names():
        return _content(file, worker)
    return {"format": entry["format"], "compiled_for": made_for}


def _placement(path: Path, target: str, worker: Worker) -> dict[str, Any]:
    from edgeconv import targets

    targets.find(target)
    model = _deployable(path)
    if _format(model) is not Format.TFLITE:
        raise UsageError(
            "where operators run is predicted for .tflite files",
            where=str(model),
            hint=f"convert it first: edgeconv torch2tflite MODEL --target {target}",
        )
    found = worker.call(
        "edgeconv.inspection.tflite_file:place_file",
        path=str(model),
        target=target,
        converted=_made_for(path) == target,
    )
    return {**_head(model), "target": target, **found}


def _made_for(path: Path) -> str:
    """Return the target of the bundle that a path is, or lies in; ``""`` where it is in none."""
    for folder in (path, path.parent):
        if (folder / bundle.MANIFEST).is_file():
            try:
                options = bundle.read_json(folder / bundle.MANIFEST).get("options")
            except InvalidModel:  # of a file that lies beside a damaged manifest
                return ""
            return str(options.get("target", "")) if isinstance(options, dict) else ""
    return ""


def _deployable(path: Path) -> Path:
    """Return the last .tflite file of a bundle that is not compiled, or the file itself."""
    if not (path / bundle.MANIFEST).is_file():
        return path
    stages = bundle.open_bundle(path, allow_failed=True).manifest["stages"]
    files = [entry["file"] for entry in stages if entry["format"] == Format.TFLITE]
    if not files:
        raise InvalidModel("the bundle has no .tflite file", where=str(path))
    return path / str(files[-1])
