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
from dataclasses import dataclass
from typing import Any

ROUNDING_DB = 100.0
"""SQNR from which on float32 results are equal up to rounding."""

TOLERANCE_DB = 1.0
TOLERANCE_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Regression:
    """One figure that has become worse.

    Attributes:
        before: The earlier figure.
        after: The figure now; ``None`` where the stage or output is gone or cannot be measured.
        part: The part of the output that it is of, in words; ``""`` for the whole.
    """

    stage: str
    output: str
    metric: str
    before: float
    after: float | None
    part: str = ""

    def __str__(self) -> str:
        now = "cannot be measured any more" if self.after is None else f"is now {self.after:.4g}"
        place = f"{self.output}, {self.part}" if self.part else self.output
        return f"output {place}: {self.metric} was {self.before:.4g} and {now}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "stage": self.stage,
            "output": self.output,
            "metric": self.metric,
            "before": self.before,
            "after": self.after,
            **({"part": self.part} if self.part else {}),
        }


def regressions(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    decibel: float = TOLERANCE_DB,
    share: float = TOLERANCE_SHARE,
) -> tuple[Regression, ...]:
    """Return what has become worse.

    Args:
        before: Content of the earlier ``parity.json``.
        after: Content of the present one.
        decibel: How much SQNR may be lost.
        share: How much agreement may be lost, as a share.
    """
    tolerances = {"sqnr_db": decibel, "top1_agreement": share, "exact": share}
    present = dict(_outputs(after))
    found: list[Regression] = []
    for key, earlier in _outputs(before):
        now = present.get(key, {})
        whole = tuple(_worsened(key, earlier, now, tolerances))
        found += whole
        if not any(item.metric == "sqnr_db" for item in whole):
            found += _of_parts(key, earlier, now, tolerances)
    return tuple(found)


def _worsened(
    key: tuple[str, str],
    earlier: Mapping[str, Any],
    now: Mapping[str, Any],
    tolerances: Mapping[str, float],
    part: str = "",
) -> Iterator[Regression]:
    for metric, tolerance in tolerances.items():
        old, new = earlier.get(metric), now.get(metric)
        if old is not None and _worse(metric, old, new, tolerance):
            yield Regression(*key, metric, old, new, part)


def _of_parts(
    key: tuple[str, str],
    earlier: Mapping[str, Any],
    now: Mapping[str, Any],
    tolerances: Mapping[str, float],
) -> list[Regression]:
    """Return the part that has lost most, where one has become worse."""
    limits = {"sqnr_db": tolerances["sqnr_db"]}
    worse = [
        item
        for before, after in _same_parts(earlier, now)
        for item in _worsened(key, before, after, limits, str(after["name"]))
    ]
    return [max(worse, key=_loss)] if worse else []


def _loss(item: Regression) -> float:
    return item.before - item.after if item.after is not None else item.before


def _same_parts(
    earlier: Mapping[str, Any], now: Mapping[str, Any]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the parts with a scale that are at the same place, else the worst of both."""
    old, new = _scaled(earlier), _scaled(now)
    pairs = [(a, b) for a in old for b in new if a.get("slice") == b.get("slice")]
    if pairs or not old or not new:
        return pairs
    return [
        (min(old, key=lambda part: part["sqnr_db"]), min(new, key=lambda part: part["sqnr_db"]))
    ]


def _scaled(output: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = output.get("parts", ())
    return [part for part in parts if not part.get("note") and part["sqnr_db"] is not None]


def _outputs(parity: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    for stage in parity["stages"]:
        if "device" in stage:
            continue  # a deployment measured it; verifying the bundle does not
        for output in stage["outputs"]:
            yield (stage["stage"], output["name"]), output


def _worse(metric: str, old: float, new: float | None, tolerance: float) -> bool:
    if new is None:
        return True
    if metric == "sqnr_db" and new >= ROUNDING_DB:
        return False
    return new < old - tolerance
