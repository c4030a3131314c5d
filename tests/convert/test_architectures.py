"""Whole networks: torch against float TFLite on LiteRT, and no wasted transposes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from edgeconv.convert.saved_model.to_tflite import convert
from edgeconv.convert.saved_model.translate import translate
from edgeconv.convert.torch.export import export
from edgeconv.convert.torch.load import load_model
from edgeconv.convert.torch.model import TorchModel, from_module
from edgeconv.core.artifacts import Arrays, Artifact
from edgeconv.tflite import file as tflite

ZERO_TRANSPOSES = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet18",
    "efficientnet_b0",
    "regnet_y_400mf",
    "densenet121",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
)
REAL = ("blazeface_front", "mtcnn_onet", "resnet20_cifar")


@dataclass(frozen=True)
class Converted:
    """A float TFLite file and how it compares with torch."""

    operators: tuple[str, ...]
    sqnr_db: tuple[float, ...]


@pytest.fixture
def convert_model(tmp_path: Path) -> Callable[[TorchModel, Arrays], Converted]:
    def run(model: TorchModel, feeds: Arrays) -> Converted:
        onnx = export(model, tmp_path / "model.onnx")
        saved = translate(onnx.to_dict(), str(tmp_path / "saved_model"))
        lite = Artifact.from_dict(convert(saved, str(tmp_path / "model.tflite")))
        return Converted(_operators(lite.path), _sqnr(lite, model.run(feeds), feeds))

    return run


def _operators(path: Path) -> tuple[str, ...]:
    model = tflite.load(path)
    return tuple(tflite.operator_name(model, op) for op in model.subgraphs[0].operators)


def _sqnr(lite: Artifact, expected: list[Any], feeds: Arrays) -> tuple[float, ...]:
    interpreter = Interpreter(model_path=str(lite.path), num_threads=1)
    interpreter.allocate_tensors()
    for spec, detail in zip(lite.inputs, interpreter.get_input_details(), strict=True):
        assert detail["name"] == spec.name
        interpreter.set_tensor(detail["index"], spec.store(feeds[spec.name]))
    interpreter.invoke()
    figures = []
    details = interpreter.get_output_details()
    for spec, detail, reference in zip(lite.outputs, details, expected, strict=True):
        found = spec.restore(interpreter.get_tensor(detail["index"]))
        assert found.shape == reference.shape
        error = np.sum((found - reference).astype(np.float64) ** 2)
        figures.append(10 * np.log10(np.sum(reference.astype(np.float64) ** 2) / error))
    return tuple(figures)


def with_statistics(module: torch.nn.Module, shape: tuple[int, ...]) -> torch.nn.Module:
    """Set batch-norm statistics from random data, without which deep outputs vanish."""
    module = copy.deepcopy(module).train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        for _ in range(2):
            module(torch.randn(2, *shape[1:]))
    return module.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ZERO_TRANSPOSES)
def test_torchvision_classifiers(
    name: str, torchvision: ModuleType, convert_model: Callable[[TorchModel, Arrays], Converted]
) -> None:
    torch.manual_seed(0)
    shape = (1, 3, 224, 224)
    module = with_statistics(getattr(torchvision.models, name)(weights=None), shape)
    image = torch.randn(shape)
    model = from_module(module, (image,))
    result = convert_model(model, {model.inputs[0].name: image.numpy()})
    assert min(result.sqnr_db) >= 90
    assert result.operators.count("TRANSPOSE") == 0


@pytest.mark.parametrize("name", REAL)
def test_real_models(
    name: str,
    real_models: Path,
    convert_model: Callable[[TorchModel, Arrays], Converted],
) -> None:
    model = load_model(real_models / f"{name}.pt2")
    assert isinstance(model, TorchModel)
    with np.load(real_models / f"{name}_eval.npz") as data:
        feeds = {model.inputs[0].name: data["in0"][0]}
    result = convert_model(model, feeds)
    assert min(result.sqnr_db) >= 90
    assert result.operators.count("TRANSPOSE") == 0
