"""Exported ONNX files compute what PyTorch does, under the model's own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edgeconv.convert.onnx.origin import origin_of
from edgeconv.convert.torch import export as torch_to_onnx
from edgeconv.convert.torch.load import load_model
from edgeconv.convert.torch.model import TorchModel, from_module
from edgeconv.convert.torch.program import from_program
from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import ConversionError


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.table = torch.nn.Embedding(2, 4)

    def forward(self, image: torch.Tensor, unused: torch.Tensor, ids: torch.Tensor) -> Any:
        features = torch.relu_(self.norm(self.conv(image))).mean((2, 3))
        return {"logits": features + self.table(ids), "extra": (features, None)}


INPUTS = (torch.ones(1, 3, 8, 8), torch.ones(2), torch.ones(1, dtype=torch.int64))
NAMES = ["image", "unused", "ids"]


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().train()


@pytest.fixture(scope="module")
def program(net: Net) -> torch.export.ExportedProgram:
    return torch.export.export(net.eval(), INPUTS)


def fail(*_: object, **__: object) -> Artifact:
    raise RuntimeError("not today")


def assert_same(model: TorchModel, artifact: Artifact) -> None:
    random = np.random.default_rng(0)
    feeds = {
        spec.name: random.standard_normal(spec.shape).astype(np.float32)  # type: ignore[arg-type]  # static
        if spec.dtype == "float32"
        else np.ones(spec.shape, spec.dtype)  # type: ignore[arg-type]  # static
        for spec in model.inputs
    }
    found = onnxruntime.InferenceSession(str(artifact.path)).run(None, feeds)
    expected = model.run(feeds)
    assert len(found) == len(expected) == len(artifact.outputs)
    for spec, one, other in zip(artifact.outputs, found, expected, strict=True):
        assert (spec.shape, spec.dtype) == (other.shape, other.dtype.name)
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_an_exported_program(program: torch.export.ExportedProgram, tmp_path: Path) -> None:
    model = from_program(program, "net")
    artifact = torch_to_onnx.export(model, tmp_path / "net.onnx")
    assert [spec.name for spec in artifact.inputs] == NAMES
    assert artifact.inputs == model.inputs
    assert torch_to_onnx.describe_onnx(artifact.path) == artifact
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert_same(model, artifact)


def test_nodes_remember_where_they_come_from(
    program: torch.export.ExportedProgram, tmp_path: Path
) -> None:
    artifact = torch_to_onnx.export(from_program(program, "net"), tmp_path / "net.onnx")
    graph = ir.load(artifact.path).graph
    convolution = next(node for node in graph if node.op_type == "Conv")
    module, source = origin_of(convolution)
    assert module in ("conv", "norm"), "the two are fused"
    assert Path(source.rpartition(":")[0]).name == Path(__file__).name
    proto = onnx.load(artifact.path)
    assert proto.graph.value_info, "shapes are inferred"
    assert all(prop.key for node in proto.graph.node for prop in node.metadata_props)


def test_a_module_in_training_mode(net: Net, tmp_path: Path) -> None:
    net.train()
    model = from_module(net, INPUTS)
    artifact = torch_to_onnx.export(model, tmp_path / "net.onnx")
    assert net.training
    assert net.norm.training
    assert [spec.name for spec in artifact.inputs] == NAMES
    assert_same(model, artifact)


@pytest.mark.parametrize("script", [torch.jit.trace, None])
def test_torchscript_keeps_inputs_without_use(tmp_path: Path, script: Any) -> None:
    class Last(torch.nn.Module):
        def forward(self, unused: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return x.cumsum(1) * 2

    shapes = {"unused": (2,), "x": (1, 5)}
    module = Last()
    example = (torch.ones(2), torch.ones(1, 5))
    scripted = torch.jit.trace(module, example) if script else torch.jit.script(module)
    scripted.save(str(tmp_path / "m.pt"))
    model = load_model(tmp_path / "m.pt", input_shapes=shapes)
    assert isinstance(model, TorchModel)
    artifact = torch_to_onnx.export(model, tmp_path / "m.onnx")
    assert [spec.name for spec in artifact.inputs] == ["unused", "x"]
    assert [spec.name for spec in artifact.outputs] == ["output"]
    assert_same(model, artifact)


def test_the_fallback_takes_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_to_onnx, "_export_program", fail)

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> Any:
            return self.layer(x, x, x, need_weights=False)[0]

    model = from_module(Attention(), torch.randn(1, 5, 8))
    before = torch.backends.mha.get_fastpath_enabled()
    assert_same(model, torch_to_onnx.export(model, tmp_path / "m.onnx"))
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_the_fallback_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    class Branches(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    said: list[str] = []
    model = from_module(Branches(), torch.ones(2, 2))
    artifact = torch_to_onnx.export(model, tmp_path / "m.onnx", warn=said.append)
    assert "TorchScript exporter was used" in said[0]
    assert f"the example input takes at {Path(__file__).name}:" in said[1]
    assert said[0] in caplog.text
    assert artifact.outputs[0].name == "output"
    assert capfd.readouterr().out == ""


def test_the_fallback_takes_exported_programs(
    program: torch.export.ExportedProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_to_onnx, "_export_program", fail)
    said: list[str] = []
    model = from_program(program, "net")
    artifact = torch_to_onnx.export(model, tmp_path / "m.onnx", warn=said.append)
    assert "not today" in said[0]
    assert [spec.name for spec in artifact.inputs] == NAMES
    assert [spec.name for spec in artifact.outputs] == ["logits", "extra_0"]
    assert_same(model, artifact)


class Inner(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.linalg.svd(x)[1]


class Outer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: torch.Tensor) -> Any:
        return self.inner(x) + 1


@pytest.mark.parametrize("exported", [True, False])
def test_what_no_exporter_can_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], exported: bool
) -> None:
    if exported:
        model = from_program(torch.export.export(Outer(), (torch.ones(2, 2),)), "outer")
    else:
        model = from_module(Outer(), torch.ones(2, 2), "outer")
    with pytest.raises(ConversionError) as caught:
        torch_to_onnx.export(model, tmp_path / "m.onnx")
    message = str(caught.value)
    assert "linalg_svd" in message
    assert "module inner at" in message
    assert f"{Path(__file__).name}:" in message
    assert "torch.onnx exporter" in message
    assert "TorchScript exporter" in message
    assert list(tmp_path.iterdir()) == []
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_outputs_that_are_inputs(tmp_path: Path) -> None:
    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x, x + 1, x

    model = from_module(Same(), torch.ones(2, 2))
    artifact = torch_to_onnx.export(model, tmp_path / "m.onnx")
    names = [spec.name for spec in (*artifact.inputs, *artifact.outputs)]
    assert len(set(names)) == 4
    assert all(names)
    assert_same(model, artifact)


def test_weights_of_large_models_lie_beside_the_file(
    program: torch.export.ExportedProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_to_onnx, "MAX_INLINE", 10)
    monkeypatch.setattr("edgeconv.convert.onnx.file._INLINE_TENSOR", 60)
    model = from_program(program, "net")
    artifact = torch_to_onnx.export(model, tmp_path / "net.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert_same(model, artifact)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mtcnn_onet", "silero16k"])
def test_real_models(real_models: Path, tmp_path: Path, name: str) -> None:
    model = load_model(real_models / f"{name}.pt2")
    assert isinstance(model, TorchModel)
    artifact = torch_to_onnx.export(model, tmp_path / "m.onnx")
    assert artifact.inputs == model.inputs
    session = onnxruntime.InferenceSession(str(artifact.path))
    with np.load(real_models / f"{name}_eval.npz") as data:
        feeds = {spec.name: data[f"in{n}"][0] for n, spec in enumerate(model.inputs)}
        for number, output in enumerate(session.run(None, feeds)):
            expected = data[f"out{number}"][0]
            np.testing.assert_allclose(output, expected, atol=1e-4 * np.abs(expected).max())
