"""Reading ONNX files in a process of its own, whose time and memory are limited."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.convert.onnx import file as onnx_file
from edgeconv.core.artifacts import Artifact
from edgeconv.core.input_shapes import InputShapes


def open_onnx(path: str, shapes: Mapping[str, Any], *, open_batch: bool) -> dict[str, Any]:
    """Call `onnx_file.open_onnx`.

    Args:
        path: The file.
        shapes: The fields of `InputShapes`.
        open_batch: See there.

    Returns:
        The artifact, as a dictionary.
    """
    given = InputShapes.from_dict(shapes)
    return onnx_file.open_onnx(Path(path), given, open_batch=open_batch).to_dict()


def adopt(source: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Call `onnx_file.adopt`; artifacts are dictionaries."""
    return onnx_file.adopt(Artifact.from_dict(source), Path(path)).to_dict()
