"""Regressions: figures that have become worse than those of an earlier ``parity.json``.

A figure has regressed where it is worse than the earlier one by more than the tolerance: for
``sqnr_db`` in dB, for ``top1_agreement`` and ``exact`` as a share. SQNR beyond `ROUNDING_DB`
is float32 rounding, which differs from processor to processor, and never a regression.
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
    """

    stage: str
    output: str
    metric: str
    before: float
    after: float | None

    def __str__(self) -> str:
        now = "cannot be measured any more" if self.after is None else f"is now {self.after:.4g}"
        return f"output {self.output}: {self.metric} was {self.before:.4g} and {now}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "stage": self.stage,
            "output": self.output,
            "metric": self.metric,
            "before": self.before,
            "after": self.after,
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
    return tuple(
        Regression(*key, metric, old, new)
        for key, earlier in _outputs(before)
        for metric, tolerance in tolerances.items()
        if (old := earlier.get(metric)) is not None
        and _worse(metric, old, new := present.get(key, {}).get(metric), tolerance)
    )


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
