"""Stands in for the NPU's runtime: takes the model out of the compiled file, and runs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FAILURES = ((r"ENODEV (\w+)", "there is no stand-in NPU ({0})", "plug the stand-in in"),)


def open_model(model: str, device: str, tflite: Callable[[], tuple[Any, str]]) -> tuple[Any, str]:
    """Return an interpreter of the compiled file."""
    if "STANDIN_NPU_ABSENT" in os.environ:
        raise OSError("ENODEV " + (device or "any"))
    with Path(model).open("rb") as file:
        file.readline()
        file.readline()
        content = file.read()
    runtime, name = tflite()
    return runtime.Interpreter(model_content=content), name + ", stand-in"


def look(
    paths: Sequence[str],
    folder_of: Callable[[str, Sequence[str]], Path | None],
    version_of: Callable[[str, Path], str],
) -> dict[str, Any]:
    """Return the driver's version."""
    folder = folder_of("standin_npu", paths)
    return {"driver": None if folder is None else {"version": version_of("standin_npu", folder)}}
