"""The kept reports: what their first lines say, that they are whole, and that they stay small."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

REPORTS = Path(__file__).resolve().parents[2] / "examples" / "reports"
PAGES = sorted(REPORTS.glob("*.html"))
BROKEN = {
    "broken_wrong_weight": "PARITY FAILED at saved_model, layer getitem_15 (blocks.1.project.1)",
    "broken_calibration": "PARITY FAILED at tflite_int8, layer getitem_15 (blocks.1.project.1)",
}


def first_line(page: Path) -> str:
    found = re.search(r"<h1>(.*?)</h1>", page.read_text(), re.DOTALL)
    assert found
    return " ".join(unescape(re.sub(r"<[^>]*>", "", found[1])).split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_both_forms_begin_with_the_same_verdict(page: Path) -> None:
    markdown = page.with_suffix(".md").read_text().splitlines()[0]
    verdict = markdown.removeprefix("### ").replace("\\", "")
    assert first_line(page).endswith(verdict)
    assert verdict.endswith(BROKEN.get(page.stem, ""))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_need_nothing_from_elsewhere_and_tell_no_paths(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<script" not in text
    assert "/work/" not in text


def test_there_are_six_real_models_and_two_broken_ones_in_little_space() -> None:
    names = {page.stem for page in PAGES}
    assert names >= set(BROKEN)
    assert len(names - set(BROKEN)) == 6
    assert sum(path.stat().st_size for path in REPORTS.iterdir()) < 2_000_000


def test_no_report_names_a_directory_of_the_machine_that_made_it() -> None:
    for page in REPORTS.glob("*.*"):
        found = re.findall(r"(?<![\w./<:])/(?:[\w.-]+/)+[\w.-]+\.py(?=:\d)", page.read_text())
        assert not found or page.suffix == ".py", (page, found[:2])
