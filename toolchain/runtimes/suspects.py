"""Say which operator of a TFLite file a native runtime died of."""

from __future__ import annotations

from pathlib import Path

from edgeconv.core import wording
from edgeconv.core.errors import WorkerCrashed, WorkerError
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool

MARK = "next operator: "
"""Stands before the name of the operator that is tried next."""


def named(workers: WorkerPool, path: Path, crash: WorkerCrashed) -> WorkerCrashed:
    """Return a crash with the operator that it is due to, or as it is where none aborts alone.

    Args:
        workers: The workers.
        path: The ``.tflite`` file that a worker died of.
        crash: How it died.
    """
    if not path.is_file():
        return crash
    try:
        workers.call(
            WorkerKind.LITERT, "edgeconv.toolchain.runtimes.suspect:try_each", path=str(path)
        )
    except WorkerCrashed as found:
        lines = [line for line in found.details.splitlines() if line.startswith(MARK)]
        if lines:
            operator = lines[-1].removeprefix(MARK)
            return WorkerCrashed(
                f"LiteRT aborts on the operator {operator}",
                where=str(path),
                why=crash.why,
                hint=f"leave it in float if that is allowed: {wording.named('keep_float')} "
                f"{_name(operator)}",
                details=crash.details,
            )
    except WorkerError:
        pass
    return crash


def _name(operator: str) -> str:
    """Return the operator's tensor, as the options take it."""
    return operator.partition("(")[2].removesuffix(")") or operator
