"""Next steps for the worst layers: tried as a user would take them, and told in every report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeconv
from edgeconv import report
from edgeconv.bundle import MANIFEST
from edgeconv.reports.html import render_html
from edgeconv.reports.markdown import render_markdown
from edgeconv.verify import VerifyOptions, verify_bundle


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
    stage = result.parity["stages"][-1]
    tried = [layer for layer in stage["worst_layers"] if layer["gain_db"] is not None]
    assert 1 <= len(tried) <= 3
    best = max(tried, key=lambda layer: layer["gain_db"])
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
        min(output["sqnr_db"] for output in item.parity["stages"][-1]["outputs"])
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
