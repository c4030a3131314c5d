"""Next steps for the worst layers: tried as a user would take them, and told in every report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeconv
from edgeconv.core.bundle import MANIFEST
from edgeconv.core.options import ConvertOptions
from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.layers_report import LayersReport, Trial
from edgeconv.parity import trials
from edgeconv.parity.bundle import VerifyOptions, verify_bundle
from edgeconv.quantize.stage import Quantize
from edgeconv.reports import notes
from edgeconv.reports import text as report
from edgeconv.reports.html import render_html
from edgeconv.reports.markdown import render_markdown
from tests.reports.samples import as_report


def network(path: Path) -> None:
    """Write a network whose last layer makes values that 8 bits do not hold."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[1,32] x) => (float[1,16] y) {
        first = MatMul(x, a)
        second = Mul(first, first)
        y = Mul(second, second)
    }"""
    model = onnx.parser.parse_model(text)
    array = np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(array, "a"))
    onnx.save(model, path)


def layer(name: str, here: float, module: str = "") -> LayerError:
    return LayerError(name, "CONV_2D", here, here, onnx_node=f"node_{name}", module=module)


def tried(layers: list[LayerError], **options: Any) -> list[tuple[str, ...]]:
    settings = ConvertOptions(quantize="int8", **options)
    mixed = settings.target == "cpu"
    stage = Quantize("int8", mixed)
    return [candidate.options for candidate in trials._candidates(layers, stage, settings)]


def test_the_largest_common_module_of_the_worst_layers_is_tried_first() -> None:
    layers = [
        *(layer(f"a{count}", 50, "stem") for count in range(5)),
        layer("b", 9, "net.mel.pow"),
        layer("c", -3, "net.mel.log"),
        layer("d", 30, "net.head.fc"),
        *(layer(f"e{count}", 50, "net.tail") for count in range(8)),
    ]
    assert tried(layers)[:2] == [("--keep-float", "net*"), ("--keep-float", "net.mel*")]


def test_a_module_that_is_the_whole_network_is_not_tried() -> None:
    layers = [layer("a", 5, "net.a"), layer("b", 6, "net.b"), layer("c", 40, "net.c")]
    assert ("--keep-float", "net*") not in tried(layers)


def test_without_modules_the_layers_between_the_worst_are_tried_together() -> None:
    layers = [
        layer(name, here) for name, here in zip("abcdef", (50, 4, 20, 6, 40, 50), strict=True)
    ]
    together = tuple(part for name in "bcd" for part in ("--keep-float", f"*node_{name}"))
    assert tried(layers)[0] == together
    assert ("--quantize", "int16x8") in tried(layers)


def test_where_everything_must_be_int8_other_ranges_are_tried() -> None:
    found = tried([layer("a", 5, "net.a"), layer("b", 6, "net.b")], target="coral")
    assert found == [
        ("--calibrator", "minmax"),
        ("--calibrator", "percentile"),
        ("--disable-recovery", "all"),
    ]


def test_the_step_to_take_is_the_first_that_passes_else_the_best() -> None:
    few = Trial(("--keep-float", "a*"), 11.0, 3.0)
    more = Trial(("--keep-float", "b*"), 14.0, 6.0, passes=True)
    most = Trial(("--quantize", "int16x8"), 60.0, 52.0, passes=True)
    worse = Trial(("--calibrator", "minmax"), 7.0, -1.0)
    failed = Trial(("--keep-float", "c*"), failed="it cannot be run")
    assert LayersReport(trials=(failed, few, more, most)).next_step is more
    assert LayersReport(trials=(failed, few, worse)).next_step is few
    assert LayersReport(trials=(failed, worse)).next_step is None


def test_a_failing_stage_ends_with_the_command_that_cures_it() -> None:
    trial = Trial(("--keep-float", "mel*"), 40.2, 36.7, passes=True).to_dict()
    stage = {"stage": "tflite_int8", "status": "fail", "reasons": [], "trials": [trial]}
    manifest = {"command": ["edgeconv", "torch2tflite", "m.pt2", "--quantize", "int8", "--force"]}
    (text,) = notes._next_steps(manifest, as_report({"stages": [stage]}))
    assert text == (
        "next, tried for tflite_int8: --keep-float 'mel*' gives 40.2 dB on the worst output "
        "(+36.7 dB), and the gate holds: edgeconv torch2tflite m.pt2 --quantize int8 "
        "--keep-float 'mel*' --force"
    )
    worse = trial | {"gain_db": -1.0, "passes": False}
    (text,) = notes._next_steps(manifest, as_report({"stages": [{**stage, "trials": [worse]}]}))
    assert text.endswith("nothing gains: --keep-float 'mel*'")
    passed = as_report({"stages": [{**stage, "status": "pass"}]})
    assert not notes._next_steps(manifest, passed)


def test_what_was_tried_is_told_whatever_came_of_it() -> None:
    option = ("--keep-float", "a*")
    assert report._trial(Trial(option, 11.0, 3.0)).endswith("+3.0 dB, not enough")
    assert report._trial(Trial(option)).endswith("its outputs cannot be compared")
    assert report._trial(Trial(option, failed="it crashed")).endswith("it crashed")


@pytest.mark.slow
def test_a_module_that_int8_cannot_hold_is_found_without_being_asked(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Level(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return torch.log(x * x * x * x + 1e-6)

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.level = Level()
            self.tail = torch.nn.Sequential(
                *(torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU()) for _ in range(4))
            )

        def forward(self, x: Any) -> Any:
            return self.tail(self.level(x))

    torch.manual_seed(0)
    samples = torch.randn(24, 1, 16).numpy()
    result = edgeconv.convert(
        Net().eval(),
        torch.randn(1, 16),
        output=tmp_path / "m.edgeconv",
        quantize="int8",
        calibration_data=samples,
        gates={"tflite_int8": {"sqnr_db": 30.0}},
    )
    stage = result.parity.to_dict()["stages"][-1]
    assert stage["status"] == "fail"
    assert stage["trials"][0]["options"] == ["--keep-float", "level*"]
    assert stage["next_step"]["passes"]
    assert "next, tried for tflite_int8" in report.render_text(result.manifest, result.parity)
    assert verify_bundle(result.path, VerifyOptions()).parity.to_dict()["stages"][-1]["trials"]


@pytest.mark.slow
def test_what_is_advised_gains_what_was_measured(tmp_path: Path) -> None:
    network(tmp_path / "m.onnx")
    samples = {"x": np.random.default_rng(1).normal(size=(24, 1, 32)).astype(np.float32)}
    options: dict[str, Any] = {
        "quantize": "int8",
        "calibration_data": samples,
        "disable_recovery": ("all",),
    }
    result = edgeconv.convert(
        tmp_path / "m.onnx", output=tmp_path / "m.edgeconv", explain=True, **options
    )
    stage = result.parity.to_dict()["stages"][-1]
    single = [layer for layer in stage["worst_layers"] if layer["gain_db"] is not None]
    assert 1 <= len(single) <= 3
    best = max(single, key=lambda layer: layer["gain_db"])
    assert best["gain_db"] > 1
    pattern = best["advice"].split("'")[1]
    other = edgeconv.convert(
        tmp_path / "m.onnx",
        output=tmp_path / "other.edgeconv",
        keep_float=(pattern,),
        layers=False,
        **options,
    )
    before, after = (
        min(output["sqnr_db"] for output in item.parity.to_dict()["stages"][-1]["outputs"])
        for item in (result, other)
    )
    assert after - before == pytest.approx(best["gain_db"], abs=0.05)
    told = f"{best['gain_db']:+.1f} dB on the worst output"
    found = verify_bundle(result.path, VerifyOptions())
    for parity in (result.parity, found.parity):
        assert told in render_html(result.manifest, parity)
        assert told in render_markdown(result.manifest, parity)
        text = report.explain(result.manifest, parity)
        assert told in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= 80
    assert not list(result.path.glob(".work*"))
    manifest = json.loads((result.path / MANIFEST).read_text())
    assert manifest["options"]["explain"] is True
