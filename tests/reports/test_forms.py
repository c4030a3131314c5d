"""Every form of the report, of a model with layers; and that large ones stay small."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from edgeconv.reports import text as report
from edgeconv.reports.html import render_html
from edgeconv.reports.junit import render_junit
from edgeconv.reports.markdown import render_markdown
from edgeconv.reports.model_explorer import render_node_data
from edgeconv.reports.schema import parity_schema
from tests.reports.json_schema import violations
from tests.reports.samples import as_report, reports_with_layers


def test_the_first_line_of_each_form_names_the_layer() -> None:
    manifest, parity = reports_with_layers(20)
    words = "FAILED at saved_model, layer node_convolution_10"
    assert words in report.render_text(manifest, parity).splitlines()[0]
    assert "node\\_convolution\\_10" in render_markdown(manifest, parity).splitlines()[0]
    page = render_html(manifest, parity)
    assert words in page[page.index("<h1>") : page.index("</h1>")]


def test_an_offender_comes_with_its_origin_and_advice() -> None:
    manifest, parity = reports_with_layers(20)
    forms = render_html(manifest, parity), render_markdown(manifest, parity), render_junit(parity)
    for text in forms:
        assert "features.10.convolution" in text
        assert "network.py:10" in text
    assert "--isolate saved_model:node_Conv_10" in render_html(manifest, parity)


def test_parity_with_layers_fits_the_schema_and_its_violations_are_seen() -> None:
    schema = parity_schema()
    parity = json.loads(json.dumps(reports_with_layers(5)[1].to_dict(), allow_nan=False))
    assert not list(violations(parity, schema, schema))
    parity["stages"][0]["outputs"][0]["cosine"] = 2
    del parity["verdict"]
    found = list(violations(parity, schema, schema))
    assert found == ["$ lacks verdict", "$.stages[0].outputs[0].cosine is 2"]


def test_a_thousand_layers_make_a_page_below_three_megabytes() -> None:
    manifest, parity = reports_with_layers(1000)
    page = render_html(manifest, parity)
    assert page.count('class="here') == 3000
    assert len(page.encode()) < 3_000_000
    assert len(render_markdown(manifest, parity)) < 10_000


def test_explanations_fit_the_terminal_whatever_the_names() -> None:
    manifest, parity = reports_with_layers(20)
    content = parity.to_dict()
    for layer in content["stages"][0]["worst_layers"]:
        layer |= {"onnx_node": "n" * 90 + "_end", "module": "m." * 60 + "last", "op": "O" * 30}
        layer |= {"gain_db": 3.25, "advice": "keep it in float: --keep-float '*n_end'"}
    text = report.explain(manifest, as_report(content))
    assert max(map(len, text.splitlines())) <= report.WIDTH
    assert "n_end" in text
    assert ".last" in text
    assert "+3.2 dB on the worst output" in " ".join(text.split())


def test_junit_has_a_case_for_each_stage_and_output() -> None:
    parity = reports_with_layers(2)[1].to_dict()
    parity["stages"][1]["outputs"] = []
    parity["stages"][1] |= {"status": "skipped", "reasons": ["\x00 not run <now>"]}
    parity["regressions"] = [
        {"stage": "gone", "output": "y", "metric": "sqnr_db", "before": 3.0, "after": None}
    ]
    root = ET.fromstring(render_junit(as_report(parity)))
    assert [len(suite) for suite in root] == [1, 1, 1, 1]
    assert root.get("failures") == "2"
    assert root.get("skipped") == "1"
    assert root.find("testsuite/testcase/failure") is not None


def test_node_data_holds_a_value_for_each_tensor() -> None:
    stage = reports_with_layers(3)[1].stages[0]
    data = render_node_data(stage, {"node_convolution_0": "conv;bias"})
    assert list(data) == ["saved_model made here, dB", "saved_model carried, dB"]
    results = data["saved_model made here, dB"]["results"]
    assert results["conv;bias"] == {"value": 130.0}
    assert results["node_convolution_1"] == {"value": 20.0}


@pytest.mark.parametrize("text", ["a|b", "<b>", "`x`", "[l](u)", "*s*"])
def test_markdown_escapes_names(text: str) -> None:
    manifest, parity = reports_with_layers(2)
    manifest["model"] = text
    first = render_markdown(manifest, parity).splitlines()[0]
    assert text not in first.replace("\\" + text[0], "")
