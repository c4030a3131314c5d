from __future__ import annotations

from typing import Any

import pytest

from edgeconv.baseline import regressions


def parity(**figures: Any) -> dict[str, Any]:
    output = {"name": "y", "sqnr_db": 30.0, "top1_agreement": 1.0, "exact": None} | figures
    return {"stages": [{"stage": "tflite_int8", "outputs": [output]}]}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, []),
        ({}, {"sqnr_db": 29.5}, []),
        ({}, {"sqnr_db": 28.5}, ["sqnr_db"]),
        ({}, {"sqnr_db": None, "top1_agreement": None}, ["sqnr_db", "top1_agreement"]),
        ({"sqnr_db": 131.0}, {"sqnr_db": 110.0}, []),
        ({"sqnr_db": 131.0}, {"sqnr_db": 90.0}, ["sqnr_db"]),
        ({}, {"top1_agreement": 0.98}, ["top1_agreement"]),
        ({"exact": 1.0}, {"exact": 0.9}, ["exact"]),
        ({"sqnr_db": None}, {}, []),
    ],
)
def test_what_counts_as_worse(
    before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    found = regressions(parity(**before), parity(**after))
    assert [item.metric for item in found] == expected


def test_a_stage_that_is_gone_has_regressed() -> None:
    found = regressions(parity(), {"stages": []})
    assert {item.metric for item in found} == {"sqnr_db", "top1_agreement"}
    assert "cannot be measured" in str(found[0])


def test_the_tolerance_can_be_wider() -> None:
    assert not regressions(parity(), parity(sqnr_db=25.5), decibel=5)
