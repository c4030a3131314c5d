"""The figures in the documentation are those of the last run of the benchmarks."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.architectures import TEN, all_architectures

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", (ROOT / page).read_text())


def figures() -> str:
    return text_of("docs/figures.md")


def test_the_documentation_has_the_figures_of_the_node_tests() -> None:
    totals = (RESULTS / "onnx_coverage.md").read_text()
    found = dict(re.findall(r"(saved_model|tflite): (\d+) of 1404 pass", totals))
    assert "Of the 1,404 node tests" in figures()
    saved_model, tflite = int(found["saved_model"]), int(found["tflite"])
    assert f"{saved_model:,} pass as SavedModel and {tflite:,} as TFLite" in figures()


def test_the_documentation_has_the_figures_of_the_node_tests_as_they_are() -> None:
    totals = (RESULTS / "onnx_coverage_as_they_are.md").read_text()
    found = {
        stage: f"{int(count):,} pass as {name} ({share} %)"
        for stage, name in (("saved_model", "SavedModel"), ("tflite", "TFLite"))
        for count, share in re.findall(rf"{stage}: (\d+) of 1404 pass \((\S+) %\)", totals)
    }
    stated = f"{found['saved_model']} and {found['tflite']}".replace("pass as TFLite", "as TFLite")
    assert f"With all 1,404 as they are, every input at run time, {stated}" in figures()


def test_the_documentation_has_the_figures_of_the_zoo() -> None:
    outcomes = json.loads((RESULTS / "zoo.json").read_text())
    assert set(outcomes) == {entry.name for entry in all_architectures()}
    passed = sum(outcome["status"] == "pass" for outcome in outcomes.values())
    for text in (figures(), text_of("README.md")):
        assert f"Of {len(outcomes)} architectures" in text
        assert f"{passed} convert to float TFLite" in text
    assert all(outcomes[name]["status"] == "pass" for name in TEN)


def test_the_documentation_has_the_figures_of_the_other_converters() -> None:
    table = (RESULTS / "peers.md").read_text()
    found = re.search(r"\| litert-torch \| 10 \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|", table)
    assert found is not None
    seconds, memory, latency, operators = found.groups()
    assert (
        f"ten architectures take {seconds} of litert-torch's time, {memory} of its peak memory and"
        f" {operators} of its operators, and run in {latency} of the time"
    ) in figures()


def test_the_documentation_has_the_figures_of_the_trained_detector() -> None:
    table = (RESULTS / "ultralytics.md").read_text()
    found = {
        target: (boxes, scores, agree)
        for target, boxes, scores, agree in re.findall(
            r"\| yolov8n-trained \| (\w+) \| float32 \| boxes (\S+), scores (\S+) \|.* (\S+) % \|",
            table,
        )
    }
    boxes, scores, agree = found["cpu"]
    stated = (
        f"without recovery, {agree} % of the detections agree, boxes have {boxes} and scores"
        f" {scores} dB, for `coral` {found['coral'][1]}"
    )
    assert stated in text_of("docs/guide/detectors.md")
    assert stated in text_of("docs/reference/limits.md")


def test_the_documentation_has_the_number_of_models_for_the_coral() -> None:
    models = re.findall(r"(?m)^\| (?!model )[a-z]\S* \|", (RESULTS / "coral.md").read_text())
    assert len(models) == 16
    assert "the shares of sixteen models" in text_of("docs/guide/devices.md")
