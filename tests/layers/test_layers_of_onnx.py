"""Layers of ONNX files against the PyTorch programs that they were exported from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgeconv.convert.onnx.file import describe_onnx
from edgeconv.convert.torch import export as torch_to_onnx
from edgeconv.convert.torch.model import from_module
from edgeconv.convert.torch.values import TorchValues
from edgeconv.metrics.report import FAIL, StageParity
from edgeconv.parity.layers.entries import kept_from, layers_of
from edgeconv.parity.layers.measure import layers_of_onnx
from edgeconv.toolchain.worker.pool import WorkerPool
from tests.reports.samples import as_report

STAGE = StageParity("onnx", "m.onnx", FAIL, {"sqnr_db": 80.0})


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.dense = torch.nn.Linear(36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = torch.ones(1, 4, 1, 1) * 2
        x = torch.nn.functional.hardswish(self.norm(self.conv(x))) * shape
        x = torch.nn.functional.avg_pool2d(x, 2)
        return torch.softmax(self.dense(x.flatten(1)), -1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[TorchValues, Path]:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("export") / "m.onnx"
    model = from_module(Network().eval(), torch.randn(1, 3, 8, 8))
    programs: list[Any] = []
    torch_to_onnx.export(model, path, keep=programs.append)
    return TorchValues(model, programs[0]), path


@pytest.fixture(scope="module")
def workers() -> Any:
    with WorkerPool() as pool:
        yield pool


def vectors() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=(3, 1, 3, 8, 8)).astype(np.float32)}


def test_fused_values_are_matched_to_what_they_became(exported: tuple[TorchValues, Path]) -> None:
    values, path = exported
    found = values.match(path)
    made = {name for node in onnx.load(path).graph.node for name in node.output}
    assert set(found.shapes) <= made
    assert {"getitem", "hardswish", "linear", "softmax"} <= set(found.shapes)
    reasons = {name: why for name, _, why in found.unmatched}
    assert reasons["conv2d"] == "part of getitem"
    assert "folded into a constant" in reasons.values()


def test_a_name_alone_is_no_evidence(exported: tuple[TorchValues, Path], tmp_path: Path) -> None:
    values, path = exported
    model = onnx.load(path)
    for node in model.graph.node:
        if "linear" in node.output:
            del node.metadata_props[:]
    other = tmp_path / "other.onnx"
    onnx.save(model, other)
    found = values.match(other)
    assert "linear" not in found.shapes
    assert ("linear", "part of softmax") in {(name, why) for name, _, why in found.unmatched}


def test_every_layer_agrees_and_a_wrong_weight_is_blamed_alone(
    exported: tuple[TorchValues, Path], workers: WorkerPool, tmp_path: Path
) -> None:
    values, path = exported
    right = layers_of_onnx(workers, describe_onnx(path), values, vectors(), tmp_path)
    assert right.samples == 3
    assert all((layer.here_db or 0) > 110 for layer in right.layers)
    assert layers_of(right, STAGE).first is None
    model = onnx.load(path)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(item for item in model.graph.initializer if item.name == conv.input[1])
    array = numpy_helper.to_array(weight).copy()
    array[0] *= -1
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    wrong = tmp_path / "wrong.onnx"
    onnx.save(model, wrong)
    found = layers_of_onnx(workers, describe_onnx(wrong), values, vectors(), tmp_path)
    first = layers_of(found, STAGE).first
    assert first is not None
    assert first.name == "getitem"
    assert first.module == "norm"
    assert first.source.rpartition(":")[0].endswith(Path(__file__).name)
    others = [layer for layer in found.layers if layer.name != "getitem"]
    assert all((layer.here_db or 0) > 110 for layer in others)
    assert any((layer.carried_db or 0) < 60 for layer in others)


def test_layers_of_another_file_are_not_kept() -> None:
    layer = {"name": "x", "op": "Conv"}
    stage = {"stage": "onnx", "layers_of": "a", "layer_samples": 1, "layers": [layer]}
    before = as_report({"stages": [stage]})
    report = as_report({"stages": [{"stage": "onnx", "worst_layers": []}]})
    kept = kept_from(before, report, "onnx", "a").to_dict()["stages"][0]
    assert [item["name"] for item in kept["layers"]] == ["x"]
    assert kept["layers_note"].startswith("measured when the bundle was made, not now")
    other = kept_from(before, report, "onnx", "b").to_dict()["stages"][0]
    assert "layers" not in other
    assert other["layers_note"].startswith("not measured")
