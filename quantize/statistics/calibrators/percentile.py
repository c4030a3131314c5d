"""The range that holds all but the outermost 0.01 % of the values.

The percentile calibration of Wu et al. 2020, "Integer Quantization for Deep Learning Inference:
Principles and Empirical Evaluation", section 4.1, with 99.99 %.
"""

from __future__ import annotations

import numpy as np

from edgeconv.quantize.statistics.calibrators.observer import HistogramObserver

_OUTSIDE = 1e-4


def percentile(seen: HistogramObserver) -> tuple[float, float]:
    """Cut the same share off at both ends, half of it at each; see `Calibrator`."""
    if not seen.spread():
        return seen.extremes()
    centres, counts = seen.bins()
    below = np.cumsum(counts) / counts.sum()
    first = int(np.searchsorted(below, _OUTSIDE / 2, side="right"))
    last = int(np.searchsorted(below, 1 - _OUTSIDE / 2, side="left"))
    half, (lowest, highest) = seen.width / 2, seen.extremes()
    low = max(float(centres[first]) - half, lowest)
    high = min(float(centres[min(last, centres.size - 1)]) + half, highest)
    return low, high
