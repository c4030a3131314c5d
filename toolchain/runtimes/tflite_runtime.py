"""Run .tflite files with the tflite-runtime that boards have, in its own environment."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import InvalidModel
from edgeconv.core.scratch import scratch_directory
from edgeconv.toolchain.environments import tflite_runtime
from edgeconv.toolchain.environments.manage import require
from edgeconv.toolchain.environments.specs import ENVIRONMENTS
from edgeconv.toolchain.runtimes.interpreters import check_details
from edgeconv.toolchain.runtimes.op_versions import newer_operators
from edgeconv.toolchain.runtimes.samples import check_feeds, thread_count


def run(artifact: dict[str, Any], feeds: str, results: str) -> dict[str, Any]:
    """Run the samples through the first subgraph.

    Raises:
        ToolMissing: tflite-runtime is not installed.
        InvalidData: The samples do not fit.
        InvalidModel: The file has operators that the runtime lacks, or is refused, or its inputs
            and outputs are not the artifact's.
        WorkerCrashed: The runtime died.
    """
    python = require(tflite_runtime.ENVIRONMENT)
    model = Artifact.from_dict(artifact)
    name = f"tflite-runtime {ENVIRONMENTS[tflite_runtime.ENVIRONMENT].version}"
    newer = newer_operators(model.path, name)
    if newer:
        raise InvalidModel(
            f"{name} lacks operators of the model", where=str(model.path), why="; ".join(newer)
        )
    check_feeds(read_npz(Path(feeds)), model)
    with scratch_directory() as scratch:
        outputs = Path(scratch, "outputs.npz")
        answer = tflite_runtime.run(python, model.path, Path(feeds), outputs, thread_count())
        check_details(model, "input", model.inputs, answer["inputs"])
        check_details(model, "output", model.outputs, answer["outputs"])
        arrays = read_npz(outputs)
    named = {spec.name: arrays[f"output_{place}"] for place, spec in enumerate(model.outputs)}
    write_npz(Path(results), named)
    return {
        "runtime": f"tflite-runtime {answer['version']}",
        "milliseconds": 1e3 * statistics.median(answer["seconds"]),
    }
