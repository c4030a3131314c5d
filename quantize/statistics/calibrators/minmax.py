"""The true minimum and maximum over all samples."""

from __future__ import annotations

from edgeconv.quantize.statistics.calibrators.observer import HistogramObserver


def minmax(seen: HistogramObserver) -> tuple[float, float]:
    """Return the lowest and the highest value seen; see `Calibrator`."""
    return seen.extremes()
