from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.report import PARITY_VERSION, ParityReport
from edgeconv.reports import text as report
from edgeconv.reports.headline import headline
from edgeconv.reports.html import render_html
from edgeconv.reports.junit import render_junit
from edgeconv.reports.markdown import render_markdown
from edgeconv.reports.words import format_bytes
from edgeconv.samples.load import Samples
from tests.reports.samples import as_report


def stage(name: str, status: str = "pass", /, **figures: Any) -> dict[str, Any]:
    output = {
        "name": "<script>alert(1)</script>",
        "max_abs": 1e-6,
        "mean_abs": 1e-7,
        "max_rel": 1e-3,
        "peak_error": 1e-6,
        "cosine": 1.0,
        "sqnr_db": 120.0,
        "top1_agreement": None,
        "exact": None,
    } | figures
    return {
        "stage": name,
        "file": name,
        "status": status,
        "gate": {},
        "runtime": "x 1",
        "reasons": ["output y: sqnr_db 3 is below 80"] if status == "fail" else [],
        "outputs": [output, {**output, "sqnr_db": 90.0}],
        "previous_stage": None,
        "previous": [output],
        "worst_layers": [],
    }


def reports(*stages: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], ParityReport]:
    manifest, parity = contents(*stages, **changes)
    return manifest, as_report(parity)


def contents(*stages: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    states = {item["status"] for item in stages}
    verdict = "fail" if "fail" in states else "pass" if "pass" in states else "skipped"
    spec = {
        "name": "x",
        "shape": [1, 4],
        "dtype": "int8",
        "layout": "source",
        "scale": 0.1,
        "zero_point": -3,
    }
    manifest = {
        "status": "complete",
        "failure": None,
        "model": "m",
        "created": "2026-01-01T00:00:00+00:00",
        "command": ["edgeconv", "torch2tflite", "<m>.pt2"],
        "options": {"quantize": "int8", "target": "cpu"},
        "calibrated": True,
        "warnings": [],
        "tools": {"torch": "2"},
        "inputs": [spec],
        "outputs": [spec],
        "stages": [
            {"name": name, "file": f"{name}.bin", "bytes": 123456, "seconds": 1.25}
            for name in ("onnx", *(item["stage"] for item in stages if item["stage"] != "onnx"))
        ],
    } | changes
    parity = {
        "schema_version": PARITY_VERSION,
        "reference": "torch",
        "samples": 16,
        "generated_samples": False,
        "stages": list(stages),
        "verdict": verdict,
    }
    return manifest, parity


def test_the_table_shows_the_worst_output_of_each_stage() -> None:
    text = report.render_text(*reports(stage("onnx"), stage("tflite_int8", sqnr_db=300.0)))
    assert "300" not in text
    onnx, int8 = (line.split() for line in text.splitlines()[4:6])
    assert onnx == ["onnx", "123.5", "kB", "90.0", "120.0", "1e-06", "-", "pass"]
    assert int8[1:] == ["123.5", "kB", "90.0", "exact", "1e-06", "-", "pass"]


@pytest.mark.parametrize("status", ["pass", "fail", "skipped"])
def test_the_text_fits_80_plain_columns(status: str) -> None:
    manifest, parity = reports(
        stage("onnx"),
        stage("tflite_dynamic", status, max_abs=1.234e-38, top1_agreement=1.0, sqnr_db=-300.0),
        model="a_name_" * 20,
        calibrated=False,
        warnings=["a long warning " * 20],
    )
    text = report.render_text(manifest, parity)
    assert max(len(line) for line in text.splitlines()) <= report.WIDTH
    assert text.isascii()
    assert "\x1b" not in text


def test_what_a_reader_must_not_miss_is_said_in_both_reports() -> None:
    cases = {
        "PARITY FAILED": reports(stage("onnx", "fail")),
        "sqnr_db 3 is below 80": reports(stage("onnx", "fail")),
        "UNCALIBRATED": reports(stage("onnx"), calibrated=False),
        "NOT VERIFIED": reports(stage("onnx", "skipped")),
        "FAILED at stage onnx": reports(stage("onnx"), status="failed", failure={"stage": "onnx"}),
        "fell back": reports(stage("onnx"), warnings=["fell back"]),
    }
    for words, (manifest, parity) in cases.items():
        assert words in report.render_text(manifest, parity)
        assert words in render_html(manifest, parity)


PART = {
    "name": "rows 4 to 83 (sigmoid)",
    "slice": {"axis": 1, "start": 4, "stop": 84},
    "max_abs": 0.9,
    "mean_abs": 0.1,
    "max_rel": 1.0,
    "peak_error": 1.0,
    "cosine": 0.0,
    "sqnr_db": 0.0,
    "top1_agreement": None,
    "exact": None,
    "levels": 1,
    "reference_levels": 3214,
    "lost": True,
}
PART_WORDS = "rows 4 to 83 (sigmoid): 0.0 dB, 1 of 3,214 values"


def test_the_worst_part_is_named_in_all_reports() -> None:
    boxes = PART | {"name": "rows 0 to 3", "sqnr_db": -3.0, "levels": 50, "lost": False}
    constant = PART | {"name": "row 84", "sqnr_db": -300.0, "note": "constant", "lost": False}
    figures = stage("tflite_int8", name="output0", parts=[boxes, PART, constant])
    figures["outputs"].pop()
    manifest, parity = reports(figures)
    text = report.render_text(manifest, parity)
    assert f"tflite_int8, worst part: output0, {PART_WORDS}" in " ".join(text.split())
    assert text.splitlines()[5].split()[3] == "-3.0"
    assert max(len(line) for line in text.splitlines()) <= report.WIDTH
    assert f"tflite_int8, worst part: output0, {PART_WORDS}" in render_html(manifest, parity)
    assert f"Worst part of `tflite_int8`: output0, {PART_WORDS}" in render_markdown(
        manifest, parity
    )
    (suite,) = ET.fromstring(render_junit(parity))
    assert PART_WORDS in str(suite.findtext("testcase/system-out"))


def test_reasons_of_parts_belong_to_their_output() -> None:
    failed = stage("onnx", "fail", name="y", parts=[PART])
    failed["reasons"] = [f"output y, {PART_WORDS}", "output y2: other"]
    failed["outputs"].pop()
    (suite,) = ET.fromstring(render_junit(reports(failed)[1]))
    cases = {str(case.get("name")): case.find("failure") for case in suite}
    assert cases["y"] is not None
    assert cases["y"].get("message") == f"output y, {PART_WORDS}"
    assert cases["runs"] is not None
    assert cases["runs"].get("message") == "output y2: other"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"samples": 3}, "m: parity passed at every stage on 3 samples"),
        ({"samples": 1}, "m: parity passed at every stage on 1 sample"),
        ({"samples": 8}, "m: parity passed at every stage"),
        ({"generated_samples": True}, "m: parity passed at every stage on generated inputs"),
        (
            {"calibration": {"samples": 2, "ranges": {}}},
            "m: parity passed at every stage, calibrated on 2 samples",
        ),
    ],
)
def test_the_first_line_says_on_how_little_it_rests(changes: dict[str, Any], words: str) -> None:
    manifest, content = contents(stage("onnx"))
    calibration = {"source": "a.npz", "generated": False, "sha256": "0" * 64, "ranges": {}}
    if "calibration" in changes:
        changes["calibration"] = calibration | changes["calibration"]
    parity = as_report(content | changes)
    assert report.render_text(manifest, parity).splitlines()[0] == words
    assert f"### {words}" in render_markdown(manifest, parity)
    assert words.removeprefix("m: ") in render_html(manifest, parity)


