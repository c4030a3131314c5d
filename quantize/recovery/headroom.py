"""Widen ranges where samples that calibration did not see would saturate.

The extremes of a few samples are exceeded by others. By how much is told by the samples
themselves: how much larger the extreme of all is than that of half of them, on average. As far
again it will be exceeded when as many samples come again, for tails that fall exponentially
(Gumbel 1958, "Statistics of Extremes"). How many doublings are worth their coarser steps is chosen
on samples that did not set the ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from edgeconv.artifacts import Array
from edgeconv.quantize.calibrators import Calibrator
from edgeconv.quantize.qparams import Range
from edgeconv.quantize.recovery.base import Draft

_MARGINS = ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 1.12), (4.0, 1.12))
"""Doublings, and a factor for what these do not foresee."""

_MOST = 1.25
"""Largest growth for a doubling: from very few samples it is anyone's guess."""


class Headroom:
    """See the module.

    Args:
        worth_db: What it must gain. Below zero it is an insurance: few samples hardly show how far
            others go, and what saturates costs more than coarser steps.
    """

    name = "headroom"
    slack_db = 0.3
    chooses_ranges = True

    def __init__(self, worth_db: float = 0.1) -> None:
        self.worth_db = worth_db

    def drafts(self, draft: Draft) -> Iterator[Draft]:
        """Yield one draft for each margin but that which the draft has, the widest last."""
        given = draft.calibrator
        inner, margin = given, _MARGINS[0]
        if isinstance(given, Growing):
            inner, margin = given.inner, given.margin
        seen = draft.watched(Growing(inner, _MARGINS[0]))
        for other in _MARGINS:
            if other != margin:
                ranges = {index: Range.of(*one.range_with(other)) for index, one in seen.items()}
                yield replace(draft, ranges=ranges, calibrator=Growing(inner, other))


@dataclass(frozen=True, slots=True)
class Growing:
    """Makes calibrators whose ranges have a margin.

    Attributes:
        inner: Makes the calibrators of the ranges themselves.
        margin: How many times as many samples would be twice as many, and a factor.
    """

    inner: Callable[[], Calibrator]
    margin: tuple[float, float]

    def __call__(self) -> Grown:
        """Return a new calibrator."""
        return Grown(self.inner(), self.margin)


class Grown:
    """The range of another calibrator, as it would be with more samples."""

    def __init__(self, inner: Calibrator, margin: tuple[float, float]) -> None:
        self._inner = inner
        self._margin = margin
        self._found: tuple[float, float] | None = None
        self._lows: list[float] = []
        self._highs: list[float] = []

    def update(self, array: Array) -> None:
        """See `Calibrator`."""
        self._inner.update(array)
        if array.size:
            self._lows.append(-float(array.min()))
            self._highs.append(float(array.max()))

    def range(self) -> tuple[float, float]:
        """See `Calibrator`."""
        return self.range_with(self._margin)

    def range_with(self, margin: tuple[float, float]) -> tuple[float, float]:
        """Return the range with a margin."""
        doublings, factor = margin
        low, high = self._found = self._found or self._inner.range()
        low *= factor * growth(self._lows) ** doublings
        return low, high * factor * growth(self._highs) ** doublings


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
