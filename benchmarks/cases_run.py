"""Run the last model of a bundle in LiteRT by the manifest alone, and compare it with its source.

    python -m benchmarks.cases_run MODEL SAMPLES BUNDLE

prints one JSON object: by output its SQNR over all, that of its worst part, distinct values here
and in the reference, or the share that is equal. Nothing of the pipeline is used, so that its
mistakes are not made again.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array, Arrays

SAMPLES = 8
_RATIO = 8.0
_FEWEST = 64
"""A position of an axis is looked at by itself where so many values rest on it."""


def reference(model: Path, samples: Sequence[Arrays]) -> list[list[Array]]:
    """Return the outputs of the source model for each sample, in order."""
    if model.suffix == ".onnx":
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it reports from the moment of its import
        import onnxruntime

        session = onnxruntime.InferenceSession(str(model))
        return [session.run(None, sample) for sample in samples]
    import torch

    program = torch.export.load(str(model)).module()
    found = []
    for sample in samples:
        with torch.no_grad():
            out = program(*(torch.from_numpy(np.asarray(array)) for array in sample.values()))
        flat, _ = torch.utils._pytree.tree_flatten(out)
        found.append([value.numpy() for value in flat])
    return found


def run(bundle: Path, samples: Sequence[Arrays]) -> tuple[list[str], list[list[Array]]]:
    """Return the names of the source model's outputs, and their values for each sample."""
    from ai_edge_litert.interpreter import Interpreter

    manifest = json.loads((bundle / "manifest.json").read_text())
    stage = [entry for entry in manifest["stages"] if entry["file"].endswith(".tflite")][-1]
    interpreter = Interpreter(str(bundle / stage["file"]))
    runner = interpreter.get_signature_runner("serving_default")
    names = [spec["name"] for spec in manifest["stages"][0]["outputs"]]
    rows = []
    for sample in samples:
        feeds = {spec["name"]: stored(spec, sample[spec["name"]]) for spec in stage["inputs"]}
        answer = runner(**feeds)
        real = {spec["name"]: restored(spec, answer[spec["name"]]) for spec in stage["outputs"]}
        for join in stage.get("joins", ()):
            real[join["output"]] = joined(join, real)
        rows.append([real[name] for name in names])
    return names, rows


def stored(spec: Mapping[str, Any], array: Array) -> Array:
    """Return an input as the file takes it."""
    moved = np.transpose(array, spec["permutation"])
    if spec["scale"] is not None:
        limits = np.iinfo(spec["dtype"])
        moved = np.rint(moved / spec["scale"]) + spec["zero_point"]
        moved = np.clip(moved, limits.min, limits.max)
    return np.asarray(moved.astype(spec["dtype"]), order="C")


def restored(spec: Mapping[str, Any], array: Array) -> Array:
    """Return an output as the source model has it."""
    if spec["scale"] is not None:
        array = (array.astype(np.float64) - spec["zero_point"]) * spec["scale"]
    return np.transpose(array, np.argsort(spec["permutation"]))


def joined(join: Mapping[str, Any], arrays: Mapping[str, Array]) -> Array:
    """Put an output together from its parts."""
    order = [place for part in join["parts"] for ends in part["slices"] for place in range(*ends)]
    together = np.concatenate([arrays[part["name"]] for part in join["parts"]], join["axis"])
    return np.take(together, np.argsort(order), join["axis"])


def figures(expected: Array, actual: Array) -> dict[str, Any]:
    """Return the figures of one output over all samples, ``[sample, ...]``."""
    if expected.shape != actual.shape:
        return {"equal": 0.0, "shape": list(actual.shape)}
    if expected.dtype.kind in "biu":
        return {"equal": float((expected == actual).mean()) if expected.size else 1.0}
    ref, got = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(ref)
    if not np.isfinite(got[finite]).all():
        return {"db": -300.0, "worst_db": -300.0, "levels": 0, "reference_levels": 0}
    ref, got = np.where(finite, ref, 0), np.where(finite, got, 0)
    parts = [decibels(np.take(ref, where, axis), np.take(got, where, axis))
             for axis, where in groups(ref)]  # fmt: skip
    whole = decibels(ref, got)
    # Rows that a top-k chose may come in another order: the better of both counts.
    ordered = decibels(np.sort(ref, 1), np.sort(got, 1)) if ref.ndim > 1 else whole
    half = {"half": True} if expected.dtype == np.float16 else {}
    return {
        **half,
        "db": max(whole, ordered),
        "worst_db": max(ordered if ordered > whole + 20 else -math.inf, min([whole, *parts])),
        "levels": int(np.unique(got).size),
        "reference_levels": int(np.unique(ref).size),
    }


def groups(reference: Array) -> list[tuple[int, Array]]:
    """Return positions of axes whose ranges differ by more than 8 to 1, by their size."""
    found: list[tuple[int, Array]] = []
    for axis in range(1, reference.ndim):
        others = tuple(other for other in range(reference.ndim) if other != axis)
        if reference.size // max(1, reference.shape[axis]) < _FEWEST or reference.shape[axis] < 2:
            continue
        peaks = np.abs(reference).max(others)
        if peaks.max() <= 0 or peaks.max() <= _RATIO * peaks[peaks > 0].min():
            continue
        sizes = np.floor(np.log(np.maximum(peaks, 1e-30) / peaks.max()) / math.log(_RATIO))
        counted = np.unique(sizes[peaks > 1e-6 * peaks.max()])
        found += [(axis, np.flatnonzero(sizes == size)) for size in counted]
    return found


def decibels(reference: Array, candidate: Array) -> float:
    """Return the SQNR, at most 300 dB."""
    noise = float(np.square(reference - candidate).sum())
    signal = float(np.square(reference).sum())
    if noise == 0:
        return 300.0
    return 10 * math.log10(signal / noise) if signal else -300.0


def main() -> None:
    """Run from the command line."""
    model, data, bundle = map(Path, sys.argv[1:4])
    with np.load(data) as archive:
        arrays = {name: archive[name] for name in archive.files}
    count = min(SAMPLES, *(len(array) for array in arrays.values()))
    samples = [{name: array[-1 - i] for name, array in arrays.items()} for i in range(count)]
    expected = reference(model, samples)
    names, actual = run(bundle, samples)
    columns = zip(names, zip(*expected, strict=True), zip(*actual, strict=True), strict=True)
    print(json.dumps({name: figures(np.stack(a), np.stack(b)) for name, a, b in columns}))


if __name__ == "__main__":
    main()
