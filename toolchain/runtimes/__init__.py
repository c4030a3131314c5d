"""Native runtimes, each run in a worker process: one worker function `run` per module.

Every `run(artifact, feeds, results, progress=None, stream=None)` takes `Artifact.to_dict()` and two
``.npz`` paths. It reads arrays by input name with a leading sample axis, in the artifact's stored
form, runs the samples one at a time, writes the outputs likewise, and returns
``{"runtime": "onnxruntime 1.32.0", "milliseconds": 1.5}``, the median time of a sample. ``stream``
says how one sample follows the other (`run_samples`); tflite-runtime takes none.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeconv.core.artifacts import Format
from edgeconv.toolchain.worker.pool import WorkerKind

Runtimes = Mapping[Format, tuple[WorkerKind, str]]
"""The worker and the worker function that run files of each format."""

ONNX_REFERENCE = "onnx reference"
"""What ONNX's reference implementation calls itself as a runtime, before its version."""

_LITERT = (WorkerKind.LITERT, "edgeconv.toolchain.runtimes.litert:run")

RUNTIMES: dict[Format, tuple[WorkerKind, str]] = {
    Format.ONNX: (WorkerKind.ONNXRUNTIME, "edgeconv.toolchain.runtimes.onnxruntime:run"),
    Format.SAVED_MODEL: (WorkerKind.TENSORFLOW, "edgeconv.toolchain.runtimes.tensorflow:run"),
    Format.TFLITE: _LITERT,
}
"""The worker and the worker function that run an artifact of each format."""

WITHOUT_STREAMS = "edgeconv.toolchain.runtimes.tflite_runtime:run"
"""The worker function that runs samples only."""

TFLITE_RUNTIMES: dict[str, tuple[WorkerKind, str]] = {
    "litert": _LITERT,
    "tflite-runtime": (WorkerKind.LITERT, WITHOUT_STREAMS),
    "tf": (WorkerKind.TENSORFLOW, "edgeconv.toolchain.runtimes.tensorflow:run_tflite"),
}
"""What can run .tflite files, by the name that ``--runtime`` has for it."""


def runtimes_with(name: str) -> Runtimes:
    """Return `RUNTIMES` with another runtime for .tflite files, a name of `TFLITE_RUNTIMES`."""
    return {**RUNTIMES, Format.TFLITE: TFLITE_RUNTIMES[name]}
