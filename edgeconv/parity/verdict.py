"""What a verification found, and how it is judged against an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeconv.core.artifacts import Arrays
from edgeconv.core.bundle import PARITY
from edgeconv.metrics.report import FAIL, ParityReport, read_report
from edgeconv.parity.baseline import regressions


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found.

    Attributes:
        manifest: The bundle's manifest; of two models, as much of one as reports need.
        parity: The report.
        vectors: Inputs that it was measured on, the reference's outputs, and those of the last
            stage that could be run, by name.
    """

    manifest: Mapping[str, Any]
    parity: ParityReport
    vectors: tuple[Arrays, Arrays, Arrays] = ({}, {}, {})

    @property
    def passed(self) -> bool:
        """Whether no gate failed and nothing regressed."""
        return self.parity.passed


def read_baseline(path: Path | None) -> ParityReport | None:
    """Read an earlier ``parity.json``, or that of a bundle; ``None`` for none.

    Raises:
        InvalidModel: It is missing, or something else.
    """
    if path is None:
        return None
    return read_report(path / PARITY if path.is_dir() else path)


def judged(
    report: ParityReport, baseline: ParityReport | None, tolerance_db: float
) -> ParityReport:
    """Return the report with what has become worse; the stages concerned fail."""
    if baseline is None:
        return report
    found = regressions(baseline, report, decibel=tolerance_db)
    stages = []
    for stage in report.stages:
        reasons = tuple(f"regression: {item}" for item in found if item.stage == stage.stage)
        status = FAIL if reasons else stage.status
        stages.append(replace(stage, status=status, reasons=(*stage.reasons, *reasons)))
    return replace(report, stages=tuple(stages), regressions=found)
