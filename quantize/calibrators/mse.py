"""The range that minimises the squared error of 8 bit quantization over all samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeconv.artifacts import Array

_BINS = 4096
_STEPS = 255
_CANDIDATES = 32
_LARGEST_CLIP = 0.75
"""The tightest candidate keeps a quarter of the distance from zero to the extreme value."""


_LEAST = 1e-30
"""Values below are as good as zero: the width of their bins has no reciprocal in float32."""


class MeanSquaredError:
    """Keeps a histogram of fixed size, and picks the clip with the least expected error.

    The histogram covers [-half, half]; it doubles by merging pairs of bins, so that no value is
    ever lost. The error of a clip is that of the bins' centres, weighted by their counts. The two
    ends of the range are searched in turn over a grid, starting from the true extremes.
    """

    def __init__(self) -> None:
        self._counts: npt.NDArray[np.int64] = np.zeros(_BINS, np.int64)
        self._half = 0.0
        self._low = float("inf")
        self._high = float("-inf")

    def update(self, array: Array) -> None:
        """Count an array's values; see `Calibrator`."""
        flat = array.reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        # np.minimum lets NaN win and stay.
        self._low = float(np.minimum(self._low, low))
        self._high = float(np.maximum(self._high, high))
        peak = max(abs(low), abs(high))
        if not np.isfinite(peak) or peak < _LEAST:
            return
        self._reach(peak)
        width = 2 * self._half / _BINS
        bins = (flat * np.float32(1 / width) + np.float32(_BINS / 2)).astype(np.int32)
        np.clip(bins, 0, _BINS - 1, out=bins)
        self._counts += np.bincount(bins, minlength=_BINS)

    def range(self) -> tuple[float, float]:
        """Return the range with the least error; see `Calibrator`."""
        if self._low > self._high:
            return (0.0, 0.0)
        low, high = min(self._low, 0.0), max(self._high, 0.0)
        if not np.isfinite(high - low) or high == low:
            return (self._low, self._high)
        kept = np.flatnonzero(self._counts)
        width = 2 * self._half / _BINS
        centres = np.clip((kept + 0.5) * width - self._half, low, high)
        counts = self._counts[kept].astype(np.float64)
        shares = 1 - _LARGEST_CLIP * np.arange(_CANDIDATES) / (_CANDIDATES - 1)
        best_low, best_high = low, high
        for _ in range(2):
            highs = high * shares if high > 0 else np.zeros(1)
            best_high = float(_best(highs, [_error(best_low, h, centres, counts) for h in highs]))
            lows = low * shares if low < 0 else np.zeros(1)
            best_low = float(_best(lows, [_error(v, best_high, centres, counts) for v in lows]))
        return best_low, best_high

    def _reach(self, peak: float) -> None:
        """Double the covered interval until it holds a value."""
        if self._half == 0.0:
            self._half = peak
        while self._half < peak:
            pairs = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.zeros(_BINS, np.int64)
            self._counts[_BINS // 4 : _BINS - _BINS // 4] = pairs
            self._half *= 2


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
