"""Parity as JUnit XML: a test case for each stage and output, which every CI system shows.

The form is the one of the Ant task: https://llg.cubic.org/docs/junit/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from edgeconv.core.visible import visible
from edgeconv.metrics.figures import OutputFigures
from edgeconv.metrics.report import SKIPPED, ParityReport, StageParity
from edgeconv.reports.words import part_words, set_words

# What XML 1.0 cannot hold, section 2.2.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FIGURES = ("sqnr_db", "max_abs", "mean_abs", "max_rel", "cosine", "top1_agreement", "exact")


def render_junit(parity: ParityReport) -> str:
    """Return the XML document, with a ``testsuite`` for each stage."""
    root = ET.Element("testsuites", name=_clean(f"edgeconv {parity.model}"))
    totals = dict.fromkeys(("tests", "failures", "skipped"), 0)
    for stage in parity.stages:
        suite = ET.SubElement(root, "testsuite", name=_clean(stage.stage), errors="0")
        for case in _cases(stage, parity.model):
            suite.append(case)
        counts = {
            "tests": len(suite),
            "failures": len(suite.findall("testcase/failure")),
            "skipped": len(suite.findall("testcase/skipped")),
        }
        for name, count in counts.items():
            suite.set(name, str(count))
            totals[name] += count
    gone = _gone(parity)
    if gone:
        suite = ET.SubElement(root, "testsuite", name="baseline", tests="1", failures="1")
        case = ET.SubElement(suite, "testcase", name="stages", classname=_clean(parity.model))
        ET.SubElement(case, "failure", message=_clean("; ".join(gone)))
        totals["tests"] += 1
        totals["failures"] += 1
    for name, count in totals.items():
        root.set(name, str(count))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _cases(stage: StageParity, model: str) -> Iterator[ET.Element]:
    names = [output.name for output in stage.outputs]
    reasons = {name: _reasons(stage, name) for name in names}
    told = {reason for found in reasons.values() for reason in found}
    others = [reason for reason in stage.reasons if reason not in told]
    for output in stage.outputs:
        case = _case(output.name, stage, model)
        ET.SubElement(case, "system-out").text = _clean(_figures(output))
        if reasons[output.name]:
            _failure(case, [*reasons[output.name], *_blamed(stage)])
        yield case
    if others or not names:
        case = _case("runs", stage, model)
        if stage.status == SKIPPED:
            ET.SubElement(case, "skipped", message=_clean("; ".join(others)))
        elif others:
            _failure(case, others)
        yield case


def _blamed(stage: StageParity) -> list[str]:
    """Return where to look: the first layer that makes too much error, where it is known."""
    layer = stage.layers.first if stage.layers else None
    if layer is None:
        return []
    module = f", module {layer.module}" if layer.module else ""
    source = f", {layer.source}" if layer.source else ""
    return [f"first layer to blame: {layer.name} ({layer.op}{module}{source})"]


def _case(name: str, stage: StageParity, model: str) -> ET.Element:
    return ET.Element(
        "testcase", name=_clean(name), classname=_clean(f"{model}.{stage.stage}"), time="0"
    )


def _failure(case: ET.Element, reasons: list[str]) -> None:
    text = "\n".join(reasons)
    element = ET.Element("failure", message=_clean(reasons[0]), type="parity")
    element.text = _clean(text)
    case.insert(0, element)


def _reasons(stage: StageParity, output: str) -> list[str]:
    begins = f"output {output}: ", f"output {output}, "
    return [text for text in stage.reasons if any(begin in text for begin in begins)]


def _figures(output: OutputFigures) -> str:
    figures = ((name, getattr(output, name)) for name in _FIGURES)
    lines = [f"{name} {value:.6g}" for name, value in figures if value is not None]
    lines += [f"{part.name}: {part_words(part)}" for part in output.parts]
    lines += set_words([output])
    return "\n".join(lines)


def _gone(parity: ParityReport) -> list[str]:
    """Return the regressions of stages that are not there any more."""
    stages = {stage.stage for stage in parity.stages}
    return [
        f"{item.stage}, output {item.output}: it was in the baseline"
        for item in parity.regressions or ()
        if item.stage not in stages and item.metric == "sqnr_db"
    ]


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", visible(text))
