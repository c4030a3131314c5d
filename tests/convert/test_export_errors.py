"""What depends on data is named in one line, with its place and what to convert instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgeconv.convert.torch import early_export
from edgeconv.convert.torch import export as torch_to_onnx
from edgeconv.convert.torch.data_dependent import MOST_SIZES
from edgeconv.convert.torch.model import TorchModel, from_module
from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import ConversionError, UnsupportedModel, UnsupportedNode


class Branch(torch.nn.Module):
    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> Any:
        kept = torch.nonzero(scores > 0.1)
        if kept.shape[0] > 2:
            return boxes[kept[:, 0]]
        return boxes


class Count(torch.nn.Module):
    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> Any:
        return boxes[: int((scores > 0.1).sum())]


class Mask(torch.nn.Module):
    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> Any:
        return boxes[scores > 0.5]


class Method(torch.nn.Module):
    """Post-processes in a method of its own, as torchvision's detectors do."""

    def forward(self, x: torch.Tensor) -> Any:
        return self.postprocess_detections(x, x[:, 0])

    def postprocess_detections(self, boxes: torch.Tensor, scores: torch.Tensor) -> Any:
        kept = boxes[scores > 0]
        return kept if kept.shape[0] < 4 else kept[:4]


class Detector(torch.nn.Module):
    def __init__(self, postprocess: torch.nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = torch.nn.Linear(4, 4)
        self.head = torch.nn.Linear(4, 1)
        self.postprocess = postprocess

    def forward(self, x: torch.Tensor) -> Any:
        features = self.backbone(x)
        return self.postprocess(features, self.head(features)[:, 0].sigmoid())


class Value(torch.nn.Module):
    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> Any:
        if bool(scores.max() > 0.1):
            return boxes * scores[:, None]
        return boxes


class Classes(torch.nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> Any:
        found = []
        for number in range(self.count):
            kept = boxes[scores > 0.01 * number]
            found.append(kept.sum(0))
        return torch.stack(found)


def _not_reached(*_: object, **__: object) -> Artifact:
    raise AssertionError("the fallback would keep the example's sizes")


def detector(postprocess: torch.nn.Module) -> TorchModel:
    return from_module(Detector(postprocess), torch.ones(8, 4))


def test_a_branch_on_a_size_has_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_to_onnx, "_export_torchscript", _not_reached)
    with pytest.raises(ConversionError) as caught:
        torch_to_onnx.export(detector(Branch()), tmp_path / "m.onnx")
    error = caught.value
    assert "\n" not in error.why
    assert "a number of results that depends on data (module postprocess at " in error.why
    assert f"{Path(__file__).name}:" in error.why
    assert str(Path(__file__).parent) not in error.why
    assert "if kept.shape[0] > 2:" in error.why
    assert "u0" not in error.why
    for part in ("backbone", "head", "factory package:factory"):
        assert part in error.hint


def test_the_fallback_takes_a_branch_on_a_value_and_says_why(tmp_path: Path) -> None:
    said: list[str] = []
    assert torch_to_onnx.export(detector(Value()), tmp_path / "m.onnx", warn=said.append)
    assert "its TorchScript exporter was used" in said[0]
    assert "depends on data (module postprocess at " in said[0]


def test_a_method_that_depends_on_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"in postprocess_detections\(\): return kept"):
        torch_to_onnx.export(from_module(Method(), torch.ones(8, 4)), tmp_path / "m.onnx")


def test_many_sizes_that_depend_on_data_are_met_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_to_onnx, "_export_torchscript", _not_reached)
    with pytest.raises(ConversionError) as caught:
        torch_to_onnx.export(detector(Classes(MOST_SIZES + 1)), tmp_path / "m.onnx")
    assert "a number of results that depends on data (module postprocess at " in caught.value.why
    assert "kept = boxes[scores > 0.01 * number]" in caught.value.why


def test_as_many_as_allowed_are_exported(tmp_path: Path) -> None:
    assert torch_to_onnx.export(detector(Classes(MOST_SIZES)), tmp_path / "m.onnx")


@pytest.mark.parametrize("postprocess", [Mask(), Count()])
def test_rows_that_depend_on_data_are_exported(
    tmp_path: Path, postprocess: torch.nn.Module
) -> None:
    said: list[str] = []
    assert torch_to_onnx.export(detector(postprocess), tmp_path / "m.onnx", warn=said.append)
    assert said == []


def test_nodes_refused_alike_share_a_line() -> None:
    alike = [
        UnsupportedNode("Loop-17", f"loop_{number}", "its rows are open", "head.postprocess")
        for number in range(90)
    ]
    other = UnsupportedNode("Loop-17", "last", "its rows are open", "head.scores")
    error = UnsupportedModel("onnx to saved_model", [*alike, other])
    assert error.what == "91 nodes are not supported"
    assert error.why.splitlines()[1:] == [
        "  - 90 x Loop-17 (first loop_0, from head.postprocess): its rows are open",
        "  - Loop-17 (last, from head.scores): its rows are open",
    ]
    assert len(error.to_dict()["nodes"]) == 91


class Slow(torch.nn.Module):
    """Works before it meets a size that depends on data."""

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> Any:
        kept = torch.nonzero(scores * boxes.exp()[:, 0] > -1)
        return boxes[kept[:, 0]] if kept.shape[0] > 2 else boxes


def test_a_model_is_refused_before_it_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchModel, "check", _not_reached)
    with pytest.raises(ConversionError, match="a number of results that depends on data"):
        detector(Branch())


def test_a_slow_model_is_refused_by_its_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_export, "_SECONDS", -1.0)
    monkeypatch.setattr(TorchModel, "check", _not_reached)
    with pytest.raises(ConversionError, match="a number of results that depends on data"):
        detector(Slow())


@pytest.mark.parametrize("postprocess", [Value(), Mask(), Count(), Classes(MOST_SIZES)])
@pytest.mark.parametrize("seconds", [-1.0, 1e9])
def test_what_can_be_exported_is_loaded(
    postprocess: torch.nn.Module, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_export, "_SECONDS", seconds)
    assert detector(postprocess).run_examples()


def test_following_shapes_leaves_no_trace_in_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class Keeps(torch.nn.Module):
        kept: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.kept is None:
                self.kept = x.mean(1, keepdim=True)
            return x - self.kept

    monkeypatch.setattr(early_export, "_SECONDS", -1.0)
    assert from_module(Keeps(), torch.ones(2, 3)).run_examples()


def test_an_export_made_early_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = detector(Mask())
    assert model.captured is not None
    monkeypatch.setattr(torch_to_onnx, "exported", _not_reached)
    assert torch_to_onnx.export(model, tmp_path / "m.onnx")
