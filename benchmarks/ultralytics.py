"""Detectors of Ultralytics in int8: each part of their outputs, and detections that agree.

    python -m benchmarks.ultralytics --python PYTHON [--models NAME ...] [--size N] [--output FILE]
    python -m benchmarks.ultralytics --made FOLDER --models NAME

PYTHON is an interpreter whose environment has the package; see ``requirements.txt``. It writes the
programs (`ultralytics_export`), which are converted here for each target and type of inputs and
outputs. Their weights are random, and such networks amplify noise from layer to layer (Yang et al.
2019, "A mean field theory of batch normalization"): with 16-bit activations, too, they lose much of
their scores. What a trained network keeps is told by one that was trained: FOLDER may have
``NAME.onnx``, as Ultralytics exports it, and samples of the kind that it was trained on, ``images``
``[sample, 1, 3, height, width]`` in ``NAME.npz`` and ``NAME_unseen.npz``.

The last .tflite file is run on images that calibration has not seen, and compared with the
ONNX file that it comes from, whatever parity says. A detection agrees with one of the same class
whose boxes overlap by half.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import edgeconv
from edgeconv.core.artifacts import Array, Arrays
from edgeconv.core.errors import EdgeconvError
from edgeconv.parity.check import run_artifact
from edgeconv.pipeline.result import Result
from edgeconv.toolchain.worker.pool import WorkerPool

MODELS = ("yolov8n", "yolo11n", "yolo26n", "yolo11n-pose", "yolo11n-seg")
CASES = (("cpu", "float32"), ("cpu", "uint8"), ("coral", "float32"), ("coral", "uint8"))
RESULTS = Path(__file__).parent / "results" / "ultralytics.md"
_THRESHOLD, _OVERLAP, _SAME = 0.25, 0.45, 0.5
_MOST = 1000
"""As many candidates are looked at, those of the highest scores."""
_KEYPOINTS, _MASKS = 17, 32
Detections = list[tuple[int, float, Array]]
"""Class, score, and box as left, top, right, bottom in pixels."""


def parts_of(name: str, output: Array) -> Arrays:
    """Return the parts of a model's first output ``[sample, 1, ...]`` by what they are."""
    if output.shape[-1] == 6:
        return {"boxes": output[..., :4], "scores": output[..., 4], "classes": output[..., 5]}
    others = 3 * _KEYPOINTS if name.endswith("-pose") else _MASKS * name.endswith("-seg")
    count = output.shape[2] - 4 - others
    found = {"boxes": output[:, :, :4], "scores": output[:, :, 4 : 4 + count]}
    rest = output[:, :, 4 + count :]
    if name.endswith("-pose"):
        points = rest.reshape(*rest.shape[:2], _KEYPOINTS, 3, -1)
        found |= {"keypoints": points[:, :, :, :2], "visible": points[:, :, :, 2]}
    elif rest.shape[2]:
        found["masks"] = rest
    return found


def detections(parts: Mapping[str, Array], sample: int) -> Detections:
    """Return what is found in a sample, after non-maximum suppression where the model has none."""
    boxes, scores = parts["boxes"][sample, 0], parts["scores"][sample, 0]
    if "classes" in parts:
        classes = np.rint(parts["classes"][sample, 0]).astype(int)
        return [
            (int(classes[row]), float(scores[row]), boxes[row])
            for row in np.flatnonzero(scores > _THRESHOLD)
        ]
    middle, half = boxes[:2], boxes[2:] / 2
    corners = np.concatenate([middle - half, middle + half]).T
    classes, places = np.nonzero(scores > _THRESHOLD)
    order = np.argsort(-scores[classes, places], kind="stable")[:_MOST]
    kept: Detections = []
    for number, place in zip(classes[order], places[order], strict=True):
        own = [other for one, _, other in kept if one == number]
        if not own or overlap(corners[place], np.array(own)).max() <= _OVERLAP:
            kept.append((int(number), float(scores[number, place]), corners[place]))
    return kept


