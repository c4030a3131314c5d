"""Run compiled models on this machine's Edge TPU. Imported by worker processes only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv.arrays import read_npz, write_npz
from edgeconv.artifacts import Artifact
from edgeconv.toolchain.device.job import Job, RunOptions
from edgeconv.toolchain.device.local import run_here
from edgeconv.toolchain.runtimes.samples import check_feeds


def run(artifact: dict[str, Any], feeds: str, results: str) -> dict[str, Any]:
    """Run the samples; see `edgeconv.toolchain.runtimes`.

    Raises:
        InvalidData: The samples do not fit.
        ToolMissing: There is no Edge TPU that works. A CPU never gets the file.
    """
    model = Artifact.from_dict(artifact)
    arrays = read_npz(Path(feeds))
    check_feeds(arrays, model)
    inputs = [arrays[spec.name] for spec in model.inputs]
    job = Job(model.path, inputs, compiled=model.path, only_compiled=True)
    ran = run_here(job, RunOptions(runs=1))
    outputs = zip(model.outputs, ran.outputs, strict=True)
    write_npz(Path(results), {spec.name: array for spec, array in outputs})
    return {"runtime": ran.runtime}
