"""A self-contained folder for a board without a network."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.arrays import write_npz
from edgeconv.artifacts import Array
from edgeconv.bundle import Bundle
from edgeconv.errors import UsageError
from edgeconv.toolchain.device.job import EXPECTED, Job

if TYPE_CHECKING:
    from edgeconv.deploy.run import DeployOptions

_README = """# {name}

Copy this folder to the board and run, there:

    python3 runner.py

It needs Python 3.7 or later, numpy, and one of tflite_runtime, ai_edge_litert or Google's pycoral;
no network. Beside a TFLite runtime the Edge TPU needs libedgetpu.

It runs {model} on the samples in inputs.npz and prints one JSON object: where it
ran (`ran_on`, and `fallback`: why not on the Edge TPU), `latency_ms` (first run, median, 90th
percentile), `memory_bytes`, and `max_difference`, how far the outputs are from expected.npz, in the
units they are stored in: of an int8 output, steps of its quantization. A few are normal: kernels
round differently, and so does the Edge TPU. The exit status is 0 if the model could be run.

{compiled}

The inputs, in the order of the file:

{inputs}

The outputs:

{outputs}
"""


def export(bundle: Bundle, job: Job, expected: Sequence[Array], options: DeployOptions) -> None:
    """Write the folder; it appears under its name when it is whole.

    Raises:
        UsageError: The folder exists, or cannot be written.
    """
    assert options.export is not None
    target = options.export.absolute()
    if target.exists():
        raise UsageError(
            "the folder exists already", where=str(target), hint="choose another --export"
        )
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        job.write(partial, options.run)
        write_npz(partial / EXPECTED, {str(i): array for i, array in enumerate(expected)})
        if options.labels is not None:
            shutil.copyfile(options.labels, partial / "labels.txt")
        (partial / "README.md").write_text(_readme(bundle, job))
        partial.rename(target)
    except OSError as error:
        raise UsageError(
            "the folder cannot be written", where=str(target), why=error.strerror or str(error)
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _readme(bundle: Bundle, job: Job) -> str:
    artifact = next(a for a in bundle.artifacts.values() if a.path == job.model)
    lists = []
    for specs in (artifact.inputs, artifact.outputs):
        lines = []
        for spec in specs:
            text = f"- {spec.name}: {spec.dtype} {list(spec.shape)}, layout {spec.layout}"
            if spec.quantization is not None:
                q = spec.quantization
                text += f", real = {q.scale:g} * (stored - {q.zero_point})"
            lines.append(text)
        lists.append("\n".join(lines))
    compiled = f"There is none for the Edge TPU here: {job.why_not}." if job.why_not else ""
    if job.compiled is not None:
        compiled = (
            f"{job.compiled_name} is the same model compiled for the Edge TPU. A CPU cannot run "
            f"it; where no Edge TPU works, {job.model.name} runs instead."
        )
    if artifact.tail is not None:
        compiled += (
            f"\n\nThe end of the model was cut off for the CPU and is not here: "
            f"{Path(artifact.tail.path).name} of the bundle."
        )
    return _README.format(
        name=bundle.manifest["model"],
        model=job.model.name,
        compiled=compiled,
        inputs=lists[0],
        outputs=lists[1],
    ).replace("\n\n\n\n", "\n\n")