def test_what_it_rests_on_is_never_cut_off() -> None:
    layer = {"name": "node_conv2d_17" * 4, "module": "model.22.cv3.0.2", "op": "CONV_2D"}
    failed = stage("tflite_int8", "fail") | {"first_layer": layer | {"here_db": 1.0}}
    failed["first_layer"] |= {"onnx_node": "", "source": ""}
    manifest, content = contents(failed, model="a_name_" * 20, calibrated=False)
    line = headline(manifest, as_report(content | {"generated_samples": True}))
    assert len(line) <= report.WIDTH
    assert line.endswith(" on generated inputs, UNCALIBRATED")
    assert "PARITY FAILED" in line


def test_sixteen_bits_are_calibrated_too() -> None:
    manifest, parity = reports(
        stage("onnx"), calibrated=False, options={"quantize": "int16x8", "target": "cpu"}
    )
    assert "UNCALIBRATED" in report.render_text(manifest, parity)
    assert "the int16x8 ranges come from generated inputs" in report.render_text(manifest, parity)
    assert "UNCALIBRATED" in render_html(manifest, parity)


def test_the_page_says_what_calibration_saw() -> None:
    manifest, parity = reports(stage("onnx"))
    samples = Samples({"image": np.array([[-0.5], [2.25]], np.float32)}, "inputs.npz")
    page = render_html(manifest, replace(parity, calibration=samples.summary()))
    text = " ".join(page.split())
    assert "2 given samples from inputs.npz; image from -0.5 to 2.25" in text
    assert samples.digest[:16] in text


def test_float_models_are_never_called_uncalibrated() -> None:
    manifest, parity = reports(
        stage("onnx"), calibrated=False, options={"quantize": "fp16", "target": "cpu"}
    )
    assert "uncalibrated" not in report.render_text(manifest, parity).lower()
    assert "uncalibrated" not in render_html(manifest, parity).lower()


def test_the_page_is_self_contained_and_escapes_names() -> None:
    page = render_html(*reports(stage("onnx"), stage("tflite_int8", reason="NaN")))
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Collector().feed(page)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    assert not any({"href", "onload"} & attrs.keys() for _, attrs in tags)
    assert all(str(attrs.get("src", "data:")).startswith("data:") for _, attrs in tags)
    assert not re.search(r"https?:|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (14_300_000, "14.3 MB"),
        (5 * 10**12, "5000.0 GB"),
    ],
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_the_worst_layers_and_what_was_tried_are_explained() -> None:
    layer = LayerError("conv/Conv;add", "CONV_2D", 12.5, 9.25, module="features.3")
    parity = as_report({"stages": [{"stage": "tflite_int8", "worst_layers": [layer.to_dict()]}]})
    step = {"name": "equalize", "gain_db": 7.25, "kept": True}
    manifest = {"stages": [{"name": "tflite_int8", "recovery": [step]}]}
    text = report.explain(manifest, parity)
    assert "worst layers of tflite_int8" in text
    assert re.search(r"conv/Conv +CONV_2D +12.5 +9.2 +features.3", text)
    assert "tflite_int8: equalize +7.2 dB, kept" in text
