"""The parity report as a value: what is written is read back as the same one, or refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.core.decode import Malformed, decode
from edgeconv.core.errors import InvalidModel
from edgeconv.metrics.figures import OutputFigures, WorstSample
from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.layers_report import LayersReport, Trial, Unmatched
from edgeconv.metrics.report import ParityReport, StageParity, read_report
from edgeconv.metrics.report_parts import (
    Against,
    Converter,
    DeviceRun,
    Histogram,
    Latency,
    Match,
    Regression,
    SamplesSummary,
    Steps,
)
from edgeconv.metrics.stream_parity import StreamParity
from edgeconv.reports.html import render_html
from edgeconv.reports.junit import render_junit
from edgeconv.reports.markdown import render_markdown
from edgeconv.reports.text import explain, render_text
from tests.reports.samples import reports_with_layers

DB = st.none() | st.floats(-300, 300).map(lambda value: round(value, 2))
NAMES = st.text("abc/;: é", min_size=1, max_size=6)
WORDS = st.text("ab <&'", max_size=4)
COUNTS = st.none() | st.integers(0, 1000)


def several(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


SLICES = st.none() | st.just({"axis": 1, "start": 0, "stop": 4, "within": [{"axis": 2}]})
WORST = st.none() | st.builds(WorstSample, st.integers(0, 9), st.floats(-300, 300))
FIGURES = st.builds(
    OutputFigures,
    NAMES,
    max_abs=DB,
    sqnr_db=DB,
    exact=DB,
    reason=WORDS,
    levels=COUNTS,
    reference_levels=COUNTS,
    lost=st.booleans(),
    worst_sample=WORST,
    slice=SLICES,
    no_scores=WORDS,
)
SETS = st.none() | st.builds(
    OutputFigures, NAMES, rows=DB, chosen_by=NAMES, together=several(NAMES), sqnr_db=DB
)
OUTPUTS = several(st.builds(OutputFigures, NAMES, sqnr_db=DB, parts=several(FIGURES), as_set=SETS))
LAYER = st.builds(LayerError, NAMES, NAMES, DB, DB, WORDS, WORDS, WORDS, WORDS, DB)
TRIAL = st.builds(Trial, several(NAMES), DB, DB, st.booleans(), WORDS, WORDS)
LAYERS = st.builds(
    LayersReport,
    worst=several(LAYER),
    first=st.none() | LAYER,
    samples=st.integers(0, 9),
    digest=WORDS,
    layers=several(LAYER),
    unmatched=several(st.builds(Unmatched, NAMES, NAMES, WORDS)),
    note=WORDS,
    trials=several(TRIAL),
) | st.builds(LayersReport, note=NAMES, trials=several(TRIAL))
DEVICE = st.builds(
    DeviceRun,
    device=NAMES,
    ran_on=st.sampled_from(["cpu", "edgetpu"]),
    fallback=st.none() | NAMES,
    advice=WORDS,
    latency_ms=st.just(Latency(1.5, 1.0, 2.0, 3)),
    memory_bytes=COUNTS,
    python=NAMES,
    machine=NAMES,
    max_lsb=st.integers(0, 9),
    lsb=several(st.builds(Steps, NAMES, st.integers(0, 9), st.floats(0, 9))),
)
STAGE = st.builds(
    StageParity,
    stage=NAMES,
    file=NAMES,
    status=st.sampled_from(["pass", "fail", "skipped"]),
    gate=st.dictionaries(st.sampled_from(["sqnr_db", "exact"]), st.floats(0, 90)),
    runtime=st.none() | NAMES,
    outputs=OUTPUTS,
    previous_stage=st.none() | NAMES,
    previous=OUTPUTS,
    reasons=several(NAMES),
    histograms=several(st.builds(Histogram, NAMES, st.just((-1, 0)), st.just((3, 4)))),
    milliseconds=st.none() | st.floats(0, 9),
    stream=st.none() | st.builds(StreamParity, st.integers(2, 9), OUTPUTS, OUTPUTS),
    converter=st.none()
    | st.builds(Converter, NAMES, WORDS, st.dictionaries(NAMES, NAMES, max_size=2)),
    layers=st.none() | LAYERS,
)
DEPLOYED = st.builds(
    StageParity,
    stage=NAMES,
    file=NAMES,
    status=st.sampled_from(["pass", "fail"]),
    gate=st.just({"sqnr_db": 12.0}),
    runtime=NAMES,
    outputs=OUTPUTS,
    device=DEVICE,
    notes=several(NAMES),
)
SUMMARY = st.builds(
    SamplesSummary,
    NAMES,
    st.integers(1, 9),
    st.booleans(),
    WORDS,
    st.dictionaries(NAMES, st.just((-1.0, 2.5)), max_size=2),
    st.dictionaries(NAMES, WORDS, max_size=1),
)
REPORT = st.builds(
    ParityReport,
    model=NAMES,
    reference=NAMES,
    samples=st.integers(0, 99),
    calibrated=st.booleans(),
    generated=st.booleans(),
    stages=several(STAGE | DEPLOYED),
    calibration=st.none() | SUMMARY,
    against=st.none() | st.builds(Against, NAMES, st.dictionaries(NAMES, NAMES, max_size=2)),
    correspondence=st.none() | several(st.builds(Match, NAMES, NAMES, NAMES, WORDS)),
    regressions=st.none()
    | several(st.builds(Regression, NAMES, NAMES, NAMES, st.floats(0, 9), DB, WORDS)),
)
MANIFEST: dict[str, Any] = {
    "status": "complete",
    "failure": None,
    "model": "m",
    "command": ["edgeconv", "torch2tflite", "m.pt2"],
    "options": {"quantize": "int8", "target": "cpu"},
    "calibrated": True,
    "warnings": [],
    "stages": [{"name": "a", "file": "a", "bytes": 3, "seconds": 1.0}],
}


@settings(deadline=None)
@given(REPORT)
def test_what_is_written_is_read_back(report: ParityReport) -> None:
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert ParityReport.from_dict(json.loads(text)) == report


@settings(deadline=None, max_examples=25)
@given(REPORT)
def test_every_report_is_rendered_in_every_form(report: ParityReport) -> None:
    for render in (render_text, render_markdown, render_html, explain):
        render(MANIFEST, report)
    render_junit(report)
    assert repr(report).startswith("ParityReport(")
    assert len(repr(report).splitlines()) == 1


def test_a_report_can_be_read_like_its_file() -> None:
    report = ParityReport.from_dict(content())
    assert dict(report) == report.to_dict()
    assert report["stages"][-1]["stage"] == report.stages[-1].stage
    assert report.get("nothing") is None


def content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(reports_with_layers(3)[1].to_dict()))
    return found


def test_a_file_of_an_earlier_version_is_read() -> None:
    older = content()
    del older["calibration"]
    for stage in older["stages"]:
        for name in ("histograms", "milliseconds", "layers", "unmatched_layers", "layer_samples"):
            del stage[name]
        for layer in stage["worst_layers"]:
            del layer["source"], layer["advice"], layer["gain_db"]
    found = ParityReport.from_dict(older | {"unknown": 3})
    assert [stage.stage for stage in found.stages] == ["saved_model", "tflite_fp32", "tflite_int8"]
    assert found.stages[0].layers is not None
    assert found.stages[0].layers.worst[0].source == ""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for name, item in items:
        found.append((*path, name))
        if isinstance(item, dict | list):
            found += places(item, (*path, name))
    return found


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(places(content())),
    st.sampled_from([None, True, 3, -1e999, math.nan, 10**400, "x", [], {}, [[]], [None], {"": 1}]),
)
def test_a_file_of_another_form_is_refused_or_rendered(place: tuple[Any, ...], value: Any) -> None:
    hostile = content()
    inner: Any = hostile
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    try:
        found = ParityReport.from_dict(hostile)
    except Malformed:
        return
    json.dumps(found.to_dict(), allow_nan=False)
    for render in (render_text, render_markdown, render_html, explain):
        render(MANIFEST, found)
    render_junit(found)


def test_a_refusal_names_the_place(tmp_path: Path) -> None:
    hostile = content()
    hostile["stages"][1]["outputs"][0]["sqnr_db"] = "high"
    (tmp_path / "parity.json").write_text(json.dumps(hostile))
    with pytest.raises(InvalidModel) as caught:
        read_report(tmp_path / "parity.json")
    assert caught.value.where == str(tmp_path / "parity.json")
    assert caught.value.why == "stages[1].outputs[0].sqnr_db is no number"


def test_types_are_those_of_the_fields() -> None:
    assert decode(Latency, {"first": 1, "median": 2.5, "p90": 3, "runs": 4}).first == 1
    for wrong in ({"runs": 4.5}, {"first": True}, {"median": "1"}, {"p90": None}):
        with pytest.raises(Malformed):
            decode(Latency, {"first": 1, "median": 2, "p90": 3, "runs": 4, **wrong})
