"""What a calibrator is."""

from __future__ import annotations

from collections.abc import Callable

from edgeconv.quantize.statistics.calibrators.observer import HistogramObserver

Calibrator = Callable[[HistogramObserver], tuple[float, float]]
"""Returns the lowest and the highest value of a tensor to represent; (0, 0) if nothing was seen.

Where values were NaN or infinite the range must not be finite. A calibrator leaves what was seen as
it is, so that others can look at the same.
"""
