"""Run .tflite files with LiteRT. Imported by worker processes only."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from ai_edge_litert.interpreter import Interpreter

from edgeconv.toolchain.runtimes.interpreters import run_interpreter
from edgeconv.toolchain.worker.process import ProgressCallback


def run(
    artifact: dict[str, Any],
    feeds: str,
    results: str,
    progress: ProgressCallback | None = None,
    stream: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the samples through the first subgraph.

    Raises:
        InvalidData: The samples do not fit.
        InvalidModel: LiteRT refuses the file, or its inputs and outputs are not the artifact's.
    """
    milliseconds = run_interpreter(
        Interpreter, "LiteRT", artifact, feeds, results, progress, stream
    )
    return {
        "runtime": f"ai-edge-litert {metadata.version('ai-edge-litert')}",
        "milliseconds": milliseconds,
    }
