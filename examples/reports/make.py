"""Make the reports of this directory: of real models, and of two bundles broken on purpose.

    python examples/reports/make.py [--models DIRECTORY] [--output DIRECTORY] [NAME ...]

The real models are ``NAME.pt2`` files with ``NAME_calib.npz`` beside them; the broken bundles are
made from the digits example, which is part of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
from onnx import numpy_helper

import edgeconv
from edgeconv.convert.onnx.file import describe_onnx
from edgeconv.core.artifacts import Artifact
from edgeconv.core.bundle import MANIFEST, describe_artifact, open_bundle, write_json
from edgeconv.parity.bundle import VerifyOptions, verify_bundle
from edgeconv.parity.layers.onnx_graph import origins
from edgeconv.quantize import engine
from edgeconv.quantize.params.qparams import Range
from edgeconv.quantize.rewrite import static
from edgeconv.reports.bundle import update
from edgeconv.reports.markdown import render_markdown
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool

HERE = Path(__file__).resolve().parent
DIGITS = HERE.parent / "digits"

REAL = (
    "blazeface_front",
    "crepe_tiny",
    "mtcnn_onet",
    "resnet20_cifar",
    "silero16k",
    "vit_mnist",
)

_SOURCE = re.compile(r"(?<![\w./<:])(/(?:[\w.-]+/)+[\w.-]+\.py)(?=:\d)")

SPOILED_MODULE = "blocks.1.project.1"
"""The module whose layer is spoiled: a convolution in the middle of the network."""


def convert(model: Path, calibration: Path, directory: Path, *, explain: bool = False) -> Path:
    """Convert a model to int8, and return the bundle."""
    result = edgeconv.convert(
        model,
        output=directory / f"{model.stem}.edgeconv",
        quantize="int8",
        calibration_data=str(calibration),
        explain=explain,
    )
    return result.path


def layer_of(bundle: Path, module: str) -> str:
    """Return the ONNX value that a PyTorch module's layer makes."""
    found = origins(open_bundle(bundle).artifacts["onnx"].path)
    return next(value for value, origin in found.items() if origin.module == module)


def spoil_weight(bundle: Path, value: str) -> None:
    """Turn the sign of one filter of a layer in the bundle's SavedModel, and there alone."""
    artifacts = open_bundle(bundle).artifacts
    model = onnx.load(str(artifacts["onnx"].path))
    node = next(item for item in model.graph.node if value in item.output)
    weight = next(item for item in model.graph.initializer if item.name == node.input[1])
    array = numpy_helper.to_array(weight).copy()
    array[0] *= -1
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    with tempfile.TemporaryDirectory() as temporary, WorkerPool() as workers:
        path = Path(temporary) / "spoiled.onnx"
        onnx.save(model, str(path))
        answer = workers.call(
            WorkerKind.TENSORFLOW,
            "edgeconv.convert.saved_model.translate:translate",
            onnx=describe_onnx(path).to_dict(),
            directory=str(artifacts["saved_model"].path),
        )
    replace_stage(bundle, "saved_model", Artifact.from_dict(answer))


def spoil_calibration(bundle: Path, tensor: str) -> None:
    """Quantize again as if calibration had seen a tenth of one tensor's range."""
    artifacts = open_bundle(bundle).artifacts
    real = static.calibrated_ranges

    def narrow(graph: Any, *arguments: Any, **named: Any) -> dict[int, Range]:
        ranges = dict(real(graph, *arguments, **named))
        index = next(i for i in ranges if tensor in graph.name(i).split(";"))
        ranges[index] = Range(ranges[index].low / 10, ranges[index].high / 10)
        return ranges

    with (
        mock.patch.object(static, "calibrated_ranges", narrow),
        tempfile.TemporaryDirectory() as temporary,
    ):
        samples = Path(temporary) / "samples.npz"
        with np.load(DIGITS / "calibration.npz") as arrays:
            name = artifacts["tflite_fp32"].inputs[0].name
            array = next(iter(arrays.values()))
            shape = tuple(int(size or 1) for size in artifacts["onnx"].inputs[0].shape)
            np.savez(samples, **{name: array.reshape(-1, *shape)[:100]})
        answer = engine.quantize(
            artifacts["tflite_fp32"].to_dict(),
            str(artifacts["tflite_int8"].path),
            "int8",
            samples=str(samples),
        )
    replace_stage(bundle, "tflite_int8", Artifact.from_dict(answer))


def replace_stage(bundle: Path, stage: str, artifact: Artifact) -> None:
    """Describe a stage's changed file in the manifest."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    for entry in manifest["stages"]:
        if entry["name"] == stage:
            entry.update(describe_artifact(artifact, bundle))
    write_json(bundle / MANIFEST, manifest)


def keep(bundle: Path, name: str, directory: Path) -> str:
    """Verify a bundle, keep its page and its Markdown, and return the Markdown's first line."""
    found = verify_bundle(bundle, VerifyOptions())
    page = update(bundle, found.parity, found.vectors[2]).read_text()
    for folder in HERE.parents[1:3]:
        page = page.replace(f"{folder}/", "")
    (directory / f"{name}.html").write_text(relative(page))
    text = relative(render_markdown(found.manifest, found.parity))
    (directory / f"{name}.md").write_text(text)
    return text.splitlines()[0]


def relative(text: str) -> str:
    """Return a report whose source lines are counted from the directory that they share.

    A program names its sources as the machine that exported it had them.
    """
    files = set(_SOURCE.findall(text))
    shared = os.path.commonpath([Path(file).parent for file in files]) if files else ""
    return text.replace(f"{shared}/", "") if len(shared) > 1 else text


def broken(kind: str, directory: Path, scratch: Path) -> str:
    """Make one of the broken reports, and return its first line."""
    bundle = convert(DIGITS / "digits.pt2", DIGITS / "calibration.npz", scratch)
    value = layer_of(bundle, SPOILED_MODULE)
    if kind == "wrong_weight":
        spoil_weight(bundle, value)
    else:
        spoil_calibration(bundle, f"{value}/Add")
    return keep(bundle, f"broken_{kind}", directory)


def main() -> None:
    """Make the reports that are asked for."""
    parser = argparse.ArgumentParser(description="Make example reports.")
    parser.add_argument("names", nargs="*", help="models, or broken_...; all by default")
    parser.add_argument("--models", type=Path, default=HERE.parents[2] / "shared" / "real_models")
    parser.add_argument("--output", type=Path, default=HERE)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    names = arguments.names or ["broken_wrong_weight", "broken_calibration", *REAL]
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            scratch = Path(temporary)
            if name.startswith("broken_"):
                line = broken(name.removeprefix("broken_"), arguments.output, scratch)
            else:
                model = arguments.models / f"{name}.pt2"
                calibration = arguments.models / f"{name}_calib.npz"
                bundle = convert(model, calibration, scratch, explain=True)
                line = keep(bundle, name, arguments.output)
        print(line)


if __name__ == "__main__":
    main()
