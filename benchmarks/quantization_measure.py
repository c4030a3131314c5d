"""Run quantized files on evaluation samples; a process of its own, for LiteRT may abort.

python -m benchmarks.quantization_measure REQUEST_JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgeconv.core import bundle
from edgeconv.core.artifacts import Array, Artifact
from edgeconv.metrics.parity import compare_output

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


def labelled(evaluation: Path) -> tuple[Array, Array] | None:
    """Return labelled images as the model takes them, where there are some."""
    name = evaluation.name.removesuffix("_eval.npz")
    with np.load(evaluation) as data:
        if "y" in data.files:
            return data["in0"], data["y"]
    if name == "resnet20_cifar":
        with np.load(evaluation.with_name("cifar10_labelled.npz")) as data:
            images = (data["x"].astype(np.float32) / 255 - _MEAN) / _STD
            return images.transpose(0, 3, 1, 2)[:, None], data["y"]
    if name == "vit_mnist":
        with np.load(evaluation.with_name("mnist_labelled.npz")) as data:
            images = (data["x"].astype(np.float32) / 255 - 0.5) / 0.5
            return images.reshape(-1, 1, 1, 28, 28), data["y"]
    return None


class _Model:
    """A file with float, or by its scales integer, inputs and outputs, called by name."""

    def __init__(self, path: Path, artifact: Artifact) -> None:
        interpreter = Interpreter(model_path=str(path), num_threads=2)
        interpreter.allocate_tensors()
        self._runner = interpreter.get_signature_runner("serving_default")
        self._artifact = artifact

    def __call__(self, feeds: list[Array]) -> list[Array]:
        details = self._runner.get_input_details()
        stored = {
            spec.name: _stored(spec.store(array), details[spec.name])
            for spec, array in zip(self._artifact.inputs, feeds, strict=True)
        }
        found, details = self._runner(**stored), self._runner.get_output_details()
        return [
            spec.restore(_real(found[spec.name], details[spec.name]))
            for spec in self._artifact.outputs
        ]


def _stored(array: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] == np.float32:
        return array
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    steps = np.rint(array / scale) + zero_point
    stored: Array = steps.clip(limits.min, limits.max).astype(detail["dtype"])
    return stored


def _real(array: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] == np.float32:
        return array
    scale, zero_point = detail["quantization"]
    reals: Array = ((array.astype(np.float64) - zero_point) * scale).astype(np.float32)
    return reals


def measure(
    path: Path, artifact: Artifact, evaluation: Path, *, labels: bool = True
) -> dict[str, Any]:
    """Return SQNR of each output, bytes, and top-1 where there are ``labels``."""
    model = _Model(path, artifact)
    with np.load(evaluation) as data:
        inputs = [data[f"in{count}"] for count in range(len(artifact.inputs))]
        expected = [data[f"out{count}"] for count in range(len(artifact.outputs))]
    rows = [model([array[count] for array in inputs]) for count in range(len(inputs[0]))]
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    figures: dict[str, Any] = {
        "sqnr_db": [
            compare_output("", reference, found).sqnr_db
            for reference, found in zip(expected, columns, strict=True)
        ],
        "bytes": path.stat().st_size,
    }
    known = labelled(evaluation) if labels else None
    if known is not None:
        images, classes = known
        hits = [
            int(model([image])[0].argmax()) == label
            for image, label in zip(images, classes, strict=True)
        ]
        figures["top1"] = 100 * float(np.mean(hits))
    return figures


def main(request: dict[str, Any]) -> None:
    """Measure one file and write the figures."""
    folder = Path(request["bundle"])
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(item for item in manifest["stages"] if item["name"] == "tflite_fp32")
    artifact = bundle.artifact_of(entry, folder)
    figures = measure(Path(request["file"]), artifact, Path(request["evaluation"]))
    Path(request["result"]).write_text(json.dumps(figures))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
