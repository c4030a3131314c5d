"""ONNX to SavedModel by onnx-tf, in its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv.toolchain.environments.manage import require
from edgeconv.toolchain.environments.process import call

ENVIRONMENT = "onnx-tf"
_SCRIPT = "onnx_tf_convert"


def export(model: Path, directory: Path) -> dict[str, str]:
    """Convert an ONNX file to a SavedModel as onnx-tf writes it.

    Args:
        model: The file. Names of inputs and outputs are Python identifiers, the opset is one that
            onnx-tf knows.
        directory: Where the SavedModel goes.

    Returns:
        The versions of what converted: ``{"onnx-tf": "1.10.0", "tensorflow": ..., "onnx": ...}``.

    Raises:
        ToolMissing: onnx-tf is not installed.
        ConversionError: It lacks an operator, or fails on one.
        WorkerCrashed: It died.
    """
    python = require(ENVIRONMENT)
    versions: dict[str, str] = call(
        python, _SCRIPT, action="convert", model=str(model), directory=str(directory)
    )
    return versions


def self_test(python: Path) -> dict[str, Any]:
    """Convert a small convolution, and compare what the SavedModel computes.

    Raises:
        WorkerError: It does not work.
    """
    answer: dict[str, Any] = call(python, _SCRIPT, action="self_test")
    return answer
