"""What others wrote is shown, and not obeyed: on the terminal and in every report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.core.visible import visible
from edgeconv.reports.junit import render_junit
from edgeconv.reports.markdown import _code, _text
from tests.reports.samples import as_report

EVIL = "\x1b]0;owned\x07\x1b[2J\u202egpj.exe\u200b\x9b31m"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@given(st.text(st.characters()))
def test_nothing_that_is_obeyed_is_left_and_json_stays_json(text: str) -> None:
    shown = visible(text)
    assert not OBEYED.search(shown)
    shown.encode()
    told = visible(json.dumps({"a": text}, ensure_ascii=False))
    assert json.loads(told) == {"a": text}


def test_it_is_spelled_as_people_know_it() -> None:
    assert visible("a\x1b[2Jb\tc\nd") == "a\\x1b[2Jb\tc\nd"
    assert visible("\u202e \x9b \udc80 é ü 漢") == "\\u202e \\u009b \\udc80 é ü 漢"


def edgeconv(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeconv", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_names_in_a_model_and_of_a_file(tmp_path: Path) -> None:
    shape = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(f"Relu{EVIL}", ["x"], ["y"], name=EVIL, domain=f"d{EVIL}")],
        "g",
        [shape("x", 1, [1])],
        [shape("y", 1, [1])],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(f"d{EVIL}", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    name = f"m{EVIL}.onnx".replace("/", "")
    (tmp_path / name).write_bytes(model.SerializeToString())
    for words in (("inspect", name), ("inspect", name, "--json"), ("torch2tflite", name)):
        done = edgeconv(tmp_path, *words)
        told = done.stdout + done.stderr
        assert "owned" in told
        assert not OBEYED.search(told), (words, told)


def test_words_of_the_call(tmp_path: Path) -> None:
    done = edgeconv(tmp_path, "inspect", f"--no{EVIL}")
    assert done.returncode == 2
    assert "\\x1b" in done.stderr
    assert not OBEYED.search(done.stderr)


def test_junit_holds_what_xml_can() -> None:
    output = {"name": EVIL, "sqnr_db": 1.0}
    stage = {"stage": f"s{EVIL}", "status": "fail", "outputs": [output], "reasons": [EVIL]}
    text = render_junit(as_report({"model": EVIL, "stages": [stage]}))
    assert not OBEYED.search(text)
    assert "\\x1b" in ET.fromstring(text).attrib["name"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("try --keep-float 'encoder.*' (+3 dB)", "try `--keep-float 'encoder.*'` (+3 dB)"),
        ("give --force to go on", "give `--force` to go on"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("a_b*c|d", r"a\_b\*c\|d"),
        ("@team", "@<!-- -->team"),
        ("https://x.y", "https:<!-- -->//x.y"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("[x](y)", r"\[x\](y)"),
    ],
)
def test_markdown_shows_text_as_it_is_and_options_to_be_pasted(text: str, shown: str) -> None:
    assert _text(text) == shown


def test_nothing_ends_a_code_span() -> None:
    assert _code("a`b") == "`` a`b ``"
    assert _code("a|b") == r"`a\|b`"
