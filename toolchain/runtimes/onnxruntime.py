"""Run ONNX files with onnxruntime, on the CPU. Imported by worker processes only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import onnxruntime

from edgeconv.core.artifacts import Array, Arrays, Artifact
from edgeconv.toolchain.runtimes import onnx_reference
from edgeconv.toolchain.runtimes.samples import check_names, run_samples, thread_count
from edgeconv.toolchain.worker.process import ProgressCallback

_log = logging.getLogger(__name__)


def run(
    artifact: dict[str, Any],
    feeds: str,
    results: str,
    progress: ProgressCallback | None = None,
    stream: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the samples; see `edgeconv.toolchain.runtimes`.

    Where onnxruntime does not have an operator in the type or form that the file has it in, ONNX's
    reference implementation takes over, and the runtime that is returned says so.

    Raises:
        InvalidData: The samples do not fit.
        InvalidModel: The file's inputs or outputs are not those of the artifact.
        NoRuntime: Neither has all of the file's operators.
    """
    try:
        return _run(Artifact.from_dict(artifact), feeds, results, progress, stream)
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        _log.info("onnxruntime refuses %s: %s", artifact["path"], error)
    return onnx_reference.run(artifact, feeds, results, progress, stream)


def _run(
    model: Artifact,
    feeds: str,
    results: str,
    progress: ProgressCallback | None,
    stream: dict[str, Any] | None,
) -> dict[str, Any]:
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    # Idle threads would else keep a core busy for the next operator, which others could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # Fused, quantized operators saturate in 16 bits on processors without VNNI; the ones that the
    # file states do not.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        str(model.path), options, providers=["CPUExecutionProvider"]
    )
    check_names(model, "input", model.inputs, [item.name for item in session.get_inputs()])
    check_names(model, "output", model.outputs, [item.name for item in session.get_outputs()])
    names = [spec.name for spec in model.outputs]

    def infer(sample: Arrays) -> Sequence[Array]:
        outputs: Sequence[Array] = session.run(names, sample)
        return outputs

    milliseconds = run_samples(model, feeds, results, infer, progress, stream)
    return {"runtime": f"onnxruntime {onnxruntime.__version__}", "milliseconds": milliseconds}
