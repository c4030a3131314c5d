"""Quantize one float model with one of edgeconv's calibrators; a process of its own.

python -m benchmarks.quantization_own BUNDLE SAMPLES CALIBRATOR DISABLED OUTPUT RESULT

SAMPLES is an ``.npz`` of the inputs ``in0``, ``in1``, ... in the model's layout; DISABLED is
``all`` to leave recovery out, or empty. Writes the seconds that calibration and quantization took,
and what recovery kept.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from edgeconv.core import bundle
from edgeconv.quantize.engine import quantize


def main(
    folder: str, samples: str, calibrator: str, disabled: str, output: str, result: str
) -> None:
    """Quantize the bundle's float model, and write the figures."""
    stages = json.loads((Path(folder) / "manifest.json").read_text())["stages"]
    entry = next(item for item in stages if item["name"] == "tflite_fp32")
    artifact = bundle.artifact_of(entry, Path(folder))
    named = f"{output}.npz"
    with np.load(samples, allow_pickle=False) as data:
        arrays = {spec.name: data[f"in{count}"] for count, spec in enumerate(artifact.inputs)}
    np.savez(named, allow_pickle=False, **arrays)
    started = time.perf_counter()
    found = quantize(
        artifact.to_dict(), output, "int8", samples=named, calibrator=calibrator,
        disable_recovery=[disabled] if disabled else [],
    )  # fmt: skip
    seconds = time.perf_counter() - started
    Path(result).write_text(json.dumps({"seconds": seconds, "recovery": found["recovery"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
