"""Which outputs a model returns, and what they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import edgeconv
from edgeconv.convert.onnx.select_outputs import chosen_outputs, select_outputs
from edgeconv.core.errors import UsageError


def test_outputs_are_named_by_name_or_by_place() -> None:
    known = ["cat_7", "getitem", "view"]
    assert chosen_outputs(known, ["view", "cat_7=scores"]) == {"view": "view", "cat_7": "scores"}
    assert chosen_outputs(known, ["1=boxes"]) == {"getitem": "boxes"}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["dog"], "names no output"),
        (["3=x"], "names no output"),
        (["view="], "no new name"),
        (["view", "2"], "twice"),
        (["view=a", "cat_7=a"], "one name"),
    ],
)
def test_choices_that_cannot_be(choices: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen_outputs(["cat_7", "getitem", "view"], choices)


GRAPH = """<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,3] a, float[2,3] b, float[2,3] c)
{
    scores = Neg(x)
    a = Relu(scores)
    b = Exp(x)
    c = Add(a, b)
}"""


def written(path: Path, names: dict[str, str]) -> tuple[list[str], list[str], list[Any]]:
    import onnxruntime

    onnx.save(onnx.parser.parse_model(GRAPH), path)
    select_outputs(path, names)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path))
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 3
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    return [item.name for item in session.get_outputs()], nodes, session.run(None, {"x": x})


def test_what_is_not_wanted_is_removed(tmp_path: Path) -> None:
    names, nodes, (b,) = written(tmp_path / "m.onnx", {"b": "b"})
    assert (names, nodes) == (["b"], ["Exp"])
    assert np.allclose(b, np.exp(np.arange(6).reshape(2, 3) - 3.0))


def test_a_name_that_is_taken_inside_and_an_order_of_their_own(tmp_path: Path) -> None:
    names, nodes, (c, a) = written(tmp_path / "m.onnx", {"c": "scores", "a": "b"})
    assert names == ["scores", "b"]
    assert sorted(nodes) == ["Add", "Exp", "Neg", "Relu"]
    x = np.arange(6).reshape(2, 3) - 3.0
    assert np.allclose(a, np.maximum(-x, 0))
    assert np.allclose(c, np.maximum(-x, 0) + np.exp(x))


def test_an_input_that_is_returned_is_renamed_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.parser.parse_model(GRAPH)
    model.graph.output.append(onnx.helper.make_tensor_value_info("x", 1, [2, 3]))
    onnx.save(model, path)
    artifact = select_outputs(path, {"x": "same"})
    assert [spec.name for spec in artifact.inputs] == ["x"]
    assert [spec.name for spec in artifact.outputs] == ["same"]
    with pytest.raises(UsageError, match="which an input has"):
        select_outputs(path, {"same": "x"})


class Two(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.body(x)
        return y.relu(), torch.cat([y, x], 1)


@pytest.mark.slow
@pytest.mark.parametrize("exported", [False, True])
def test_parity_is_measured_on_what_is_wanted(tmp_path: Path, *, exported: bool) -> None:
    model: Any = Two().eval()
    x = torch.rand(1, 4)
    arguments: tuple[Any, ...] = (model, x)
    if exported:
        onnx.save(onnx.parser.parse_model(GRAPH), tmp_path / "m.onnx")
        arguments = (tmp_path / "m.onnx",)
    result = edgeconv.convert(
        *arguments, output=tmp_path / "out", outputs=("1=joined",), layers=False
    )
    assert result.passed
    assert [spec.name for spec in result.model.outputs] == ["joined"]
    assert all(
        [item["name"] for item in stage["outputs"]] in ([], ["joined"])
        for stage in result.parity.to_dict()["stages"]
    )
    stored = np.load(result.path / "vectors.npz")
    assert any("joined" in name for name in stored.files)
