"""The range that holds all but the outermost 0.01 % of the values.

The percentile calibration of Wu et al. 2020, "Integer Quantization for Deep Learning Inference:
Principles and Empirical Evaluation", section 4.1, with 99.99 %.
"""

from __future__ import annotations

import numpy as np

from edgeconv.quantize.calibrators.histogram import HistogramCalibrator

_OUTSIDE = 1e-4


class Percentile(HistogramCalibrator):
    """Cuts the same share off at both ends, half of it at each."""

    def range(self) -> tuple[float, float]:
        """Return the range; see `Calibrator`."""
        if not self._seen.spread():
            return self._seen.extremes()
        centres, counts = self._seen.bins()
        below = np.cumsum(counts) / counts.sum()
        first = int(np.searchsorted(below, _OUTSIDE / 2, side="right"))
        last = int(np.searchsorted(below, 1 - _OUTSIDE / 2, side="left"))
        half = self._seen.width / 2
        low = max(float(centres[first]) - half, self._seen.low)
        high = min(float(centres[min(last, centres.size - 1)]) + half, self._seen.high)
        return low, high
