"""`--converter auto` and `edgeconv verify --against`, with operators that one converter has."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeconv.core.bundle import open_bundle
from edgeconv.core.gates import gate_for
from edgeconv.metrics import parity
from edgeconv.metrics.report import StageParity
from edgeconv.parity.cross_check import held_to_previous
from edgeconv.reports.schema import parity_schema
from tests.reports.json_schema import violations

pytestmark = pytest.mark.slow

# Control flow, which edgeconv's own translator leaves out. TFLite has a builtin IF.
IF = """g (float[1,4] x) => (float[1,4] y) {
    largest = ReduceMax<keepdims = 0>(x)
    zero = Constant<value = float {0.0}>()
    positive = Greater(largest, zero)
    y = If(positive) <
        then_branch = first () => (float[1,4] a) { a = Relu(x) },
        else_branch = second () => (float[1,4] b) { b = Neg(x) }
    >
}"""
# Only TensorFlow itself can express what onnx-tf makes of it.
SEQUENCE = """g (float[1,4] x) => (float[1,8] y) {
    n = Neg(x)
    s = SequenceConstruct(x, n)
    y = ConcatFromSequence<axis = 1>(s)
}"""


def _save(text: str, path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {text}'), path)
    return path


def _convert(edgeconv: Callable[..., Any], model: Path, output: Path) -> Any:
    return edgeconv("torch2tflite", model, "--converter=auto", "--no-layers", "-o", output)


def _converters(bundle: Path) -> dict[str, dict[str, Any]]:
    """Return what parity.json says of the converter of each stage; it fits the schema."""
    content, schema = open_bundle(bundle).parity(), parity_schema()
    assert not list(violations(content, schema, schema))
    return {s["stage"]: s["converter"] for s in content["stages"] if "converter" in s}


def test_auto_takes_our_own_translator_first(
    edgeconv: Callable[..., Any], onnx_model: Path, tmp_path: Path
) -> None:
    done = _convert(edgeconv, onnx_model, tmp_path / "b.edgeconv")
    assert done.returncode == 0, done.stderr
    assert "converted by edgeconv's own translator" in done.stdout
    assert _converters(tmp_path / "b.edgeconv") == {
        "saved_model": {"name": "native", "why": "it has every operator"}
    }


def test_auto_takes_onnx_tf_where_ours_lacks_an_operator(
    edgeconv: Callable[..., Any], onnx_tf_python: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "if.edgeconv"
    done = _convert(edgeconv, _save(IF, tmp_path / "if.onnx"), bundle)
    assert done.returncode == 0, done.stderr
    assert "own translator refuses If-13" in " ".join(done.stdout.split())
    used = _converters(bundle)["saved_model"]
    assert (used["name"], used["versions"]["onnx-tf"]) == ("onnx-tf", "1.10.0")
    assert "If-13" in used["why"]
    assert "If-13" in (bundle / "report.html").read_text()
    refused = edgeconv("torch2tflite", tmp_path / "if.onnx", "-o", tmp_path / "c.edgeconv")
    assert refused.returncode == 3
    assert "If-13" in refused.stderr
    again = edgeconv("verify", bundle, "--no-layers", "--json")
    assert again.returncode == 0, again.stderr
    assert [s.get("converter") for s in json.loads(again.stdout)["stages"]] == [used, None]
    ours = edgeconv("verify", bundle, "--against=onnx-tf")
    assert ours.returncode == 3
    assert "If-13" in ours.stderr
    neither = _convert(edgeconv, _save(SEQUENCE, tmp_path / "s.onnx"), tmp_path / "s.edgeconv")
    assert neither.returncode == 3
    assert "saved_model to tflite" in neither.stderr


def test_auto_without_onnx_tf_names_the_operator_and_how_to_get_it(
    edgeconv: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECONV_HOME", str(tmp_path / "home"))
    done = _convert(edgeconv, _save(IF, tmp_path / "if.onnx"), tmp_path / "if.edgeconv")
    assert done.returncode == 3
    assert "If-13" in done.stderr
    assert "edgeconv toolchain install onnx-tf" in done.stderr
    assert not (tmp_path / "if.edgeconv").exists()


def test_two_converters_agree(
    edgeconv: Callable[..., Any], onnx_tf_python: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in digits_bundle.rglob("*")}
    done = edgeconv(
        "verify", digits_bundle, "--against=onnx-tf", "--json", "--html=page.html", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    page = html.unescape((tmp_path / "page.html").read_text())
    assert "digits: onnx-tf and edgeconv's own converter agree" in page
    content, schema = json.loads(done.stdout), parity_schema()
    assert not list(violations(content, schema, schema))
    assert content["against"]["versions"]["onnx-tf"] == "1.10.0"
    ours, other = content["stages"]
    assert (ours["stage"], ours["converter"]["name"]) == ("saved_model", "native")
    assert (other["stage"], other["previous_stage"]) == ("onnx-tf", "saved_model")
    assert min(item["sqnr_db"] for item in other["outputs"] + other["previous"]) > 100
    assert {path: path.stat().st_mtime_ns for path in digits_bundle.rglob("*")} == before


def test_converters_that_differ_fail() -> None:
    reference = {"y": np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 16)}
    gate = gate_for("onnx-tf", {})

    def stage(previous: float) -> StageParity:
        before = parity.compare({"y": reference["y"] + np.float32(previous)}, reference)
        figures = parity.compare(reference, reference)
        return StageParity(
            "onnx-tf", "m", "pass", gate, None, figures, "saved_model", before
        )  # fmt: skip

    assert held_to_previous(stage(0)).status == "pass"
    found = held_to_previous(stage(0.01))
    assert found.status == "fail"
    assert all(reason.endswith("(against saved_model)") for reason in found.reasons)


def test_against_without_onnx_tf(
    edgeconv: Callable[..., Any],
    digits_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGECONV_HOME", str(tmp_path / "home"))
    done = edgeconv("verify", digits_bundle, "--against=onnx-tf", "--json")
    assert done.returncode == 4
    error = json.loads(done.stdout)
    assert (error["error"], error["exit_code"]) == ("ToolMissing", 4)
    assert error["hint"] == "run: edgeconv toolchain install onnx-tf"
    for other in ("--update", "--isolate=x"):
        assert edgeconv("verify", digits_bundle, "--against=onnx-tf", other).returncode == 2
    two = Path(shutil.copy(digits_bundle / "digits.onnx", tmp_path / "d.onnx"))
    assert edgeconv("verify", two, two, "--against=onnx-tf").returncode == 2
