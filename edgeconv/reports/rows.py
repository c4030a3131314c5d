"""The table of the stages, which every report has in its own form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edgeconv.metrics.report import ParityReport, StageParity
from edgeconv.reports.words import format_bytes, format_db, lowest_db

COLUMNS = ("stage", "size", "SQNR dB", "vs prev.", "max abs", "top-1", "parity")
"""The cells that the text and Markdown show."""

_NONE = "-"


def stage_rows(manifest: Mapping[str, Any], parity: ParityReport) -> list[dict[str, str]]:
    """Return the table's cells: of each stage the worst figure over its outputs and their parts."""
    checked = {stage.stage: stage for stage in parity.stages}
    return [_row(entry, checked.get(entry["name"]), parity) for entry in manifest["stages"]]


def _row(
    entry: Mapping[str, Any], stage: StageParity | None, parity: ParityReport
) -> dict[str, str]:
    outputs = stage.outputs if stage else ()
    top1 = _worst((item.top1_agreement for item in outputs), min)
    status: str = stage.status if stage else "reference"
    if not stage and entry["name"] != parity.reference:
        status = _NONE
    return {
        "stage": entry["name"],
        "file": entry["file"],
        "size": format_bytes(entry["bytes"]),
        "SQNR dB": format_db(lowest_db(outputs)),
        "vs prev.": format_db(lowest_db(stage.previous if stage else ())),
        "max abs": _format(_worst((item.max_abs for item in outputs), max), "{:.2g}"),
        "top-1": _format(None if top1 is None else 100 * top1, "{:.1f}%"),
        "parity": status,
        "seconds": _format(entry["seconds"], "{:.1f}"),
    }


def _worst(
    values: Iterable[float | None], choose: Callable[[Sequence[float]], float]
) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None


def _format(value: float | None, pattern: str) -> str:
    return _NONE if value is None else pattern.format(value)
