"""A sample of ONNX's node tests through the command, with its table and totals."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import onnx
import pytest

from benchmarks import node_cases, onnx_coverage


@pytest.fixture(scope="module")
def cases() -> list[node_cases.Case]:
    return node_cases.cases()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")  # the benchmark changes it for its workers


def test_training_random_and_control_flow_are_out_of_scope(cases: list[node_cases.Case]) -> None:
    ops = {case.op for case in cases}
    left_out = node_cases.CONTROL_FLOW | node_cases.TRAINING | node_cases.RANDOM
    assert not ops & left_out
    assert {"Conv", "Gemm", "Resize", "LSTM"} <= ops


def test_the_table_counts_by_operator_and_stage(cases: list[node_cases.Case]) -> None:
    wanted = ("test_abs", "test_ceil", "test_ceil_example")
    selected = [case for case in cases if case.name in wanted]
    good = dict.fromkeys(onnx_coverage.STAGES, "pass")
    outcomes = {
        "test_abs": good,
        "test_ceil": good,
        "test_ceil_example": {"saved_model": "pass", "tflite": "y: values differ by up to 1"},
    }
    lines = onnx_coverage.table(selected, outcomes).splitlines()
    assert "| Abs | 1 | 1 | 1 |" in lines
    assert "| Ceil | 2 | 2 | 1 |" in lines
    assert "saved_model: 3 of 3 pass (100.0 %)" in lines
    assert "tflite: 2 of 3 pass (66.7 %)" in lines


@pytest.mark.slow
def test_the_command_runs_a_sample(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cases: list[node_cases.Case],
) -> None:
    output = tmp_path / "sample"
    arguments = ["onnx_coverage", "--match", "gemm_", "--jobs", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    onnx_coverage.main()
    text = output.with_suffix(".md").read_text()
    count = sum("gemm_" in case.name for case in cases)
    assert text == capsys.readouterr().out
    assert f"| Gemm | {count} | {count} | {count} |" in text.splitlines()
    assert f"tflite: {count} of {count} pass (100.0 %)" in text.splitlines()
    assert json.loads(output.with_suffix(".json").read_text()) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_nllloss_NCd1d2d3d4d5_mean_weight_expanded"])
def test_values_in_many_dimensions(cases: list[node_cases.Case], name: str) -> None:
    """Kernels take few dimensions: what flattens seven must not be computed in seven."""
    case = next(case for case in cases if case.name == name)
    assert onnx_coverage.run([case], jobs=1)[name] == {"saved_model": "pass", "tflite": "pass"}


@pytest.mark.slow
def test_a_wrong_result_and_a_missing_translation_are_outcomes(
    cases: list[node_cases.Case],
) -> None:
    by_name = {case.name: case for case in cases}
    right, negative = by_name["test_abs"], by_name["test_neg"]
    wrong = node_cases.Case("wrong", "Abs", right.model, right.inputs, {"y": -right.outputs["y"]})
    model = onnx.ModelProto()
    model.CopyFrom(negative.model)
    model.graph.node[0].op_type = "NoSuchOperator"
    unknown = dataclasses.replace(negative, model=model)
    outcomes = onnx_coverage.run([wrong, unknown], jobs=1)
    assert outcomes["wrong"]["saved_model"].startswith("y: values differ")
    assert outcomes["wrong"]["tflite"].startswith("y: values differ")
    assert "NoSuchOperator" in outcomes["test_neg"]["saved_model"]
    assert outcomes["test_neg"]["tflite"] == "not reached"
