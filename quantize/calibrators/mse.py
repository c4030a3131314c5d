"""The range that minimises the squared error of 8 bit quantization over all samples.

The objective of Sung et al. 2015, "Resiliency of Deep Neural Networks under Quantization", searched
on a histogram.
"""

from __future__ import annotations

import numpy as np

from edgeconv.artifacts import Array
from edgeconv.quantize.calibrators.histogram import Histogram

_STEPS = 255
_CANDIDATES = 32
_LARGEST_CLIP = 0.75
"""The tightest candidate keeps a quarter of the distance from zero to the extreme value."""


class MeanSquaredError:
    """Picks the clip with the least expected error.

    The error of a clip is that of the bins' centres, weighted by their counts. The two ends of the
    range are searched in turn over a grid, starting from the true extremes.
    """

    def __init__(self) -> None:
        self._seen = Histogram()

    def update(self, array: Array) -> None:
        """Count an array's values; see `Calibrator`."""
        self._seen.update(array)

    def range(self) -> tuple[float, float]:
        """Return the range with the least error; see `Calibrator`."""
        if not self._seen.spread():
            return self._seen.extremes()
        low, high = min(self._seen.low, 0.0), max(self._seen.high, 0.0)
        centres, counts = self._seen.bins()
        shares = 1 - _LARGEST_CLIP * np.arange(_CANDIDATES) / (_CANDIDATES - 1)
        best_low, best_high = low, high
        for _ in range(2):
            highs = high * shares if high > 0 else np.zeros(1)
            best_high = float(_best(highs, [_error(best_low, h, centres, counts) for h in highs]))
            lows = low * shares if low < 0 else np.zeros(1)
            best_low = float(_best(lows, [_error(v, best_high, centres, counts) for v in lows]))
        return best_low, best_high


def _best(values: Array, errors: list[float]) -> float:
    return float(values[int(np.argmin(errors))])


def _error(low: float, high: float, centres: Array, counts: Array) -> float:
    """Return the summed squared error of quantizing values to 255 steps over [low, high]."""
    scale = (high - low) / _STEPS
    if scale <= 0:
        return float("inf")
    zero = round(low / scale)
    steps = np.clip(np.rint(centres / scale), zero, zero + _STEPS)
    return float(counts @ (steps * scale - centres) ** 2)
