"""Quantize one float model with recovery and without, and measure both on unseen samples.

python -m benchmarks.recovery_case REQUEST_JSON

A process of its own, for LiteRT may abort. Prints a line of JSON for each case.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quantization_measure import measure
from edgeconv.core import bundle
from edgeconv.core.artifacts import Array, Artifact
from edgeconv.quantize.engine import quantize

_SEED = 20


def cases(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the figures of each mode and number of samples, with recovery and without.

    Args:
        request: ``bundle`` (a directory with the float model), ``calibration`` and ``evaluation``
            (``.npz`` files), ``modes``, ``counts`` (numbers of calibration samples; ``0`` is all),
            ``draws`` (how often fewer than all are drawn), ``disabled`` (lists of the methods to
            leave out) and ``work`` (a directory for files).
    """
    folder, work = Path(request["bundle"]), Path(request["work"])
    stages = json.loads((folder / "manifest.json").read_text())["stages"]
    entry = next(item for item in stages if item["name"] == "tflite_fp32")
    artifact = bundle.artifact_of(entry, folder)
    with np.load(request["calibration"], allow_pickle=False) as data:
        arrays = {spec.name: data[f"in{count}"] for count, spec in enumerate(artifact.inputs)}
    total = len(next(iter(arrays.values())))
    for count in request["counts"]:
        for draw in range(request["draws"] if 0 < count < total else 1):
            samples = work / "samples.npz"
            np.savez(samples, allow_pickle=False, **_drawn(arrays, count, draw))
            for mode in request["modes"]:
                for disabled in request["disabled"]:
                    case = {"mode": mode, "count": count or total, "draw": draw}
                    case["disabled"] = disabled
                    yield case | _figures(artifact, samples, request, mode, disabled)


def _drawn(arrays: dict[str, Array], count: int, draw: int) -> dict[str, Array]:
    """Return some samples in their order: evenly spread, or from the second draw on at random."""
    total = len(next(iter(arrays.values())))
    places = np.arange(total)
    if 0 < count < total:
        places = np.linspace(0, total - 1, count).round().astype(int)
        if draw:
            generator = np.random.default_rng([_SEED, draw])
            places = np.sort(generator.choice(total, count, replace=False))
    return {name: array[places] for name, array in arrays.items()}


def _figures(
    artifact: Artifact, samples: Path, request: dict[str, Any], mode: str, disabled: list[str]
) -> dict[str, Any]:
    path = Path(request["work"]) / "out.tflite"
    started = time.perf_counter()
    found = quantize(
        artifact.to_dict(), str(path), mode, samples=str(samples), calibrator="mse",
        disable_recovery=disabled,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    figures = measure(path, artifact, Path(request["evaluation"]), labels=False)
    return figures | {"seconds": seconds, "recovery": found["recovery"]}


if __name__ == "__main__":
    for line in cases(json.loads(Path(sys.argv[1]).read_text())):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
