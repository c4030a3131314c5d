"""Widen ranges where samples that calibration did not see would saturate.

The extremes of a few samples are exceeded by others. By how much is told by the samples
themselves: how much larger the extreme of all is than that of half of them, on average. As far
again it will be exceeded when as many samples come again, for tails that fall exponentially
(Gumbel 1958, "Statistics of Extremes"). How many doublings are worth their coarser steps is chosen
on samples that did not set the ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgeconv.quantize.params.qparams import Range
from edgeconv.quantize.recovery.base import Candidate
from edgeconv.quantize.statistics.calibrators import Calibrator, HistogramObserver

_MARGINS = ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 1.12), (4.0, 1.12))
"""Doublings, and a factor for what these do not foresee."""

_MOST = 1.25
"""Largest growth for a doubling: from very few samples it is anyone's guess."""


class Headroom:
    """See the module.

    Args:
        worth_db: What it must gain. Below zero it is an insurance: few samples hardly show how far
            others go, and what saturates costs more than coarser steps.
        reach: How many steps from the margin that the candidate has others are tried.
    """

    name = "headroom"
    slack_db = 0.3
    chooses_ranges = True

    def __init__(self, worth_db: float = 0.1, reach: int = 1) -> None:
        self.worth_db = worth_db
        self._reach = reach

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate for each margin but that which the candidate has, the widest last."""
        candidate = candidate.ready()
        given = candidate.calibrator
        inner, margin = given, _MARGINS[0]
        if isinstance(given, Growing):
            inner, margin = given.inner, given.margin
        found = {index: seen.range(inner) for index, seen in candidate.seen.items()}
        place = _MARGINS.index(margin)
        for other in _MARGINS[max(0, place - self._reach) : place + self._reach + 1]:
            if other != margin:
                growing = Growing(inner, other)
                ranges = {
                    index: Range.of(*growing.widened(found[index], seen))
                    for index, seen in candidate.seen.items()
                }
                yield replace(candidate, calibrator=growing).ranged(ranges)


@dataclass(frozen=True, slots=True)
class Growing:
    """The range of another calibrator, as it would be with more samples.

    Attributes:
        inner: The calibrator.
        margin: How many times as many samples would be twice as many, and a factor.
    """

    inner: Calibrator
    margin: tuple[float, float]

    def __call__(self, seen: HistogramObserver) -> tuple[float, float]:
        """See `Calibrator`."""
        return self.widened(seen.range(self.inner), seen)

    def widened(self, found: tuple[float, float], seen: HistogramObserver) -> tuple[float, float]:
        """Return a range with the margin."""
        doublings, factor = self.margin
        low = found[0] * factor * growth([-low for low in seen.lows]) ** doublings
        return low, found[1] * factor * growth(seen.highs) ** doublings


def with_margin(calibrator: Calibrator, doublings: float) -> Calibrator:
    """Return a calibrator for more samples than its margin was chosen with.

    Args:
        calibrator: Any calibrator; others than `Growing` are returned as they are.
        doublings: How many times as many the samples are twice as many; they show so much
            themselves.
    """
    if not isinstance(calibrator, Growing):
        return calibrator
    expected, factor = calibrator.margin
    return Growing(calibrator.inner, (max(expected - doublings, 0.0), factor))


def growth(extremes: Sequence[float]) -> float:
    """Return by what factor the largest of some values exceeds that of half of them, on average."""
    count, half = len(extremes), len(extremes) // 2
    if half == 0:
        return _MOST
    expected, weight = 0.0, half / count
    for rank, value in zip(
        range(count, half - 1, -1), sorted(extremes, reverse=True), strict=False
    ):
        # The chance that a random half has this value as its largest.
        expected += weight * max(value, 0.0)
        weight *= (rank - half) / max(rank - 1, 1)
    most = max(extremes)
    return 1.0 if most <= 0 else min(most / max(expected, 1e-30), _MOST)
