"""A layer is named by its ONNX node, by what that makes, or by its PyTorch module, everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import edgeconv
from edgeconv.convert.onnx.origin import origins_of
from edgeconv.core.errors import UsageError
from edgeconv.inspection.inspect import inspect
from edgeconv.inspection.text import render
from edgeconv.parity.isolate import _value
from edgeconv.parity.layers.onnx_graph import origins
from edgeconv.quantize.rules.precision import assign, keep
from edgeconv.targets.coral.legalise import tail
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
        self.left = torch.nn.Conv2d(2, 4, 1)
        self.head = torch.nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.stem(x).chunk(2, 1)
        return torch.exp(self.head(torch.cat([torch.tanh(self.left(a)), b], 1)))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> edgeconv.Result:
    out = tmp_path_factory.mktemp("names") / "m.edgeconv"
    return edgeconv.convert(Net().eval(), torch.rand(1, 3, 8, 8), output=out, verify=False)


def test_every_way_to_name_a_layer_is_known_everywhere(result: edgeconv.Result) -> None:
    onnx = result.artifacts["onnx"].path
    graph = Graph(tflite.load(result.artifacts["tflite_fp32"].path))
    also = origins_of(onnx)
    left = next(node for node in inspect(onnx)["nodes"] if node["module"] == "left")
    for name in (left["name"], left["outputs"][0], "left"):
        chosen = assign(graph, "int8", [keep(name, "float", "--keep-float")], also)
        kept = [
            graph.op(op) for op, one in zip(graph.operators, chosen, strict=True) if one == "float"
        ]
        assert kept == ["CONV_2D"], name
        assert _value(name, origins(onnx)) == left["outputs"][0]
        behind = {graph.op(operator) for operator in tail.find(graph, [name], also)}
        assert behind == {"TANH", "CONCATENATION", "CONV_2D", "EXP"}, name
    behind = {graph.op(operator) for operator in tail.find(graph, ["stem"], also)}
    assert "SPLIT" in behind
    assert _value("stem", origins(onnx)) == origins_last(onnx, "stem")
    with pytest.raises(UsageError, match="--cut nothing is not in the model"):
        tail.find(graph, ["nothing"], also)


def origins_last(onnx: Path, module: str) -> str:
    found: list[Any] = [
        value for value, origin in origins(onnx).items() if origin.module.startswith(module)
    ]
    return str(found[-1])


def test_every_output_of_a_node_is_a_name(result: edgeconv.Result) -> None:
    onnx = result.artifacts["onnx"].path
    (split,) = (node for node in inspect(onnx)["nodes"] if node["op"] == "Split")
    known = {name for names in origins_of(onnx).values() for name in names}
    assert {split["name"], *split["outputs"]} <= known


def test_inspect_lists_the_names(result: edgeconv.Result) -> None:
    found = inspect(result.artifacts["onnx"].path)
    text = render(found)
    for node in found["nodes"]:
        if node["op"] != "Constant":
            assert f"{node['name']} " in text
            assert ", ".join(node["outputs"]) in text
    assert "left" in text
