"""The whole pipeline on pretrained models with real inputs, measured on inputs it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

import edgeconv
from edgeconv.core.artifacts import Array, Artifact

pytestmark = pytest.mark.slow

# Lowest int8 SQNR in dB of any output; ranges come from few samples, so there is some slack below
# what is measured today (24, 22, 23).
FLOORS = {"resnet20_cifar": 22.0, "blazeface_front": 20.0, "mtcnn_onet": 21.0}
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def convert(name: str, real_models: Path, output: Path) -> edgeconv.Result:
    return edgeconv.convert(
        real_models / f"{name}.pt2",
        quantize="int8",
        calibration_data=real_models / f"{name}_calib.npz",
        verify_data=real_models / f"{name}_eval.npz",
        parity_samples=64,
        output=output / f"{name}.edgeconv",
    )


@pytest.mark.parametrize("name", FLOORS)
def test_parity_of_every_stage(name: str, real_models: Path, tmp_path: Path) -> None:
    result = convert(name, real_models, tmp_path)
    assert result.passed
    stages = {stage["stage"]: stage for stage in result.parity.to_dict()["stages"]}
    assert list(stages) == ["onnx", "saved_model", "tflite_fp32", "tflite_int8"]
    for label, stage in stages.items():
        floor = FLOORS[name] if label == "tflite_int8" else 90
        assert min(output["sqnr_db"] for output in stage["outputs"]) >= floor, label
    if name == "resnet20_cifar":
        assert_top1(result, real_models)


def assert_top1(result: edgeconv.Result, real_models: Path) -> None:
    """Int8 may lose at most 1.5 points of float top-1 on labelled images."""
    with np.load(real_models / "cifar10_labelled.npz") as data:
        images = (data["x"].astype(np.float32) / 255 - MEAN) / STD
        labels = data["y"]
    images = images.transpose(0, 3, 1, 2)
    module = torch.export.load(real_models / "resnet20_cifar.pt2").module()
    with torch.no_grad():
        logits = [module(torch.from_numpy(image[None])) for image in images]
    expected = float(np.mean(torch.cat(logits).numpy().argmax(1) == labels))
    found = float(np.mean(run(result.model, images).argmax(1) == labels))
    assert expected > 0.78
    assert found >= expected - 0.015


def run(artifact: Artifact, images: Array) -> Array:
    interpreter = Interpreter(model_path=str(artifact.path))
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    (sink,) = interpreter.get_output_details()
    rows = []
    for image in images:
        interpreter.set_tensor(source["index"], artifact.inputs[0].store(image[None]))
        interpreter.invoke()
        rows.append(artifact.outputs[0].restore(interpreter.get_tensor(sink["index"])))
    return np.concatenate(rows)
