"""Native runtimes, each run in a worker process: one worker function `run` per module.

Every `run(artifact, feeds, results, progress=None)` takes `Artifact.to_dict()` and two ``.npz``
paths. It reads arrays by input name with a leading sample axis, in the artifact's stored form,
runs the samples one at a time, writes the outputs likewise, and returns
``{"runtime": "onnxruntime 1.32.0", "milliseconds": 1.5}``, the median time of a sample.
"""

from __future__ import annotations

from edgeconv.artifacts import Format
from edgeconv.toolchain.pool import WorkerKind

RUNTIMES: dict[Format, tuple[WorkerKind, str]] = {
    Format.ONNX: (WorkerKind.ONNXRUNTIME, "edgeconv.toolchain.runtimes.onnxruntime:run"),
    Format.SAVED_MODEL: (WorkerKind.TENSORFLOW, "edgeconv.toolchain.runtimes.tensorflow:run"),
    Format.TFLITE: (WorkerKind.LITERT, "edgeconv.toolchain.runtimes.litert:run"),
}
"""The worker and the worker function that run an artifact of each format."""
