from __future__ import annotations

from typing import Any

import pytest

from edgeconv.core.gates import TOLERANCE_DB
from edgeconv.metrics.report_parts import Regression
from edgeconv.parity import baseline
from tests.reports.samples import as_report


def regressions(
    before: dict[str, Any], after: dict[str, Any], decibel: float = TOLERANCE_DB
) -> tuple[Regression, ...]:
    return baseline.regressions(as_report(before), as_report(after), decibel=decibel)


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


def with_parts(*figures: float, start: int = 4, note: str = "") -> dict[str, Any]:
    """Return a parity whose output has two parts, the second from `start` on."""
    first, second = figures
    parts = [
        {"name": "rows 0 to 3", "slice": {"axis": 1, "start": 0, "stop": start}, "sqnr_db": first},
        {
            "name": f"rows {start} to 83",
            "slice": {"axis": 1, "start": start, "stop": 84},
            "sqnr_db": second,
            **({"note": note} if note else {}),
        },
    ]
    return parity(parts=parts)


def test_a_part_that_has_become_worse_is_a_regression_though_the_whole_is_not() -> None:
    (found,) = regressions(with_parts(40.0, 30.0), with_parts(39.5, 0.0))
    assert str(found) == "output y, rows 4 to 83: sqnr_db was 30 and is now 0"
    assert found.to_dict()["part"] == "rows 4 to 83"
    assert not regressions(with_parts(40.0, 30.0), with_parts(39.5, 29.5))


def test_the_part_that_lost_most_is_told() -> None:
    (found,) = regressions(with_parts(40.0, 30.0), with_parts(20.0, 25.0))
    assert found.part == "rows 0 to 3"


def test_other_parts_are_compared_by_the_worst() -> None:
    (found,) = regressions(with_parts(40.0, 30.0), with_parts(50.0, 20.0, start=5))
    assert (found.before, found.after) == (30.0, 20.0)
    assert not regressions(with_parts(40.0, 30.0), parity())
    assert not regressions(parity(), with_parts(40.0, 30.0))


def test_parts_without_a_scale_do_not_regress() -> None:
    assert not regressions(with_parts(40.0, 30.0), with_parts(40.0, -300.0, note="zero"))


def test_a_whole_that_has_become_worse_is_told_once() -> None:
    before, after = with_parts(40.0, 30.0), with_parts(20.0, 10.0)
    after["stages"][0]["outputs"][0]["sqnr_db"] = 12.0
    assert [item.part for item in regressions(before, after)] == [""]
