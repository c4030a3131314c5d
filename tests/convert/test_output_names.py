"""Outputs are called after the fields that a model returns them in, in every file."""

from __future__ import annotations

import io
from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from torch.utils import _pytree as pytree

import edgeconv
from edgeconv.convert.torch import export as torch_to_onnx
from edgeconv.convert.torch.model import TorchModel, from_module
from edgeconv.convert.torch.output_names import field_names
from edgeconv.convert.torch.program import from_program
from edgeconv.convert.torch.values import TorchValues
from edgeconv.core.artifacts import Artifact
from edgeconv.core.streams import SampleReader


class Boxes(NamedTuple):
    corners: torch.Tensor
    scores: torch.Tensor


class Answer(OrderedDict[str, Any]):
    """A container as libraries register them: its keys are known to the context alone."""


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    pytree.register_pytree_node(
        Answer,
        lambda answer: (list(answer.values()), list(answer)),
        lambda values, keys: Answer(zip(keys, values, strict=True)),
    )
    pytree._register_namedtuple(Boxes, serialized_type_name="tests.Boxes")


class Fields(torch.nn.Module):
    """Returns every kind of field; a weight and a value inside have an output's name."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.ones(1, 4))
        self.head = torch.nn.Linear(4, 4)

    def forward(self, image: torch.Tensor) -> Any:
        values = self.head(image) + self.logits
        mul = values * 2
        return {
            "logits": values,
            "image": image * 3,
            "boxes": Boxes(mul + 1, torch.relu(values)),
            "mul": torch.sigmoid(mul),
            "levels": (mul - 1, {"p 3/x": mul - 2}),
            "none": None,
        }


NAMES = [
    "logits",
    "image_output",
    "boxes_corners",
    "boxes_scores",
    "mul",
    "levels_0",
    "levels_1_p_3_x",
]
INPUT = torch.arange(4.0)[None] / 4


def assert_same(model: TorchModel, artifact: Artifact) -> None:
    feeds = {"image": np.array([[0.1, -0.5, 2.0, 3.0]], np.float32)}
    found = onnxruntime.InferenceSession(str(artifact.path)).run(None, feeds)
    for one, other in zip(found, model.run(feeds), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_names_of_fields() -> None:
    found = field_names({"a": (1, [2, {"b": None, "c": 3}]), "d": Boxes(4, 5)}, ())  # type: ignore[arg-type]
    assert found == ["a_0", "a_1_0", "a_1_1_c", "d_corners", "d_scores"]
    assert field_names(Answer(first=1, second=(2, 3))) == ["first", "second_0", "second_1"]


def test_what_has_no_field_has_no_name() -> None:
    assert field_names(1) == [""]
    assert field_names((1, [2, None], 3)) == ["", "", ""]
    assert field_names((1, {"a": 2}, [{"b": 3}])) == ["", "output_1_a", "output_2_0_b"]


def test_names_are_taken_everywhere_and_once() -> None:
    found = field_names({"x": 1, "a.b": 2, "a-b": 3, 7: 4, "_": 5, "é": 6, "x_output": 7}, ["x"])
    assert len(set(found)) == 7
    assert found[:4] == ["x_output", "a_b", "a_b_", "output_7"]
    assert all(name.isascii() and name.isidentifier() and name[0] != "_" for name in found)
    assert "x" not in found


@pytest.mark.parametrize("kind", ["module", "program", "file", "torchscript"])
def test_the_onnx_file_has_them(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Fields().eval()
    if kind in ("module", "torchscript"):
        model = from_module(net, INPUT)
    else:
        program = torch.export.export(net, (INPUT,))
        if kind == "file":
            file = io.BytesIO()
            torch.export.save(program, file)
            file.seek(0)
            program = torch.export.load(file)
        model = from_program(program, "net")
    if kind == "torchscript":
        monkeypatch.setattr(torch_to_onnx, "_export_program", _fail)
    artifact = torch_to_onnx.export(model, tmp_path / "net.onnx")
    assert [spec.name for spec in artifact.inputs] == ["image"]
    assert [spec.name for spec in artifact.outputs] == NAMES
    assert_same(model, artifact)


def _fail(*_: object, **__: object) -> Artifact:
    raise RuntimeError("not today")


def test_a_script_names_its_fields(tmp_path: Path) -> None:
    class Script(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> Boxes:
            return Boxes(image + 1, image * 2)

    model = from_module(torch.jit.script(Script()), INPUT, "script")
    artifact = torch_to_onnx.export(model, tmp_path / "net.onnx")
    assert [spec.name for spec in artifact.outputs] == ["corners", "scores"]
    assert_same(model, artifact)


def test_plain_outputs_keep_the_exporters_names(tmp_path: Path) -> None:
    class Plain(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> Any:
            return image + 1, [image * 2]

    artifact = torch_to_onnx.export(from_module(Plain(), INPUT), tmp_path / "net.onnx")
    assert [spec.name for spec in artifact.outputs] == ["add", "mul"]


def test_named_outputs_are_compared_with_the_program(tmp_path: Path) -> None:
    model = from_module(Fields(), INPUT)
    programs: list[torch.export.ExportedProgram] = []
    artifact = torch_to_onnx.export(model, tmp_path / "net.onnx", keep=programs.append)
    values = TorchValues(model, programs[0])
    match = values.match(artifact.path)
    assert set(NAMES) <= set(match.shapes)
    path = tmp_path / "values"
    feeds = {"image": INPUT.numpy()[None]}
    values.record(feeds, NAMES, path)
    expected = model.run({"image": INPUT.numpy()})
    with closing(SampleReader(path)) as reader:
        for number, value in enumerate(expected):
            np.testing.assert_allclose(reader.read(0, number), value)


@pytest.mark.slow
def test_every_stage_and_the_manifest_have_them(tmp_path: Path) -> None:
    class Nested(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> Any:
            return {"image": image * 3, "levels": (image - 1, {"mul": torch.sigmoid(image)})}

    file = tmp_path / "nested.pt2"
    torch.export.save(torch.export.export(Nested(), (INPUT,)), file)
    result = edgeconv.convert(file, output=tmp_path / "out.edgeconv")
    assert result.passed
    assert {"onnx", "saved_model", "tflite"} <= {
        artifact.format.value for artifact in result.artifacts.values()
    }
    for artifact in result.artifacts.values():
        names = [spec.name for spec in artifact.outputs]
        assert names == ["image_output", "levels_0", "levels_1_mul"]
