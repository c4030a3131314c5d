"""Regressions: figures that have become worse than those of an earlier ``parity.json``.

A figure has regressed where it is worse than the earlier one by more than the tolerance: for
``sqnr_db`` in dB, for ``top1_agreement`` and ``exact`` as a share. SQNR beyond `ROUNDING_DB`
is float32 rounding, which differs from processor to processor, and never a regression.

Parts of an output are compared as the outputs are, and of those that have become worse the one that
lost most is told. A part is the one at the same place; where the parts are not the same ones any
more, the worst of both are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeconv.core.gates import TOLERANCE_DB
from edgeconv.metrics.figures import OutputFigures
from edgeconv.metrics.report import ParityReport
from edgeconv.metrics.report_parts import Regression

ROUNDING_DB = 100.0
"""SQNR from which on float32 results are equal up to rounding."""

TOLERANCE_SHARE = 0.01


def regressions(
    before: ParityReport,
    after: ParityReport,
    *,
    decibel: float = TOLERANCE_DB,
    share: float = TOLERANCE_SHARE,
) -> tuple[Regression, ...]:
    """Return what has become worse.

    Args:
        before: The earlier report.
        after: The present one.
        decibel: How much SQNR may be lost.
        share: How much agreement may be lost, as a share.
    """
    tolerances = {"sqnr_db": decibel, "top1_agreement": share, "exact": share}
    present = dict(_outputs(after))
    found: list[Regression] = []
    for key, earlier in _outputs(before):
        now = present.get(key, OutputFigures(earlier.name))
        whole = tuple(_worsened(key, earlier, now, tolerances))
        found += whole
        if not any(item.metric == "sqnr_db" for item in whole):
            found += _of_parts(key, earlier, now, tolerances)
    return tuple(found)


def _worsened(
    key: tuple[str, str],
    earlier: OutputFigures,
    now: OutputFigures,
    tolerances: Mapping[str, float],
    part: str = "",
) -> Iterator[Regression]:
    for metric, tolerance in tolerances.items():
        old, new = getattr(earlier, metric), getattr(now, metric)
        if old is not None and _worse(metric, old, new, tolerance):
            yield Regression(*key, metric, old, new, part)


def _of_parts(
    key: tuple[str, str],
    earlier: OutputFigures,
    now: OutputFigures,
    tolerances: Mapping[str, float],
) -> list[Regression]:
    """Return the part that has lost most, where one has become worse."""
    limits = {"sqnr_db": tolerances["sqnr_db"]}
    worse = [
        item
        for before, after in _same_parts(earlier, now)
        for item in _worsened(key, before, after, limits, after.name)
    ]
    return [max(worse, key=_loss)] if worse else []


def _loss(item: Regression) -> float:
    return item.before - item.after if item.after is not None else item.before


def _same_parts(
    earlier: OutputFigures, now: OutputFigures
) -> list[tuple[OutputFigures, OutputFigures]]:
    """Return the parts with a scale that are at the same place, else the worst of both."""
    old, new = _scaled(earlier), _scaled(now)
    pairs = [(a, b) for a in old for b in new if a.slice == b.slice]
    if pairs or not old or not new:
        return pairs
    return [(min(old, key=_decibels), min(new, key=_decibels))]


def _scaled(output: OutputFigures) -> list[OutputFigures]:
    return [part for part in output.parts if not part.note and part.sqnr_db is not None]


def _decibels(part: OutputFigures) -> float:
    assert part.sqnr_db is not None
    return part.sqnr_db


def _outputs(report: ParityReport) -> Iterator[tuple[tuple[str, str], OutputFigures]]:
    for stage in report.stages:
        if stage.device is not None:
            continue  # a deployment measured it; verifying the bundle does not
        for output in stage.outputs:
            yield (stage.stage, output.name), output


def _worse(metric: str, old: float, new: float | None, tolerance: float) -> bool:
    if new is None:
        return True
    if metric == "sqnr_db" and new >= ROUNDING_DB:
        return False
    return new < old - tolerance