def overlap(box: Array, others: Array) -> Array:
    """Return the intersections of a box with others ``[box, 4]`` over their unions."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inside = sides.clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).clip(0).prod(axis=1)
    union = (box[2:] - box[:2]).clip(0).prod() + areas - inside
    return np.asarray(inside / np.maximum(union, 1e-9))


def agreement(expected: Detections, found: Detections) -> tuple[int, int]:
    """Return how many detections of either side have a match on the other, and how many are."""
    left = list(range(len(found)))
    matched = 0
    for number, _, box in expected:
        same = [place for place in left if found[place][0] == number]
        if same:
            shares = overlap(box, np.array([found[place][2] for place in same]))
            if shares.max() >= _SAME:
                left.remove(same[int(shares.argmax())])
                matched += 1
    return 2 * matched, len(expected) + len(found)


def decibels(expected: Array, found: Array) -> float:
    """Return the SQNR in dB."""
    signal = expected.astype(np.float64)
    noise = float(np.square(signal - found).sum())
    return 300.0 if noise == 0 else 10 * float(np.log10(np.square(signal).sum() / noise))


def ordered(parts: Arrays, like: Arrays) -> Arrays:
    """Return rows that top-k has ordered in the order of those that they are nearest to."""
    if "classes" not in parts:
        return parts
    keys = ("boxes", "scores", "classes")
    found = {key: np.copy(parts[key]) for key in keys}
    for sample in range(len(parts["scores"])):
        rows = np.column_stack([parts["boxes"][sample, 0], 1e3 * parts["classes"][sample, 0]])
        wanted = np.column_stack([like["boxes"][sample, 0], 1e3 * like["classes"][sample, 0]])
        distances = np.abs(rows[None] - wanted[:, None]).sum(axis=2)
        nearest = distances.argmin(axis=1)
        for key in keys:
            found[key][sample, 0] = parts[key][sample, 0][nearest]
    return found


def measure(name: str, result: Result, images: Array, folder: Path) -> dict[str, Any]:
    """Return the figures of a bundle on images that calibration has not seen."""
    with WorkerPool() as workers:
        feed = {next(iter(result.artifacts["onnx"].inputs)).name: images}
        reference = run_artifact(workers, result.artifacts["onnx"], feed, folder)[0]
        found = run_artifact(workers, result.model, feed, folder)[0]
    first, *others = reference
    expected, actual = parts_of(name, reference[first]), parts_of(name, found[first])
    compared = ordered(actual, expected)
    figures = {key: decibels(expected[key], compared[key]) for key in expected}
    figures |= {other: decibels(reference[other], found[other]) for other in others}
    agreeing = [
        agreement(detections(expected, sample), detections(actual, sample))
        for sample in range(len(images))
    ]
    same, total = (sum(column) for column in zip(*agreeing, strict=True))
    return {
        "db": figures,
        "distinct_scores": int(np.unique(actual["scores"]).size),
        "distinct_scores_reference": int(np.unique(expected["scores"]).size),
        "detections": sum(len(detections(expected, sample)) for sample in range(len(images))),
        "agree": same / total if total else 1.0,
        "parity": result.manifest["verdict"],
    }


def run_case(
    name: str, case: str, made: Path, work: Path, disable_recovery: Sequence[str]
) -> dict[str, Any]:
    """Convert a model for a target, and measure it."""
    target, io_dtype = case.split("/")
    row = {"model": name, "target": target, "io_dtype": io_dtype}
    try:
        with np.load(made / f"{name}_unseen.npz", allow_pickle=False) as archive:
            images = archive["images"]
        onnx = made / f"{name}.onnx"
        result = edgeconv.convert(
            onnx if onnx.exists() else made / f"{name}.pt2",
            input_shapes=[images.shape[1:]] if onnx.exists() else (),
            output=work / f"{name}_{target}_{io_dtype}.edgeconv",
            quantize="int8",
            target=target,
            io_dtype=io_dtype,
            calibration_data=str(made / f"{name}.npz"),
            layers=False,
            disable_recovery=disable_recovery,
            force=True,
        )
        return {**row, **measure(name, result, images, work)}
    except EdgeconvError as error:
        return {**row, "error": str(error).splitlines()[0]}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as Markdown."""
    head = ["model", "target", "I/O", "dB of each part", "scores", "detections", "agree", "parity"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row["model"], row["target"], row["io_dtype"]]
        if "error" in row:
            cells += [row["error"], "", "", "", ""]
        else:
            cells += [
                ", ".join(f"{key} {value:.1f}" for key, value in row["db"].items()),
                f"{row['distinct_scores']:,} of {row['distinct_scores_reference']:,}",
                str(row["detections"]),
                f"{100 * row['agree']:.1f} %",
                row["parity"],
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _write(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> None:
    names = ", ".join(options.disable_recovery)
    without = f", without recovery ({names})" if names else ""
    title = f"Detectors of Ultralytics at {options.size} in int8{without}.{options.note}\n\n"
    options.output.write_text(title + table(rows) + "\n")
    options.output.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", help="interpreter that has ultralytics; needed to make models")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--cases", nargs="+", default=["/".join(case) for case in CASES])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--made", type=Path, help="folder of programs; made there if missing")
    parser.add_argument("--disable-recovery", nargs="+", default=(), help="as of torch2tflite")
    parser.add_argument("--note", default="", help="what to say of the models, behind a space")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.python:
        probe = [options.python, "-c", "import ultralytics"]
        if subprocess.run(probe, capture_output=True, check=False).returncode:
            sys.exit(f"skipped: {options.python} has no ultralytics")
    rows = []
    with tempfile.TemporaryDirectory(prefix="ultralytics-") as scratch:
        made = options.made or Path(scratch)
        made.mkdir(parents=True, exist_ok=True)
        for name in options.models:
            if not (made / f"{name}_unseen.npz").exists():
                if not options.python:
                    sys.exit(f"{made} has no {name}_unseen.npz, and no --python makes it")
                script = Path(__file__).with_name("ultralytics_export.py")
                command = [options.python, script, name, str(options.size), made]
                subprocess.run(command, check=True)
            for case in options.cases:
                work = Path(scratch)
                rows.append(run_case(name, case, made, work, options.disable_recovery))
                sys.stdout.write(table(rows[-1:]).splitlines()[-1] + "\n")
                sys.stdout.flush()
                _write(rows, options)


if __name__ == "__main__":
    main()
